package sink

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// execTime is when the tests of decisions play.
var execTime = time.Unix(1_800_000_000, 0)

// version is number n of a token, minted at execTime, for an hour; a third of it
// is before_expiry.
func execVersion(token string, n uint64, from time.Time) *refresher.Version {
	return &refresher.Version{
		Token: token, Lineage: "L", N: n, Value: refresher.NewValue(token + "-value"), Type: refresher.TypeIAM,
		MintedAt: from, ExpiresAt: from.Add(time.Hour),
	}
}

func newTestExec(t *testing.T, change func(*ExecOptions)) *Exec {
	t.Helper()
	o := ExecOptions{
		Command: []string{"sh"}, Env: map[string]string{"A": "{{.a.Value}}", "B": "{{.b.b.Name}}-{{.b.b.Version}}"},
		Tokens: []ExecToken{{Name: "a"}, {Name: "b.b", Org: "org"}}, Restart: true, Merge: 30 * time.Second,
	}
	if change != nil {
		change(&o)
	}
	e, err := NewExec(o, ExecLive{Log: quiet(), Deadline: refresher.Policy{}.Deadline})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func fresh(v *refresher.Version) refresher.Status {
	return refresher.Status{Token: v.Token, Version: v, Health: refresher.Fresh}
}

func TestAProgramGetsWhatItsTemplatesNameAndNotBeforeAllOfItIsThere(t *testing.T) {
	t.Setenv("ITR_KEY_FILE", "/key")
	t.Setenv("NOTIFY_SOCKET", "/n")
	e := newTestExec(t, nil)
	if _, ok := e.ready(execTime, nil); ok {
		t.Error("it is ready without anything")
	}
	e.Changed(fresh(execVersion("a", 3, execTime)))
	e.Changed(fresh(execVersion("stranger", 1, execTime)))
	half := fresh(execVersion("b.b", 4, execTime))
	half.Sinks = []refresher.SinkStatus{{ID: "file:x"}}
	e.Changed(half)
	if _, ok := e.ready(execTime, nil); ok {
		t.Error("it is ready before the token's file is written")
	}
	half.Sinks = []refresher.SinkStatus{{ID: "file:x", Failure: "no room"}}
	e.Changed(half)
	held, ok := e.ready(execTime, nil)
	if !ok {
		t.Fatal("it is not ready although a sink that failed cannot be waited for")
	}
	env, err := e.opt.environment(held)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(env, "\n") + "\n"
	for _, want := range []string{"A=a-value\n", "B=b.b-4\n", "PATH="} {
		if !strings.Contains(text, want) {
			t.Errorf("the environment has no %q", want)
		}
	}
	for _, bad := range []string{"ITR_", "NOTIFY_SOCKET"} {
		if strings.Contains(text, bad) {
			t.Errorf("the environment has %s", bad)
		}
	}
	// One that has nothing valid any more keeps what it was given.
	gone := fresh(execVersion("a", 3, execTime))
	gone.Health = refresher.Revoked
	e.Changed(gone)
	if _, ok := e.ready(execTime, nil); ok {
		t.Error("it would start with a revoked value")
	}
	if again, ok := e.ready(execTime, held); !ok || again["a"] != held["a"] {
		t.Error("it would not start again with what it had")
	}
}

func TestMistakesInAProgramsTemplatesAreNamed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{{.a.Valeu}}": "exec.env.X: line 1, column 1: {{.a.Valeu}} is not known: only {{.a.Value}}, ",
		"{{.Value}}":   "exec.env.X: line 1, column 1: {{.Value}} is not known: ",
		"{{.a.OrgID}}": "exec.env.X: uses {{.OrgID}}, and the token has no probe",
		"x\x00":        "exec.env.X: holds a NUL",
	} {
		_, err := NewExec(ExecOptions{Command: []string{"sh"}, Env: map[string]string{"X": text}, Tokens: []ExecToken{{Name: "a"}, {Name: "b"}}}, ExecLive{})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q is %v", text, err)
		}
	}
	if _, err := NewExec(ExecOptions{Command: []string{"/nowhere"}, Env: map[string]string{"1": ""}}, ExecLive{}); err == nil ||
		!strings.Contains(err.Error(), `exec.command: "/nowhere": there is no such program`) || !strings.Contains(err.Error(), `exec.env.1: "1" is not a name`) {
		t.Errorf("the mistakes are %v", err)
	}
}

func TestAProgramNeedsANewerValueWhenItsOwnIsBadOrNearItsEnd(t *testing.T) {
	t.Parallel()
	deadline := execTime.Add(40 * time.Minute)
	in := func(d time.Duration) time.Time { return execTime.Add(d) }
	newer := func(e *Exec, at time.Duration) { e.Changed(fresh(execVersion("a", 2, in(at)))) }
	sick := func(health refresher.Health) func(*Exec) {
		return func(e *Exec) {
			st := fresh(execVersion("a", 1, execTime))
			st.Health = health
			e.Changed(st)
		}
	}
	for name, c := range map[string]struct {
		every  bool
		unsure bool // nobody knows when values end
		happen func(*Exec)
		now    time.Duration
		why    string
		at     time.Time
	}{
		"no news":                     {happen: func(*Exec) {}},
		"no news at the end":          {happen: func(*Exec) {}, now: time.Hour},
		"a newer one":                 {happen: func(e *Exec) { newer(e, time.Minute) }, now: time.Minute, at: deadline},
		"a newer one, near the end":   {happen: func(e *Exec) { newer(e, time.Minute) }, now: 41 * time.Minute, why: "its value of a expires soon", at: deadline},
		"a newer one, all wanted":     {every: true, happen: func(e *Exec) { newer(e, time.Minute) }, now: time.Minute, why: "there is a new version of a", at: in(time.Minute)},
		"revoked, nothing newer":      {happen: sick(refresher.Revoked), now: time.Minute},
		"revoked, and a newer one":    {happen: func(e *Exec) { sick(refresher.Revoked)(e); newer(e, time.Minute) }, now: time.Minute, why: "its value of a was revoked", at: in(time.Minute)},
		"no access, and one that has": {happen: func(e *Exec) { sick(refresher.NoAccess)(e); newer(e, time.Minute) }, now: time.Minute, why: "its value of a has no access, the new one has", at: in(time.Minute)},
		"revoked by mistake":          {happen: func(e *Exec) { sick(refresher.Revoked)(e); sick(refresher.Fresh)(e); newer(e, time.Minute) }, now: time.Minute, at: deadline},
		"the newer one is revoked itself": {happen: func(e *Exec) {
			st := fresh(execVersion("a", 2, execTime))
			st.Health = refresher.Revoked
			e.Changed(st)
		}, now: 41 * time.Minute},
		"an end that nobody knows": {unsure: true, happen: func(e *Exec) { newer(e, time.Minute) }, now: time.Minute, why: "there is a new version of a", at: in(time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newTestExec(t, func(o *ExecOptions) { o.EveryVersion = c.every })
			first := execVersion("a", 1, execTime)
			if c.unsure {
				first.ExpiresAt = time.Time{}
			}
			e.Changed(fresh(first))
			e.Changed(fresh(execVersion("b.b", 1, execTime)))
			held, ok := e.ready(execTime, nil)
			if !ok {
				t.Fatal("it is not ready")
			}
			c.happen(e)
			if why, at := e.need(held, in(c.now)); why != c.why || !at.Equal(c.at) {
				t.Errorf("the need is %q at %s, not %q at %s", why, at, c.why, c.at)
			}
		})
	}
}

func TestAnInterruptIsTheEndHoweverLongTheFarewellUnlessTheProgramGoesOn(t *testing.T) {
	t.Parallel()
	const stopTimeout = 5 * time.Second
	for name, c := range map[string]struct {
		interrupted time.Duration // before the end; 0: not
		stopTimeout time.Duration
		stopping    bool
		code        int
		again       bool
	}{
		"nobody asked":                       {code: 1, again: true},
		"nobody asked, and its code says so": {code: 130, again: true},
		"at once":                            {interrupted: time.Millisecond, code: 1},
		"a farewell that is longer than one by request":   {interrupted: 40 * time.Second, code: 1},
		"as long as one by request may take":              {interrupted: 9 * time.Minute, stopTimeout: 10 * time.Minute, code: 1},
		"a failure long after":                            {interrupted: time.Hour, code: 1, again: true},
		"a crash long after":                              {interrupted: time.Hour, code: 128 + 11, again: true},
		"an hour later, and its code says that it is why": {interrupted: time.Hour, code: 130},
		"an hour later, and all is well":                  {interrupted: time.Hour},
		"stopped, to be restarted":                        {stopping: true, code: 1, again: true},
		"interrupted while it was stopped":                {stopping: true, interrupted: time.Hour, code: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := supervisor{
				Exec: &Exec{
					opt:  ExecOptions{Restart: true, StartAgain: true, StopTimeout: max(stopTimeout, c.stopTimeout)},
					live: ExecLive{Log: quiet(), Now: func() time.Time { return execTime }},
				},
				child: &child{}, kill: time.NewTimer(time.Hour), stopping: c.stopping, startedAt: execTime.Add(-2 * time.Hour),
			}
			if c.interrupted > 0 {
				s.interrupted = execTime.Add(-c.interrupted)
			}
			err := s.ended(ending{code: c.code})
			if again := err == nil; again != c.again {
				t.Errorf("it is started again: %v (%v)", again, err)
			}
		})
	}
}

func TestWhatMayBeEndingOfAnInterruptIsNotRestarted(t *testing.T) {
	t.Parallel()
	s := supervisor{
		Exec:        &Exec{opt: ExecOptions{Tokens: make([]ExecToken, 1), Restart: true, StopTimeout: 5 * time.Second}},
		interrupted: execTime, wanted: execTime.Add(time.Second),
	}
	if got, want := s.due(), execTime.Add(sigintGrace); !got.Equal(want) {
		t.Errorf("a restart is due %s after a SIGINT, not after %s", got.Sub(execTime), sigintGrace)
	}
	s.opt.Restart = false
	if got := s.due(); !got.Equal(s.wanted) {
		t.Errorf("a program is told of new values %s after a SIGINT, not as soon as there are some", got.Sub(execTime))
	}
}

func TestRestartsThatAreDueTogetherAreOne(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) time.Time { return execTime.Add(d) }
	for name, c := range map[string]struct {
		tokens                int
		started, told, wanted time.Duration
		due                   time.Duration
	}{
		"one token, at once":                {1, 0, 0, time.Hour, time.Hour},
		"one token, not twice in 30s":       {1, 0, 0, 10 * time.Second, 30 * time.Second},
		"one token, told 10s ago":           {1, 0, time.Hour, time.Hour + 10*time.Second, time.Hour + 30*time.Second},
		"two tokens, with the other's":      {2, 0, 0, time.Hour, time.Hour + 30*time.Second},
		"two tokens, soon after the start":  {2, 0, 0, 10 * time.Second, 40 * time.Second},
		"two tokens, due before it started": {2, time.Minute, 0, 0, 90 * time.Second},
	} {
		s := supervisor{
			Exec:      &Exec{opt: ExecOptions{Tokens: make([]ExecToken, c.tokens), Merge: 30 * time.Second}},
			startedAt: at(c.started), toldAt: at(c.told), wanted: at(c.wanted),
		}
		if got := s.due(); !got.Equal(at(c.due)) {
			t.Errorf("%s: due at %s, not at %s", name, got.Sub(execTime), c.due)
		}
	}
}

// setClock is a wall clock that the test sets.
type setClock struct {
	refresher.Clock
	now time.Time
}

func (c *setClock) Now() time.Time { return c.now }

func TestAClockThatIsSetBackMakesNoWaitLonger(t *testing.T) {
	t.Parallel()
	const ahead = time.Hour
	at := execTime.Add(ahead)
	for name, c := range map[string]struct {
		happen func(*supervisor)
		wait   time.Duration
	}{
		"after a failure": {func(s *supervisor) {
			s.child = nil
			if err := s.failed(ending{code: 1}); err != nil {
				t.Error(err)
			}
		}, againFirst},
		"soon after the start":         {func(s *supervisor) { s.startedAt = at }, 30 * time.Second},
		"soon after another signal":    {func(s *supervisor) { s.opt.Restart, s.opt.Signal, s.toldAt = false, 1, at }, 30 * time.Second},
		"for the value of another":     {func(s *supervisor) { s.opt.Tokens = make([]ExecToken, 2) }, 30 * time.Second},
		"soon after an interrupt":      {func(s *supervisor) { s.interrupted = at }, sigintGrace},
		"with nothing that came first": {func(*supervisor) {}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := &setClock{now: at}
			s := &supervisor{
				Exec: &Exec{
					opt:  ExecOptions{Tokens: make([]ExecToken, 1), Restart: true, StartAgain: true, Merge: 30 * time.Second},
					live: ExecLive{Log: quiet(), Clock: clock, Now: clock.Now},
				},
				child: &child{}, wanted: at,
			}
			s.now()
			c.happen(s)
			clock.now = execTime
			if got := s.wake().Sub(execTime); got != c.wait {
				t.Errorf("it waits %s, not %s", got, c.wait)
			}
		})
	}
}

func TestAFailureLongAfterAnInterruptIsOneAlsoWhenTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	clock := &setClock{now: execTime.Add(time.Hour)}
	s := &supervisor{
		Exec:  &Exec{opt: ExecOptions{Restart: true, StartAgain: true}, live: ExecLive{Log: quiet(), Clock: clock, Now: clock.Now}},
		child: &child{}, kill: time.NewTimer(time.Hour),
	}
	s.interrupted = s.now()
	clock.now = execTime
	s.wake() // the alarm tells of every step
	clock.now = execTime.Add(2 * sigintGrace)
	if err := s.ended(ending{code: 1}); err != nil {
		t.Errorf("it is not started again: %v", err)
	}
}
