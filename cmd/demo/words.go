package main

import (
	"encoding/json"
	"fmt"
	"time"
)

// logLine is a line of the daemon's log.
type logLine struct {
	Time           time.Time `json:"time"`
	Level          string    `json:"level"`
	Message        string    `json:"msg"`
	Version        uint64    `json:"version"`
	ExpiresIn      string    `json:"expires_in"`
	Verdict        string    `json:"verdict"`
	Reason         string    `json:"reason"`
	Code           string    `json:"code"`
	What           string    `json:"what"`
	Bytes          int       `json:"bytes"`
	Error          string    `json:"error"`
	Attempt        int       `json:"attempt"`
	RetryIn        string    `json:"retry_in"`
	FailedAttempts int       `json:"failed_attempts"`
}

// tone is how a piece of news is meant.
type tone uint8

const (
	neutral tone = iota
	good
	warning
	bad
)

// news is one thing that happened, in plain words.
type news struct {
	at   time.Duration // since the start
	who  string
	tone tone
	text string
}

// narrator puts the daemon's log into plain words. Messages that it does not
// know are shown as they are, from INFO on.
type narrator struct {
	version     uint64 // the newest published one
	publishedAt time.Time
	expires     time.Time // its end
	// leastLeft is the least that a version had left when it was replaced
	// although nobody had revoked it.
	leastLeft time.Duration
	revoked   bool // the newest version is
}

// tell translates a line of the log; ok is false when it is not worth telling.
func (n *narrator) tell(line string) (text string, t tone, ok bool) {
	var l logLine
	if json.Unmarshal([]byte(line), &l) != nil || l.Message == "" {
		return line, warning, line != "" // not a log line: the program complains
	}
	first := n.version == 0
	switch l.Message {
	case "minting":
		return "asks IAM for a token, with the service account's key", neutral, first
	case "minted":
		return fmt.Sprintf("IAM gives one: %d bytes, lives %s", l.Bytes, span(l.ExpiresIn)), neutral, first
	case "probing":
		return "tries it on Tracker before anyone sees it", neutral, first && l.What == "probe candidate"
	case "published":
		return n.published(l)
	case "ready":
		return "ready: file, env file, socket and metadata listener have it", good, true
	case "refresh failed":
		return fmt.Sprintf("attempt %d to renew fails, the next is in %s; %s left", l.Attempt, span(l.RetryIn), span(l.ExpiresIn)), warning, true
	case "the published value was rejected once; it is probed again":
		return "Tracker gives it 401, too; it will ask again to be sure", warning, true
	case "revoked: readers of sockets get 503 until there is a new value":
		n.revoked = true
		return "401 again: socket and metadata give 503 until replaced", bad, true
	case "accepted again":
		if l.Time.Sub(n.publishedAt) < time.Second {
			return "", neutral, false // that is the new version, of which we told
		}
	case "stopping":
		return "stops", neutral, true
	}
	if l.Level == "DEBUG" {
		return "", neutral, false
	}
	text, t = l.Message, neutral
	for _, more := range []string{l.Error, l.Reason} {
		if more != "" {
			text += ": " + more
		}
	}
	if l.Level != "INFO" {
		t = warning
	}
	return text, t, true
}

func (n *narrator) published(l logLine) (string, tone, bool) {
	old, left := n.version, n.expires.Sub(l.Time)
	wasRevoked := n.revoked
	lives, _ := time.ParseDuration(l.ExpiresIn)
	n.version, n.publishedAt, n.expires, n.revoked = l.Version, l.Time, l.Time.Add(lives), false
	what := fmt.Sprintf("version %d, %s", l.Version, l.Verdict)
	switch {
	case old == 0:
		return "published: " + what, good, true
	case wasRevoked:
		return "replaced: " + what, good, true
	}
	if n.leastLeft == 0 || left < n.leastLeft {
		n.leastLeft = left
	}
	how := "renewed"
	if l.FailedAttempts > 0 {
		how = fmt.Sprintf("attempt %d", l.FailedAttempts+1)
	}
	return fmt.Sprintf("%s: %s; the old had %.1f s left", how, what, left.Seconds()), good, true
}

// span puts a logged duration into people's words.
func span(logged string) string {
	d, err := time.ParseDuration(logged)
	if err != nil {
		return logged
	}
	return spoken(d)
}
