package iam

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// idleAfter is how long the connection stays up after a mint: renewals of many
// tokens share it, and an hour of idling costs neither side anything.
const idleAfter = 20 * time.Second

const maxAnswer = 64 << 10 // bytes

var errClosed = errors.New("the connection was closed by our own shutdown or reload")

// connection is the one gRPC connection to IAM. It is dialled when first used.
//
// A channel that failed to connect would go on trying in the background, and
// meanwhile answer calls with the error of an earlier attempt. One mint is one
// attempt, so such a channel is dropped, and the next mint dials anew.
type connection struct {
	address   string
	tls       *tls.Config
	userAgent string
	idleAfter time.Duration

	mu      sync.Mutex
	current *channel
	closed  bool
}

// channel is a ClientConn with a count of the calls that use it. Its fields are
// guarded by the mutex of its connection.
type channel struct {
	*grpc.ClientConn
	users   int
	dropped bool
}

// acquire returns the channel to use for one call. The caller must release it.
func (c *connection) acquire() (*channel, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.current == nil {
		// The scheme is spelled out: "localhost:443" alone parses as one.
		conn, err := grpc.NewClient("dns:///"+c.address,
			grpc.WithTransportCredentials(credentials.NewTLS(c.tls.Clone())),
			grpc.WithUserAgent(c.userAgent),
			grpc.WithUnaryInterceptor(noteAnswer),
			grpc.WithIdleTimeout(c.idleAfter),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.DefaultConfig,
				MinConnectTimeout: connectTimeout,
			}),
			// A service config from DNS would cost a lookup and could order retries.
			grpc.WithDisableServiceConfig(),
			grpc.WithDisableRetry(),
			grpc.WithDisableHealthCheck(),
			// A token is 1.5 KB: no reason for big buffers, nor for pings that
			// measure the bandwidth.
			grpc.WithReadBufferSize(4<<10),
			grpc.WithWriteBufferSize(4<<10),
			grpc.WithStaticStreamWindowSize(64<<10),
			grpc.WithMaxHeaderListSize(maxAnswer),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		)
		if err != nil {
			return nil, err
		}
		c.current = &channel{ClientConn: conn}
	}
	c.current.users++
	return c.current, nil
}

// release gives a channel back. One that is in doubt is not used again: it
// cannot connect, or did not answer.
func (c *connection) release(ch *channel, inDoubt bool) {
	c.mu.Lock()
	ch.users--
	if inDoubt {
		ch.dropped = true
		if c.current == ch {
			c.current = nil
		}
	}
	unused := ch.dropped && ch.users == 0
	c.mu.Unlock()
	if unused {
		_ = ch.Close()
	}
}

// close ends the connection and the calls on it.
func (c *connection) close() {
	c.mu.Lock()
	ch := c.current
	c.current, c.closed = nil, true
	c.mu.Unlock()
	if ch != nil {
		_ = ch.Close()
	}
}

// GetConnection hands the channel to the SDK, which makes it its
// transport.Connector.
func (ch *channel) GetConnection(context.Context, protoreflect.FullName, ...grpc.CallOption) (grpc.ClientConnInterface, error) {
	return ch.ClientConn, nil
}
