package emulator

import (
	"crypto/tls"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"
)

const captivePage = `<!DOCTYPE html>
<html><head><title>Welcome</title></head>
<body><h1>Please sign in to use this network</h1></body></html>
`

// goWrong does what was injected for this call. It tells whether the call is
// dealt with; if not, the service answers, minding c.fault.
func (e *Emulator) goWrong(w http.ResponseWriter, r *http.Request, c *call) bool {
	t := e.faults.take(c.service, c.method)
	if t.slow > 0 {
		c.ended("slow")
		timer := time.NewTimer(t.slow)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-t.cleared:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		case <-e.done:
			panic(http.ErrAbortHandler)
		}
	}
	f := t.fault
	if f == nil {
		return false
	}
	c.ended("fault: " + f.Kind)
	switch f.Kind {
	case KindHang:
		e.o.Log.Debug("call hangs", "service", c.service, "method", c.method)
		e.hang(r, t)
		return false
	case KindReset:
		resetConnection(r)
		panic(http.ErrAbortHandler)
	case KindStatus:
		setRetryAfter(w, f.RetryAfter)
		http.Error(w, "the proxy says "+strconv.Itoa(f.Status), f.Status)
		return true
	case KindHTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(captivePage))
		return true
	case KindRedirect:
		e.redirect(w, r, f)
		return true
	}
	if isGRPC(r) {
		c.fault = f
		return false
	}
	switch f.Kind {
	case KindGarbage:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token": 42, "login": ["` + randomText(30) + "\x00\xff"))
		return true
	case KindEmpty:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		return true
	}
	c.fault = f
	return false
}

// hang waits until the fault ends: then the call goes on. A client that leaves
// before gets no answer, not even an empty one, which may reach it in the middle
// of leaving.
func (e *Emulator) hang(r *http.Request, t taken) {
	var over <-chan time.Time
	if !t.until.IsZero() {
		timer := time.NewTimer(time.Until(t.until))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	case <-e.done:
		panic(http.ErrAbortHandler)
	case <-t.cleared:
	case <-over:
	}
}

// holdBack delays an answer after the work was done. A client that leaves before
// gets none.
func (e *Emulator) holdBack(r *http.Request, c *call) {
	e.o.Log.Debug("answer is held back", "service", c.service, "method", c.method)
	latency := c.fault.Latency
	setDefault(&latency, 2*time.Second)
	timer := time.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	case <-e.done:
		panic(http.ErrAbortHandler)
	}
}

func (e *Emulator) redirect(w http.ResponseWriter, r *http.Request, f *Fault) {
	status := f.Status
	setDefault(&status, http.StatusFound)
	location := f.Location
	if location == "" {
		scheme := "https://"
		if r.TLS == nil {
			scheme = "http://"
		}
		location = scheme + r.Host + "/redirected"
	}
	w.Header().Set("Location", location)
	w.WriteHeader(status)
}

// resetConnection makes the kernel send a TCP RST instead of a farewell.
func resetConnection(r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
}

// setRetryAfter sets the header in whole seconds, rounded up; none for 0.
func setRetryAfter(w http.ResponseWriter, d time.Duration) {
	if d > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(d.Seconds()))))
	}
}
