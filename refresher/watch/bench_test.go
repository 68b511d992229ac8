package watch

import (
	"fmt"
	"runtime"
	"testing"
)

// BenchmarkAdd adds a thousand files of one directory; it also reports what each
// keeps in memory.
func BenchmarkAdd(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		w, err := New(Options{})
		if err != nil {
			b.Fatal(err)
		}
		before := inUse()
		for i := range 1000 {
			w.Add(fmt.Sprintf("%s/token-%d", dir, i), func() {})
		}
		b.ReportMetric(float64(inUse()-before)/1000, "B/file")
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
