package iam

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"iam-token-refresher/refresher"
)

// BenchmarkMint is one mint with a key, the emulator's share included.
func BenchmarkMint(b *testing.B) {
	w := newWorld(b)
	for _, kind := range []string{"service_account_key", "metadata", "workload_identity", "impersonation"} {
		s := w.sources(b)[kind]
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Mint(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkKeySources is what sources of keys cost in memory, live.
func BenchmarkKeySources(b *testing.B) {
	const n = 1000
	dir := b.TempDir()
	shared := keyJSON(b)
	for _, c := range []struct {
		name string
		file func(i int) []byte
	}{
		{"one file for all", func(int) []byte { return shared }},
		{"a file each, one RSA key", func(i int) []byte {
			id := fmt.Sprintf("ajekey%014d", i)
			return keyJSON(b, "id", id, "private_key", "PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <"+id+">\n"+privatePEM(b, testRSA()))
		}},
		{"a file and an RSA key each", func(int) []byte {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				b.Fatal(err)
			}
			return keyJSON(b, "private_key", privatePEM(b, key), "public_key", publicPEM(b, &key.PublicKey))
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := n
			if c.name == "a file and an RSA key each" {
				n = 50 // making them takes long
			}
			path := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%s-%d.json", c.name, i)) }
			for i := range n {
				if err := os.WriteFile(path(i), c.file(i), 0o600); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				cloud := New(Config{})
				sources := make([]refresher.Source, n)
				before := liveBytes()
				for i := range sources {
					var err error
					if sources[i], err = (KeyOptions{File: path(i)}).New(cloud); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(liveBytes()-before)/float64(n), "live-B/source")
				runtime.KeepAlive(sources)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/source")
		})
	}
}

func liveBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
