package main

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"

	"iam-token-refresher/refresher/emulator"
)

var pairsFlag = flag.Int("pairs", 30, "how many pairs of faults are met; 0: all")

// byImpersonator is another source in makings.
const byImpersonator = "workload_identity that impersonates"

// worlds are sources with the services that their values come through, in
// order: the last proves them. Of these, all faults of the services that are
// named together meet.
var worlds = map[string]struct {
	chain chain
	meet  [][2]string
}{
	byKey: {
		chain{emulator.ServiceIAM, emulator.ServiceTracker},
		[][2]string{{emulator.ServiceIAM, emulator.ServiceIAM}, {emulator.ServiceIAM, emulator.ServiceTracker}, {emulator.ServiceTracker, emulator.ServiceTracker}},
	},
	byVM: {
		chain{emulator.ServiceMetadata, emulator.ServiceTracker},
		[][2]string{{emulator.ServiceMetadata, emulator.ServiceMetadata}, {emulator.ServiceMetadata, emulator.ServiceTracker}},
	},
	byWorkload: {
		chain{emulator.ServiceTokenExchange, emulator.ServiceTracker},
		[][2]string{{emulator.ServiceTokenExchange, emulator.ServiceTokenExchange}, {emulator.ServiceTokenExchange, emulator.ServiceTracker}},
	},
	byImpersonator: {
		chain{emulator.ServiceTokenExchange, emulator.ServiceIAM, emulator.ServiceTracker},
		[][2]string{{emulator.ServiceTokenExchange, emulator.ServiceIAM}},
	},
	byLogin: {
		chain{emulator.ServiceOAuth, emulator.ServiceTracker},
		[][2]string{{emulator.ServiceOAuth, emulator.ServiceOAuth}, {emulator.ServiceOAuth, emulator.ServiceTracker}},
	},
}

type chain []string

// both is what comes of two faults, the elder first.
func (c chain) both(a, b faultCase) (start, running outcome) {
	at, bt := slices.Index(c, a.fault.Service), slices.Index(c, b.fault.Service)
	switch {
	case at == bt && a.fault.Kind == emulator.KindSlow: // a service does what else is wrong, too
		return b.outcome, b.outcome
	case at == bt: // but of that only the elder
		return a.outcome, a.outcome
	case at < 0 || bt >= 0 && bt < at: // b is met first, or alone
		a, b, at, bt = b, a, bt, at
	}
	switch {
	case bt < 0: // nobody asks for b
		return a.outcome, a.outcome
	case a.fate == published: // it lets the value through
		return b.outcome, b.outcome
	case a.fate == unchanged: // only a first value is tried
		return b.outcome, a.outcome
	}
	return a.outcome, a.outcome
}

// casesOf are all faults, with what they come to for a source that asks.
func casesOf(source string) map[string]faultCase {
	cases := mintFaults()
	maps.Copy(cases, probeFaults())
	for _, kind := range []string{emulator.KindError, emulator.KindHang, emulator.KindHTML, emulator.KindReset, emulator.KindEmpty} {
		cases["api "+kind] = faultCase{fault: fault(emulator.ServiceAPI, kind)} // nobody asks it: addresses are configured
	}
	for name, c := range cases {
		switch {
		case source == byImpersonator && c.fault.Service == emulator.ServiceIAM:
			c.says = strings.Replace(c.says, "create IAM token at", "create IAM token for service account "+emulator.TargetAccount+" at", 1)
			switch c.fault.Code {
			case "UNAUTHENTICATED":
				c.says = "UNAUTHENTICATED: .*the source's own token is not accepted"
			case "PERMISSION_DENIED":
				c.says = "PERMISSION_DENIED: .*grant it iam.serviceAccounts.tokenCreator on " + emulator.TargetAccount
			}
		case source == byImpersonator && c.fate == unchanged && c.fault.Service == emulator.ServiceTokenExchange:
			c.fate = published // what is asked for with it is another
		case source == byLogin && c.fate == rejected:
			// A login is refreshed for that reason, once.
			c.says = "(" + c.says + "|the stored token was rejected although it had been refreshed for that reason)"
		}
		cases[name] = c
	}
	return cases
}

// pair is two faults, and what comes of them.
type pair struct {
	name string
	a, b faultCase
	trouble
}

// allPairs are the pairs of each world, and each fault that is met there beside
// one of a service that nobody asks. Every other has its elder second.
func allPairs() (pairs []pair) {
	for _, source := range slices.Sorted(maps.Keys(worlds)) {
		w, cases := worlds[source], casesOf(source)
		of := func(fits func(service string) bool) (names []string) {
			for _, name := range slices.Sorted(maps.Keys(cases)) {
				if fits(cases[name].fault.Service) {
					names = append(names, name)
				}
			}
			return names
		}
		add := func(a, b string) {
			if len(pairs)%2 == 1 {
				a, b = b, a
			}
			start, running := w.chain.both(cases[a], cases[b])
			pairs = append(pairs, pair{source + ": " + a + ", " + b, cases[a], cases[b], trouble{
				source, []emulator.Fault{cases[a].fault, cases[b].fault}, start, running,
			}})
		}
		met := map[string]bool{}
		for _, services := range w.meet {
			for _, a := range of(func(service string) bool { return service == services[0] }) {
				for _, b := range of(func(service string) bool { return service == services[1] }) {
					if services[0] != services[1] || a < b {
						add(a, b)
					}
				}
			}
			met[services[0]], met[services[1]] = true, true
		}
		idle := of(func(service string) bool { return !slices.Contains(w.chain, service) })
		for _, a := range of(func(service string) bool { return met[service] }) {
			add(a, idle[len(pairs)%len(idle)])
		}
	}
	return pairs
}

// some are n of the pairs: each is the one with most in it that none before had,
// so that there are all sources, services, kinds and fates.
func some(pairs []pair, n int) (chosen []pair) {
	seen := map[string]bool{}
	for len(chosen) < n {
		best, most := 0, -1
		for k := range pairs {
			i := (k + len(chosen)*len(pairs)/n) % len(pairs) // evenly spread, where they are alike
			news := 0
			for _, s := range pairs[i].features() {
				if !seen[s] {
					news++
				}
			}
			if news > most {
				best, most = i, news
			}
		}
		for _, s := range pairs[best].features() {
			seen[s] = true
		}
		chosen = append(chosen, pairs[best])
		pairs = slices.Delete(slices.Clone(pairs), best, best+1)
	}
	return chosen
}

func (p pair) features() []string {
	a, b := p.a.fault, p.b.fault
	return []string{
		p.source + " " + a.Service, p.source + " " + b.Service, a.Service + " " + a.Kind, b.Service + " " + b.Kind, a.Kind + " elder", b.Kind + " younger",
		"start " + p.start.fate.String(), "running " + p.running.fate.String(), p.source + " running " + p.running.fate.String(),
	}
}

// TestPairsOfFaults: two things go wrong at once, at the start and while a
// daemon runs. make soak has all pairs.
func TestPairsOfFaults(t *testing.T) {
	t.Parallel()
	pairs := allPairs()
	all := len(pairs)
	if *pairsFlag > 0 && *pairsFlag < all {
		pairs = some(pairs, *pairsFlag)
	}
	cases, seen := map[string]trouble{}, map[string]bool{}
	for _, p := range pairs {
		cases[p.name] = p.trouble
		for _, f := range p.faults {
			seen[f.Service], seen[f.Kind] = true, true
		}
	}
	t.Logf("%d of %d pairs", len(cases), all)
	for _, c := range casesOf(byKey) {
		if !seen[c.fault.Service] || !seen[c.fault.Kind] {
			t.Errorf("no pair has a fault of %s, or none has %s", c.fault.Service, c.fault.Kind)
		}
	}
	together(t, cases, func(t *testing.T, c trouble) { c.strikes(t) })
}
