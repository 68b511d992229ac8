package main

import (
	"fmt"
	"strings"
	"time"
)

// The picture is never drawn narrower or lower than this; what does not fit is
// cut off.
const (
	minWidth  = 30
	minHeight = 5
)

// picture draws the view for a terminal of width × height cells. It is pure.
func picture(v view, width, height int) []line {
	inner := max(width, minWidth) - 2 // a cell is left free on both sides
	head := []line{drawTitle(v, inner), drawStages(v, inner), {{here, v.headline}}}
	token := []line{drawToken(v, inner), drawLife(v, inner), drawNext(v)}
	cloud := []line{drawCloud(v)}
	table := drawReaders(v, inner)

	var all []line
	roomy := height >= 23
	for _, part := range [][]line{head, token, cloud, table} {
		if roomy && len(all) > 0 {
			all = append(all, nil)
		}
		all = append(all, part...)
	}
	if roomy {
		all = append(all, nil)
	}
	room := max(height, minHeight) - len(all)
	all = append(all, drawJournal(v.journal, max(room, 0))...)
	all = all[:min(len(all), max(height, minHeight))]
	for i, l := range all {
		if l = l.fit(inner); len(l) > 0 {
			all[i] = append(line{{plain, " "}}, l...)
		}
	}
	return all
}

func drawTitle(v view, width int) line {
	return spread(line{{strong, "iam-token-refresher"}, {faint, " · demo on a stand-in cloud"}},
		line{{faint, fmt.Sprintf("%.1f s of about 45 s", v.elapsed.Seconds())}}, width)
}

// drawStages shows where in the story we are.
func drawStages(v view, width int) line {
	draw := func(gap string) line {
		var l line
		for s := range stages {
			name := s.String()
			if s == renew {
				name = fmt.Sprintf("renew %d/%d", v.renewed, v.renewals)
			}
			if s > 0 {
				l = append(l, piece{faint, gap})
			}
			switch {
			case s < v.stage || v.finished:
				l = append(l, piece{fine, "✓ " + name})
			case s == v.stage:
				l = append(l, piece{here, "● " + name})
			default:
				l = append(l, piece{faint, "○ " + name})
			}
		}
		return l
	}
	for _, gap := range []string{" ──── ", " ── ", " "} {
		if l := draw(gap); l.width() <= width {
			return l
		}
	}
	return line{{here, fmt.Sprintf("● %d/%d %s", v.stage+1, stages, v.stage)}}
}

func drawToken(v view, width int) line {
	if v.version == 0 {
		return line{{strong, "token bot"}, {faint, "   no version yet"}}
	}
	left := line{{strong, "token bot"}, {plain, fmt.Sprintf("   version %d   ", v.version)}}
	switch {
	case v.code == "confirm":
		left = append(left, piece{caution, "● rejected once by Tracker"})
	case v.state == "fresh":
		left = append(left, piece{fine, "● " + v.verdict + " by Tracker"})
	case v.state == "revoked" || v.state == "expired":
		left = append(left, piece{alarm, "● " + v.state})
	default:
		left = append(left, piece{caution, "● " + v.state})
	}
	var right line
	if v.verified >= 0 && v.state == "fresh" {
		right = line{{faint, "last tried " + ago(v.verified)}}
	}
	return spread(left, right, width)
}

func ago(d time.Duration) string {
	if d < time.Second {
		return "just now"
	}
	return fmt.Sprintf("%d s ago", d/time.Second)
}

// drawLife is the rest of the token's life as a bar, with a mark where the next
// renewal is planned.
func drawLife(v view, width int) line {
	label := fmt.Sprintf("  %4.1f s left of %s", v.left.Seconds(), spoken(v.lifetime))
	if v.version == 0 {
		label = strings.Repeat(" ", len(label))
	}
	cells := max(width-len(label), 10)
	look := fine
	switch {
	case v.state == "revoked" || v.state == "expired":
		look = alarm
	case v.left < v.lifetime/3:
		look = caution
	}
	mark := -1
	if v.nextRefresh >= 0 && v.version > 0 && look != alarm {
		at := v.left - v.nextRefresh
		mark = int(int64(at) * int64(cells) / int64(v.lifetime))
	}
	full, rest := bar(v.left, v.lifetime, cells)
	track := []rune(strings.Repeat("░", cells-len([]rune(full))))
	if i := mark - len([]rune(full)); i >= 0 && i < len(track) {
		track[i] = '┊'
	}
	l := line{{look, full}, {faint, string(track)}}
	if mark >= 0 && mark < len([]rune(full)) && rest {
		runes := []rune(full)
		l = line{{look, string(runes[:mark])}, {strong, "┊"}, {look, string(runes[mark+1:])}, {faint, string(track)}}
	}
	return append(l, piece{plain, label})
}

// bar fills part/whole of cells with blocks, the last one in eighths; any tells
// whether there is any block.
func bar(part, whole time.Duration, cells int) (blocks string, anyBlock bool) {
	eighths := int(int64(min(part, whole)) * int64(cells) * 8 / int64(whole))
	blocks = strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		blocks += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return blocks, blocks != ""
}

// drawNext says what the daemon does next, and why.
func drawNext(v view) line {
	l := line{{strong, "next     "}}
	soon := func(d time.Duration) string {
		if d <= 0 {
			return "now"
		}
		return fmt.Sprintf("in %d s", (d+time.Second-1)/time.Second)
	}
	switch {
	case v.version == 0:
		return append(l, piece{plain, "the first token"})
	case v.code == "confirm":
		return append(l, piece{caution, "a second try on Tracker: one 401 might be a mistake"})
	case v.state == "revoked":
		return append(l, piece{alarm, "another token: this one was revoked"})
	case v.nextRefresh < 0:
		return append(l, piece{plain, v.reason})
	case v.failures > 0:
		return append(l, piece{caution, fmt.Sprintf("attempt %d to renew %s: IAM refused the last", v.failures+1, soon(v.nextRefresh))})
	}
	why := map[string]string{"schedule": "its schedule", "before_expiry": "its end is near"}[v.code]
	if why == "" {
		why = v.reason
	}
	return append(l, piece{plain, "renewal " + soon(v.nextRefresh)}, piece{faint, " (" + clean(why) + ")"})
}

func drawCloud(v view) line {
	l := line{{strong, "cloud    "}}
	if v.down > 0 {
		l = append(l, piece{alarm, fmt.Sprintf("IAM ● down for %d s", v.down/time.Second)}, piece{faint, fmt.Sprintf(" (%d calls refused)", v.refused)})
	} else {
		l = append(l, piece{fine, "IAM ● up"})
	}
	l = append(l, piece{fine, "   Tracker ● up"})
	switch {
	case v.revoked > 0:
		l = append(l, piece{alarm, fmt.Sprintf("   version %d ● revoked", v.revoked)})
	case v.replaced > 0:
		l = append(l, piece{fine, fmt.Sprintf("   revoked token replaced in %.1f s", v.replaced.Seconds())})
	}
	return l
}

// tableWidth is what the whole table takes; a narrower one does without the
// second column.
const tableWidth = 61

// drawReaders is a table of those who look on.
func drawReaders(v view, width int) []line {
	how := [readers]string{
		fmt.Sprintf("every %d ms", fileEvery.Milliseconds()),
		fmt.Sprintf("every %d ms", socketEvery.Milliseconds()),
		fmt.Sprintf("every %d ms", metadataEvery.Milliseconds()),
		"told of news",
	}
	second := 13
	if width < tableWidth {
		second, how = 0, [readers]string{}
	}
	head := fmt.Sprintf("%-9s%*s%7s%9s%9s%9s%6s", "readers", second, "", "reads", "version", "revoked", "expired", "torn")
	lines := []line{{{strong, head}}}
	for r := range readers {
		c := v.counts.readers[r]
		version := "–"
		if c.version > 0 {
			version = fmt.Sprintf("%d", c.version)
		}
		look := plain
		if c.reads > 0 && v.revoked > 0 && c.version == v.revoked {
			look = caution
		}
		l := line{{look, fmt.Sprintf("%-9s%-*s%7d%9s", r, second, how[r], c.reads, version)}}
		l = append(l, piece{look, fmt.Sprintf("%9d", c.judged[revoked])})
		for i, f := range []fate{expired, torn} {
			look := fine
			if c.judged[f] > 0 {
				look = alarm
			}
			l = append(l, piece{look, fmt.Sprintf("%*d", []int{9, 6}[i], c.judged[f])})
		}
		l = append(l, remark(v, r))
		lines = append(lines, l)
	}
	return lines
}

// remark is what there is to say of a reader beside its numbers.
func remark(v view, r reader) piece {
	c := v.counts.readers[r]
	switch {
	case c.without > 0:
		return piece{alarm, fmt.Sprintf("  %d × no token", c.without)}
	case c.withheld > 0:
		return piece{faint, fmt.Sprintf("  %d × 503", c.withheld)}
	case r == botReader && v.counts.refusals > 0:
		return piece{faint, fmt.Sprintf("  %d uses %d×401", v.counts.uses+v.counts.refusals, v.counts.refusals)}
	case r == botReader:
		return piece{faint, fmt.Sprintf("  %d uses", v.counts.uses)}
	}
	return piece{}
}

// drawJournal shows the newest news that fit into so many lines.
func drawJournal(journal []news, room int) []line {
	var lines []line
	for _, n := range journal[max(len(journal)-room, 0):] {
		lines = append(lines, n.draw())
	}
	return lines
}

// draw is the line for a piece of news.
func (n news) draw() line {
	look := map[tone]style{neutral: plain, good: fine, warning: caution, bad: alarm}[n.tone]
	return line{{faint, fmt.Sprintf("%5.1f s  %-7s ", n.at.Seconds(), n.who)}, {look, clean(n.text)}}
}
