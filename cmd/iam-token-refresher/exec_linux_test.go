package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"iam-token-refresher/refresher/emulator"
)

// program is the exec of a configuration: a script that finds the scene's
// directory in $1, and further options.
func execute(script, options string) string {
	return "exec:\n  command: [sh, -c, '" + strings.ReplaceAll(script, "'", "''") + "', sh, $S]\n" +
		"  env: {V: \"{{.bot.Version}}\", VALUE: \"{{.bot.Value}}\"}\n  merge: 0s\n" + options
}

// lives is a script's beginning: it notes version and number, and waits.
const (
	noteStart = `echo "$V:$$" >>$1/runs; `
	waits     = `while :; do sleep 0.05; done`
)

// runsOf waits for the n-th start of the program, also over several daemons, and
// returns versions and process numbers.
func (s *scene) runsOf(n int) (versions string, pids []string) {
	s.Helper()
	for end := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		runs := strings.Fields(s.noted("runs"))
		if len(runs) < n && time.Now().Before(end) {
			continue
		}
		var list []string
		for _, run := range runs {
			version, pid, _ := strings.Cut(run, ":")
			list, pids = append(list, version), append(pids, pid)
		}
		return strings.Join(list, " "), pids
	}
}

func (s *scene) started(versions string) (pid string) {
	s.Helper()
	got, pids := s.runsOf(len(strings.Fields(versions)))
	if got != versions {
		s.Errorf("the program was started with the versions %q, not %q", got, versions)
	}
	return pids[len(pids)-1]
}

// notedSoon waits for words in a file.
func (s *scene) notedSoon(name, want string) {
	s.Helper()
	for end := time.Now().Add(patience); s.noted(name) != want; <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("%s holds %q, not %q", name, s.noted(name), want)
		}
	}
}

// ended wants the daemon to end with a code.
func (s *scene) ended(code int) {
	s.Helper()
	got, err := s.daemon.wait()
	if err != nil || got != code {
		s.Errorf("the daemon ended with %d, %v, not %d", got, err, code)
	}
}

// revokeAndTell revokes the published value, and tells the daemon of it.
func (s *scene) revokeAndTell() {
	s.Helper()
	v := s.read()
	s.revoke(v.Value)
	s.ask(s.socket, "POST", "http://localhost/v1/tokens/bot/report", "If-Match", fmt.Sprintf(`"%s-%d"`, v.Lineage, v.Version))
}

func TestExecEndsAsItsProgramDoes(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.configure("bot", plot{}, true)
		for script, want := range map[string]int{
			"exit 0":        0,
			"exit 5":        5,
			"kill -9 $$":    128 + 9,
			"kill -USR1 $$": 128 + 10,
		} {
			if code, out := s.outcome("exec", "--config", "bot.yaml", "--", "sh", "-c", script); code != want {
				t.Errorf("%s: it ended with %d, not %d: %s", script, code, want, out)
			}
		}
		s.configure("both", plot{more: execute("exit 0", "")}, true)
		s.do(0, "exec:sh: can be started", "check", "--offline", "--config", "both.yaml")
		s.do(0, "", "once", "--config", "both.yaml") // it runs no program
		s.do(78, `"none-such": there is no such program`, "exec", "--config", "bot.yaml", "--", "none-such")
		s.do(78, `name it after --`, "exec", "--key-file", s.path("cloud/key.json"))
		s.do(78, `exec.command: names no program`, "exec", "--config", "bot.yaml")
		s.do(78, `no token "bog"; did you mean "bot"`, "exec", "--config", "bot.yaml", "--env", "A={{.bog.Value}}", "--", "env")
		s.do(78, `--stop-signal: "X" is no signal`, "exec", "--config", "bot.yaml", "--stop-signal", "X", "--", "env")
	})
}

func TestExecHandsOverWhatItHas(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.configure("bot", plot{}, true)
		core, err := exec.Command("sh", "-c", "ulimit -Sc 7; ulimit -Sc").Output() // may be fixed to 0
		s.try(err)
		// Limits below the usual ones, of which Go raises one for itself.
		cmd := s.exec("exec", "--config", "bot.yaml", "--env", "TOKEN=<{{.Value}}>", "--", "sh", "-c", `cat; echo "$TOKEN"; env >env; ulimit -Sn; ulimit -Hn; ulimit -Sc; echo err >&2`)
		cmd.Args = append([]string{"sh", "-c", `ulimit -Sn 500; ulimit -Hn 900; ulimit -Sc 7; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		shell, err := exec.LookPath("sh")
		s.try(err)
		cmd.Path = shell
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "LISTEN_FDS=0", "CREDENTIALS_DIRECTORY=/c", "ITR_LOG_LEVEL=", "ITR_SOCKET=/s", "MINE=1")
		cmd.Stdin = strings.NewReader("what was piped in\n")
		out, err := cmd.Output()
		s.try(err)
		lines := strings.Split(string(out), "\n")
		if len(lines) != 6 || lines[0] != "what was piped in" || !strings.HasPrefix(lines[1], "<t1.") || lines[2] != "500" || lines[3] != "900" || lines[4] != strings.TrimSpace(string(core)) {
			t.Errorf("it wrote %q", lines[2:])
		}
		env := s.noted("env")
		s.matches("the environment", env, `MINE=1`)
		s.matches("the environment", env, `ITR_SOCKET=/s`)
		for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG", "LISTEN_", "CREDENTIALS_DIRECTORY", "ITR_LOG"} {
			if strings.Contains(env, name) {
				t.Errorf("the environment has %s", name)
			}
		}
	})
}

func TestAProgramIsRestartedWhenItsValueIsRevoked(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{more: execute(`trap 'echo bye >>$1/ends; exit 0' TERM; `+noteStart+waits, "")})
		s.ready()
		s.started("1")
		s.renews()        // it needs none yet
		s.revokeAndTell() // that is not the one it has
		s.published(3)
		if got := s.noted("ends"); got != "" {
			t.Error("it was stopped without need")
		}
		s.ends()
		s.run(plot{more: execute(noteStart+waits, "")})
		s.started("1 3")
		s.revokeAndTell()
		s.started("1 3 4")
		s.logged(`"msg":"the program is restarted".*"reason":"its value of bot was revoked"`)
		s.ends()
	})
}

func TestARenewalDuringARestartIsWhatTheProgramGets(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		// It takes a file's coming for its end.
		s.run(plot{more: execute(`trap 'while [ ! -e $1/go ]; do sleep 0.01; done; exit 0' TERM; `+noteStart+waits, "  restart_on: version\n  stop_timeout: 1m\n")})
		s.ready()
		s.started("1")
		s.renews()
		s.logged(`"msg":"the program is restarted"`)
		s.renews()
		s.renews()
		s.write("go", "")
		s.started("1 4")
		s.ends()
	})
}

// A Ctrl-C is for all: no other program is started in place of one that ends.
func TestAnInterruptDuringARestartIsTheEnd(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.detached = true
		script := `trap 'echo INT >>$1/got' INT; trap 'echo TERM >>$1/got; while [ ! -e $1/go ]; do sleep 0.01; done; exit 7' TERM; ` + noteStart + waits
		s.configure("bot", plot{more: execute(script, "  restart_on: version\n  stop_timeout: 1m\n")}, false)
		s.daemon = s.background("exec", "exec", "--config", "bot.yaml")
		s.ready()
		s.started("1")
		s.renews()
		s.notedSoon("got", "TERM")
		s.try(s.daemon.signal(syscall.SIGINT))
		s.notedSoon("got", "TERM INT")
		s.write("go", "")
		s.ended(7)
		s.started("1")
	})
	play(t, emulator.Options{}, func(s *scene) {
		s.detached = true
		s.configure("bot", plot{more: execute(noteStart+`[ $(grep -c : $1/runs) = 1 ] && exit 3; `+waits, "  on_exit: restart\n")}, false)
		s.daemon = s.background("exec", "exec", "--config", "bot.yaml")
		s.started("1")
		s.logged(`"msg":"the program ended, it is started again"`)
		s.try(s.daemon.signal(syscall.SIGINT)) // nobody is there to take it
		s.ended(128 + int(syscall.SIGINT))
	})
}

// Its farewell is longer than one that we ask for may be.
func TestAnInterruptIsTheEndAlsoOfWhatIsStartedAgain(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.detached = true
		script := `trap 'echo INT >>$1/got; while [ ! -e $1/go ]; do sleep 0.01; done; exit 7' INT; ` + noteStart + waits
		s.configure("bot", plot{more: execute(script, "  on_exit: restart\n  stop_timeout: 1ms\n")}, false)
		s.daemon = s.background("exec", "exec", "--config", "bot.yaml")
		s.started("1")
		s.try(s.daemon.signal(syscall.SIGINT))
		s.notedSoon("got", "INT")
		s.renews()
		s.write("go", "")
		s.ended(7)
		s.started("1")
	})
}

func TestAProgramThatDoesNotEndIsKilled(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.detached = true
		s.run(plot{more: execute(`trap "" TERM INT HUP; sleep 1000 & `+noteStart+waits, "  restart_on: version\n  stop_timeout: 300ms\n")})
		s.ready()
		first := s.started("1")
		s.renews()
		second := s.started("1 2")
		s.gone(first) // with its child: the group is empty
		s.renews()
		s.try(s.daemon.log.await(`"msg":"the program is restarted"`, 2))
		s.ends() // while it is restarted
		s.gone(second)
		if n := strings.Count(s.daemon.log.text(), `"msg":"program started"`); n > 3 {
			t.Errorf("it was started %d times", n)
		}
		_, pids := s.runsOf(0)
		for _, pid := range pids {
			s.gone(pid)
		}
	})
}

func TestAProgramThatIsStoppedIsAwokenToEnd(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{more: execute(`trap 'echo bye >>$1/got; exit 9' TERM; `+noteStart+`kill -STOP $$; `+waits, "  stop_timeout: 1m\n")})
		pid := s.started("1")
		s.soon(func() bool {
			stat, err := os.ReadFile("/proc/" + pid + "/stat")
			return err == nil && strings.Contains(string(stat), ") T ")
		})
		s.try(s.daemon.signal(syscall.SIGTERM))
		s.ended(0)
		s.notedSoon("got", "bye")
	})
}

func TestTheTokenIsServedWhileTheProgramEnds(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{more: execute(`trap 'echo asked >>$1/runs; while [ ! -e $1/go ]; do sleep 0.01; done; exit 9' TERM; `+noteStart+waits, "  stop_timeout: 1m\n")})
		s.ready()
		s.started("1")
		s.try(s.daemon.signal(syscall.SIGTERM))
		s.logged(`"msg":"stopping"`)
		s.renews() // also then
		s.write("go", "")
		s.ended(0) // it ended as it was asked to
		s.matches("the log says", s.daemon.log.text(), `"msg":"the program ended as it was asked to".*exit code 9`)
	})
}

func TestACrashOfTheProgramIsOursOrStartsItAgain(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{more: execute(noteStart+waits, "")})
		s.ready()
		s.try(syscall.Kill(atoi(s.started("1")), syscall.SIGKILL))
		s.ended(128 + 9)
		s.run(plot{more: execute(noteStart+waits, "  on_exit: restart\n")})
		s.try(syscall.Kill(atoi(s.started("1 1")), syscall.SIGKILL))
		s.logged(`"msg":"the program ended, it is started again".*"in":"1s"`)
		s.try(syscall.Kill(atoi(s.started("1 1 1")), syscall.SIGSEGV))
		s.logged(`"msg":"the program ended, it is started again".*"failures":2,"in":"2s"`)
		s.ends() // while it waits for that
		s.run(plot{more: execute(noteStart+`exit 0`, "  on_exit: restart\n")})
		s.ended(0)
	})
}

func TestTheProgramDoesNotOutliveADaemonThatIsKilled(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{more: execute(`trap "" TERM INT HUP; `+noteStart+waits, "")})
		s.ready()
		pid := s.started("1")
		s.renews() // threads come and go
		s.renews()
		s.try(syscall.Kill(atoi(pid), 0))
		s.daemon.kill()
		s.gone(pid)
	})
}

func TestSignalsArePassedOn(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.detached = true
		script := `for s in HUP USR1 USR2 QUIT WINCH ALRM; do trap "echo $s >>$1/got" $s; done; trap 'echo INT >>$1/got; exit 42' INT; ` + noteStart + waits
		s.configure("bot", plot{more: execute(script, "")}, false)
		s.daemon = s.background("exec", "exec", "--config", "bot.yaml")
		s.started("1")
		want := ""
		for _, sig := range []struct {
			name   string
			number syscall.Signal
		}{{"HUP", syscall.SIGHUP}, {"USR1", syscall.SIGUSR1}, {"USR2", syscall.SIGUSR2}, {"QUIT", syscall.SIGQUIT}, {"WINCH", syscall.SIGWINCH}, {"ALRM", syscall.SIGALRM}, {"INT", syscall.SIGINT}} {
			s.try(s.daemon.signal(sig.number))
			want = strings.TrimSpace(want + " " + sig.name)
			s.notedSoon("got", want)
		}
		s.ended(42)
	})
}

func TestAProgramIsToldOfANewValueOnceTheFilesHaveIt(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		script := `trap 'cat $1/bot.token >>$1/got; echo >>$1/got' USR1; ` + noteStart + waits
		s.run(plot{more: execute(script, "  on_renew: signal:USR1\n  restart_on: version\n")})
		s.ready()
		s.started("1")
		want := ""
		for range 5 {
			s.renews()
			want = strings.TrimSpace(want + " " + s.read().Value)
			s.notedSoon("got", want)
		}
		if out := s.daemon.log.text(); strings.Contains(out, "the program is restarted") {
			t.Error("it was restarted")
		}
		s.ends()
	})
}

func TestAsInitAllOrphansAreWaitedForAndNoExitCodeIsLost(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("there is no PID namespace to be init in: %v: %s", err, out)
	}
	play(t, emulator.Options{}, func(s *scene) {
		// The source is a command, too, and a renewal is asked for while orphans end.
		s.write("orphans.sh", `
			i=0; while [ $i -lt 500 ]; do (sleep 0.$((i % 10)) & ); i=$((i+1)); done
			"$PROGRAM" refresh bot --socket $1/s >/dev/null || exit 4
			for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
				zombies=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ')
				sleeps=$(cat /proc/[0-9]*/comm 2>/dev/null | grep -c '^sleep$')
				[ $zombies = 0 ] && [ $sleeps = 0 ] && exit 7
				sleep 0.5
			done
			echo "$zombies zombies, $sleeps sleeps" >$1/left; exit 3`)
		s.configure("bot", plot{
			source:   `command: {argv: [sh, -c, "(true &); cat token"], lifetime: 1h}`,
			onChange: shell(`(true &); [ $ITR_HOOK_VERSION != 1 ] || exit 9`),
			more:     execute(noteStart+`. "$1/orphans.sh"`, ""),
		}, false)
		s.configure("seed", plot{}, true)
		s.do(0, "", "once", "--config", "seed.yaml")
		s.write("token", s.text("seed.token"))
		cmd := s.exec("exec", "--config", "bot.yaml")
		cmd.Env = append(cmd.Env, "PROGRAM="+cmd.Path)
		cmd.Args = append([]string{"unshare", "--pid", "--fork", "--mount-proc", cmd.Path}, cmd.Args[1:]...)
		path, err := exec.LookPath("unshare")
		s.try(err)
		cmd.Path = path
		s.daemon, err = start(cmd)
		s.try(err)
		s.daemons["init"] = s.daemon
		s.ended(7)
		if left := s.noted("left"); left != "" {
			t.Errorf("there are left %s", left)
		}
		s.matches("the log says", s.daemon.log.text(), `"msg":"hook failed".*it failed with exit code 9`)
		if out := s.daemon.log.text(); strings.Contains(out, "refresh failed") {
			t.Error("a mint failed")
		}
	})
}

// terminal makes a terminal, and returns both of its ends.
func terminal(s *scene) (screen, keyboard *os.File) {
	s.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		s.Skipf("there are no terminals here: %v", err)
	}
	s.Cleanup(func() { keyboard.Close() })
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	s.try(err)
	s.try(unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	s.try(err)
	s.Cleanup(func() { screen.Close() })
	return screen, keyboard
}

func TestOnATerminalTheProgramIsInOurJobAndHearsEachKeyOnce(t *testing.T) {
	t.Parallel()
	for name, redirected := range map[string]bool{"stdin is the terminal": false, "stdin is redirected": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, emulator.Options{}, func(s *scene) {
				screen, keyboard := terminal(s)
				// As ssh does, it reads the terminal itself. A read ends after 0.1s: a
				// signal that comes just before it is heard behind it only.
				script := `trap 'echo INT >>$1/got' INT; trap 'echo USR1 >>$1/got' USR1; ` + noteStart + `exec </dev/tty; stty -icanon min 0 time 1; while :; do if read line; then echo "$line" >>$1/got; [ "$line" != end ] || exit 0; fi; done`
				s.configure("bot", plot{more: execute(script, "")}, false)
				cmd := s.exec("exec", "--config", "bot.yaml")
				cmd.ExtraFiles = []*os.File{screen}
				cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
				if !redirected {
					cmd.Stdin = screen
				}
				var err error
				s.daemon, err = start(cmd)
				s.try(err)
				s.daemons["exec"] = s.daemon
				pid := atoi(s.started("1"))
				ours, err := syscall.Getpgid(s.daemon.cmd.Process.Pid)
				s.try(err)
				if its, err := syscall.Getpgid(pid); err != nil || its != ours {
					t.Errorf("it is of group %d and we of %d: %v", its, ours, err)
				}
				press := func(keys, want string) {
					t.Helper()
					_, err := keyboard.WriteString(keys)
					s.try(err)
					s.notedSoon("got", want)
				}
				press("one\n", "one")
				want := "one"
				for range 50 { // of two signals at once only one may be heard
					want += " INT"
					press("\x03", want)
				}
				s.try(s.daemon.signal(syscall.SIGUSR1)) // what no terminal sends
				s.notedSoon("got", want+" USR1")
				press("end\n", want+" USR1 end")
				s.ended(0)
			})
		})
	}
}

// What does not read the terminal is a service that was started on it.
func TestInTheBackgroundOfATerminalNothingOfTheProgramIsLeft(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		screen, _ := terminal(s)
		s.configure("bot", plot{more: execute(`sleep 100 >/dev/null 2>&1 & echo $! >$1/child; `+noteStart+waits, "")}, false)
		cmd := s.exec("exec", "--config", "bot.yaml")
		cmd.Args = append([]string{"sh", "-m", "-c", `"$@" </dev/null & echo $! >runner; wait $!`, "sh", cmd.Path}, cmd.Args[1:]...)
		shell, err := exec.LookPath("sh")
		s.try(err)
		cmd.Path = shell
		cmd.ExtraFiles = []*os.File{screen}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
		s.daemon, err = start(cmd)
		s.try(err)
		s.daemons["exec"] = s.daemon
		pid := s.started("1")
		s.soon(func() bool { return s.noted("runner") != "" })
		s.try(syscall.Kill(atoi(s.noted("runner")), syscall.SIGTERM))
		s.ended(codeTerminated)
		s.gone(pid)
		s.gone(s.noted("child"))
	})
}
