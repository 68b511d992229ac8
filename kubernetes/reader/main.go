// Command reader is what the tests run in an app's container: it reads a token
// many times a second, in the two ways that an app has, and says how that went.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// Report is what came of one way of reading.
type Report struct {
	Reads, Failures, Expired, Values int
	// Error is the newest failure.
	Error string
	// Gap is the longest time from one success to the next.
	Gap, Median, P99, Max time.Duration
}

func main() {
	file := flag.String("file", "", "file to read")
	lifetime := flag.Duration("lifetime", 12*time.Hour, "how long after it was written the file's token lives")
	metadata := flag.String("metadata", "", "host:port of the metadata API")
	rate := flag.Int("rate", 100, "reads a second")
	last := flag.Duration("for", time.Minute, "how long; SIGTERM ends it sooner")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *last)
	defer cancel()

	ways := map[string]func() (string, bool, error){}
	if *file != "" {
		ways["file"] = func() (string, bool, error) { return readFile(*file, *lifetime) }
	}
	if *metadata != "" {
		ways["metadata"] = func() (string, bool, error) { return ask(*metadata) }
	}
	type done struct {
		way    string
		report Report
	}
	reports := make(chan done)
	for way, read := range ways {
		go func() { reports <- done{way, watch(ctx, *rate, read)} }()
	}
	all := map[string]Report{}
	for range ways {
		d := <-reports
		all[d.way] = d.report
	}
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// watch reads at a rate until ctx is done.
func watch(ctx context.Context, rate int, read func() (value string, expired bool, err error)) (r Report) {
	values := map[string]bool{}
	var took []time.Duration
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	good := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.Values = len(values)
			slices.Sort(took)
			if n := len(took); n > 0 {
				r.Median, r.P99, r.Max = took[n/2], took[n*99/100], took[n-1]
			}
			return r
		}
		begin := time.Now()
		value, expired, err := read()
		took = append(took, time.Since(begin))
		r.Reads++
		switch {
		case err != nil:
			r.Failures++
			r.Error = time.Now().UTC().Format(time.RFC3339Nano) + " " + err.Error()
			continue
		case expired:
			r.Expired++
		}
		values[value] = true
		r.Gap = max(r.Gap, time.Since(good))
		good = time.Now()
	}
}

func readFile(path string, lifetime time.Duration) (string, bool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", false, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", false, err
	}
	if len(b) == 0 {
		return "", false, errors.New("the file is empty")
	}
	return string(b), time.Since(info.ModTime()) > lifetime, nil
}

var client = &http.Client{Timeout: 5 * time.Second}

func ask(address string) (string, bool, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+address+"/computeMetadata/v1/instance/service-accounts/default/token", nil)
	if err != nil {
		return "", false, err
	}
	req.Header.Set("Metadata-Flavor", "Google")
	resp, err := client.Do(req)
	if err != nil {
		return "", false, err
	}
	defer func() { _ = resp.Body.Close() }()
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if resp.StatusCode != http.StatusOK {
		return "", false, errors.New(resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil {
		return "", false, err
	}
	return token.AccessToken, token.ExpiresIn <= 0, nil
}
