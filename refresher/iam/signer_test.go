package iam

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestThereAreNoMoreSignaturesAtOnceThanCores(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns, end := newTurns(), make(chan struct{})
		cores := runtime.GOMAXPROCS(0)
		var begun atomic.Int32
		for range 3 * cores {
			go func() {
				done := turns.take()
				begun.Add(1)
				<-end
				done()
			}()
		}
		for round := range 3 {
			synctest.Wait()
			if got, want := int(begun.Load()), (round+1)*cores; got != want {
				t.Fatalf("%d have begun when %d have ended, want %d", got, round*cores, want)
			}
			for range cores {
				end <- struct{}{}
			}
		}
	})
}
