package emulator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// Emulator is a running stand-in cloud. Its methods may be called concurrently.
type Emulator struct {
	o         Options
	endpoints Endpoints
	offset    atomic.Int64 // the services' clock minus ours, nanoseconds

	authority  authority
	shared     rsaPair // the RSA pair of all keys but those with one of their own
	dir        *directory
	tokens     *registry
	faults     *faults
	calls      *counters
	federation *federation
	vm         *machine
	oauth      *oauthServer

	privateMu sync.Mutex
	privates  []string // PEM of every private key in a key file

	lock *dirLock

	done     <-chan struct{} // closed when the emulator ends
	end      context.CancelFunc
	servers  []*http.Server
	grpcs    []*grpc.Server
	serving  sync.WaitGroup // one per listener, and the writer of oidc.jwt
	conns    sync.WaitGroup
	requests requestGate

	subject     *subjectWriter
	stopWaiting func() bool
	closeOnce   sync.Once
	closeErr    error
}

// Start starts all services, writes the files of Dir and returns when
// everything is ready. The emulator ends at [Emulator.Close] or when ctx ends;
// Close must be called in both cases. Errors about o are an [*OptionError].
func Start(ctx context.Context, o Options) (_ *Emulator, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	e := &Emulator{
		o: o, lock: lock, done: ctx.Done(), end: end,
		dir:    newDirectory(o.Accounts),
		tokens: newRegistry(o.TokenFormat, o.KeepIssued),
		faults: newFaults(), calls: &counters{},
		vm: &machine{account: BotAccount},
	}
	e.offset.Store(int64(o.ClockOffset))
	e.oauth = newOAuthServer(e)
	defer func() {
		if err != nil {
			_ = e.Close()
		}
	}()

	// The RSA key takes longest; the listeners are opened meanwhile.
	pair := make(chan error, 1)
	go func() {
		var err error
		e.shared, err = newRSAPair(o.RSA)
		pair <- err
	}()
	if e.federation, err = newFederation(o); err == nil {
		err = e.listen()
	}
	if err := errors.Join(<-pair, err); err != nil {
		return nil, err
	}
	e.rememberPrivate(e.shared.privatePEM)
	if err := e.writeFiles(); err != nil {
		return nil, err
	}
	e.stopWaiting = context.AfterFunc(ctx, func() { _ = e.Close() })
	return e, nil
}

// Close ends all services, breaks what is connected, removes endpoints.json
// and waits until everything has ended.
func (e *Emulator) Close() error {
	e.closeOnce.Do(func() {
		if e.stopWaiting != nil {
			e.stopWaiting()
		}
		e.end()
		e.requests.close()
		for _, s := range e.servers {
			if err := s.Close(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				e.closeErr = errors.Join(e.closeErr, fmt.Errorf("close the services: %w", err))
			}
		}
		for _, s := range e.grpcs {
			s.Stop()
		}
		e.serving.Wait()
		e.requests.wait()
		e.conns.Wait()
		e.closeErr = errors.Join(e.closeErr, e.removeReadyFile(), e.lock.release())
	})
	return e.closeErr
}

// Endpoints returns the addresses of the services.
func (e *Emulator) Endpoints() Endpoints { return e.endpoints }

// CertPool returns a new pool that holds the emulator's CA, which is also in ca.pem.
func (e *Emulator) CertPool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(e.authority.cert)
	return pool
}

// TLS returns a client configuration that trusts the emulator's CA and no other.
func (e *Emulator) TLS() *tls.Config {
	return &tls.Config{RootCAs: e.CertPool(), MinVersion: tls.VersionTLS12}
}

// now is the time on the services' clock.
func (e *Emulator) now() time.Time {
	return time.Now().Add(time.Duration(e.offset.Load()))
}

// Now is the time on the services' clock.
func (e *Emulator) Now() time.Time { return e.now().Round(0) }

// SetClockOffset sets how far the services' clock is ahead of ours. What was
// issued keeps its end, so that a jump ahead makes tokens expire; oidc.jwt is
// written anew.
func (e *Emulator) SetClockOffset(d time.Duration) error {
	e.offset.Store(int64(d))
	return e.subject.write()
}

// Inject makes something go wrong from now on.
func (e *Emulator) Inject(f Fault) error { return e.faults.inject(f) }

// ClearFaults ends all faults; calls that hang go on as if nothing had been.
func (e *Emulator) ClearFaults() { e.faults.clear("") }

// Revoke revokes an IAM token, an OAuth access token or a refresh token. It
// tells whether there was one.
func (e *Emulator) Revoke(value string) bool {
	if _, ok := e.tokens.revoke(value); ok {
		return true
	}
	return e.oauth.revokeRefresh(value)
}

// Calls returns how often each method was called, with and without success,
// by "service/method": "iam/Create", "tracker/myself", "metadata/token".
func (e *Emulator) Calls() map[string]int { return e.calls.snapshot() }

// ResetCalls sets all counts of [Emulator.Calls] to zero.
func (e *Emulator) ResetCalls() { e.calls.reset() }

// Issued returns every secret value that was handed out, oldest first: IAM,
// OAuth, refresh and subject tokens, confirmation and device codes. Only the
// newest [Options].KeepIssued are remembered.
func (e *Emulator) Issued() []string { return e.tokens.issuedValues() }

// PrivateKeys returns the private key of every key file, as the PEM in it.
func (e *Emulator) PrivateKeys() []string {
	e.privateMu.Lock()
	defer e.privateMu.Unlock()
	return slices.Clone(e.privates)
}

func (e *Emulator) rememberPrivate(pem string) {
	e.privateMu.Lock()
	defer e.privateMu.Unlock()
	e.privates = append(e.privates, pem)
}

// Mint issues an IAM token to an account without being asked by a client.
// Lifetime 0 means the usual one; a negative one gives an expired token.
func (e *Emulator) Mint(account string, lifetime time.Duration) (value string, expires time.Time, err error) {
	if _, ok := e.dir.account(account); !ok {
		return "", time.Time{}, fmt.Errorf("mint a token: there is no account %q", account)
	}
	setDefault(&lifetime, e.o.TokenLifetime)
	t := e.tokens.issue(order{owner: account, lifetime: lifetime, aside: true}, e.now())
	return t.value, t.expires.Round(0), nil
}

// issue is how services issue IAM tokens: by the rules for re-issuing, and as
// wrong as the call's fault wants.
func (e *Emulator) issue(c *call, owner, key string) token {
	c.by(owner)
	return e.tokens.issue(order{
		owner: owner, key: key, lifetime: e.o.TokenLifetime, reissue: e.o.ReissueUntil,
		same: c.does(KindSameToken), expired: c.does(KindExpired),
	}, e.now())
}

// authenticate finds the live token of an Authorization header with scheme.
// What is wrong with it is for the log and the client.
func (e *Emulator) authenticate(header, scheme string, kind tokenKind) (token, error) {
	got, value, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(got, scheme) || value == "" {
		return token{}, errors.New("no " + scheme + " token in the Authorization header")
	}
	return e.valid(value, kind)
}

// valid finds a live token by its value.
func (e *Emulator) valid(value string, kind tokenKind) (token, error) {
	t, ok := e.tokens.lookup(value)
	switch {
	case !ok || t.kind != kind:
		return token{}, errors.New("the token is unknown")
	case t.revoked:
		return token{}, errors.New("the token was revoked")
	case !e.now().Before(t.expires):
		return token{}, errors.New("the token is expired")
	case !e.dir.alive(t.owner):
		return token{}, errors.New("the account of the token was deleted")
	}
	return t, nil
}
