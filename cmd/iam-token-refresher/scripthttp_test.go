package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

func adminCommand(ts *testscript.TestScript, s *stage, args []string) error {
	req, err := http.NewRequest(args[0], s.cloud.Endpoints().Admin+args[1], strings.NewReader(strings.Join(args[2:], " ")))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return errors.Join(err, os.WriteFile(ts.MkAbs("admin.json"), body, 0o600))
}

func fetchCommand(ts *testscript.TestScript, _ *stage, args []string) error {
	return request(ts, http.MethodGet, args)
}

func postCommand(ts *testscript.TestScript, _ *stage, args []string) error {
	return request(ts, http.MethodPost, args)
}

func request(ts *testscript.TestScript, method string, args []string) error {
	url, transport := args[1], &http.Transport{}
	if rest, ok := strings.CutPrefix(url, "unix:"); ok {
		socket, path, _ := strings.Cut(rest, ":")
		url = "http://localhost" + path
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return err
	}
	for _, header := range args[2:] {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Set(name, value)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	fmt.Fprintf(ts.Stdout(), "%d %s\n", resp.StatusCode, resp.Header.Get("Content-Type"))
	return os.WriteFile(ts.MkAbs(args[0]), body, 0o600)
}
