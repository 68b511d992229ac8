// Package oauth logs people in to Yandex OAuth, keeps the login in a file, and
// keeps the token of that login fresh.
//
// A login is an access token and the refresh token that gets the next pair.
// The server may call a refresh token used up with its first use, so the pair
// in the file is all there is: it is replaced atomically and durably before
// anybody gets the new access token, one program at a time refreshes the login
// of a file (a lock file beside it says who), and an exchange that has begun is
// brought to its end even when nobody waits for it any more. One gap remains,
// and no client can close it: a power cut or kill -9 between the server's
// answer and the end of our write loses a refresh token that the server takes
// once only. The access token in the file goes on working until it expires.
//
// golang.org/x/oauth2 speaks the protocol. Its errors quote whole bodies of
// answers and are never shown.
package oauth
