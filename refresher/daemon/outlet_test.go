package daemon

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader takes lines.
type reader struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *reader) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Split(strings.TrimSuffix(r.text.String(), "\n"), "\n")
}

// newTestOutlet logs to r, without times and levels; not before hold is closed.
func newTestOutlet(r *reader, hold chan struct{}) *slog.Logger {
	return slog.New(newOutlet(slog.NewTextHandler(held{r, hold}, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		},
	})))
}

func TestALineIsWrittenWhenItsCallReturns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		log := newTestOutlet(r, closed())
		log.With("token", "bot").WithGroup("of").Info("said", "n", 1)
		if got := strings.Join(r.lines(), "|"); got != "msg=said token=bot of.n=1" {
			t.Errorf("there is %q", got)
		}
	})
}

func TestALogThatNobodyTakesHoldsUpOneLineForAMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, hold := &reader{}, make(chan struct{})
		log := newTestOutlet(r, hold)
		const many = outletRoom + 44
		begin := time.Now()
		for n := range many {
			log.Info("said", "n", n)
		}
		if took := time.Since(begin); took != outletPatience {
			t.Errorf("%d lines took %s, want the %s of one", many, took, outletPatience)
		}
		close(hold)
		synctest.Wait()
		log.Info("said", "n", many)

		got := r.lines()
		want := make([]string, 0, outletRoom+2)
		for n := range outletRoom {
			want = append(want, fmt.Sprintf("msg=said n=%d", n))
		}
		want = append(want, fmt.Sprintf(`msg="log lines dropped: stderr was blocked, as by a full pipe or a hung journal" lines=%d`, many-outletRoom), fmt.Sprintf("msg=said n=%d", many))
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("there are %d lines, the last %q", len(got), got[len(got)-2:])
		}

		// It is waited for again.
		begin = time.Now()
		log.Info("said")
		if took := time.Since(begin); took != 0 {
			t.Errorf("a line that is taken took %s", took)
		}
	})
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// held is a writer that takes nothing yet.
type held struct {
	io.Writer
	hold chan struct{}
}

func (h held) Write(p []byte) (int, error) {
	<-h.hold
	return h.Writer.Write(p)
}

func TestManyLinesAtOnceAreEachWrittenOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		log := newTestOutlet(r, closed())
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 100 {
					log.Info("said")
				}
			})
		}
		all.Wait()
		if n := len(r.lines()); n != 800 {
			t.Errorf("%d lines were written of 800", n)
		}
	})
}
