// Package sink holds the places that a token's versions are published to:
// files, env files, a Unix socket and a copy of the cloud's metadata service.
//
// A file belongs to one token. A socket or metadata listener is one object
// that serves many tokens: its For hands out an [Endpoint] per token, and its
// Update says which of them readers see. What a listener needs to know about
// the running daemon comes to it as the functions of [Live].
package sink
