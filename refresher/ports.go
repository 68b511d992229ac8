package refresher

import (
	"context"
	"time"
)

// Source mints values. It is immutable: a changed key is a new Source. Tokens of
// one Source that are due together share a mint; Sources are compared (==), most
// are pointers. Its methods may be called concurrently.
type Source interface {
	// Mint makes one attempt and retries nothing. Errors carry a [*Failure]
	// where the source knows more; they name what was asked of whom and what
	// to do, and hold no secrets. Mint returns soon after ctx is done. A source
	// that keeps a value and may give it again minds [Refused] and [LookOnly].
	Mint(ctx context.Context) (Minted, error)
	// Identity is what determines whose value this is (kind, account,
	// impersonation, endpoints), and not which key signs.
	Identity() string
}

// Probe tries values on a real API. Its methods may be called concurrently.
type Probe interface {
	// Probe makes one attempt. It returns soon after ctx is done.
	Probe(ctx context.Context, v Value) Finding
	// Target is what determines the meaning of a verdict: kind, address and
	// organization. No secrets.
	Target() string
	// Host is where the requests go: probes of one host share a rate limit.
	Host() string
}

// Sink takes the versions of one token. The methods of one Sink are never
// called concurrently; different sinks' are.
type Sink interface {
	// ID names the sink in logs and metrics; unique among a token's sinks
	// and the same after a restart: "file:/run/x/bot.token".
	ID() string
	// Check tells whether Publish would work, and writes nothing.
	Check(ctx context.Context) error
	// Publish makes the sink hold exactly this version. It is idempotent: a
	// sink that holds it already is not written again.
	Publish(ctx context.Context, v Version) error
	// Close lets go of descriptors; what was published to files stays.
	Close(ctx context.Context) error
}

// Verifier is a Sink that others may disturb, such as a file. Holds tells
// whether it still holds exactly v; the error says why not.
type Verifier interface {
	Holds(ctx context.Context, v Version) error
}

// Store keeps versions across restarts. Its methods may be called concurrently;
// those of one token wait for each other and are carried out as they came, also
// after one that hung for so long that nobody waits for it any more.
type Store interface {
	// Load returns what was saved last for token under fingerprint, with the
	// finding saved with it. ok is false when there is nothing, or another
	// fingerprint's. An error means that what is there cannot be used; it was
	// set aside where possible.
	Load(token, fingerprint string) (v Version, f Finding, ok bool, err error)
	// Save makes v durable before it returns. A lower number than the one
	// saved before in the same lineage is ignored.
	Save(ctx context.Context, token, fingerprint string, v Version, f Finding) error
}

// Clock tells the time and wakes up.
type Clock interface {
	// Now is wall time, without a monotonic reading.
	Now() time.Time
	// Elapsed is the time since some fixed moment, on a clock that nobody
	// sets and that goes on during a suspend where the system has one.
	Elapsed() time.Duration
	NewAlarm() (Alarm, error)
}

// Alarm fires at a wall time.
type Alarm interface {
	// Set replaces the time that the alarm fires at; the zero time disarms it.
	Set(time.Time)
	// C receives when the time has come, and at once after the wall clock was
	// stepped or the machine resumed. It may fire for nothing.
	C() <-chan struct{}
	Close() error
}
