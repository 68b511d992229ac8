package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// waiters is what each reader costs that waits for the next version, and how
// long it takes until all are told of it.
func (b *bench) waiters() error {
	const n = 1000
	dir, _, stop, err := b.cloud("waiters")
	if err != nil {
		return err
	}
	defer stop()
	cmd := exec.Command(b.refresher, "run", "--config", filepath.Join(dir, "config.yaml"))
	end, err := start(cmd)
	if err != nil {
		return err
	}
	defer end()
	if err := waitFor(filepath.Join(dir, "bot.token"), 10*time.Second, often); err != nil {
		return err
	}
	socket := filepath.Join(dir, "itr.sock")
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	resp, err := client.Get("http://localhost/v1/tokens/bot")
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	request := "GET /v1/tokens/bot HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: " + resp.Header.Get("ETag") + "\r\nPrefer: wait=120\r\n\r\n"
	time.Sleep(5 * time.Second)
	before := memory(cmd.Process.Pid)
	conns := make([]net.Conn, n)
	for i := range conns {
		if conns[i], err = net.Dial("unix", socket); err != nil {
			return err
		}
		defer conns[i].Close()
		if _, err := conns[i].Write([]byte(request)); err != nil {
			return err
		}
	}
	time.Sleep(5 * time.Second)
	waiting := memory(cmd.Process.Pid)
	say(fmt.Sprintf("%d waiters: anonymous memory of each", n), fmt.Sprintf("%.1f KB", (waiting.anon-before.anon)/n/1024), "at most 20 KB")

	told := make([]time.Time, n)
	failed := make(chan error, n)
	var all sync.WaitGroup
	for i, c := range conns {
		all.Go(func() {
			line, err := bufio.NewReaderSize(c, 64).ReadString('\n')
			told[i] = time.Now()
			if err != nil || line != "HTTP/1.1 200 OK\r\n" {
				failed <- fmt.Errorf("a waiter was told %q: %v", line, err)
			}
		})
	}
	resp, err = client.Post("http://localhost/v1/tokens/bot/refresh", "", nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	first, last := told[0], told[0]
	for _, at := range told {
		if at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	say(fmt.Sprintf("%d waiters: from the first to the last that is told", n), fmt.Sprintf("%.1f ms", ms(last.Sub(first))), "at most 100 ms")
	time.Sleep(30 * time.Second)
	after := memory(cmd.Process.Pid)
	say(fmt.Sprintf("%d waiters: what is left of each half a minute later", n), fmt.Sprintf("%.1f KB", (after.anon-before.anon)/n/1024), "")
	return nil
}
