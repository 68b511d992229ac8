package simulation

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"iam-token-refresher/refresher"
)

// world is everything around the daemon, and what is known of both. Its fields
// are guarded by mu, which is never held while the daemon is called.
type world struct {
	*machine
	seed uint64

	mu       sync.Mutex
	agenda   agenda
	accounts []*account
	tokens   []*token
	files    map[string]*file
	store    store
	active   []*fault
	values   map[string]*value
	etags    map[string]string // values by token and ETag, ever

	inst      *instance
	cfg       config
	key       int // the newest key ever made
	starts    int
	swapping  bool
	killIn    int // events until the process is killed; 0: not
	killed    chan struct{}
	countedAt time.Duration

	date         *dated
	clockChanged time.Duration // bubble time of the last change of a clock
	clockNoticed time.Duration // when a Date told of it
	storeBad     time.Duration // when the state could last not be written
	lookedAt     time.Duration

	trace      []note
	traceSum   uint64
	violations []string
	sum        summary
}

// summary is what a run, or many, came to.
type summary struct {
	events, faults, mints, probes, renewals, starts, swaps, reads int
	without                                                       map[string]time.Duration
}

func (s *summary) add(o summary) {
	s.events += o.events
	s.faults += o.faults
	s.mints += o.mints
	s.probes += o.probes
	s.renewals += o.renewals
	s.starts += o.starts
	s.swaps += o.swaps
	s.reads += o.reads
	if s.without == nil {
		s.without = map[string]time.Duration{}
	}
	for why, d := range o.without {
		s.without[why] += d
	}
}

// dated is the last answer with a Date that the daemon took in.
type dated struct {
	wall, elapsed time.Duration // behind true time when the server answered
	late, early   time.Duration // how wrong the daemon may be for tolerance and cut seconds
	at            time.Duration // bubble time of its end
}

// value is one that an account gave.
type value struct {
	name        string
	acct        *account
	at, expires time.Time // true time
	revoked     bool
	dead        bool // never worked
	mintedAt    time.Duration
}

// known is what the daemon was told of a value.
type known struct {
	last       refresher.Verdict
	at         time.Duration
	rejections int  // 401s, with nothing that takes them back
	witnessed  bool // one more was a reader's, which counts when it was not one of too many
}

// refused tells whether the daemon may take the value for revoked.
func (k *known) refused() bool { return k.rejections > 1 || k.witnessed && k.rejections > 0 }

// account is somebody at IAM.
type account struct {
	w        *world
	name     string
	lifetime time.Duration
	reissue  float64 // until this part of its life the same value is given again
	keys     map[int]bool
	noAccess bool
	current  *value
	count    int
}

// token is what the checks remember of a configured token.
type token struct {
	name string
	// Fresh and renewed no later than these bubble times, unless more happens.
	freshBy, renewBy time.Duration
	cause            string

	mints, probes []time.Duration // calls that count
	forgiven      []time.Duration // requests and reports
	mintFrom      time.Duration   // Retry-After
	throttledAt   time.Duration
	paces         []paced
	known         map[*value]*known
	unproven      *value // the first of the candidates that could not be proven, one after the other
	epoch         int    // of its source and probe

	prev   *refresher.Version // newest version seen
	prevAt time.Duration
	base   *refresher.Version // what the first version follows, of the state
	down   string             // why readers get nothing; empty when they do
}

type paced struct {
	at   time.Duration
	life time.Duration
}

// fault is something wrong for a while.
type fault struct {
	kind, target string
	d            time.Duration
	p            float64
}

func (f *fault) String() string {
	s := f.kind + " " + f.target
	if f.d != 0 {
		s += " " + f.d.String()
	}
	if f.p != 0 {
		s += fmt.Sprintf(" %.2f", f.p)
	}
	return s
}

// on returns the active fault of a kind, or nil.
func (w *world) on(kind, target string) *fault {
	for _, f := range w.active {
		if f.kind == kind && f.target == target {
			return f
		}
	}
	return nil
}

// note is a line of the timeline.
type note struct {
	at   time.Duration
	true time.Time
	text func() string
}

const notes = 120

// chance is a number in [0,1) that depends on the seed and on what it is for,
// not on the order of calls.
func (w *world) chance(what string, n ...int) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(what))
	x := h.Sum64() ^ mix(w.seed)
	for _, i := range n {
		x = mix(x ^ mix(uint64(i)))
	}
	return float64(mix(x)>>11) / (1 << 53)
}

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// between is a duration of logarithmic chance.
func between(roll float64, low, high time.Duration) time.Duration {
	return time.Duration(float64(low) * math.Pow(float64(high)/float64(low), roll))
}

// random is Options.Random: of the moment, not of the order of the calls.
func (w *world) random() float64 { return w.chance("random", int(w.bubble())) }

// happened notes an event; w is locked. The process may not survive the moment.
// Which of the events of a moment comes first is not the seed's to say.
func (w *world) happened(text func() string, what string, n int) {
	w.note(text, what, n)
	w.sum.events++
	if now := w.bubble(); w.killIn > 0 && now != w.countedAt {
		w.countedAt = now
		if w.killIn--; w.killIn == 0 && w.inst != nil {
			close(w.killed)
		}
	}
}

func (w *world) note(text func() string, what string, n int) {
	now := w.bubble()
	// The sum does not depend on the order within a moment.
	w.traceSum += uint64(w.chance(what, n, int(now)) * (1 << 53))
	if len(w.trace) >= 2*notes {
		w.trace = append(w.trace[:0], w.trace[notes:]...)
	}
	w.trace = append(w.trace, note{now, w.True(), text})
}

func (w *world) notef(format string, args ...any) {
	w.note(func() string { return fmt.Sprintf(format, args...) }, format, 0)
}

// violated notes a broken promise; w is locked.
func (w *world) violated(promise, format string, args ...any) {
	text := "promise " + promise + ": " + fmt.Sprintf(format, args...)
	w.notef("VIOLATION %s", text)
	if len(w.violations) < 5 {
		w.violations = append(w.violations, text+"\n"+w.timeline(*lines))
	}
}

func (w *world) timeline(most int) string {
	var b strings.Builder
	from := max(0, len(w.trace)-most)
	for _, n := range w.trace[from:] {
		fmt.Fprintf(&b, "    %s %-16s %s\n", n.true.Format("01-02 15:04:05.000"), n.at.Round(time.Millisecond), n.text())
	}
	return b.String()
}

// allowed is how much behind true time the daemon's time may be, and how much
// ahead: see the package's documentation.
func (w *world) allowed() (late, early time.Duration) {
	wall, elapsed := w.behind()
	if w.date == nil {
		return max(0, wall), max(0, -wall)
	}
	lostW, lostE := wall-w.date.wall, elapsed-w.date.elapsed
	late, early = w.date.late+max(0, min(lostW, lostE)), w.date.early+max(0, -min(lostW, lostE))
	if w.clockChanged > w.date.at && w.date.wall > 0 {
		late = max(late, min(wall, w.date.late+lostE))
	}
	return late, early
}

// exchange is a request to a server: it began at a reading of the clocks.
type exchange struct {
	w       *world
	inst    *instance
	began   time.Duration
	wall    time.Time
	behind0 time.Duration
	date    time.Time
	dw, de  time.Duration
}

func (w *world) exchange(inst *instance) *exchange {
	b, _ := w.behind()
	return &exchange{w: w, inst: inst, began: w.bubble(), wall: w.Now(), behind0: b}
}

// answered is when the server answers; it returns its Date.
func (x *exchange) answered() time.Time {
	x.date = x.w.True().Truncate(time.Second)
	x.dw, x.de = x.w.behind()
	return x.date
}

// ended takes in what the daemon learns from the Date; w is locked.
func (x *exchange) ended() {
	if x.date.IsZero() || x.inst != x.w.inst {
		return
	}
	w := x.w
	after := w.Now()
	if x.date.Sub(after) > x.date.Add(time.Second).Sub(x.wall) {
		return // the clock was set back meanwhile
	}
	b, _ := w.behind()
	took := w.bubble() - x.began
	d := &dated{wall: x.dw, elapsed: x.de, at: w.bubble()}
	tolerance := 31*time.Second + took
	d.late, d.early = min(max(0, x.dw), tolerance), min(max(0, -x.dw), tolerance)
	if w.clockChanged >= x.began {
		d.late = max(d.late, x.behind0, b)
		d.early = max(d.early, -x.behind0, -b)
	}
	if w.date == nil || (w.date.wall-d.wall).Abs() > 5*time.Second || (w.date.elapsed-d.elapsed).Abs() > 5*time.Second {
		w.clockNoticed = w.bubble()
	}
	w.date = d
}

// touch says that tokens are in trouble now; w is locked.
func (w *world) touch(t *token, fresh, renew time.Duration, why string) {
	now := w.bubble()
	if by := now + fresh; by > t.freshBy {
		t.freshBy, t.cause = by, why
	}
	t.renewBy = max(t.renewBy, now+renew)
}

func (w *world) touchAll(fresh, renew time.Duration, why string) {
	for _, t := range w.tokens {
		w.touch(t, fresh, renew, why)
	}
	for _, f := range w.files {
		f.freshBy = max(f.freshBy, w.bubble()+fresh)
	}
}

func (w *world) token(name string) *token {
	i := slices.IndexFunc(w.tokens, func(t *token) bool { return t.name == name })
	return w.tokens[i]
}

func (t *token) verdicts(v *value) *known {
	k, ok := t.known[v]
	if !ok {
		k = &known{}
		t.known[v] = k
	}
	return k
}
