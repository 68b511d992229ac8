package turns

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// slowTurn is how long somebody who has a turn must keep us waiting for a
// piece of the request, or until there is room for the answer, before others
// may take the turn away.
const slowTurn = 100 * time.Millisecond

// slowRequest is how long a request may be on its way before others may take
// its turn, also where it comes byte by byte.
const slowRequest = 5 * slowTurn

// awaitPiece returns when a read would not wait, and has t.reading say
// meanwhile that it would. It says nothing else: on a busy machine we may not
// come to read what is there, nor to look at what was read, for longer than
// slowTurn.
func (t *turn) awaitPiece() {
	if len(t.ahead) > 0 {
		return
	}
	raw := t.raw()
	if raw == nil {
		t.reading.Store(t.age())
		return
	}
	_ = raw.Read(func(fd uintptr) bool { // an error is the read's, too
		t.reading.Store(0)
		if wouldNotWait(fd, unix.POLLIN) {
			return true
		}
		t.reading.Store(t.age())
		return false
	})
	t.reading.Store(0)
}

// slow tells whether the other end keeps us waiting.
func (t *turn) slow() bool {
	longSince := func(began int64, patience time.Duration) bool { return t.age()-began >= int64(patience) }
	if began := t.writing.Load(); began > 0 && longSince(began, slowTurn) && !t.wouldNotWait(unix.POLLOUT) {
		return true
	}
	began := t.reading.Load()
	return t.awaited() && began > 0 && (longSince(began, slowTurn) || longSince(t.asked.Load(), slowRequest)) &&
		!t.wouldNotWait(unix.POLLIN) && t.reading.Load() == began
}

// raw is nil for a connection that is none of the system's.
func (c *Conn) raw() syscall.RawConn {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// wouldNotWait tells whether what is asked for could be done at once.
func (c *Conn) wouldNotWait(what int16) bool {
	now := false // also where the connection is gone, or none of the system's
	if raw := c.raw(); raw != nil {
		_ = raw.Control(func(fd uintptr) { now = wouldNotWait(fd, what) })
	}
	return now
}

func wouldNotWait(fd uintptr, what int16) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: what}}
	for {
		if n, err := unix.Poll(fds[:], 0); err != unix.EINTR {
			return n > 0
		}
	}
}

// hurry ends the slow turns of a user, as many as others wait for, and comes
// back as long as some wait.
func (g *gate) hurry(uid uint32) {
	var begun []*turn
	g.mu.Lock()
	waiting := len(g.queued[uid])
	if waiting == 0 || g.over {
		delete(g.hurries, uid)
	} else {
		g.hurries[uid].Reset(slowTurn)
		for c := range g.conns {
			if t := c.turn; t != nil && c.peer.UID == uid && !t.since.IsZero() {
				begun = append(begun, t)
			}
		}
	}
	g.mu.Unlock()
	for _, t := range begun {
		if waiting > 0 && !t.leisure.Load() && t.slow() {
			t.Conn.Close()
			g.endTurn(t)
			waiting--
		}
	}
}
