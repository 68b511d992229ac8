package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"iam-token-refresher/refresher/status"
)

// maxAnswer is more than a list of ten thousand tokens takes.
const maxAnswer = 64 << 20

// client asks a daemon on its socket.
type client struct {
	path, from string
	http       *http.Client
}

func newClient(path, from string) *client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &client{path: path, from: from, http: &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1}}}
}

// answer is what the daemon said.
type answer struct {
	status int
	etag   string
	body   []byte
}

var (
	// errAbsent says that there is no daemon to ask.
	errAbsent = errors.New("the daemon does not answer")
	// errUnanswered says that there is one, and that it did not answer a request.
	errUnanswered = errors.New("no answer")
)

// ask sends one request; header are names and values by turns.
func (c *client) ask(ctx context.Context, method, path string, header ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon for %s: %w", path, err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return &answer{status: resp.StatusCode, etag: resp.Header.Get("ETag"), body: body}, nil
}

// unreachable says why there is no answer, and what to do.
func (c *client) unreachable(ctx context.Context, err error) error {
	where := fmt.Sprintf("%s (from %s)", c.path, c.from)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return asKind{errUnanswered, fmt.Errorf("the daemon on %s did not answer in time: see its log, or wait longer with --timeout", where)}
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no socket %s: is it running? Name another with --socket, ITR_SOCKET or --config", errAbsent, where)
	case errors.Is(err, syscall.ENOTSOCK), errors.Is(err, syscall.EPROTOTYPE), errors.Is(err, syscall.ECONNREFUSED) && c.isOther():
		return fmt.Errorf("%s is not a socket: name the daemon's with --socket, ITR_SOCKET or --config", where)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody listens on the socket %s: start it, or name another with --socket, ITR_SOCKET or --config", errAbsent, where)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("may not connect to the socket %s: %s", where, c.whoMay())
	}
	return asKind{errUnanswered, fmt.Errorf("ask the daemon on the socket %s: %w: see its log", where, bare(err))}
}

// isOther tells whether something is there that is no socket, for which Linux
// too says that the connection was refused. A link may lead to a socket.
func (c *client) isOther() bool {
	info, err := os.Stat(c.path)
	return err == nil && info.Mode().Type() != fs.ModeSocket
}

// bare is the cause within net/http's own words.
func bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

// whoMay says who may connect, as far as the file tells.
func (c *client) whoMay() string {
	info, err := os.Stat(c.path)
	if err != nil {
		return "its directory is closed to you; run this as root or as the user of the daemon"
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "run this as root"
	}
	who := "root"
	if info.Mode()&0o200 != 0 && st.Uid != 0 {
		who += ", user " + userName(st.Uid)
	}
	if info.Mode()&0o020 != 0 {
		who += ", members of group " + groupName(st.Gid)
	}
	return fmt.Sprintf("its mode %04o lets in only %s: run this as such a user, or change the socket's mode or group", info.Mode().Perm(), who)
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

// words are the body of an answer that is not a value.
type words struct {
	Error  string `json:"error"`
	Reason string `json:"reason"`
	Result string `json:"result"`
}

func (r *answer) words() words {
	var w words
	if json.Unmarshal(r.body, &w) != nil || w.Reason == "" {
		w.Reason = fmt.Sprintf("it answered %d with %d bytes that are not its own; is that the daemon's socket?", r.status, len(r.body))
	}
	return w
}

// refusal puts an answer that is no success into an error about what was done
// to which token; the name is empty for what is about all.
func (c *client) refusal(r *answer, doing, name string) error {
	w := r.words()
	what := doing
	if name != "" {
		what = fmt.Sprintf("%s token %q", doing, name)
	}
	switch r.status {
	case http.StatusNotFound:
		if name == "" {
			return fmt.Errorf("%s: the daemon on %s does not know this request: it is an older version, or not our daemon", what, c.path)
		}
		return fmt.Errorf("%s: there is none of that name on %s, or uid %d may not read it: \"status\" lists those that you may", what, c.path, os.Geteuid())
	case http.StatusForbidden:
		return fmt.Errorf("%s: %s: run this as one of them, for example with sudo", what, w.Reason)
	}
	return fmt.Errorf("%s: %s", what, strings.TrimSpace(w.Reason))
}

// list asks for all tokens that we may read.
func (c *client) list(ctx context.Context) (status.Document, error) {
	var doc status.Document
	r, err := c.ask(ctx, http.MethodGet, "/v1/tokens")
	if err != nil {
		return doc, err
	}
	if r.status != http.StatusOK {
		return doc, c.refusal(r, "list tokens", "")
	}
	if err := json.NewDecoder(bytes.NewReader(r.body)).Decode(&doc); err != nil {
		return doc, fmt.Errorf("list tokens: the answer on %s is not a list of tokens: is that the daemon's socket?", c.path)
	}
	return doc, nil
}
