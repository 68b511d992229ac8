package refresher

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestTheFirstValueIsMintedProvenAndPublishedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		s := g.status(t)
		if s.Health != Fresh || s.Version == nil || s.Version.N != 1 || s.Proof.Verdict != Accepted {
			t.Fatalf("status %+v", s)
		}
		if all := g.sink.versions(); len(all) != 1 || all[0] != *s.Version {
			t.Fatalf("sink holds %v", all)
		}
		select {
		case <-g.Ready():
		default:
			t.Error("not ready")
		}
	})
}

func TestADayOfHourlyRefreshesMintsOncePerHour(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		pass(24*time.Hour + time.Minute)
		mints, probes := g.cloud.counts()
		if mints != 25 {
			t.Errorf("%d mints in a day, want 25", mints)
		}
		if probes < 24*3 || probes > 24*4+25 {
			t.Errorf("%d probes in a day", probes)
		}
		for i, v := range g.sink.versions() {
			if v.N != uint64(i)+1 {
				t.Errorf("version %d has number %d", i+1, v.N)
			}
		}
	})
}

func TestAnOutageOfEightHoursGoesUnnoticed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		pass(30 * time.Minute)
		before, _ := g.cloud.counts()
		g.cloud.set(outage, nil)
		for h := range 8 {
			pass(time.Hour)
			if s := g.status(t); s.Health != Fresh {
				t.Fatalf("after %d hours of outage: %s", h+1, s.Health)
			}
		}
		after, _ := g.cloud.counts()
		if n := after - before; n > 13*8 {
			t.Errorf("%d mints in 8 hours of trouble", n)
		}
		s := g.status(t)
		if s.Failures == 0 || !strings.Contains(s.Reason, errOutage.Error()) {
			t.Errorf("status does not say what is wrong: %+v", s)
		}
		g.cloud.set(nil, nil)
		pass(10 * time.Minute)
		if s := g.status(t); s.Failures != 0 || g.Now().Sub(s.Version.MintedAt) > 10*time.Minute {
			t.Errorf("not fresh ten minutes after the outage: %+v", s)
		}
	})
}

func TestTroubleStaysWithinTheBudgetInEveryHour(t *testing.T) {
	for name, set := range map[string]func(*cloud){
		"the source fails":             func(c *cloud) { c.set(outage, nil) },
		"every new value is rejected":  func(c *cloud) { c.set(nil, always(Finding{Verdict: RejectedToken})) },
		"no value has access":          func(c *cloud) { c.set(nil, always(Finding{Verdict: RejectedAccess})) },
		"the probe never can tell":     func(c *cloud) { c.set(nil, always(Finding{Verdict: Unknown})) },
		"the probe says 429 for hours": func(c *cloud) { c.set(nil, always(Finding{Verdict: Unknown, Throttled: true})) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newRig(12 * time.Hour)
				g.run(t, Options{})
				pass(10 * time.Minute)
				set(g.cloud)
				pass(36 * time.Hour)
				for what, times := range map[string]struct {
					at   []time.Time
					most int
				}{"mints": {g.cloud.mints, 13}, "probes": {g.cloud.probed, 24}} {
					for i, from := range times.at {
						n := 0
						for _, at := range times.at[i:] {
							if at.Sub(from) < time.Hour {
								n++
							}
						}
						if n > times.most {
							t.Fatalf("%d %s in the hour from %s", n, what, from)
						}
					}
				}
			})
		})
	}
}

func TestASinkThatFailsIsRetriedAndTheOthersAreWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		bad := &memorySink{id: "bad", err: errors.New("disk full")}
		g.spec.Sinks = append(g.spec.Sinks, bad)
		g.run(t, Options{})
		if len(g.sink.versions()) != 1 {
			t.Error("the good sink was not written")
		}
		if s := g.status(t).Sinks[1]; s.Current || s.Failure != "disk full" {
			t.Errorf("status of the bad sink: %+v", s)
		}
		select {
		case <-g.Ready():
			t.Error("ready although a sink has nothing")
		default:
		}
		pass(10 * time.Minute)
		bad.fail(nil)
		pass(backoffMax)
		if s := g.status(t).Sinks[1]; !s.Current {
			t.Errorf("the sink did not recover: %+v", s)
		}
		<-g.Ready()
	})
}

func TestASinkThatHangsHoldsUpNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		hung := &memorySink{id: "hung", block: make(chan struct{})}
		g.spec.Sinks = append(g.spec.Sinks, hung)
		g.run(t, Options{})
		pass(publishTimeout + time.Second)
		if s := g.status(t); !s.Sinks[0].Current || !strings.Contains(s.Sinks[1].Failure, "hangs") {
			t.Errorf("sinks: %+v", s.Sinks)
		}
		pass(3 * time.Hour)
		if s := g.status(t); s.Version.N < 3 || !s.Sinks[0].Current {
			t.Errorf("no refreshes while a sink hangs: %+v", s)
		}
		close(hung.block)
		synctest.Wait()
		if s := g.status(t); !s.Sinks[1].Current {
			t.Errorf("the sink that woke up does not hold the version: %+v", s.Sinks[1])
		}
	})
}

func TestADisturbedSinkIsPutBackThreeTimesAndThenLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		for range 5 {
			g.sink.disturb()
			g.Disturbed("bot", "memory")
			pass(time.Second)
		}
		if s := g.status(t).Sinks[0]; !s.Contested || len(g.sink.versions()) != 4 {
			t.Fatalf("sink %+v, written %d times", s, len(g.sink.versions()))
		}
		pass(time.Hour)
		if s := g.status(t).Sinks[0]; s.Contested || !s.Current {
			t.Errorf("the next version did not end the contest: %+v", s)
		}
	})
}

func TestASinkThatFailsIsTriedAgainWhenSomethingHappensToIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.sink.fail(errors.New("a directory is in the way"))
		g.run(t, Options{})
		pass(30 * time.Minute) // the wait has grown to minutes
		before := g.sink.tries()
		for range 10 {
			g.Disturbed("bot", "memory")
			synctest.Wait()
		}
		if n := g.sink.tries() - before; n != 3 {
			t.Errorf("tried %d times while things happened all the time, want 3", n)
		}
		pass(20 * time.Minute)
		g.sink.fail(nil)
		g.Disturbed("bot", "memory")
		synctest.Wait()
		if s := g.status(t).Sinks[0]; !s.Current {
			t.Errorf("not tried again at once: %+v", s)
		}
	})
}

func TestAnUndisturbedSinkIsNotWrittenAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		for range 10 {
			g.Disturbed("bot", "memory")
			synctest.Wait()
		}
		if s := g.status(t).Sinks[0]; s.Contested || len(g.sink.versions()) != 1 {
			t.Errorf("sink %+v, written %d times", s, len(g.sink.versions()))
		}
	})
}

func TestARevokedValueIsConfirmedAndReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		first := *g.status(t).Version
		g.cloud.set(nil, func(v Value) Finding {
			if v == first.Value {
				return Finding{Verdict: RejectedToken, Reason: "401"}
			}
			return Finding{Verdict: Accepted}
		})
		g.Report("bot", first.Lineage, first.N)
		pass(time.Second)
		if s := g.status(t); !s.Servable(g.Now()) || s.Version.N != 1 {
			t.Fatalf("one 401 was believed: %+v", s)
		}
		pass(confirmAfter)
		if s := g.status(t); s.Version.N != 2 || s.Health != Fresh || s.Version.Lineage != first.Lineage {
			t.Fatalf("not replaced after the confirmation: %+v", s)
		}
	})
}

func TestFiveValuesThatReadersSawRefusedAreEachReplacedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{ProbesPerSecond: DefaultProbesPerSecond})
		for n := uint64(1); n <= 5; n++ {
			v := *g.status(t).Version
			g.cloud.set(nil, func(x Value) Finding {
				if x == v.Value {
					return Finding{Verdict: RejectedToken, Reason: "401"}
				}
				return Finding{Verdict: Accepted}
			})
			began := time.Now()
			g.Witness(t.Context(), "bot", v.Lineage, v.N)
			if s := g.status(t); s.Version.N == n && s.Health == Fresh && !s.Witnessed {
				t.Error("it does not say that the 401 is looked into")
			}
			s, err := g.Await(t.Context(), "bot", func(s Status) bool { return !s.Witnessed && s.Servable(g.Now()) })
			if err != nil || s.Version.N != n+1 {
				t.Fatalf("after the %d. 401: %+v, %v", n, s, err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("the %d. replacement took %s", n, took)
			}
		}
	})
}

func TestWhoGivesUpWaitingIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if _, err := g.Await(ctx, "bot", func(Status) bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			cancel()
		}
		pass(time.Second)
		left := 0
		if err := g.call(t.Context(), func() { left = len((*g.tokens.Load())["bot"].awaiting) }); err != nil {
			t.Fatal(err)
		}
		if left > 0 {
			t.Errorf("%d are still kept", left)
		}
	})
}

// keeper is a source that gives what it has until that is refused.
type keeper struct {
	*cloud
	last Minted
}

func (k *keeper) Mint(ctx context.Context) (Minted, error) {
	var err error
	if k.last.Value.IsZero() || Refused(ctx, k.last.Value) {
		k.last, err = k.cloud.Mint(ctx)
	}
	return k.last, err
}

func TestASourceThatKeepsAValueHearsThatItWasRejected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(1000 * time.Hour)
		g.spec.Source = &keeper{cloud: g.cloud}
		var bad sync.Map
		bad.Store("fake account-1", true)
		bad.Store("fake account-2", true)
		g.cloud.set(nil, func(v Value) Finding {
			if _, ok := bad.Load(v.Reveal()); ok {
				return Finding{Verdict: RejectedToken, Reason: "401"}
			}
			return Finding{Verdict: Accepted}
		})
		g.run(t, Options{})
		pass(10 * time.Minute)
		s := g.status(t)
		if s.Version == nil || s.Version.Value.Reveal() != "fake account-3" {
			t.Fatalf("rejected candidates were given again: %+v", s)
		}
		bad.Store("fake account-3", true)
		pass(20 * time.Minute)
		if s := g.status(t); s.Version.Value.Reveal() != "fake account-4" || s.Health != Fresh {
			t.Errorf("the revoked value was given again: %+v", s)
		}
		pass(100 * time.Hour)
		if mints, _ := g.cloud.counts(); mints != 4 {
			t.Errorf("it was asked for %d values", mints)
		}
	})
}

func TestARevokedValueIsNotServedWhileThereIsNoOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		store := &memoryStore{}
		g.run(t, Options{Store: store})
		g.cloud.set(outage, always(Finding{Verdict: RejectedToken}))
		pass(16*time.Minute + confirmAfter)
		if s := g.status(t); s.Health != Revoked || s.Servable(g.Now()) {
			t.Fatalf("status %+v", s)
		}
		if saved := store.saved["bot"]; saved.f.Verdict != RejectedToken {
			t.Error("a restart would serve the revoked value")
		}
		g.cloud.set(outage, nil) // the API erred
		pass(5 * time.Minute)
		if s := g.status(t); s.Health != Fresh {
			t.Errorf("a value that works again is not served: %+v", s)
		}
	})
}

func TestReportsStartAtMostOneProbeInTenSeconds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		v := g.status(t).Version
		_, before := g.cloud.counts()
		for range 100 {
			g.Report("bot", v.Lineage, v.N)
			pass(100 * time.Millisecond)
		}
		if _, after := g.cloud.counts(); after-before > 2 {
			t.Errorf("%d probes in 10 s of reports", after-before)
		}
		g.Report("bot", v.Lineage, v.N+1)
		g.Report("bot", "other", v.N)
		g.Report("nobody", "", 0)
	})
}

func TestARestartServesTheSavedValueAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := &memoryStore{}
		g := newRig(12 * time.Hour)
		g.run(t, Options{Store: store})
		first := *g.status(t).Version
		g.stop()

		again := newRig(12 * time.Hour)
		again.cloud.set(outage, always(Finding{Verdict: Unknown}))
		again.run(t, Options{Store: store})
		s := again.status(t)
		if s.Version == nil || *s.Version != first || s.Health != Unchecked || !s.Sinks[0].Current {
			t.Fatalf("after the restart: %+v", s)
		}
		again.cloud.set(nil, nil)
		pass(10 * time.Minute)
		if s := again.status(t); s.Health != Fresh {
			t.Errorf("not checked: %+v", s)
		}
		again.stop()

		other := newRig(12 * time.Hour)
		other.cloud.identity = "other account"
		other.cloud.set(outage, nil)
		other.run(t, Options{Store: store})
		if s := other.status(t); s.Version != nil {
			t.Errorf("another account's value is served: %+v", s)
		}
	})
}

func TestAnExpiryThatCannotBeWrittenIsTheLastThatCan(t *testing.T) {
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, end := range []time.Time{
		last, last.In(time.FixedZone("", -5*3600)), time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -5*3600)),
		time.Date(250000, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		t.Run(end.Format(time.RFC3339), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newRig(12 * time.Hour)
				g.cloud.set(func(int) (Minted, error) {
					return Minted{Value: NewValue("one for ever"), Type: TypeIAM, ExpiresAt: end}, nil
				}, nil)
				g.run(t, Options{})
				s := g.status(t)
				if s.Health != Fresh || s.Version == nil || !s.Version.ExpiresAt.Equal(last) {
					t.Fatalf("status %+v", s)
				}
				if _, err := s.Version.ExpiresAt.UTC().MarshalJSON(); err != nil {
					t.Error(err)
				}
				pass(24 * time.Hour)
				if s := g.status(t); s.Health != Fresh || s.NextRefresh.Year() > 9999 {
					t.Errorf("a day later: %+v", s)
				}
			})
		})
	}
}

func TestAStoreThatFailsBlocksNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{Store: &memoryStore{err: errors.New("read-only file system")}})
		if s := g.status(t); s.Health != Fresh || s.StoreFailure == "" || !s.Sinks[0].Current {
			t.Errorf("status %+v", s)
		}
	})
}

func TestAWallClockStepIsFollowedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		g.clock.step(5 * time.Hour)
		synctest.Wait()
		if mints, _ := g.cloud.counts(); mints != 2 {
			t.Errorf("%d mints after a suspend of 5 hours, want 2", mints)
		}
		g.clock.step(-5 * time.Hour)
		pass(61 * time.Minute)
		if mints, _ := g.cloud.counts(); mints < 3 {
			t.Error("no refresh within an hour of the clock's way back")
		}
	})
}

// dated is a probe whose answers have a right Date.
type dated struct{ *cloud }

func (d dated) Probe(ctx context.Context, v Value) Finding {
	f := d.cloud.Probe(ctx, v)
	f.ServerTime = time.Now().Round(0)
	return f
}

func TestAClockThatIsPutRightIsBelievedAtOnce(t *testing.T) {
	for _, behind := range []time.Duration{time.Minute, 3 * time.Hour, 13 * time.Hour} {
		t.Run(behind.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newRig(12 * time.Hour)
				g.clock.off = -behind
				g.spec.Probe = dated{g.cloud} // the source tells no time
				g.run(t, Options{})
				pass(time.Minute)
				g.clock.step(behind)
				synctest.Wait()
				for range 4 {
					if off := time.Until(g.Now()); off.Abs() > time.Second {
						t.Errorf("the servers' time is off by %s", off)
					}
					if s := g.status(t); s.HealthAt(g.Now()) != Fresh || s.Failures > 0 {
						t.Errorf("status %+v", s)
					}
					pass(time.Hour)
				}
			})
		})
	}
}

// hangingStore never gets to its end with what it is asked for.
type hangingStore struct{ end chan struct{} }

func (s hangingStore) Load(string, string) (Version, Finding, bool, error) {
	<-s.end
	return Version{}, Finding{}, false, nil
}

func (s hangingStore) Save(context.Context, string, string, Version, Finding) error {
	<-s.end
	return nil
}

func TestAStateThatHangsHoldsUpTheStartForAMoment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		g := newRig(12 * time.Hour)
		store := hangingStore{make(chan struct{})}
		defer close(store.end)
		more := g.more(20)
		g.run(t, Options{Store: store, Log: slog.New(slog.NewTextHandler(&out, nil))}, more...)
		pass(time.Minute)
		g.stop()
		for _, s := range g.Snapshots() {
			if s.Health != Fresh {
				t.Errorf("%s: %s", s.Token, s.Health)
			}
		}
		if len(g.Snapshots()) != 21 || strings.Count(out.String(), "saved state cannot be read") != 1 {
			t.Errorf("%d tokens, the log says %s", len(g.Snapshots()), out.String())
		}
	})
}

// hangingFor is a store that never gets to its end with what it has of one token.
type hangingFor struct {
	*memoryStore
	token string
	end   chan struct{}
}

func (s hangingFor) Load(token, fingerprint string) (Version, Finding, bool, error) {
	if token == s.token {
		<-s.end
	}
	return s.memoryStore.Load(token, fingerprint)
}

func TestAStateThatHangsTakesNoOtherAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		more := g.more(40)
		store := &memoryStore{}
		g.run(t, Options{Store: store}, more...)
		g.stop()
		lineages := map[string]string{}
		for _, s := range g.Snapshots() {
			lineages[s.Token] = s.Version.Lineage
		}

		const hung = "more7"
		hanging := hangingFor{store, hung, make(chan struct{})}
		defer close(hanging.end)
		g.run(t, Options{Store: hanging}, more...)
		pass(time.Minute)
		for _, s := range g.Snapshots() {
			if kept := s.Version != nil && s.Version.Lineage == lineages[s.Token]; s.Health != Fresh || kept != (s.Token != hung) {
				t.Errorf("%s: %s, version %+v, lineage %s before", s.Token, s.Health, s.Version, lineages[s.Token])
			}
		}
	})
}

func TestTokensOfOneSourceShareAMint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		second := g.spec
		second.Token, second.Sinks = "second", []Sink{&memorySink{id: "memory 2"}}
		g.run(t, Options{}, second)
		if mints, probes := g.cloud.counts(); mints != 1 || probes != 2 {
			t.Errorf("%d mints and %d probes, want 1 and 2", mints, probes)
		}
	})
}

func TestADeadKeyIsNoMatterOfAnotherOfTheSameAccount(t *testing.T) {
	t.Parallel()
	for _, deadFirst := range []bool{true, false} {
		t.Run(map[bool]string{true: "the dead one first", false: "the good one first"}[deadFirst], func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newRig(12 * time.Hour)
				dead := newCloud(12 * time.Hour)
				dead.set(outage, nil)
				second := g.spec
				second.Token, second.Sinks = "second", nil
				good := &g.spec
				if deadFirst {
					g.spec.Source, good = dead, &second
				} else {
					second.Source = dead
				}
				g.run(t, Options{}, second)
				for _, spec := range []Spec{g.spec, second} {
					s, _ := g.Snapshot(spec.Token)
					if ok := spec.Token == good.Token; (s.Failures == 0) != ok || (s.Version != nil) != ok {
						t.Errorf("%s: %+v", spec.Token, s)
					}
				}
			})
		})
	}
}

// A second's worth of them at once, then one each fifth of a second: chance has
// no part in it.
func TestProbesOfAHostAreRateLimited(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{ProbesPerSecond: 5}, g.more(99)...)
		pass(time.Minute)
		var got, want []time.Duration
		for _, at := range g.cloud.probed {
			got = append(got, at.Sub(g.clock.start))
		}
		for i := range 100 {
			want = append(want, max(0, time.Duration(i-4)*200*time.Millisecond))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d probes of 100 tokens, at %v", len(got), got)
		}
	})
}

func TestARefreshOnRequestTellsHowItEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		ctx := context.Background()
		pass(time.Second) // values of the same end are not news
		o, err := g.Refresh(ctx, "bot")
		if err != nil || o.Result != ResultPublished || o.Status.Version.N != 2 || !o.Status.Sinks[0].Current {
			t.Errorf("%+v, %v", o, err)
		}
		g.cloud.set(outage, nil)
		if o, err = g.Refresh(ctx, "bot"); err != nil || o.Result != ResultFailed || !strings.Contains(o.Reason, errOutage.Error()) {
			t.Errorf("%+v, %v", o, err)
		}
		same := g.status(t).Version
		g.cloud.set(func(int) (Minted, error) {
			return Minted{Value: same.Value, Type: TypeIAM, ExpiresAt: same.ExpiresAt}, nil
		}, nil)
		if o, err = g.Refresh(ctx, "bot"); err != nil || o.Result != ResultUnchanged {
			t.Errorf("%+v, %v", o, err)
		}
		pass(time.Second)
		g.cloud.set(nil, always(Finding{Verdict: RejectedToken}))
		if o, err = g.Refresh(ctx, "bot"); err != nil || o.Result != ResultRejected {
			t.Errorf("%+v, %v", o, err)
		}
		g.cloud.set(nil, always(Finding{Verdict: Unknown}))
		if o, err = g.Refresh(ctx, "bot"); err != nil || o.Result != ResultHeld {
			t.Errorf("%+v, %v", o, err)
		}
		if _, err = g.Refresh(ctx, "nobody"); !errors.Is(err, ErrUnknownToken) {
			t.Error(err)
		}
		g.stop()
		if _, err = g.Refresh(ctx, "bot"); !errors.Is(err, ErrEnded) {
			t.Error(err)
		}
	})
}

// A file that is both written and watched by the source asks for a refresh as
// soon as one has written it.
func TestARefreshThatIsFollowedByAnotherStillTellsOfItsVersion(t *testing.T) {
	t.Parallel()
	for name, sinkTakesLonger := range map[string]bool{"asked for while a sink is written": true, "under way when the sinks are written": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newRig(12 * time.Hour)
				g.run(t, Options{})
				value, again := Minted{}, make(chan struct{})
				g.cloud.set(func(n int) (Minted, error) {
					if n == 2 {
						value = Minted{Value: NewValue("next"), Type: TypeIAM, ExpiresAt: time.Now().Round(0).Add(20 * time.Hour)}
					} else {
						<-again
					}
					return value, nil
				}, nil)
				g.sink.block = make(chan struct{})
				outcome := make(chan RefreshOutcome)
				go func() {
					o, _ := g.Refresh(context.Background(), "bot")
					outcome <- o
				}()
				synctest.Wait()
				g.Request("bot")
				synctest.Wait()
				first, second := again, g.sink.block
				if !sinkTakesLonger {
					first, second = second, first
				}
				close(first)
				synctest.Wait()
				select {
				case o := <-outcome:
					close(second)
					t.Fatalf("it told of %v before both had ended: %s", o.Result, o.Reason)
				default:
				}
				close(second)
				if o := <-outcome; o.Result != ResultPublished || o.Status.Version == nil || o.Status.Version.N != 2 {
					t.Errorf("it told of %v: %s", o.Result, o.Reason)
				}
			})
		})
	}
}

func TestSwapTakesAllOrNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		first := *g.status(t).Version
		ctx := context.Background()

		broken := newCloud(time.Hour)
		broken.set(outage, nil)
		added := Spec{Token: "new", Required: true, Policy: hourly(), Source: broken, Probe: broken}
		if err := g.Swap(ctx, []Spec{added}); err == nil || !strings.Contains(err.Error(), `token "new"`) {
			t.Errorf("a token that cannot mint was swapped in: %v", err)
		}
		changed := g.spec
		changed.Sinks = []Sink{&memorySink{id: "bad", err: errors.New("no such directory")}}
		if err := g.Swap(ctx, []Spec{changed}); err == nil || !strings.Contains(err.Error(), "no such directory") {
			t.Errorf("a sink that fails its check was swapped in: %v", err)
		}
		if s := g.status(t); *s.Version != first || len(g.Snapshots()) != 1 {
			t.Errorf("something was swapped: %+v", s)
		}

		moved := g.spec
		other := newCloud(time.Hour)
		other.identity = "other account"
		sink := &memorySink{id: "new place"}
		moved.Source, moved.Probe, moved.Sinks = other, other, []Sink{sink}
		if err := g.Swap(ctx, []Spec{moved}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s := g.status(t)
		if s.Version.N != 2 || s.Version.Lineage != first.Lineage || !s.Version.ExpiresAt.Before(first.ExpiresAt) || !s.Sinks[0].Current {
			t.Errorf("the new source's value is not published: %+v", s)
		}
		if !g.sink.closed {
			t.Error("the sink that is no longer listed was not closed")
		}
		if err := g.Swap(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if _, ok := g.Snapshot("bot"); ok {
			t.Error("a removed token is still there")
		}
	})
}

func TestSwapCarriesUnchangedTokensOverWhateverTheirState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.cloud.set(outage, nil)
		g.run(t, Options{})
		added := newCloud(time.Hour)
		if err := g.Swap(context.Background(), []Spec{g.spec, {Token: "new", Policy: hourly(), Source: added, Probe: added}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s, _ := g.Snapshot("new"); s.Health != Fresh {
			t.Errorf("new token: %+v", s)
		}
		if s := g.status(t); s.Health != Pending || s.Failures == 0 {
			t.Errorf("old token: %+v", s)
		}
	})
}

func TestARotatedKeyIsProvenByItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		g.run(t, Options{})
		// A mint with the old key is under way when the new one is tried.
		slow := make(chan struct{})
		g.cloud.set(func(int) (Minted, error) { <-slow; return Minted{}, errOutage }, nil)
		go func() { _, _ = g.Refresh(context.Background(), "bot") }()
		synctest.Wait()
		rotated := g.spec
		key := newCloud(12*time.Hour + time.Second)
		key.n = 100
		rotated.Source = key
		if err := g.Swap(context.Background(), []Spec{rotated}); err != nil {
			t.Fatal(err)
		}
		close(slow)
		synctest.Wait()
		if s := g.status(t); s.Failures != 0 || s.Version.N != 2 || s.Version.Value != NewValue("fake account-101") {
			t.Errorf("after the rotation: %+v", s)
		}
	})
}

func TestALongOutageIsALogOfAFewLines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		g := newRig(12 * time.Hour)
		g.run(t, Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
		g.cloud.set(outage, nil)
		pass(11 * time.Hour)
		g.stop()
		if n := strings.Count(out.String(), "refresh failed"); n < 5 || n > 10 {
			t.Errorf("%d lines about failures in an outage of 10 hours", n)
		}
	})
}

func TestAQuietDayIsAQuietLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		g := newRig(12 * time.Hour)
		var same Minted
		g.cloud.set(func(int) (Minted, error) { // IAM gives the same value for a while
			if now := time.Now(); same.Value.IsZero() || same.ExpiresAt.Sub(now) < 9*time.Hour {
				same = Minted{Value: NewValue(now.String()), Type: TypeIAM, ExpiresAt: now.Add(12 * time.Hour)}
			}
			return same, nil
		}, nil)
		g.run(t, Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
		pass(24 * time.Hour)
		g.stop()
		if n := strings.Count(out.String(), "\n"); n > 8 {
			t.Errorf("%d lines in a quiet day:\n%s", n, out.String())
		}
	})
}

func TestWhoeverFollowsChangesHearsOfEachHealth(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(12 * time.Hour)
		var heard []Health
		g.run(t, Options{OnChange: func(s Status) {
			if n := len(heard); n == 0 || heard[n-1] != s.Health {
				heard = append(heard, s.Health)
			}
		}})
		g.cloud.set(outage, always(Finding{Verdict: RejectedToken, Reason: "401"}))
		pass(13 * time.Hour)
		if want := []Health{Pending, Fresh, Revoked}; !slices.Equal(heard, want) {
			t.Errorf("heard %v, want %v", heard, want)
		}
	})
}

// cutOff mints until it is ended.
type cutOff struct{ *cloud }

func (c cutOff) Mint(ctx context.Context) (Minted, error) {
	<-ctx.Done()
	return Minted{}, errors.New("given up")
}

func TestAnAttemptThatTheEndCutsOffIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for range 100 { // the end and the failure come at the same moment
			g := newRig(12 * time.Hour)
			g.spec.Source = cutOff{g.cloud}
			g.run(t, Options{})
			g.post(func() {
				go g.stop()
				time.Sleep(time.Millisecond) // the failure is here as well when the loop goes on
			})
			<-g.done
			if s := g.status(t); s.LastFailure != "" {
				t.Fatalf("the last failure is %q", s.LastFailure)
			}
		}
	})
}

func TestASourceOfValuesThatAreAboutToEndIsNamedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var out bytes.Buffer
		g := newRig(3 * time.Second)
		g.run(t, Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
		pass(time.Minute)
		g.stop()
		if n := strings.Count(out.String(), "values that are about to end"); n != 1 || strings.Count(out.String(), "msg=published") < 10 {
			t.Errorf("said %d times:\n%s", n, out.String())
		}
	})
}
