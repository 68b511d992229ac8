package sink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/process"
)

// deed is an action that notes when it is done, and how long it takes.
type deed struct {
	mu     sync.Mutex
	takes  time.Duration
	errs   []error // of the next attempts; then it succeeds
	begun  time.Time
	at     []time.Duration
	values []string
	busy   bool
}

func (d *deed) Check() error { return nil }

func (d *deed) Do(ctx context.Context, _ *process.Owner, env []string) error {
	d.mu.Lock()
	if d.busy {
		panic("two at once")
	}
	d.busy = true
	d.at = append(d.at, time.Since(d.begun))
	d.values = append(d.values, strings.TrimPrefix(env[1], "ITR_HOOK_VERSION="))
	var err error
	if len(d.errs) > 0 {
		err, d.errs = d.errs[0], d.errs[1:]
	}
	takes := d.takes
	d.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		err = ctx.Err()
	}
	d.mu.Lock()
	d.busy = false
	d.mu.Unlock()
	return err
}

// seen is when it was done, and for which versions.
func (d *deed) seen() ([]time.Duration, []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.at), slices.Clone(d.values)
}

// hookRecord is a record in memory.
type hookRecord struct {
	mu   sync.Mutex
	done map[string]string
}

func (r *hookRecord) LoadHooks(string) (map[string]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.done), nil
}

func (r *hookRecord) SaveHooks(_ string, done map[string]string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = done
	return nil
}

// holds is the status of a token whose sinks hold version n.
func holds(n uint64, sinks ...string) refresher.Status {
	st := refresher.Status{Token: "bot", Version: &refresher.Version{Token: "bot", Lineage: "L", N: n}}
	for _, id := range sinks {
		st.Sinks = append(st.Sinks, refresher.SinkStatus{ID: id, N: n, Current: true})
	}
	return st
}

// runHooks runs h until the test ends it.
func runHooks(h *Hooks) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); h.Run(ctx) }()
	return func() { cancel(); <-ended }
}

func TestAHookIsRunOnceForEachVersionThatTheSinkHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &deed{begun: time.Now()}
		r := &hookRecord{}
		hook := Hook{Token: "bot", Sink: "file:a", Action: d, Timeout: time.Minute}
		h := NewHooks(HooksOptions{Log: quiet(), Record: r})
		h.Set([]Hook{hook})
		h.Changed(holds(1, "file:a")) // before the start, too
		stop := runHooks(h)
		synctest.Wait()
		h.Changed(holds(1, "file:a"))
		h.Changed(holds(2, "file:b"))
		late := holds(2, "file:a")
		late.Sinks[0].Current = false
		h.Changed(late) // not written yet
		synctest.Wait()
		if _, values := d.seen(); !slices.Equal(values, []string{"1"}) {
			t.Errorf("it was run for the versions %v before the sink held the second", values)
		}
		h.Changed(holds(2, "file:a"))
		synctest.Wait()
		h.Changed(holds(1, "file:a")) // a snapshot that was taken before
		h.Set([]Hook{hook})           // a reload
		h.Changed(holds(2, "file:a"))
		synctest.Wait()
		stop()

		// A restart with its state.
		h = NewHooks(HooksOptions{Log: quiet(), Record: r})
		h.Set([]Hook{hook})
		stop = runHooks(h)
		h.Changed(holds(2, "file:a"))
		synctest.Wait()
		h.Changed(holds(3, "file:a"))
		synctest.Wait()
		stop()
		if _, values := d.seen(); !slices.Equal(values, []string{"1", "2", "3"}) {
			t.Errorf("it was run for the versions %v", values)
		}
	})
}

func TestAFailedHookIsTriedAgainUntilItSucceedsOrThereIsANewerVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("no")
		d := &deed{begun: time.Now(), errs: []error{bad, bad, bad, nil, bad, bad, bad, bad, bad, bad, bad, bad}}
		h := NewHooks(HooksOptions{Log: quiet()})
		h.Set([]Hook{{Token: "bot", Sink: "s", Action: d, Timeout: time.Minute}})
		defer runHooks(h)()
		h.Changed(holds(1, "s"))
		pass(time.Second / 2)
		if got := h.Failure("bot", "s"); got != "no" {
			t.Errorf("the failure is %q", got)
		}
		h.Changed(holds(1, "s")) // no news, and no reason to hurry
		pass(time.Minute)
		if got := h.Failure("bot", "s"); got != "" {
			t.Errorf("the failure is %q after the success", got)
		}
		h.Changed(holds(2, "s"))
		pass(11 * time.Second) // three fail, and the next is in 4 s
		h.Changed(holds(3, "s"))
		synctest.Wait()
		if n, ok := h.Failures("bot"); n != 3+5 || !ok {
			t.Errorf("%d failures were counted, %t", n, ok)
		}
		want := []time.Duration{0, 1, 3, 7, 60, 61, 63, 67, 71}
		for i := range want {
			want[i] *= time.Second
			if want[i] >= time.Minute {
				want[i] += time.Second / 2
			}
		}
		if at, values := d.seen(); !slices.Equal(at, want) || !slices.Equal(values, strings.Split("1 1 1 1 2 2 2 2 3", " ")) {
			t.Errorf("it was run at %v for %v", at, values)
		}
		pass(time.Hour)
		if at, _ := d.seen(); at[len(at)-1]-at[len(at)-2] > hookRetryMost {
			t.Errorf("it was run at %v", at)
		}
	})
}

func TestWhileAHookRunsNewerVersionsAreOneMoreRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &deed{begun: time.Now(), takes: time.Minute}
		h := NewHooks(HooksOptions{Log: quiet()})
		h.Set([]Hook{{Token: "bot", Sink: "s", Action: d, Timeout: time.Hour}})
		defer runHooks(h)()
		for n := range uint64(10) {
			h.Changed(holds(1+n, "s")) // it takes longer than a renewal
			pass(20 * time.Second)
		}
		pass(10 * time.Minute)
		// At a full minute either of the end and the next version may come first.
		if _, values := d.seen(); len(values) > 5 || values[0] != "1" || values[len(values)-1] != "10" {
			t.Errorf("it was run for the versions %v", values)
		}
	})
}

func TestHooksOfManyTokensTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// Two full rounds and one more, each as long as almost the timeout.
		const tokens, takes = 2*hooksMost + 1, 50 * time.Second
		var log logs
		h := NewHooks(HooksOptions{Log: log.logger()})
		var hooks []Hook
		var deeds []*deed
		for i := range tokens {
			d := &deed{takes: takes, begun: time.Now()}
			deeds = append(deeds, d)
			hooks = append(hooks, Hook{Token: fmt.Sprintf("bot%d", i), Sink: "file:a", Action: d, Timeout: time.Minute})
		}
		h.Set(hooks)
		stop := runHooks(h)
		changed := func(i int, n uint64) {
			st := holds(n, "file:a")
			st.Token = hooks[i].Token
			h.Changed(st)
		}
		for i := range tokens {
			changed(i, 1)
		}
		synctest.Wait()
		begun := func() (n int) {
			for _, d := range deeds {
				at, _ := d.seen()
				n += len(at)
			}
			return n
		}
		if n := begun(); n != hooksMost {
			t.Errorf("%d hooks run at once, not %d", n, hooksMost)
		}
		// One that waits: of its versions the newest counts.
		waits := slices.IndexFunc(deeds, func(d *deed) bool { at, _ := d.seen(); return len(at) == 0 })
		changed(max(waits, 0), 2)
		synctest.Wait()
		for round := 1; round <= 3; round++ {
			if n, want := begun(), min(round*hooksMost, tokens); n != want {
				t.Errorf("in round %d %d hooks have begun, not %d", round, n, want)
			}
			time.Sleep(takes)
			synctest.Wait()
		}
		if err := h.Settle(t.Context(), func(string) bool { return true }); err != nil {
			t.Error(err)
		}
		if _, values := deeds[max(waits, 0)].seen(); !slices.Equal(values, []string{"2"}) {
			t.Errorf("one that waited ran for the versions %v", values)
		}
		if text := log.String(); strings.Contains(text, "failed") {
			t.Errorf("the wait counts against their timeout: %s", text)
		}
		stop()
	})
}

func TestAHookThatHangsIsEndedAndItsSinkRemovedFromTheConfigurationLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &deed{begun: time.Now(), takes: 24 * time.Hour}
		h := NewHooks(HooksOptions{Log: quiet()})
		h.Set([]Hook{{Token: "bot", Sink: "s", Action: d, Timeout: 10 * time.Second}})
		stop := runHooks(h)
		h.Changed(holds(1, "s"))
		pass(22 * time.Second)
		if at, _ := d.seen(); !slices.Equal(at, []time.Duration{0, 11 * time.Second}) {
			t.Errorf("it was run at %v", at)
		}
		h.Set(nil)
		pass(time.Hour)
		if at, _ := d.seen(); len(at) != 2 {
			t.Errorf("it was run %d times", len(at))
		}
		if _, ok := h.Failures("bot"); ok {
			t.Error("failures are still counted")
		}
		stop()
	})
}

func TestWhatTheEndInterruptsIsNoFailureAndNotDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &deed{begun: time.Now(), takes: time.Minute}
		r := &hookRecord{}
		h := NewHooks(HooksOptions{Log: quiet(), Record: r})
		h.Set([]Hook{{Token: "bot", Sink: "s", Action: d, Timeout: time.Hour}})
		stop := runHooks(h)
		h.Changed(holds(1, "s"))
		pass(time.Second)
		stop()
		if n, _ := h.Failures("bot"); n != 0 || len(r.done) != 0 {
			t.Errorf("%d failures are counted and %v recorded", n, r.done)
		}
	})
}

func TestACommandIsToldOfTheVersionAndNotTheValueAndLeavesNothingThatFailed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	do := func(timeout time.Duration, script string) error {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		hook := Hook{Token: "bot", Sink: "file:/run/bot", Path: "/run/bot"}
		return Command{[]string{"sh", "-c", script, "sh", dir}}.Do(ctx, process.New(), hook.environment(hookVersion{"L", "L-7", 7}))
	}
	if err := do(time.Minute, `env | grep ^ITR_HOOK | sort >$1/env; echo secret; echo secret >&2; (sleep 1000 >&2 & echo $! >$1/left)`); err != nil {
		t.Error(err)
	}
	want := "ITR_HOOK_PATH=/run/bot\nITR_HOOK_SINK=file:/run/bot\nITR_HOOK_TOKEN=bot\nITR_HOOK_VERSION=7\n"
	if got, err := os.ReadFile(filepath.Join(dir, "env")); err != nil || string(got) != want {
		t.Errorf("it saw %q, %v", got, err)
	}
	pid := func(name string) (n int) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if _, scanErr := fmt.Sscan(string(text), &n); err != nil || scanErr != nil {
			t.Fatal(err, scanErr)
		}
		return n
	}
	if err := syscall.Kill(pid("left"), syscall.SIGKILL); err != nil {
		t.Errorf("what it left in the background is gone: %v", err)
	}
	if err := do(time.Minute, `(sleep 1000 & echo $! >$1/left); exit 3`); err == nil || !strings.HasPrefix(err.Error(), "it failed with exit code 3: ") {
		t.Errorf("exit code 3 is %v", err)
	}
	if err := awaitGone(pid("left")); err != nil {
		t.Error("what a failed command left in the background lives on")
	}
	if err := do(time.Minute, `kill -9 $$`); err == nil || !strings.HasPrefix(err.Error(), "it was ended by signal 9 (killed): ") {
		t.Errorf("signal 9 is %v", err)
	}
	// It ignores what can be ignored and has a child. The pipe is at its end
	// when both are gone.
	if err := syscall.Mkfifo(filepath.Join(dir, "alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := os.ReadFile(filepath.Join(dir, "alive")); ended <- err }()
	if err := do(time.Second, `trap "" TERM INT HUP; exec >$1/alive; sleep 1000 & sleep 1000`); err == nil || !strings.HasPrefix(err.Error(), "it took too long and was killed: ") {
		t.Errorf("no end is %v", err)
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("its children live on")
	}
	if err := (Command{[]string{filepath.Join(dir, "none")}}).Check(); err == nil || !strings.HasPrefix(err.Error(), "there is no such program: ") {
		t.Errorf("a missing program is %v", err)
	}
}

func TestASignalGoesToTheProcessInTheFile(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", `trap "exit 42" HUP; echo; while :; do sleep 0.01; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pid")
	s := Signal{path, syscall.SIGHUP}
	if err := s.Check(); !errors.As(err, new(*DoubtfulError)) {
		t.Errorf("a check without a file is %v", err)
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, " %d\n", cmd.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if err := s.Do(t.Context(), nil, nil); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("the process ended with %v", err)
	}
	if err := s.Do(t.Context(), nil, nil); err == nil || !strings.HasPrefix(err.Error(), "there is no process ") {
		t.Errorf("a process that is gone is %v", err)
	}
	for _, text := range []string{"", "0", "1", "-1", "x", "12 13", strings.Repeat("1", 100)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Do(t.Context(), nil, nil); err == nil {
			t.Errorf("%q is taken for a PID", text)
		}
	}
}

// pass lets time go by in a bubble, and what it starts happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// awaitGone waits until a process has ended: it may be a zombie of somebody's
// for a moment.
func awaitGone(pid int) error {
	for range 2000 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return nil
		}
		<-time.After(10 * time.Millisecond)
	}
	return errors.New("it lives")
}

func TestTheRecordOfASinkThatIsLateOutlivesAnothersHook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		record := &hookRecord{done: map[string]string{"file:a": "L-1", "file:b": "L-2"}}
		a, b := &deed{begun: time.Now()}, &deed{begun: time.Now()}
		h := NewHooks(HooksOptions{Log: quiet(), Record: record})
		h.Set([]Hook{{Token: "bot", Sink: "file:a", Action: a, Timeout: time.Minute}, {Token: "bot", Sink: "file:b", Action: b, Timeout: time.Minute}})
		stop := runHooks(h)
		defer stop()
		late := holds(2, "file:a")
		late.Sinks = append(late.Sinks, refresher.SinkStatus{ID: "file:b", Failure: "the disk is full"})
		h.Changed(late)
		synctest.Wait()
		h.Changed(holds(2, "file:a", "file:b"))
		time.Sleep(time.Minute)
		_, ofA := a.seen()
		_, ofB := b.seen()
		if len(ofA) != 1 || len(ofB) != 0 {
			t.Errorf("the hooks ran %d and %d times, want once and not again", len(ofA), len(ofB))
		}
	})
}

func TestAHookThatAReloadPutsRightIsRunAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fails := &deed{begun: time.Now(), errs: slices.Repeat([]error{errors.New("no such program")}, 100)}
		h := NewHooks(HooksOptions{Log: quiet()})
		h.Set([]Hook{{Token: "bot", Sink: "file:a", Action: fails, Timeout: time.Minute}})
		stop := runHooks(h)
		defer stop()
		h.Changed(holds(1, "file:a"))
		time.Sleep(20 * time.Minute)
		works := &deed{begun: time.Now()}
		h.Set([]Hook{{Token: "bot", Sink: "file:a", Action: works, Timeout: time.Minute}})
		h.Changed(holds(1, "file:a"))
		time.Sleep(time.Second)
		if at, _ := works.seen(); len(at) != 1 {
			t.Errorf("it ran %d times within a second", len(at))
		}
	})
}
