package iam

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"iam-token-refresher/refresher/emulator"
)

const proxiedHost = "iam.proxied.invalid"

// TestProxyOfTheEnvironmentIsUsed runs itself again: the environment's proxies
// are read once in a process, and never used for loopback addresses.
func TestProxyOfTheEnvironmentIsUsed(t *testing.T) {
	if os.Getenv("IAM_TEST_BEHIND_PROXY") != "" {
		mintBehindProxy(t)
		return
	}
	t.Parallel()
	dir := t.TempDir()
	e, err := emulator.Start(context.Background(), emulator.Options{Dir: dir, Names: []string{proxiedHost}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	key, err := e.NewKey(emulator.BotAccount, emulator.KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	exchange := strings.TrimSuffix(strings.TrimPrefix(e.Endpoints().TokenExchange, "https://"), "/oauth/token")
	proxy := startProxy(t, map[string]string{proxiedHost + ":443": e.Endpoints().IAM, proxiedHost + ":444": exchange})

	deleted, err := e.NewKey(emulator.BotAccount, emulator.KeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e.DeleteKey(deleted.ID)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "IAM_TEST_BEHIND_PROXY="+dir, "HTTPS_PROXY=http://"+proxy.address, "NO_PROXY=",
		"IAM_TEST_KEY="+writeFile(t, string(key.File)), "IAM_TEST_DELETED_KEY="+writeFile(t, string(deleted.File)))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, address := range []string{proxiedHost + ":443", proxiedHost + ":444"} {
		if !slices.Contains(proxy.asked(), address) {
			t.Errorf("the proxy was not asked for %s", address)
		}
	}
}

func mintBehindProxy(t *testing.T) {
	dir := os.Getenv("IAM_TEST_BEHIND_PROXY")
	ca, err := os.ReadFile(dir + "/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	c := newCloud(t, Config{
		Endpoints: Endpoints{IAM: proxiedHost + ":443", TokenExchange: "https://" + proxiedHost + ":444/oauth/token"},
		TLS:       &tls.Config{RootCAs: roots},
	})
	for _, o := range []options{
		KeyOptions{File: os.Getenv("IAM_TEST_KEY")},
		WorkloadIdentityOptions{ServiceAccountID: emulator.BotAccount, TokenFile: dir + "/oidc.jwt"},
	} {
		if _, err := source(t, c, o).Mint(t.Context()); err != nil {
			t.Errorf("%T: %v", o, err)
		}
	}
	if c.askTime(t.Context()).IsZero() {
		t.Error("the time cannot be asked for through the proxy")
	}
	wantText(t, failure(t, source(t, c, KeyOptions{File: os.Getenv("IAM_TEST_DELETED_KEY")})), proxiedHost, "UNAUTHENTICATED")
}

// proxy is an HTTP proxy that knows CONNECT alone, and a few addresses.
type proxy struct {
	address string
	mu      sync.Mutex
	seen    []string
}

func (p *proxy) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

func startProxy(t *testing.T, targets map[string]string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: l.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(conn, targets) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return p
}

func (p *proxy) serve(conn net.Conn, targets map[string]string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil || req.Method != http.MethodConnect || targets[req.Host] == "" {
		_, _ = io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\n\r\n")
		return
	}
	p.mu.Lock()
	p.seen = append(p.seen, req.Host)
	p.mu.Unlock()
	out, err := net.Dial("tcp", targets[req.Host])
	if err != nil {
		return
	}
	defer out.Close()
	_, _ = fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(out, in)
		_ = out.Close()
	}()
	_, _ = io.Copy(conn, out)
	_ = conn.Close()
	<-done
}
