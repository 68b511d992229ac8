package config

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule says when something is due: "@every 1h30m", "@hourly", "@daily" or
// five cron fields in local time, or in another zone after "TZ=Europe/Moscow ".
// It is immutable; two Schedules of the same text are deeply equal. The zero
// Schedule is never due; [Schedule.IsZero] tells.
type Schedule struct {
	text  string
	every time.Duration      // of "@every", otherwise 0
	cron  *cron.SpecSchedule // otherwise; its Location is UTC
	zone  *time.Location     // of cron, time.Local by default
}

const (
	minEvery = time.Second
	maxEvery = 366 * 24 * time.Hour
)

// ParseSchedule parses a schedule. The error says what would be right.
func ParseSchedule(text string) (Schedule, error) {
	s := Schedule{text: text}
	expr := strings.TrimSpace(text)
	loc := time.Local
	if zone, rest, ok := cutZone(expr); ok {
		if rest == "" {
			return Schedule{}, errors.New(`is a time zone without a schedule: write for example "TZ=Europe/Moscow 17 * * * *"`)
		}
		found, err := time.LoadLocation(zone)
		if err != nil || zone == "" {
			return Schedule{}, errors.New("names a time zone that is not known: write for example TZ=Europe/Moscow or TZ=UTC")
		}
		expr, loc = rest, found
	}
	if interval, ok := strings.CutPrefix(expr, "@every"); ok {
		every, err := parseEvery(strings.TrimSpace(interval))
		s.every = every
		return s, err
	}
	if problem := cronProblem(expr); problem != "" {
		return Schedule{}, errors.New(problem)
	}
	parsed, err := cron.ParseStandard(expr)
	spec, ok := parsed.(*cron.SpecSchedule)
	if err != nil || !ok {
		return Schedule{}, errors.New(problemCron)
	}
	spec.Location = time.UTC
	if spec.Next(cronSample).IsZero() {
		return Schedule{}, errors.New("never comes: there is no such date")
	}
	s.cron, s.zone = spec, loc
	return s, nil
}

// A leap year and the next one lie within cron's horizon of five years.
var cronSample = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)

const problemCron = `is no schedule: write "@every 1h", "@hourly", "@daily", or five fields: minute hour day-of-month month day-of-week, for example "17 * * * *"`

func cutZone(expr string) (zone, rest string, ok bool) {
	for _, prefix := range []string{"TZ=", "CRON_TZ="} {
		if after, found := strings.CutPrefix(expr, prefix); found {
			zone, rest, _ = strings.Cut(after, " ")
			return zone, strings.TrimSpace(rest), true
		}
	}
	return "", "", false
}

func parseEvery(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	switch {
	case err != nil:
		return 0, err
	case d < minEvery:
		return 0, errors.New(`is too short: the shortest interval is "@every 1s"`)
	case d%time.Second != 0:
		return 0, errors.New("is not in whole seconds")
	case d > maxEvery:
		return 0, errors.New("is too long: the longest interval is a year")
	}
	return d, nil
}

var cronFields = []struct{ name, values string }{
	{"minute", "0-59"},
	{"hour", "0-23"},
	{"day of month", "1-31"},
	{"month", "1-12 or jan-dec"},
	{"day of week", "0-6 (0 is Sunday) or sun-sat"},
}

// cronProblem finds the field that is wrong.
func cronProblem(expr string) string {
	if strings.HasPrefix(expr, "@") {
		if _, err := cron.ParseStandard(expr); err != nil {
			return "is not known: there are @hourly, @daily, @weekly, @monthly, @yearly and @every DURATION"
		}
		return ""
	}
	fields := strings.Fields(expr)
	switch {
	case len(fields) == 6:
		return "has 6 fields; a schedule has five, without seconds: minute hour day-of-month month day-of-week"
	case len(fields) != len(cronFields):
		return problemCron
	}
	for i, known := range cronFields {
		alone := []string{"*", "*", "*", "*", "*"}
		alone[i] = fields[i]
		if _, err := cron.ParseStandard(strings.Join(alone, " ")); err != nil || strings.Trim(fields[i], ",") == "" {
			return fmt.Sprintf("has a wrong %s: field %d is * or %s, with - for ranges, / for steps and commas between", known.name, i+1, known.values)
		}
	}
	return ""
}

// IsZero tells whether there is no schedule.
func (s Schedule) IsZero() bool { return s.every == 0 && s.cron == nil }

// String returns the schedule as it was written.
func (s Schedule) String() string { return s.text }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Schedule) UnmarshalText(text []byte) error {
	parsed, err := ParseSchedule(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

// MarshalText implements [encoding.TextMarshaler].
func (s Schedule) MarshalText() ([]byte, error) { return []byte(s.text), nil }

// Next returns the first time after t that the schedule names, without
// monotonic reading and in t's zone. For "@every" these are the multiples of
// the interval since 1970; see [Schedule.Start] for another phase.
//
// A cron time that a clock change skips comes at the change; one that comes
// twice in that night is named twice.
func (s Schedule) Next(t time.Time) time.Time {
	t = t.Round(0)
	switch {
	case s.every > 0:
		return gridNext(time.Unix(0, 0), s.every, t)
	case s.cron != nil:
		return s.nextCron(t.In(s.zone)).In(t.Location())
	}
	return time.Unix(math.MaxInt32<<8, 0).In(t.Location())
}

// Start returns Next with a phase of its own for "@every": the times are
// anchor + phase + k × interval, with phase = rnd × interval and rnd from [0, 1),
// so that many tokens and many daemons do not ask at the same moment. Cron
// times are as in Next. The function is pure and may be called concurrently.
func (s Schedule) Start(rnd float64, anchor time.Time) func(time.Time) time.Time {
	if s.every == 0 {
		return s.Next
	}
	anchor = anchor.Round(0).Add(time.Duration(rnd * float64(s.every)))
	every := s.every
	return func(t time.Time) time.Time { return gridNext(anchor, every, t.Round(0)) }
}

// Interval returns the shortest time between two of the schedule's next times.
func (s Schedule) Interval() time.Duration {
	if s.cron == nil {
		return s.every
	}
	shortest := maxEvery
	t := s.cron.Next(cronSample)
	for range 10 {
		next := s.cron.Next(t)
		if next.IsZero() {
			break
		}
		shortest = min(shortest, next.Sub(t))
		t = next
	}
	return shortest
}

func gridNext(anchor time.Time, every time.Duration, t time.Time) time.Time {
	since := t.Sub(anchor)
	steps := since / every
	if since < 0 && since%every != 0 {
		steps--
	}
	return anchor.Add((steps + 1) * every).In(t.Location())
}

// nextCron asks the library in UTC alone, about what the clock on the wall
// shows, and takes care of clock changes itself: in a zone that skips an hour
// the library leaves the day out, and where that hour is midnight it may never
// return. Between two changes the wall clock is UTC plus an offset.
func (s Schedule) nextCron(t time.Time) time.Time {
	_, offset := t.Zone()
	change := nextChange(t)
	wall := t.UTC().Add(time.Duration(offset) * time.Second)
	for {
		next := s.nextWall(wall)
		due := next.Add(-time.Duration(offset) * time.Second)
		if change.IsZero() || due.Before(change) {
			return due
		}
		_, offset = change.Zone()
		wall = change.UTC().Add(time.Duration(offset) * time.Second)
		if next.Before(wall) { // the clock jumps over it
			return change
		}
		wall = wall.Add(-time.Second) // it may be at the change itself
		change = nextChange(change)
	}
}

// nextChange returns when the clock of t's zone changes next; zero if it never
// does. On the last day of a leap year Go 1.26 names t itself (ZoneBounds takes
// years to have 365 days, and their ends for changes): no clock changes then.
func nextChange(t time.Time) time.Time {
	_, end := t.ZoneBounds()
	if !end.IsZero() && !end.After(t) {
		return t.AddDate(0, 0, 1)
	}
	return end
}

// nextWall returns the first time after wall on a clock that never changes.
func (s Schedule) nextWall(wall time.Time) time.Time {
	next := s.cron.Next(wall)
	if next.IsZero() { // 29 February may be eight years away, cron looks five ahead
		next = s.cron.Next(wall.AddDate(4, 0, 0))
	}
	if next.IsZero() {
		next = wall.Add(maxEvery)
	}
	return next
}
