package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"iam-token-refresher/refresher/emulator"
)

// echo is an API behind a gateway whose answer is longer than its Content-Length
// says, and shows the request: what is too much is logged by net/http.
func echo(t *testing.T) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	serve := func(c net.Conn) error {
		defer c.Close()
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return err
			}
			request, err := httputil.DumpRequest(r, true)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}<pre>%s</pre>", request); err != nil {
				return err
			}
		}
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = serve(c) }() // it ends with the connection
		}
	}()
	return "http://" + listener.Addr().String() + "/"
}

func TestWhatTheLibraryLogsIsInTheLogWithoutAnAnswersBody(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{probe: `http: {url: "` + echo(t) + `", headers: {Authorization: "Bearer {{.Value}}"}}`})
		s.logged("Unsolicited response received")
		for line := range strings.Lines(s.daemon.log.text()) {
			if strings.Contains(line, "Unsolicited") && (!strings.HasPrefix(line, `{"time":`) || strings.Contains(line, "Authorization")) {
				t.Errorf("the log says %s", line)
			}
		}
		s.ready()
		s.ends()
	})
}
