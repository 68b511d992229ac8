package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSecondSignalEndsAtOnceWhateverHangs(t *testing.T) {
	t.Parallel()
	dir := mistakesDir(t)
	p, err := start(programIn(t, dir, []string{"run", "--config", "fifo"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	// This returns when the program reads, and it will read in vain.
	silent, err := os.OpenFile(filepath.Join(dir, "fifo"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
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
