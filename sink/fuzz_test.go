package sink

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"iam-token-refresher/refresher"
	"iam-token-refresher/sink/peer"
)

// FuzzSocketRequests: whatever bytes come, all answers are HTTP, no handler
// panics, and a peer that may not read a token sees nothing of it.
func FuzzSocketRequests(f *testing.F) {
	for _, s := range []string{
		plainGet, plainGet + plainGet, "GET /v1/tokens HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /v1/tokens/hidden HTTP/1.0\r\n\r\n",
		"GET /v1/tokens/hidden HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"abc-1\"\r\nAccept: application/json\r\n\r\n",
		"GET /v1/tokens/hidden HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\nPrefer: wait=300\r\n\r\n",
		"POST /v1/tokens/hidden/report HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n{\"etag\":\"abc-1\"}",
		"POST /v1/tokens/open/report HTTP/1.1\r\nHost: x\r\nIf-Match: \"abc-1\"\r\n\r\n", "POST /v1/reload HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /v1/tokens/hidden/refresh HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"GET " + servicePath + "default/token HTTP/1.1\r\nHost: x\r\nMetadata-Flavor: Google\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/tokens/%68idden HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v1/tokens//hidden HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://x/v1/tokens/../tokens/hidden HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x00", "GET", "\r\n\r\n", "CONNECT x:1 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	d := newDaemon()
	d.reload = func() (string, error) { return "", errors.New("not here") }
	var said logs
	s := newServer(f, d, ServerOptions{
		Log:    slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError})),
		peerOf: func(net.Conn) (peer.Peer, error) { return peer.Peer{UID: 1234, GID: 1234}, nil },
	})
	open, hidden := endpoint(f, s, "open", nil), endpoint(f, s, "hidden", &Allow{Users: []string{"9"}})
	s.Update(open, hidden)
	for _, e := range []*Endpoint{open, hidden} {
		v := version(e.token, 1)
		if e == hidden {
			v.ExpiresAt, v.PublishedAt = start.AddDate(1, 0, 0), start.AddDate(0, -1, 0)
		}
		d.publish(f, v, e)
	}
	must(f, s.Listen())
	f.Fuzz(func(t *testing.T, request []byte) {
		if bytes.Contains(bytes.ToLower(request), []byte("wait")) && bytes.Contains(request, []byte("open")) {
			return // it may wait for long
		}
		nc, err := net.Dial("unix", s.Path())
		must(t, err)
		defer nc.Close()
		go func() {
			_, _ = nc.Write(request)
			_ = nc.(*net.UnixConn).CloseWrite()
		}()
		_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		answers, err := io.ReadAll(nc)
		if err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("no end of the answers: %v", err)
		}
		for _, secret := range []string{"t1.hidden", "2027-", "2026-08", `"hidden"`} {
			if bytes.Contains(answers, []byte(secret)) && !bytes.Contains(request, []byte(secret)) {
				t.Errorf("%q was told: %q", secret, answers)
			}
		}
		r := bufio.NewReader(bytes.NewReader(answers))
		for r.Buffered() > 0 || len(answers) > 0 {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				break // of HEAD the body is not there, which shifts what follows
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				break
			}
			if resp.StatusCode >= 500 && resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusNotImplemented && resp.StatusCode != http.StatusHTTPVersionNotSupported {
				t.Errorf("answer %d", resp.StatusCode)
			}
		}
		if log := said.String(); log != "" {
			t.Errorf("the log says %s", log)
		}
	})
}

// FuzzEnvFilesRoundTrip: what is written without a dialect, every reader reads
// as it was meant; what is written for docker, docker does.
func FuzzEnvFilesRoundTrip(f *testing.F) {
	for value := range awkward {
		f.Add(value, value)
	}
	f.Add("A=B", "'")
	f.Add("\ufeff", "x")
	f.Fuzz(func(t *testing.T, first, second string) {
		v := version("bot", 1)
		v.Value = refresher.NewValue(first)
		if strings.Contains(second, "{") {
			return // a template
		}
		for _, dialect := range []string{"", "docker"} {
			want := map[string]string{"A": first, "B": "x1", "C_1": second}
			text, err := renderEnv(v, "", map[string]string{"A": "{{.Value}}", "B": "x{{.Version}}", "C_1": second}, dialect)
			if err != nil {
				continue
			}
			readers := map[string]func(string) (map[string]string, error){"docker": dockerEnv}
			if dialect == "" {
				readers["systemd"] = systemdEnv
			}
			for reader, read := range readers {
				got, err := read(string(text))
				if err != nil || len(got) != len(want) || got["A"] != want["A"] || got["B"] != want["B"] || got["C_1"] != want["C_1"] {
					t.Errorf("dialect %q: %s reads %q as %q, %v", dialect, reader, text, got, err)
				}
			}
		}
	})
}

// dockerEnv reads as docker's --env-file: UTF-8 lines without a byte order
// mark, blanks before the name cut, # begins a comment there, the value as it
// stands after the first =. https://docs.docker.com/reference/cli/docker/container/run/#env
func dockerEnv(text string) (map[string]string, error) {
	env := map[string]string{}
	text = strings.TrimPrefix(text, "\ufeff")
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if !utf8.ValidString(line) {
			return nil, errors.New("not UTF-8")
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name == "" || strings.ContainsAny(name, " \t") {
			return nil, errors.New("a name with blanks")
		}
		if ok {
			env[name] = value
		}
	}
	return env, nil
}

// systemdEnv reads as EnvironmentFile= of systemd.exec(5) says: empty lines and
// those that begin with # or ; are left out; a backslash at the end joins
// lines; outside of quotes a backslash takes the next character as it is, and
// blanks around the value are cut; quotes may begin only a value, within '
// nothing is special, within " a backslash before one of "\`$ is.
func systemdEnv(text string) (map[string]string, error) {
	env := map[string]string{}
	const blank = " \t\r"
	for len(text) > 0 {
		text = strings.TrimLeft(text, blank+"\n")
		if text == "" {
			break
		}
		if text[0] == '#' || text[0] == ';' {
			for len(text) > 0 && text[0] != '\n' {
				if text[0] == '\\' && len(text) > 1 {
					text = text[1:]
				}
				text = text[1:]
			}
			continue
		}
		i := strings.IndexAny(text, "=\n")
		if i < 0 || text[i] == '\n' {
			return nil, errors.New("a line without =")
		}
		name := strings.TrimRight(text[:i], blank)
		text = strings.TrimLeft(text[i+1:], blank)
		var value strings.Builder
		keep := 0 // up to here blanks at the end are meant
		for len(text) > 0 && text[0] != '\n' {
			c := text[0]
			text = text[1:]
			switch {
			case (c == '\'' || c == '"') && value.Len() == 0:
				for len(text) > 0 && text[0] != c {
					if c == '"' && text[0] == '\\' && len(text) > 1 {
						if strings.IndexByte("\"\\`$", text[1]) < 0 && text[1] != '\n' {
							value.WriteByte('\\')
						}
						text = text[1:]
						if text[0] == '\n' {
							text = text[1:]
							continue
						}
					}
					value.WriteByte(text[0])
					text = text[1:]
				}
				if text == "" {
					return nil, errors.New("an open quote")
				}
				text = text[1:]
				keep = value.Len()
			case c == '\\' && len(text) > 0:
				if text[0] != '\n' {
					value.WriteByte(text[0])
					keep = value.Len()
				}
				text = text[1:]
			default:
				value.WriteByte(c)
			}
		}
		s := value.String()
		env[name] = s[:keep] + strings.TrimRight(s[keep:], blank)
	}
	return env, nil
}

func TestReadersOfEnvFilesReadAsTheirManualsSay(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"A=b\n": "b", "A= b c \n": "b c", "A='b c '\n": "b c ", "A=\"b\\\"c\"\n": `b"c`, "A=b\\ \n": "b ", "# x\nA=b": "b", "; x\n\nA=b#c\n": "b#c", "A=b\\\nc\n": "bc", "A=\n": "",
	} {
		if env, err := systemdEnv(text); err != nil || env["A"] != want {
			t.Errorf("systemd reads %q as %q, %v; want %q", text, env["A"], err, want)
		}
	}
	for text, want := range map[string]string{"A=b\n": "b", "  A= b 'c' \r\n": " b 'c' ", "#A=x\nA=\"b\"": `"b"`, "A=#b\n": "#b"} {
		if env, err := dockerEnv(text); err != nil || env["A"] != want {
			t.Errorf("docker reads %q as %q, %v; want %q", text, env["A"], err, want)
		}
	}
}
