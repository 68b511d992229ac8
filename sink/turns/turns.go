package turns

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Most is how many connections net/http has at once.
	Most = 256
	// linger is how long a turn lasts beyond an answer: most connections say
	// something more at once or not for long, and a turn for each request would
	// halve what one connection can ask. It ends when others want the turn.
	linger = time.Second
)

// errRests ends net/http's wait for another request.
var errRests = errors.New("the connection rests")

// turn is a connection as net/http has it.
type turn struct {
	*Conn
	// idle: net/http waits for another request; rests: it was told to let go.
	idle, rests atomic.Bool
	// tail is the end of what net/http has read. It reads in one goroutine at a
	// time.
	tail [4]byte
	// room is how much net/http asks for at once, at most: as much as when it
	// holds nothing.
	room int
	// until is when the request that is being read must be there.
	until time.Time
	// reading is since when nothing of the request was there to be read, writing
	// when the write that is under way began, in nanoseconds after since; 0 for
	// neither.
	reading, writing atomic.Int64
	// asked is when the request began that is being read, in the same way: the
	// first of a turn begins with it.
	asked atomic.Int64
	// given is closed when the turn begins; since is when, zero before. Guarded
	// by gate.mu.
	given chan struct{}
	since time.Time
}

// Read implements [net.Conn]. Between requests net/http may still hold a part
// of the next one. It holds none, or no more than empty lines, if what it read
// last is the end of a header: then the connection can rest.
func (t *turn) Read(b []byte) (int, error) {
	t.room = max(t.room, len(b))
	var n int
	var err error
	if t.idle.Load() {
		if bytes.HasSuffix(t.tail[:], []byte("\n\r\n")) || bytes.HasSuffix(t.tail[:], []byte("\n\n")) {
			if n, err = t.lingers(b); n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
				t.rests.Store(true)
				return 0, errRests
			}
		}
		if t.served.Swap(false) { // another request has begun
			t.taken.Store(false)
			t.asked.Store(t.age())
			t.until = time.Now().Add(RequestTimeout)
		}
		_ = t.SetReadDeadline(t.until) // all of it comes in time, or none
	}
	if n == 0 && err == nil {
		if t.awaited() { // what it sends while it is answered is not
			t.awaitPiece()
		}
		n, err = t.Conn.Read(b)
		t.reading.Store(0)
	}
	if n >= len(t.tail) {
		copy(t.tail[:], b[n-len(t.tail):n])
	} else {
		copy(t.tail[:], t.tail[n:])
		copy(t.tail[len(t.tail)-n:], b[:n])
	}
	return n, err
}

// awaited tells whether what is read is waited for: a header, or a body.
func (t *turn) awaited() bool { return !t.served.Load() || t.wants.Load() }

// lingers reads what comes at once after an answer.
func (t *turn) lingers(b []byte) (int, error) {
	_ = t.SetReadDeadline(time.Now().Add(linger))
	if len(b) < t.room || !t.gate.mayLinger(t) { // empty lines go with the turn
		return 0, os.ErrDeadlineExceeded
	}
	defer t.gate.lingered(t)
	return t.Conn.Read(b)
}

// Write implements [net.Conn]. Who sends many requests at once is answered
// while others are, too: without the pause each such connection would have a
// processor for 10 ms.
func (t *turn) Write(b []byte) (int, error) {
	runtime.Gosched()
	t.writing.Store(t.age())
	defer t.writing.Store(0)
	return t.Conn.Write(b)
}

func (t *turn) age() int64 { return int64(time.Since(t.since)) + 1 }

// Close implements [net.Conn]: a connection that rests stays open.
func (t *turn) Close() error {
	t.gate.endTurn(t)
	if t.rests.Load() && t.gate.rest(t.Conn) {
		return nil
	}
	return t.Conn.Close()
}

// connState is the [http.Server.ConnState] of connections that are turns.
func connState(c net.Conn, s http.ConnState) {
	t := c.(*turn)
	t.idle.Store(s == http.StateIdle)
	switch s {
	case http.StateActive: // the header is there, and nothing was read beyond it
		t.served.Store(true)
		// net/http reads the body of what it answers itself, and has no deadline
		// for that. The handler of what it does not sets its own.
		_ = t.SetReadDeadline(time.Now().Add(RequestTimeout))
	case http.StateHijacked:
		t.gate.endTurn(t)
	}
}

// rest waits for the next request on c and passes it on to net/http. It
// returns false when there are no turns any more.
func (g *gate) rest(c *Conn) bool {
	g.mu.Lock()
	over := g.over
	if !over {
		g.resting.Add(1)
		c.resting.Store(true)
	}
	g.mu.Unlock()
	if over {
		return false
	}
	go func() {
		defer g.resting.Done()
		if !g.awaitTurn(c) {
			c.Close()
		}
	}()
	return true
}

func (g *gate) awaitTurn(c *Conn) bool {
	if len(c.ahead) == 0 {
		patience := RequestTimeout
		if c.served.Load() {
			patience = IdleTimeout
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if c.awaitByte(); len(c.ahead) == 0 {
			return false
		}
	}
	c.served.Store(false)
	c.taken.Store(false)
	c.resting.Store(false)
	t := g.takeTurn(c)
	if t == nil {
		return false
	}
	select {
	case g.turns <- t:
		return true
	case <-g.ended:
		g.endTurn(t)
		return false
	}
}

// takeTurn waits for a turn of c, no longer than RequestTimeout. It returns nil
// when c gets none.
func (g *gate) takeTurn(c *Conn) *turn {
	t := &turn{Conn: c}
	g.mu.Lock()
	if g.mayBegin(c.peer.UID) {
		g.begin(t)
		g.mu.Unlock()
		return t
	}
	t.given = make(chan struct{})
	g.enqueue(t)
	g.mu.Unlock()
	patience := time.NewTimer(RequestTimeout)
	defer patience.Stop()
	select {
	case <-t.given:
	case <-patience.C:
	case <-g.ended:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.since.IsZero() {
		g.dequeue(t)
		return nil
	}
	return t
}

// mayLinger tells whether nobody else wants the turn of t. If somebody does
// before lingered, its read deadline has passed.
func (g *gate) mayLinger(t *turn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	uid := t.peer.UID
	if len(g.queued[uid]) > 0 || g.over {
		return false
	}
	if g.lingering[uid] == nil {
		g.lingering[uid] = make(map[*turn]struct{})
	}
	g.lingering[uid][t] = struct{}{}
	return true
}

func (g *gate) lingered(t *turn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	uid := t.peer.UID
	if delete(g.lingering[uid], t); len(g.lingering[uid]) == 0 {
		delete(g.lingering, uid)
	}
}

func (g *gate) enqueue(t *turn) {
	uid := t.peer.UID
	for other := range g.lingering[uid] {
		_ = other.SetReadDeadline(past)
		delete(g.lingering[uid], other)
		break
	}
	t.turn = t
	g.queued[uid] = append(g.queued[uid], t)
	if g.hurries[uid] == nil {
		g.hurries[uid] = time.AfterFunc(slowTurn, func() { g.hurry(uid) })
	}
}

func (g *gate) dequeue(t *turn) {
	uid := t.peer.UID
	t.turn = nil
	if g.queued[uid] = slices.DeleteFunc(g.queued[uid], func(w *turn) bool { return w == t }); len(g.queued[uid]) == 0 {
		delete(g.queued, uid)
	}
}

// mayBegin tells whether a user has fewer turns than its share.
func (g *gate) mayBegin(uid uint32) bool {
	return g.begun[uid] < max(Most/max(len(g.byUser), 1), 1)
}

// begin has g.mu locked.
func (g *gate) begin(t *turn) {
	t.since = time.Now()
	t.turn = t
	g.begun[t.peer.UID]++
	if t.given != nil {
		close(t.given)
	}
}

// endTurn gives the place of t to who came last: those who came before may be
// many and slow, and get theirs when there are no newer ones.
func (g *gate) endTurn(t *turn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.turn != t || t.since.IsZero() {
		return
	}
	t.turn = nil
	uid := t.peer.UID
	if g.begun[uid]--; g.begun[uid] == 0 {
		delete(g.begun, uid)
	}
	g.beginQueued(uid)
}

// beginQueued gives a user the turns of its share, g.mu is locked.
func (g *gate) beginQueued(uid uint32) {
	for q := g.queued[uid]; len(q) > 0 && g.mayBegin(uid); q = g.queued[uid] {
		newest := q[len(q)-1]
		g.dequeue(newest)
		g.begin(newest)
	}
}

// end has no more turns begin, and waits for those who rest; their connections
// are closed.
func (g *gate) end() {
	g.mu.Lock()
	if !g.over {
		g.over = true
		close(g.ended)
		for _, timer := range g.hurries {
			timer.Stop()
		}
	}
	g.mu.Unlock()
	g.closeIf(func(c *Conn) bool { return c.resting.Load() })
	g.resting.Wait()
}

// turnListener gives net/http its turns.
type turnListener struct {
	gate *gate
	addr net.Addr
}

func (l turnListener) Accept() (net.Conn, error) {
	select {
	case t := <-l.gate.turns:
		return t, nil
	case <-l.gate.ended:
		return nil, net.ErrClosed
	}
}
func (l turnListener) Close() error   { return nil }
func (l turnListener) Addr() net.Addr { return l.addr }

// crowd is the part of a gate that is about turns.
type crowd struct {
	turns   chan *turn // to net/http
	ended   chan struct{}
	resting sync.WaitGroup

	// Guarded by gate.mu.
	over    bool
	begun   map[uint32]int // turns by user
	queued  map[uint32][]*turn
	hurries map[uint32]*time.Timer // of users whose queue is looked after
	// lingering are the turns that nobody has used since an answer.
	lingering map[uint32]map[*turn]struct{}
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

func newCrowd() crowd {
	return crowd{
		turns: make(chan *turn), ended: make(chan struct{}),
		begun: make(map[uint32]int), queued: make(map[uint32][]*turn),
		hurries: make(map[uint32]*time.Timer), lingering: make(map[uint32]map[*turn]struct{}),
	}
}
