package config

import (
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata"
)

func at(t testing.TB, zone, text string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := time.ParseInLocation("2006-01-02 15:04:05", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestNextIsTheFirstTimeAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, schedule, zone, after, want string }{
		{"a minute of every hour", "TZ=UTC 17 * * * *", "UTC", "2026-03-01 10:17:00", "2026-03-01 11:17:00"},
		{"before that minute", "TZ=UTC 17 * * * *", "UTC", "2026-03-01 10:16:59", "2026-03-01 10:17:00"},
		{"another zone than the asker's", "TZ=Europe/Moscow 0 3 * * *", "UTC", "2026-03-01 00:00:00", "2026-03-02 00:00:00"},
		{"a zone in the longer spelling", "CRON_TZ=Europe/Moscow 0 3 * * *", "UTC", "2026-02-28 23:59:59", "2026-03-01 00:00:00"},
		{"a name", "TZ=UTC @daily", "UTC", "2026-03-01 00:00:00", "2026-03-02 00:00:00"},
		{"weekdays by name", "TZ=UTC 0 9 * * mon-fri", "UTC", "2026-03-06 09:00:00", "2026-03-09 09:00:00"},
		{"a leap day", "TZ=UTC 0 0 29 2 *", "UTC", "2025-03-01 00:00:00", "2028-02-29 00:00:00"},
		{"a leap day eight years away", "TZ=UTC 0 0 29 2 *", "UTC", "2096-03-01 00:00:00", "2104-02-29 00:00:00"},
		{"an interval on the grid of 1970", "@every 1h", "UTC", "2026-03-01 10:17:00", "2026-03-01 11:00:00"},
		{"an interval, on the spot", "@every 1h", "UTC", "2026-03-01 10:00:00", "2026-03-01 11:00:00"},
		{"a time that the clock skips comes at the change", "TZ=Europe/Berlin 30 2 * * *", "Europe/Berlin", "2026-03-29 00:00:00", "2026-03-29 03:00:00"},
		{"and the next day as usual", "TZ=Europe/Berlin 30 2 * * *", "Europe/Berlin", "2026-03-29 03:00:00", "2026-03-30 02:30:00"},
		{"an hourly time in the night that skips an hour", "TZ=Europe/Berlin 15 * * * *", "Europe/Berlin", "2026-03-29 01:15:00", "2026-03-29 03:00:00"},
		{"a midnight that the clock skips", "TZ=America/Sao_Paulo 0 0 * * *", "America/Sao_Paulo", "2018-11-03 12:00:00", "2018-11-04 01:00:00"},
		{"noon of a day without midnight", "TZ=America/Sao_Paulo 0 12 4 11 *", "America/Sao_Paulo", "2018-11-03 12:00:00", "2018-11-04 12:00:00"},
		{"a day that a country skips", "TZ=Pacific/Apia 0 12 30 12 *", "Pacific/Apia", "2011-12-29 13:00:00", "2011-12-31 00:00:00"},
	} {
		s, err := ParseSchedule(c.schedule)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, want := s.Next(at(t, c.zone, c.after)), at(t, c.zone, c.want)
		if !got.Equal(want) {
			t.Errorf("%s: got %s, want %s", c.name, got, want)
		}
		if got.Location().String() != c.zone {
			t.Errorf("%s: in zone %s", c.name, got.Location())
		}
	}
}

func TestTheNightThatRepeatsAnHourKeepsHourlySchedules(t *testing.T) {
	t.Parallel()
	s := mustSchedule("TZ=America/New_York 0 * * * *")
	now := at(t, "America/New_York", "2026-11-01 00:30:00")
	for range 4 {
		next := s.Next(now)
		if gap := next.Sub(now); gap > time.Hour {
			t.Errorf("after %s nothing for %s", now, gap)
		}
		now = next
	}
}

func TestNextIsNeverNowOrBeforeInAnyZone(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, zone := range []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Australia/Lord_Howe", "America/New_York"} {
		for _, fields := range []string{"30 2 * * *", "0 0 * * *", "15 * * * *", "*/7 1-3 * * *", "0 0 29 2 *", "0 1 1 jan-mar sun", "59 23 31 12 *"} {
			s, err := ParseSchedule("TZ=" + zone + " " + fields)
			if err != nil {
				t.Fatal(err)
			}
			for range 200 {
				now := time.Unix(rnd.Int64N(4_000_000_000), rnd.Int64N(1e9)).UTC()
				if next := s.Next(now); !next.After(now) || next.Sub(now) > 9*maxEvery {
					t.Fatalf("%s: after %s comes %s", s, now, next)
				}
			}
		}
	}
}

func TestIntervalsStartAtTheirOwnPhaseAndKeepIt(t *testing.T) {
	t.Parallel()
	s := mustSchedule("@every 1h")
	anchor := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	next := s.Start(0.25, anchor)
	for _, c := range []struct{ after, want time.Duration }{
		{0, 15 * time.Minute},
		{15 * time.Minute, 75 * time.Minute},
		{15*time.Minute - 1, 15 * time.Minute},
		{1000*time.Hour + 20*time.Minute, 1001*time.Hour + 15*time.Minute},
		{-90 * time.Minute, -45 * time.Minute}, // the clock was set back
		{-105 * time.Minute, -45 * time.Minute},
	} {
		if got := next(anchor.Add(c.after)); !got.Equal(anchor.Add(c.want)) {
			t.Errorf("after %s: got %s, want %s", c.after, got.Sub(anchor), c.want)
		}
	}
	if a, b := s.Start(0, anchor)(anchor), s.Start(0.999, anchor)(anchor); a.Equal(b) {
		t.Error("all start together")
	}
	for _, rnd := range []float64{0, 0.5, 0.999999} {
		if got := s.Start(rnd, anchor)(anchor); !got.After(anchor) || got.Sub(anchor) > time.Hour {
			t.Errorf("phase %v: first due after %s", rnd, got.Sub(anchor))
		}
	}
}

func TestAMonotonicReadingDoesNotBendTheGrid(t *testing.T) {
	t.Parallel()
	now := time.Now()
	next := mustSchedule("@every 1h").Start(0.5, now)
	if a, b := next(now), next(now.Round(0)); a != b {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestASchedulesShortestInterval(t *testing.T) {
	t.Parallel()
	for schedule, want := range map[string]time.Duration{
		"@every 90s":         90 * time.Second,
		"17 * * * *":         time.Hour,
		"0,10 * * * *":       10 * time.Minute,
		"@weekly":            7 * 24 * time.Hour,
		"TZ=UTC 0 0 29 2 *":  maxEvery,
		"  TZ=UTC  @hourly ": time.Hour,
	} {
		s, err := ParseSchedule(schedule)
		if err != nil || s.Interval() != want {
			t.Errorf("%s: got %s, %v", schedule, s.Interval(), err)
		}
	}
}

func TestTheZeroScheduleIsNeverDue(t *testing.T) {
	t.Parallel()
	var s Schedule
	if !s.IsZero() || s.Next(time.Now()).Before(time.Now().AddDate(1000, 0, 0)) {
		t.Errorf("due at %s", s.Next(time.Now()))
	}
}

func FuzzSchedule(f *testing.F) {
	for _, seed := range []string{"@every 1h", "17 * * * *", "TZ=0", "CRON_TZ=UTC", "TZ=Europe/Berlin 30 2 29 2 *", "@every -1s", "0 0 30 2 *", "TZ= ", ",,, * * * *", "*/999999999999999999 * * * *", "@every 8784h"} {
		f.Add(seed, int64(1_700_000_000))
	}
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		s, err := ParseSchedule(text)
		if err != nil {
			return
		}
		now := time.Unix(unix%8_000_000_000, 0)
		if next := s.Next(now); !next.After(now) {
			t.Errorf("%q: after %s comes %s", text, now, next)
		}
		if next := s.Start(0.5, now)(now); !next.After(now) {
			t.Errorf("%q: after %s comes %s", text, now, next)
		}
	})
}
