package main

import (
	"cmp"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
)

// TestFaultsAtTheStartAndWhileRunning: state, verdict, log line and exit codes
// under each fault, from the first moment and after a value was published.
func TestFaultsAtTheStartAndWhileRunning(t *testing.T) {
	t.Parallel()
	cases := mintFaults()
	maps.Copy(cases, probeFaults())
	together(t, cases, func(t *testing.T, c faultCase) {
		trouble{c.source, []emulator.Fault{c.fault}, c.outcome, c.outcome}.strikes(t)
	})
}

// trouble is what a token meets, and what comes of it.
type trouble struct {
	source         string // in makings
	faults         []emulator.Fault
	start, running outcome
}

// strikes has a daemon meet the trouble when it starts, and again when it has
// published a value. One fault alone is met by once, too.
func (c trouble) strikes(t *testing.T) {
	o := emulator.Options{TokenFormat: emulator.FormatNew}
	if c.start.fate == held || c.running.fate == held {
		o.TokenLifetime = 2 * time.Minute // probes are repeated sooner
	}
	play(t, o, func(s *scene) {
		m := makings[c.source]
		p := plot{source: m.source, probe: org}
		if c.source == byLogin {
			p.probe = orgProbe
		}
		p.probe += cmp.Or(c.start.probe, c.running.probe)
		prepare := func() {
			if m.make != nil {
				m.make(s)
			}
		}
		s.inject(c.faults...)
		s.released()
		if alone := len(c.faults) == 1; alone {
			prepare()
			s.once(p, c.start)
			s.binary = "" // the daemon with the race detector
		}
		prepare()
		s.mark()
		s.run(p)
		s.startsUnder(c.start)

		// All is well again.
		s.cloud.ClearFaults()
		switch {
		case c.source == byLogin:
			s.recovers(c.start)
			s.loginIsDueAgain(p, c)
		case c.start.fate == held:
			s.ready()
		default:
			s.renews()
		}
		s.sees(refresher.Fresh, refresher.Accepted)

		s.inject(c.faults...)
		s.refreshesUnder(c.running)
		if n := strings.Count(s.daemon.log.text(), `"msg":"minting","token":"bot","code":"requested"`); c.source == byLogin && n > 1 {
			s.Errorf("one refresh was asked for, and there were %d: was a login that it wrote news to the daemon?", n)
		}
		s.cloud.ClearFaults() // what hangs would be waited for
		s.ends()
		for call, n := range s.cloud.Calls() {
			if strings.HasSuffix(call, "/redirected") {
				s.Errorf("a redirect was followed %d times: %s", n, call)
			}
		}
	})
}

// recovers wants a login that could not be refreshed to be refreshed.
func (s *scene) recovers(c outcome) {
	s.Helper()
	if c.fate == held || c.fate == rejected {
		return // a login's token is proven again after minutes
	}
	if code, _ := s.outcome("refresh", "bot", "--config", "bot.yaml"); code != 0 {
		s.do(0, "", "refresh", "bot", "--config", "bot.yaml") // the first joined a retry
	}
	s.ready()
	s.sees(refresher.Fresh, refresher.Accepted)
}

// loginIsDueAgain has another daemon publish a token that lives on, although the
// login is due and cannot be refreshed, as is said.
func (s *scene) loginIsDueAgain(p plot, c trouble) {
	s.Helper()
	s.ends()
	s.say(s.daemon.log.text())
	s.try(os.RemoveAll(s.path("state")))
	before := s.keepsLogin(old)
	faults, says := []emulator.Fault{fault(emulator.ServiceOAuth, emulator.KindStatus, httpStatus(503))}, "503"
	if len(c.faults) == 1 && c.start.fate == fails && c.faults[0].Kind != emulator.KindExpired { // which changes the login
		faults, says = c.faults, c.start.says
	}
	s.inject(faults...)
	s.run(p)
	s.logged(`"level":"WARN","msg":"the login cannot be refreshed; its token is given as long as it lives","error":".*` + says)
	s.ready()
	if s.file() != before.AccessToken {
		s.Error("another value is published than the one that lives on")
	}
	s.cloud.ClearFaults()
}

// once wants the command to end with what the fault deserves.
func (s *scene) once(p plot, c outcome) {
	s.Helper()
	s.configure("once", p, true)
	switch c.fate {
	case published, unchanged:
		s.do(0, `"msg":"published"`, "once", "--config", "once.yaml")
		return
	case hangs:
		s.do(1, `token "bot": .*gave up after --timeout 300ms`, "once", "--config", "once.yaml", "--timeout", "300ms")
		return
	}
	if c.lasting {
		s.do(1, `token "bot": .*`+c.says+`.*gave up after --timeout 4s`, "once", "--config", "once.yaml", "--timeout", "4s")
		return
	}
	once := s.background("once", "once", "--config", "once.yaml")
	s.try(once.log.await(c.line(), 1))
	s.try(once.log.await(`"msg":"(minting|probing)".*(attempt [0-9]+ failed|held back)`, 1))
	s.try(once.signal(syscall.SIGINT))
	code, err := once.wait()
	s.try(err)
	if code != 1 {
		s.Errorf("once ended with %d", code)
	}
	says := c.says
	if c.fate == held {
		says = "not finished in time: "
	}
	_, last, _ := strings.Cut(once.log.text(), "\n"+program+": ")
	s.matches("once says", last, `token "bot": .*`+says)
}

// line is how the log tells of it.
func (c outcome) line() string {
	switch c.fate {
	case fails:
		return `"level":"WARN","msg":"refresh failed","token":"bot","error":".*` + c.says
	case rejected:
		return `"level":"WARN","msg":"new value not published","token":"bot","reason":"` + c.says
	case held:
		return `"level":"WARN","msg":"new value held back: the probe cannot tell","token":"bot","verdict":"unknown","reason":"` + c.says
	}
	return `"level":"INFO","msg":"published"`
}

// startsUnder wants a daemon that starts under the fault to have nothing, and
// to say why.
func (s *scene) startsUnder(c outcome) {
	s.Helper()
	switch c.fate {
	case published, unchanged:
		s.ready()
		s.sees(refresher.Fresh, refresher.Accepted)
		s.do(0, "", "healthcheck", "--config", "bot.yaml")
		return
	case hangs:
		s.hanging()
	default:
		s.logged(c.line())
	}
	st := s.sees(refresher.Pending, refresher.Unproven)
	says := c.says
	if c.fate == held {
		says = "" // while a probe is under way it is not told what the last one said
	}
	s.matches("the status says", st.LastFailure+st.Reason, says)
	if c.fate != rejected && st.Candidate != (c.fate == held) {
		s.Errorf("the status tells of a candidate: %t", st.Candidate)
	}
	s.do(1, `get token "bot": there is no value yet: .*`+says, "get", "bot", "--config", "bot.yaml")
	s.do(1, `not ready: bot: no value yet: .*`+says, "healthcheck", "--config", "bot.yaml")
}

// refreshesUnder wants a refresh under the fault to leave what is published.
func (s *scene) refreshesUnder(c outcome) {
	s.Helper()
	refresh := []string{"refresh", "bot", "--config", "bot.yaml"}
	if c.fate == published {
		s.renews()
		s.sees(refresher.Fresh, refresher.Accepted)
		return
	}
	s.keeps(func() {
		switch c.fate {
		case fails, rejected:
			s.nextSecond()
			s.do(1, `refresh token "bot": .*`+c.says, refresh...)
		case held:
			s.nextSecond()
			s.do(0, "bot: a new value was minted and is waiting for a probe's verdict: .*"+c.says, refresh...)
		case unchanged:
			s.do(0, "bot: nothing new, the published value stays: the source gave the same value again", refresh...)
		case hangs:
			s.mark()
			s.background("refresh", refresh...)
			s.hanging()
		}
		st := s.sees(refresher.Fresh, refresher.Accepted)
		if c.fate != rejected && st.Candidate != (c.fate == held) {
			s.Errorf("the status tells of a candidate: %t", st.Candidate)
		}
		if c.fate == fails || c.fate == rejected {
			s.matches("the status says", st.LastFailure, c.says)
		}
		s.do(0, "", "get", "bot", "--config", "bot.yaml")
		s.do(0, "", "healthcheck", "--config", "bot.yaml")
	})
}

// mark and hanging wait for a call that begins to hang in between.
func (s *scene) mark() { s.hung = strings.Count(s.calls.text(), callHangs) }

func (s *scene) hanging() {
	s.Helper()
	if err := s.calls.await(callHangs, s.hung+1); err != nil {
		s.Fatal(err)
	}
}

const callHangs = `msg="call hangs"`
