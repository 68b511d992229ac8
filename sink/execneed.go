package sink

import (
	"time"

	"iam-token-refresher/refresher"
)

// holding is a version that the program was given.
type holding struct {
	version  refresher.Version
	deadline time.Time // zero: none
}

// ready returns what the program would be given now; ok is false while
// something is missing. It goes on with what it held where a token has nothing
// valid at the moment: rather one value short than not at all.
func (e *Exec) ready(now time.Time, held map[string]holding) (all map[string]holding, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all = make(map[string]holding, len(e.opt.Tokens))
	for _, token := range e.opt.Tokens {
		st := e.heard[token.Name].status
		if offered(st, now) {
			all[token.Name] = holding{*st.Version, e.live.Deadline(*st.Version)}
		} else if all[token.Name], ok = held[token.Name]; !ok {
			return nil, false
		}
	}
	return all, true
}

// offered tells whether there is a value to give, and the token's other sinks
// have been tried with it: a program may read a file, too.
func offered(st refresher.Status, now time.Time) bool {
	if st.Version == nil || !st.Servable(now) {
		return false
	}
	for _, s := range st.Sinks {
		if !s.Current && s.Failure == "" {
			return false
		}
	}
	return true
}

// need says why the program should be given what there is now, since when, and
// otherwise when that may be so without further news (zero: never).
func (e *Exec) need(held map[string]holding, now time.Time) (why string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.opt.Tokens {
		token, heard := t.Name, e.heard[t.Name]
		st, h := heard.status, held[t.Name]
		if !offered(st, now) || st.Version.ETag() == h.version.ETag() {
			continue
		}
		tag := h.version.ETag()
		switch {
		case e.opt.EveryVersion:
			return "there is a new version of " + token, now
		case heard.bad == tag:
			return "its value of " + token + " was revoked", now
		case heard.denied == tag && st.Health != refresher.NoAccess:
			return "its value of " + token + " has no access, the new one has", now
		case h.deadline.IsZero():
			// Nobody knows when it ends: its successor is the news that there is.
			return "there is a new version of " + token, now
		case !now.Before(h.deadline):
			return "its value of " + token + " expires soon", h.deadline
		case at.IsZero() || h.deadline.Before(at):
			at = h.deadline
		}
	}
	return "", at
}
