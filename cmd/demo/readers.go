package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"
)

// How often the readers read.
const (
	fileEvery     = 20 * time.Millisecond
	socketEvery   = 50 * time.Millisecond
	metadataEvery = 100 * time.Millisecond
)

// every does something until ctx is done.
func every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		do()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// readFile reads the token file as any program would.
func readFile(ctx context.Context, l *ledger, path string) {
	every(ctx, fileEvery, func() {
		b, err := os.ReadFile(path)
		if err != nil {
			l.none(fileReader, false, "the token file cannot be read")
			return
		}
		l.read(fileReader, string(b))
	})
}

// readSocket reads the token from the socket, and learns which version it is.
func readSocket(ctx context.Context, l *ledger, a *asker) {
	every(ctx, socketEvery, func() {
		r, err := a.token(ctx)
		if note(ctx, l, socketReader, r, err) {
			l.number(string(r.body), versionOf(r.etag))
		}
	})
}

// readMetadata reads the token as SDKs of the cloud do.
func readMetadata(ctx context.Context, l *ledger, a *asker) {
	every(ctx, metadataEvery, func() {
		r, err := a.fromMetadata(ctx)
		note(ctx, l, metadataReader, r, err)
	})
}

// note enters a reply into the ledger and tells whether there is a value in it.
func note(ctx context.Context, l *ledger, who reader, r reply, err error) bool {
	switch {
	case ctx.Err() != nil:
		return false // we are ending; whatever this is, it says nothing
	case err != nil:
		l.none(who, false, "no answer: "+err.Error())
	case r.code == http.StatusOK:
		l.read(who, string(r.body))
		return true
	default:
		l.none(who, r.code == http.StatusServiceUnavailable, fmt.Sprintf("the daemon answers %d", r.code))
	}
	return false
}
