package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
)

// fate is what becomes of a value when services do wrong.
type fate int

const (
	fails     fate = iota // none is minted
	rejected              // it is refused
	held                  // nothing can be told of it
	hangs                 // it is waited for, longer than a test can
	unchanged             // it is what is published already; a first one is published
	published             // nothing is amiss in the end
)

// faultCase is a token in a cloud that does wrong.
type faultCase struct {
	source string // in makings
	faults []emulator.Fault
	probe  string // further options
	fate   fate
	// says is what log, status and commands say about it.
	says string
	// lasting: a person must act, so that the next attempt is far off.
	lasting bool
}

// fault is one of a service.
func fault(service, kind string, change ...func(*emulator.Fault)) []emulator.Fault {
	f := emulator.Fault{Service: service, Kind: kind}
	for _, c := range change {
		c(&f)
	}
	return []emulator.Fault{f}
}

func code(name string) func(*emulator.Fault) { return func(f *emulator.Fault) { f.Code = name } }
func httpStatus(n int) func(*emulator.Fault) { return func(f *emulator.Fault) { f.Status = n } }
func late(f *emulator.Fault)                 { f.Latency = 300 * time.Millisecond }

// faultCases are every service with every kind of fault, and some pairs.
func faultCases() map[string]faultCase {
	const (
		key, vm, workload = "service_account_key", "metadata", "workload_identity"
		iam, meta         = emulator.ServiceIAM, emulator.ServiceMetadata
		exchange, track   = emulator.ServiceTokenExchange, emulator.ServiceTracker

		fromIAM, fromVM = "create IAM token at 127.*", "get token from the metadata service at http://127.*"
		fromExchange    = "exchange workload token .*/oidc.jwt at https://127.*"
		fromTracker     = "Tracker at 127.*"
	)
	cases := map[string]faultCase{
		"iam error UNAVAILABLE":        {source: key, faults: fault(iam, emulator.KindError), says: fromIAM + "UNAVAILABLE: .*injected fault"},
		"iam error UNAUTHENTICATED":    {source: key, faults: fault(iam, emulator.KindError, code("UNAUTHENTICATED")), says: fromIAM + "UNAUTHENTICATED: .*the key was deleted or belongs to another account", lasting: true},
		"iam error PERMISSION_DENIED":  {source: key, faults: fault(iam, emulator.KindError, code("PERMISSION_DENIED")), says: fromIAM + "PERMISSION_DENIED: .*was deleted or blocked: check it with yc iam service-account get", lasting: true},
		"iam error RESOURCE_EXHAUSTED": {source: key, faults: fault(iam, emulator.KindError, code("RESOURCE_EXHAUSTED")), says: fromIAM + "RESOURCE_EXHAUSTED"},
		"iam error INTERNAL":           {source: key, faults: fault(iam, emulator.KindError, code("INTERNAL")), says: fromIAM + "INTERNAL"},
		"iam status 503":               {source: key, faults: fault(iam, emulator.KindStatus, httpStatus(503)), says: fromIAM + "the answer is not IAM's but a gateway's: 503"},
		"iam status 403":               {source: key, faults: fault(iam, emulator.KindStatus, httpStatus(403)), says: fromIAM + "403 Forbidden of something else: a proxy or another program answers at this address"},
		"iam html":                     {source: key, faults: fault(iam, emulator.KindHTML), says: fromIAM + "a proxy or another program answers at this address: check endpoints.iam and HTTPS_PROXY"},
		"iam redirect":                 {source: key, faults: fault(iam, emulator.KindRedirect), says: fromIAM + "302 Found of something else"},
		"iam hang":                     {source: key, faults: fault(iam, emulator.KindHang), fate: hangs},
		"iam slow":                     {source: key, faults: fault(iam, emulator.KindSlow, late), fate: published},
		"iam reset":                    {source: key, faults: fault(iam, emulator.KindReset), says: fromIAM + "UNAVAILABLE: "},
		"iam garbage":                  {source: key, faults: fault(iam, emulator.KindGarbage), says: fromIAM + "the token it gave has "},
		"iam empty":                    {source: key, faults: fault(iam, emulator.KindEmpty), says: fromIAM + "the token it gave is empty"},
		"iam expired":                  {source: key, faults: fault(iam, emulator.KindExpired), says: fromIAM + "the token it gave expired (59|6.) s ago"},
		"iam same_token":               {source: key, faults: fault(iam, emulator.KindSameToken), fate: unchanged},

		"metadata error 500":  {source: vm, faults: fault(meta, emulator.KindError), says: fromVM + "the answer is 500 Internal Server Error"},
		"metadata error 404":  {source: vm, faults: fault(meta, emulator.KindError, httpStatus(404)), says: fromVM + "404: no service account is attached to this virtual machine: attach one", lasting: true},
		"metadata status 403": {source: vm, faults: fault(meta, emulator.KindStatus, httpStatus(403)), says: fromVM + "403: it refuses to give a token: allow it with --metadata-options gce-http-token=enabled", lasting: true},
		"metadata status 429": {source: vm, faults: fault(meta, emulator.KindStatus, httpStatus(429)), says: fromVM + "too many requests .429."},
		"metadata html":       {source: vm, faults: fault(meta, emulator.KindHTML), says: fromVM + "200 OK with .* bytes of HTML.*another program may answer at this address: check endpoints.metadata"},
		"metadata redirect":   {source: vm, faults: fault(meta, emulator.KindRedirect), says: fromVM + "the answer is a redirect .302 Found., which is not followed with credentials"},
		"metadata hang":       {source: vm, faults: fault(meta, emulator.KindHang), fate: hangs},
		"metadata slow":       {source: vm, faults: fault(meta, emulator.KindSlow, late), fate: published},
		"metadata reset":      {source: vm, faults: fault(meta, emulator.KindReset), says: fromVM + "(no answer: .*connection reset|the connection was closed before the answer was complete)"},
		"metadata garbage":    {source: vm, faults: fault(meta, emulator.KindGarbage), says: fromVM + "the answer .* is not valid JSON"},
		"metadata empty":      {source: vm, faults: fault(meta, emulator.KindEmpty), says: fromVM + "200 OK without a body"},
		"metadata expired":    {source: vm, faults: fault(meta, emulator.KindExpired), says: fromVM + "the token it gave has expired"},
		"metadata same_token": {source: vm, faults: fault(meta, emulator.KindSameToken), fate: unchanged},

		"token_exchange error 500":            {source: workload, faults: fault(exchange, emulator.KindError), says: fromExchange + "500: .*server_error"},
		"token_exchange error invalid_target": {source: workload, faults: fault(exchange, emulator.KindError, code("invalid_target")), says: fromExchange + "400: .*invalid_target.*check the federation and its federated credentials", lasting: true},
		"token_exchange error 429":            {source: workload, faults: fault(exchange, emulator.KindError, httpStatus(429)), says: fromExchange + "429: .*slow_down"},
		"token_exchange status 503":           {source: workload, faults: fault(exchange, emulator.KindStatus, httpStatus(503)), says: fromExchange + "the answer is 503 Service Unavailable"},
		"token_exchange html":                 {source: workload, faults: fault(exchange, emulator.KindHTML), says: fromExchange + "200 OK with .* bytes of HTML.*check endpoints.token_exchange and HTTPS_PROXY"},
		"token_exchange redirect":             {source: workload, faults: fault(exchange, emulator.KindRedirect), says: fromExchange + "the answer is a redirect .302 Found., which is not followed with credentials"},
		"token_exchange hang":                 {source: workload, faults: fault(exchange, emulator.KindHang), fate: hangs},
		"token_exchange slow":                 {source: workload, faults: fault(exchange, emulator.KindSlow, late), fate: published},
		"token_exchange reset":                {source: workload, faults: fault(exchange, emulator.KindReset), says: fromExchange + "(no answer: .*connection reset|the connection was closed before the answer was complete)"},
		"token_exchange garbage":              {source: workload, faults: fault(exchange, emulator.KindGarbage), says: fromExchange + "the answer .* is not valid JSON"},
		"token_exchange empty":                {source: workload, faults: fault(exchange, emulator.KindEmpty), says: fromExchange + "200 OK without a body"},
		"token_exchange expired":              {source: workload, faults: fault(exchange, emulator.KindExpired), says: fromExchange + "the token it gave has expired"},
		"token_exchange same_token":           {source: workload, faults: fault(exchange, emulator.KindSameToken), fate: unchanged},

		"tracker error 401": {source: key, faults: fault(track, emulator.KindError, httpStatus(401)), fate: rejected, says: "the new value was rejected: " + fromTracker + "401: "},
		"tracker error 403": {source: key, faults: fault(track, emulator.KindError, httpStatus(403)), fate: rejected, says: "the new value has no access: " + fromTracker + "403: "},
		"tracker expired":   {source: key, faults: fault(track, emulator.KindExpired), fate: rejected, says: "the new value was rejected: " + fromTracker + "401: "},
		"tracker slow":      {source: key, faults: fault(track, emulator.KindSlow, late), fate: published},

		// Services that nobody asks here: what becomes of OAuth's answers has a
		// table beside its source.
		"oauth and api errors": {source: "oauth_token", faults: append(fault(emulator.ServiceOAuth, emulator.KindError), fault(emulator.ServiceAPI, emulator.KindError)...), fate: published},
		"oauth and api hang":   {source: key, faults: append(fault(emulator.ServiceOAuth, emulator.KindHang), fault(emulator.ServiceAPI, emulator.KindHang)...), fate: published},

		// Pairs.
		"iam error and tracker error":        {source: key, faults: append(fault(iam, emulator.KindError), fault(track, emulator.KindError)...), says: fromIAM + "UNAVAILABLE: "},
		"iam slow and iam error":             {source: key, faults: append(fault(iam, emulator.KindSlow, late), fault(iam, emulator.KindError)...), says: fromIAM + "UNAVAILABLE: "},
		"iam slow and tracker slow":          {source: key, faults: append(fault(iam, emulator.KindSlow, late), fault(track, emulator.KindSlow, late)...), fate: published},
		"iam slow and tracker reset":         {source: key, faults: append(fault(iam, emulator.KindSlow, late), fault(track, emulator.KindReset)...), fate: held, says: fromTracker + "the connection was closed before an answer came"},
		"iam reset and tracker hang":         {source: key, faults: append(fault(iam, emulator.KindReset), fault(track, emulator.KindHang)...), says: fromIAM + "UNAVAILABLE: "},
		"iam hang and tracker html":          {source: key, faults: append(fault(iam, emulator.KindHang), fault(track, emulator.KindHTML)...), fate: hangs},
		"metadata slow and tracker expired":  {source: vm, faults: append(fault(meta, emulator.KindSlow, late), fault(track, emulator.KindExpired)...), fate: rejected, says: "the new value was rejected: " + fromTracker + "401: "},
		"metadata html and tracker html":     {source: vm, faults: append(fault(meta, emulator.KindHTML), fault(track, emulator.KindHTML)...), says: fromVM + "bytes of HTML"},
		"token_exchange and tracker slow":    {source: workload, faults: append(fault(exchange, emulator.KindSlow, late), fault(track, emulator.KindSlow, late)...), fate: published},
		"token_exchange hang and iam error":  {source: workload, faults: append(fault(exchange, emulator.KindHang), fault(iam, emulator.KindError)...), fate: hangs},
		"metadata error and iam error":       {source: vm, faults: append(fault(meta, emulator.KindError), fault(iam, emulator.KindError)...), says: fromVM + "500"},
		"tracker slow and tracker no access": {source: key, faults: append(fault(track, emulator.KindSlow, late), fault(track, emulator.KindError, httpStatus(403))...), fate: rejected, says: "the new value has no access: " + fromTracker + "403: "},
	}
	for name, u := range unknowns {
		cases["tracker: "+name] = faultCase{source: key, faults: []emulator.Fault{u.fault}, probe: ", timeout: 1s", fate: held, says: fromTracker + u.says}
	}
	return cases
}

// TestFaultsAtTheStartAndWhileRunning: state, verdict, log line and exit codes
// under each fault, from the first moment and after a value was published.
func TestFaultsAtTheStartAndWhileRunning(t *testing.T) {
	t.Parallel()
	together(t, faultCases(), func(t *testing.T, c faultCase) {
		o := emulator.Options{TokenFormat: emulator.FormatNew}
		if c.fate == held {
			o.TokenLifetime = 2 * time.Minute // probes are repeated sooner
		}
		play(t, o, func(s *scene) {
			m := makings[c.source]
			if m.make != nil {
				m.make(s)
			}
			p := plot{source: m.source, probe: org + c.probe}
			s.inject(c.faults...)
			s.once(p, c)
			s.mark()
			s.run(p)
			s.startsUnder(c)

			// All is well again.
			s.cloud.ClearFaults()
			if c.fate == held {
				s.ready()
			} else {
				s.renews()
			}
			s.sees(refresher.Fresh, refresher.Accepted)

			s.inject(c.faults...)
			s.refreshesUnder(c)
			s.ends()
			for call, n := range s.cloud.Calls() {
				if strings.HasSuffix(call, "/redirected") {
					s.Errorf("a redirect was followed %d times: %s", n, call)
				}
			}
		})
	})
}

// once wants the command to end with what the fault deserves.
func (s *scene) once(p plot, c faultCase) {
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
func (c faultCase) line() string {
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
func (s *scene) startsUnder(c faultCase) {
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
	if st.Candidate != (c.fate == held) {
		s.Errorf("the status tells of a candidate: %t", st.Candidate)
	}
	s.do(1, `get token "bot": there is no value yet: .*`+says, "get", "bot", "--config", "bot.yaml")
	s.do(1, `not ready: bot: no value yet: .*`+says, "healthcheck", "--config", "bot.yaml")
}

// refreshesUnder wants a refresh under the fault to leave what is published.
func (s *scene) refreshesUnder(c faultCase) {
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
			s.do(0, "bot: a new value was minted and waits for its proof: .*"+c.says, refresh...)
		case unchanged:
			s.do(0, "bot: nothing new, the published value stays: the source gave the same value again", refresh...)
		case hangs:
			s.mark()
			s.background("refresh", refresh...)
			s.hanging()
		}
		st := s.sees(refresher.Fresh, refresher.Accepted)
		if st.Candidate != (c.fate == held) {
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
