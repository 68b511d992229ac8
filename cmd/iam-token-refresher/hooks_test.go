package main

import (
	"errors"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// noted is what a hook wrote into its file, a word for each run.
func (s *scene) noted(name string) string {
	s.Helper()
	text, err := os.ReadFile(s.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// hookDone waits for the n-th success.
func (s *scene) hookDone(n int) { s.Helper(); s.loggedTimes(`"msg":"hook done( at last)?"`, n) }

// shell is a command in YAML. The script finds the scene's directory in $1.
func shell(script string) string {
	return `command: [sh, -c, '` + strings.ReplaceAll(script, "'", "''") + `', sh, $S]`
}

func TestAHookRunsOnceForEachVersionAlsoOverRestarts(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		p := plot{onChange: shell(`[ "$(wc -c <"$ITR_HOOK_PATH")" -gt 10 ] && env >$1/env && echo $ITR_HOOK_VERSION >>$1/runs`)}
		s.run(p)
		s.ready()
		s.hookDone(1)
		s.renews()
		s.hookDone(2)
		s.ends()
		s.run(p)
		s.ready()
		s.renews()
		s.hookDone(1)
		// What was put back is no new version.
		s.write("bot.token", "rubbish")
		s.logged("somebody else")
		s.loggedTimes(`"msg":"sink written"`, 4)
		if got := s.noted("runs"); got != "1 2 3" {
			t.Errorf("it was run for the versions %q", got)
		}
		s.matches("the environment of the hook", s.noted("env"), `ITR_HOOK_SINK=file:`)
		for _, value := range s.cloud.Issued() {
			if strings.Contains(s.noted("env"), value) {
				t.Error("the value is in the environment of the hook")
			}
		}
		s.measures(`iam_token_hook_failures_total{token="bot"} 0`)
		s.ends()
	})
}

func TestAHookThatFailsIsToldOfAndNotInTheWay(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{onChange: shell(`echo run >>$1/runs; echo "a secret" >&2; [ -e $1/mended ]`)})
		s.ready() // all the same
		s.logged(`"msg":"hook failed".*it failed with exit code 1: `)
		s.renews()
		s.loggedTimes(`"msg":"hook failed".*"version":2`, 1)
		s.do(0, `on_change fails: it failed with exit code 1: `, "status", "--config", "bot.yaml")
		_, metrics := s.get(http.DefaultClient, "http://"+s.health+"/metrics")
		if !regexp.MustCompile(`iam_token_hook_failures_total\{token="bot"\} [1-9]`).MatchString(metrics) {
			t.Error("the failures are not counted")
		}
		s.write("mended", "")
		s.renews() // at once, then
		s.hookDone(1)
		if out := s.daemon.log.text(); strings.Contains(out, "a secret") {
			t.Error("what the hook printed is in the log")
		}
		_, out := s.outcome("status", "--config", "bot.yaml")
		if strings.Contains(out, "on_change") {
			t.Errorf("the status still says %s", out)
		}
		s.ends()
	})
}

func TestAHookThatHangsIsKilledAndEndsWithTheDaemon(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{onChange: shell(`echo $$ >>$1/runs; trap "" TERM; sleep 1000 & sleep 1000`) + ", timeout: 2s"})
		s.ready()
		s.logged(`"msg":"hook failed".*it took too long and was killed`)
		s.renews() // meanwhile
		s.renews()
		s.loggedTimes(`"msg":"hook failed"`, 2)
		s.ends() // in no time
		for _, pid := range strings.Fields(s.noted("runs")) {
			s.gone(pid)
		}
	})
}

// gone waits until no process has the number or group.
func (s *scene) gone(pid string) {
	s.Helper()
	n := atoi(pid)
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(5 * time.Millisecond) {
		if errors.Is(syscall.Kill(-n, 0), syscall.ESRCH) && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			return
		}
	}
	s.Errorf("process %d lives on", n)
}

func atoi(s string) (n int) {
	for _, digit := range s {
		n = 10*n + int(digit-'0')
	}
	return n
}

func TestOnceRunsHooksAndSaysWhatFailed(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.configure("good", plot{onChange: shell(`echo $ITR_HOOK_VERSION >>$1/runs`)}, true)
		s.do(0, "", "once", "--config", "good.yaml")
		if got := s.noted("runs"); got != "1" {
			t.Errorf("it was run for the versions %q", got)
		}
		s.configure("bad", plot{onChange: shell(`exit 3`)}, true)
		s.do(1, `token "bot": on_change of file:.*: it failed with exit code 3: `, "once", "--config", "bad.yaml")
		// Of a token that is not required, it is not asked for.
		optional := func(script string) plot {
			return plot{sinks: "      - file: {path: $S/optional.token}\n        on_change: {" + shell(script) + "}\n    required: false\n"}
		}
		s.configure("optional", optional(`exit 3`), true)
		s.do(0, `"msg":"hook failed".*exit code 3`, "once", "--config", "optional.yaml")
		if s.text("optional.token") == "" {
			t.Error("it is not published")
		}
		s.configure("slow", optional(`exec sleep 100`), true)
		s.do(0, "", "once", "--config", "slow.yaml", "--timeout", "2s")
		s.configure("slow", plot{onChange: shell(`exec sleep 100`)}, true)
		s.do(1, `gave up after --timeout 2s`, "once", "--config", "slow.yaml", "--timeout", "2s")
	})
}

func TestACheckTellsWhetherHooksCouldWork(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		for hook, want := range map[string]string{
			"command: [sh]":                              "on_change: can be done",
			"command: [/nowhere/sh]":                     "FAIL file:.* on_change: there is no such program",
			"signal: {pid_file: $S/none.pid, name: HUP}": "warn file:.* on_change: .*is not there: fine if",
		} {
			s.configure("bot", plot{onChange: hook}, true)
			code := 0
			if strings.HasPrefix(want, "FAIL") {
				code = 1
			}
			s.do(code, want, "check", "--offline", "--config", "bot.yaml")
		}
	})
}
