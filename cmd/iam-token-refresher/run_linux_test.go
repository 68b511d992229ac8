package main

import (
	"strings"
	"syscall"
	"testing"
)

func TestSecondSignalEndsAtOnceWhateverHangs(t *testing.T) {
	t.Parallel()
	cmd, hangs := hanging(t, "run")
	p, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	hangs()
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT} {
		if err := p.signal(s); err != nil {
			t.Fatal(err)
		}
	}
	code, err := p.wait()
	if err != nil {
		t.Fatal(err)
	}
	if code != exitFailed || !strings.Contains(p.log.text(), "ended at once by a second signal") {
		t.Errorf("exit code %d, it says %s", code, p.log.text())
	}
}
