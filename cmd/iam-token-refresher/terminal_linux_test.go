package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"iam-token-refresher/refresher/emulator"
)

// shows starts the program on a terminal, of which shown has what is to be seen.
func (s *scene) shows(term string, args ...string) (p *process, screen *os.File, shown *lineLog) {
	s.Helper()
	screen, keyboard := terminal(s)
	cmd := s.exec(args...)
	cmd.Env = append(cmd.Env, "TERM="+term)
	var err error
	p, err = startOn(cmd, screen)
	s.try(err)
	s.Cleanup(p.kill)
	shown = newLineLog()
	go func() { _, _ = io.Copy(shown, keyboard) }() // until nobody has the terminal
	return p, screen, shown
}

func TestAWatchGivesTheTerminalBackWheneverItStopsOrEnds(t *testing.T) {
	t.Parallel()
	const enter, leave = `\x1b\[\?1049h`, `\x1b\[\?25h\x1b\[\?1049l`
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{})
		s.ready()
		for _, end := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTERM} {
			p, _, shown := s.shows("xterm", "status", "--watch", "--config", "bot.yaml")
			s.try(shown.await(enter, 1))
			// Where no shell would see to it, as here, the kernel stops nobody: it goes
			// on at once.
			s.try(p.signal(syscall.SIGTSTP))
			s.try(shown.await(leave, 1))
			s.try(shown.await(enter, 2))
			s.try(p.signal(end))
			s.try(shown.await(leave, 2))
			if code, err := p.wait(); code != exitDone || err != nil {
				t.Errorf("%s: it ended with %d, %v", end, code, err)
			}
		}
	})
}

func TestOnADumbTerminalAWatchIsPlainText(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{})
		s.ready()
		_, _, shown := s.shows("dumb", "status", "--watch", "--config", "bot.yaml")
		s.try(shown.await("bot .* fresh ", 1))
		if strings.Contains(shown.text(), "\x1b") {
			t.Errorf("it shows %q", shown.text())
		}
	})
}

func TestALoginThatIsEndedLeavesTheTerminalAsItWas(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		for _, end := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGTERM} {
			p, screen, _ := s.shows("xterm", "login", "--paste", "--client-id", strings.Repeat("5f1e", 8), "--token-file", s.path("login.json"))
			echoes := func() bool {
				modes, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
				s.try(err)
				return modes.Lflag&unix.ECHO != 0
			}
			s.soon(func() bool { return !echoes() })
			s.try(p.signal(end))
			if code, err := p.wait(); code != exitFailed || err != nil {
				t.Errorf("%s: it ended with %d, %v", end, code, err)
			}
			if !echoes() {
				t.Errorf("%s: what is typed does not show", end)
			}
		}
	})
}

func TestASignalThatWasIgnoredStaysIgnoredOnATerminal(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		screen, _ := terminal(s)
		cmd := s.exec("login", "--paste", "--client-id", strings.Repeat("5f1e", 8), "--token-file", s.path("login.json"))
		cmd.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		p, err := startOn(cmd, screen)
		s.try(err)
		s.Cleanup(p.kill)
		s.soon(func() bool {
			modes, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
			s.try(err)
			return modes.Lflag&unix.ECHO == 0
		})
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		s.try(err)
		ignored, err := strconv.ParseUint(strings.TrimSpace(between(string(status), "SigIgn:", "\n")), 16, 64)
		s.try(err)
		if ignored&(1<<(syscall.SIGHUP-1)) == 0 {
			t.Errorf("under nohup it listens for a hang-up: it ignores %x", ignored)
		}
	})
}
