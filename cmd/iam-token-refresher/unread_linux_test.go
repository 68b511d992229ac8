package main

import (
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// unread is a pipe that its reader leaves alone: what is in it, fills it.
func unread(t *testing.T) (reader, writer *os.File) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = reader.Close(), writer.Close() }) // they may be closed
	fd := int(writer.Fd())
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	page := make([]byte, os.Getpagesize())
	for err == nil {
		_, err = syscall.Write(fd, page)
	}
	if err != syscall.EAGAIN {
		t.Fatal(err)
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return reader, writer
}

// startUnheard starts the program with a log that goes to stderr.
func startUnheard(t *testing.T, cmd *exec.Cmd, stderr *os.File) (ended chan struct{}) {
	t.Helper()
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its state says more
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	return ended
}

func wantEnd(t *testing.T, cmd *exec.Cmd, ended chan struct{}, code int) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		t.Fatal("it does not end")
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("it ended with %d (%s), not %d", got, cmd.ProcessState, code)
	}
}

func TestALogThatNobodyReadsIsNoneOfTheTokens(t *testing.T) {
	t.Parallel()
	for name, leaves := range map[string]bool{"its reader does not read": false, "its reader has gone": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, emulator.Options{}, func(s *scene) {
				s.configure("bot", plot{}, false)
				reader, writer := unread(s.T)
				cmd := s.exec("run", "--config", "bot.yaml")
				if leaves {
					s.try(reader.Close())
				}
				ended := startUnheard(s.T, cmd, writer)
				s.soon(func() bool { // its log cannot tell
					resp, err := http.Get("http://" + s.health + "/readyz")
					if err != nil {
						return false
					}
					defer resp.Body.Close()
					return resp.StatusCode == http.StatusOK
				})
				before := s.read()
				code, body := s.ask(s.socket, http.MethodPost, "http://localhost/v1/tokens/bot/refresh")
				if after := s.read(); after.Version != before.Version+1 {
					s.Errorf("after a refresh (%d, %s) the version is %d, not %d", code, body, after.Version, before.Version+1)
				}
				s.try(cmd.Process.Signal(syscall.SIGTERM))
				wantEnd(s.T, cmd, ended, exitDone)
			})
		})
	}
}

func TestASecondSignalDoesNotWaitForAReaderOfItsMessage(t *testing.T) {
	t.Parallel()
	_, writer := unread(t)
	cmd, hangs := hanging(t, "run")
	ended := startUnheard(t, cmd, writer)
	hangs()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	wantEnd(t, cmd, ended, exitFailed)
}
