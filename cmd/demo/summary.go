package main

import (
	"fmt"
	"time"
)

// result is what came of the run: the figures of the summary.
type result struct {
	took      time.Duration
	renewals  int // versions after the first
	wanted    int // how many there must be at least
	probes    map[string]int
	mints     int
	counts    counts
	outage    time.Duration
	refused   int
	leastLeft time.Duration
	noticed   time.Duration // from the revocation to the bot's 401
	replaced  time.Duration // from the revocation to the last reader's new token
}

// check is one line of the summary.
type check struct {
	ok     bool
	name   string
	detail string
}

// checks says of everything that was promised whether it was so. It is pure.
func (r result) checks() []check {
	sum := r.counts.total()
	per := ""
	for who, c := range r.counts.readers {
		if who > 0 {
			per += ", "
		}
		per += fmt.Sprintf("%s %d", reader(who), c.reads)
	}
	without := ""
	for _, c := range r.counts.readers {
		if c.failure != "" {
			without = " (" + c.failure + ")"
		}
	}
	return []check{
		{r.renewals >= r.wanted, "renewals", fmt.Sprintf("%d, by %d calls to IAM", r.renewals, r.mints)},
		{
			r.probes["accepted"] > r.renewals && r.probes["rejected: token"] > 0, "verdicts of Tracker",
			fmt.Sprintf("%d accepted, %d rejected, %d unknown", r.probes["accepted"], r.probes["rejected: token"]+r.probes["rejected: access"], r.probes["unknown"]),
		},
		{sum.reads > 0, "reads", fmt.Sprintf("%d: %s", sum.reads, per)},
		{sum.judged[expired] == 0, "reads of an expired token", fmt.Sprint(sum.judged[expired])},
		{sum.judged[torn] == 0, "reads of half a token", fmt.Sprint(sum.judged[torn])},
		{sum.without == 0, "reads without a token", fmt.Sprint(sum.without, without)},
		{sum.judged[unclear] == 0, "reads not tried at Tracker", fmt.Sprint(sum.judged[unclear])},
		{
			r.outage > 0 && r.refused > 0 && r.leastLeft > 0, "IAM outage",
			fmt.Sprintf("%.1f s, %d calls refused, %.1f s of the token left", r.outage.Seconds(), r.refused, r.leastLeft.Seconds()),
		},
		{
			r.noticed > 0 && r.counts.refusals > 0, "revocation to notice",
			fmt.Sprintf("%.1f s until the bot had a 401 and reported it", r.noticed.Seconds()),
		},
		{
			r.replaced > 0, "revocation to replacement",
			fmt.Sprintf("%.1f s until every reader had another token", r.replaced.Seconds()),
		},
		{
			true, "meanwhile",
			fmt.Sprintf("%d reads of the revoked token, %d × 503", sum.judged[revoked], sum.withheld),
		},
	}
}

// closing is the summary as it is shown, and whether all is well.
func (r result) closing() (lines []line, ok bool) {
	ok = true
	lines = []line{nil}
	for _, c := range r.checks() {
		mark, look := "✓", fine
		if !c.ok {
			ok, mark, look = false, "✗", alarm
		}
		lines = append(lines, line{{look, " " + mark + " "}, {strong, fmt.Sprintf("%-27s", c.name)}, {plain, clean(c.detail)}})
	}
	verdict := line{{fine, fmt.Sprintf(" All as it should be, in %.1f s.", r.took.Seconds())}}
	if !ok {
		verdict = line{{alarm, " Not as it should be: see ✗."}}
	}
	return append(lines, nil, verdict), ok
}

// apology is what is shown when the run could not be finished.
func apology(err error, children []*child) []line {
	lines := []line{nil, {{alarm, " The demo failed: " + clean(err.Error())}}}
	for _, c := range children {
		if c == nil || len(c.tail.last()) == 0 {
			continue
		}
		lines = append(lines, nil, line{{strong, " The last words of " + c.name + ":"}})
		for _, l := range c.tail.last() {
			lines = append(lines, line{{plain, "   " + clean(l)}})
		}
	}
	return lines
}
