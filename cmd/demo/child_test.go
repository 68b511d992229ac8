package main

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStoppingAChildEndsWhatItStarted(t *testing.T) {
	t.Parallel()
	ready := make(chan struct{}, 1)
	// The grandchild keeps standard error open: done closes when it is gone.
	c, err := startChild("a shell", func(s string) {
		if s == "ready" {
			ready <- struct{}{}
		}
	}, "/bin/sh", "-c", `(trap "echo last words >&2; exit" TERM; echo ready; while :; do sleep 0.02; done) & wait`)
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	c.stop()
	select {
	case <-c.done:
	default:
		t.Error("stop returned before the end")
	}
	if got := c.tail.last(); !slices.Contains(got, "last words") {
		t.Errorf("its last words are %q", got)
	}
}

func TestAChildThatWillNotEndIsKilled(t *testing.T) {
	t.Parallel()
	ready := make(chan struct{}, 1)
	c, err := startChild("a stubborn shell", func(string) { ready <- struct{}{} }, "/bin/sh", "-c", `trap "" TERM; echo ready; while :; do sleep 0.02; done`)
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	c.grace = 50 * time.Millisecond
	c.stop()
	if c.err == nil || !strings.Contains(c.err.Error(), "killed") {
		t.Errorf("it ended with %v", c.err)
	}
}

func TestAChildThatEndsByItselfIsNoticed(t *testing.T) {
	t.Parallel()
	c, err := startChild("a shell", func(string) {}, "/bin/sh", "-c", "exit 3")
	if err != nil {
		t.Fatal(err)
	}
	<-c.done
	if err := c.ended(); !strings.Contains(err.Error(), "a shell ended: exit status 3") {
		t.Error(err)
	}
	c.stop()
}

func TestStoppingAChildThatIsOverDisturbsNobodyElse(t *testing.T) {
	t.Parallel()
	c, err := startChild("a shell", func(string) {}, "/bin/sh", "-c", "exit 3")
	if err != nil {
		t.Fatal(err)
	}
	<-c.done
	ready := make(chan struct{}, 1)
	stranger, err := startChild("a stranger", func(string) { ready <- struct{}{} }, "/bin/sh", "-c", `trap "exit 7" USR1; echo ready; while :; do sleep 0.02; done`)
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	c.pid = stranger.pid // it has got the number
	c.stop()
	if err := syscall.Kill(stranger.pid, syscall.SIGUSR1); err != nil {
		t.Error(err)
	}
	<-stranger.done
	if stranger.err == nil || stranger.err.Error() != "exit status 7" {
		t.Errorf("the stranger ended with %v", stranger.err)
	}
}

func TestAProgramThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	_, err := startChild("the daemon", func(string) {}, "/nonexistent/program")
	if err == nil || !strings.Contains(err.Error(), "start the daemon") || !strings.Contains(err.Error(), "make build") {
		t.Error(err)
	}
}

func TestSettingsOfTheCallerDoNotReachTheChildren(t *testing.T) {
	t.Parallel()
	got := cleanEnvironment([]string{"PATH=/bin", "ITR_KEY_FILE=/x", "NOTIFY_SOCKET=/y", "LISTEN_FDS=1", "HOME=/"})
	if !slices.Equal(got, []string{"PATH=/bin", "HOME=/"}) {
		t.Error(got)
	}
}

func TestOutputIsHandedOnInWholeLines(t *testing.T) {
	t.Parallel()
	var got []string
	w := &lineWriter{line: func(s string) { got = append(got, s) }}
	for _, part := range []string{"a", "b\nc\r\n", "\nd", strings.Repeat("x", maxLine+1)} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := []string{"ab", "c", ""}; !slices.Equal(got[:3], want) || len(got) != 4 || len(got[3]) != maxLine {
		t.Errorf("%d lines, first %q", len(got), got[:3])
	}
}
