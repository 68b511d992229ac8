package turns

import (
	"sync/atomic"
	"time"
)

// Rarely keeps a line that everybody can provoke from filling the log. The zero
// Rarely is ready; it may be used concurrently.
type Rarely struct{ last atomic.Int64 }

// Now says yes once a minute, and when the clock was set back: otherwise it would
// say nothing until the clock is there again.
func (r *Rarely) Now() bool {
	now := time.Now().Unix()
	last := r.last.Load()
	return (now-last >= 60 || now < last) && r.last.CompareAndSwap(last, now)
}
