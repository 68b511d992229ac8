package turns

import (
	"sync/atomic"
	"time"
)

// Rarely keeps a line that everybody can provoke from filling the log. The zero
// Rarely is ready; it may be used concurrently.
type Rarely struct{ last atomic.Int64 }

// Now says yes once a minute.
func (r *Rarely) Now() bool {
	now := time.Now().Unix()
	last := r.last.Load()
	return now-last >= 60 && r.last.CompareAndSwap(last, now)
}
