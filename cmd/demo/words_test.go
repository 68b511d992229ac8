package main

import (
	"testing"
	"time"
	"unicode/utf8"
)

// aDay is the log of a run, and what is told of it.
var aDay = []struct{ line, told string }{
	{`{"time":"2026-01-01T00:00:00Z","level":"DEBUG","msg":"minting","code":"first"}`, "asks IAM for a token, with the service account's key"},
	{`{"time":"2026-01-01T00:00:00Z","level":"DEBUG","msg":"minted","expires_in":"20s","bytes":700}`, "IAM gives one: 700 bytes, lives 20 s"},
	{`{"time":"2026-01-01T00:00:00Z","level":"DEBUG","msg":"probing","what":"probe candidate"}`, "tries it on Tracker before anyone sees it"},
	{`{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"published","version":1,"expires_in":"20s","verdict":"accepted"}`, "published: version 1, accepted"},
	{`{"time":"2026-01-01T00:00:00Z","level":"DEBUG","msg":"sink written","sink":"file"}`, ""},
	{`{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"ready","tokens":1}`, "ready: file, env file, socket and metadata listener have it"},
	{`{"time":"2026-01-01T00:00:05Z","level":"DEBUG","msg":"probing","what":"probe published"}`, ""},
	{`{"time":"2026-01-01T00:00:07Z","level":"DEBUG","msg":"minting","code":"schedule"}`, ""},
	{`{"time":"2026-01-01T00:00:07Z","level":"INFO","msg":"published","version":2,"expires_in":"20s","verdict":"accepted"}`, "renewed: version 2, accepted; the old had 13.0 s left"},
	{`{"time":"2026-01-01T00:00:14Z","level":"WARN","msg":"refresh failed","error":"down","attempt":1,"retry_in":"2.1s","expires_in":"13s"}`, "attempt 1 to renew fails, the next is in 2.1 s; 13 s left"},
	{`{"time":"2026-01-01T00:00:16Z","level":"INFO","msg":"published","version":3,"expires_in":"20s","verdict":"accepted","failed_attempts":1}`, "attempt 2: version 3, accepted; the old had 11.0 s left"},
	{`{"time":"2026-01-01T00:00:17Z","level":"WARN","msg":"the published value was rejected once; it is probed again"}`, "Tracker gives it 401, too; it will ask again to be sure"},
	{`{"time":"2026-01-01T00:00:22Z","level":"ERROR","msg":"revoked: readers of sockets get 503 until there is a new value"}`, "401 again: socket and metadata give 503 until replaced"},
	{`{"time":"2026-01-01T00:00:22Z","level":"INFO","msg":"published","version":4,"expires_in":"20s","verdict":"accepted"}`, "replaced: version 4, accepted"},
	{`{"time":"2026-01-01T00:00:22.1Z","level":"INFO","msg":"accepted again"}`, ""},
	{`{"time":"2026-01-01T00:00:24Z","level":"INFO","msg":"accepted again"}`, "accepted again"},
	{`{"time":"2026-01-01T00:00:25Z","level":"ERROR","msg":"sink not written","error":"disk full","reason":"no room"}`, "sink not written: disk full: no room"},
	{`panic: something`, "panic: something"},
	{``, ""},
}

func TestTheLogIsToldInPlainWords(t *testing.T) {
	t.Parallel()
	var n narrator
	for _, c := range aDay {
		text, _, ok := n.tell(c.line)
		if ok != (c.told != "") || ok && text != c.told {
			t.Errorf("%s\nis told as %q (%v), want %q", c.line, text, ok, c.told)
		}
		if room := 80 - 2 - 17; utf8.RuneCountInString(text) > room {
			t.Errorf("%q does not fit into 80 columns", text)
		}
	}
	if n.leastLeft != 11*time.Second {
		t.Errorf("the least that was left at a renewal is %s, want 11s: a revoked token does not count", n.leastLeft)
	}
}
