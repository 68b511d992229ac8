// Package turns is an HTTP server for thousands of connections that are mostly
// silent, and for clients that are not to be trusted with its memory.
//
// net/http keeps some 20 KB of buffers and stacks for each connection that it
// has, also while nothing is said on it: thousands of them would be most of the
// daemon's memory. So it has a connection only for a turn, from the first byte
// of a request until the answer is written. In between the connection rests,
// with one small stack that waits for a byte. A handler that waits for long may
// take the connection away from net/http meanwhile: see [Server.Detach].
//
// How many turns there are at once is limited, and shared evenly among the
// users who are connected. Who takes long to send a request holds a turn only
// until somebody else of the same user wants one.
//
// The words of this package:
//
//   - gate: admission control, how many connections there are, in all and per user.
//   - turn: a request slot. A connection has one from the first byte of a request
//     until the answer is written; only then net/http knows it.
//   - crowd: the pool of request slots, shared fairly among users, with a queue
//     for each.
//   - rest: a keep-alive connection between requests, idle and without a slot.
//   - linger: the short while that a slot is kept after an answer, in case the
//     next request follows at once.
//   - hurry: reclaiming slots from slow clients while others wait for one.
//   - leisure: a request that is exempt from that, such as an upload through a
//     proxy.
package turns
