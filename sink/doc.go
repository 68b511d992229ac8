// Package sink holds the places that a token's versions are published to:
// files, env files, a Unix socket, a copy of the cloud's metadata service, and
// a proxy that uses them on behalf of its clients; and what is done with them:
// hooks, and the program of exec.
//
// A file belongs to one token. A socket or metadata listener is one object
// that serves many tokens: its For hands out an [Endpoint] per token, and its
// Update says which of them readers see. A proxy is such an object for one
// token. What a listener needs to know about the running daemon comes to it as
// the functions of [Live]; how it serves thousands of connections is the matter
// of package turns.
package sink
