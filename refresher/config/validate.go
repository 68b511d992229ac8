package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// maxName is what a file name and a metric's label bear with ease.
const maxName = 63

// validName tells whether a name can be part of URLs, file names and metrics.
func validName(name string) bool {
	ok := name != "" && len(name) <= maxName && isAlnum(rune(name[0]))
	for _, r := range name {
		ok = ok && (isAlnum(r) || strings.ContainsRune("._-", r))
	}
	return ok
}

func (d *decoder) checkName(name string, list []entry) {
	if validName(name) {
		return
	}
	e, _ := find(list, "name")
	d.failAt(e.value, "name", fmt.Sprintf("%smust be 1 to %d letters, digits, dots, dashes or underscores, with a letter or digit first",
		d.quoted(e.value, name), maxName))
}

// checkToken checks what concerns one token alone, and was decoded well.
func (d *decoder) checkToken(n ast.Node, t *Token) {
	d.checkRefresh(n, &t.Refresh)
	if t.Probe != nil && !t.Probe.None {
		at := func(key string) place { return d.locate(n, "probe."+key, d.token.at) }
		if t.Probe.Timeout <= 0 || t.Probe.Timeout > maxTimeout {
			d.fail(at("timeout"), "probe.timeout", "must be more than 0 and at most "+short(maxTimeout))
		}
	}
	if t.Source.Impersonate == "" && d.written(n, "source", "impersonate") {
		d.fail(d.locate(n, "source.impersonate", d.token.at), "source.impersonate",
			"must not be empty: name a service account by its id, or leave it out")
	}
	if s := t.Source.Impersonate; strings.ContainsFunc(s, func(r rune) bool { return !isAlnum(r) && r != '-' && r != '_' }) {
		d.fail(d.locate(n, "source.impersonate", d.token.at), "source.impersonate",
			`must be the id of a service account, for example "ajepg0mjt06siuj00000"`)
	}
}

func (d *decoder) checkRefresh(n ast.Node, r *Refresh) {
	at := func(key string) place { return d.locate(n, "refresh."+key, d.token.at) }
	if !r.Cron.IsZero() {
		if d.written(n, "refresh", "schedule") {
			d.fail(at("cron"), "refresh", "schedule and cron say the same thing: give one of them")
		}
		r.Schedule, r.Cron = r.Cron, Schedule{}
	}
	if interval := r.Schedule.Interval(); r.Jitter >= interval && r.Jitter > 0 {
		d.fail(at("jitter"), "refresh.jitter", fmt.Sprintf("must be less than the time between two refreshes, here %s", short(interval)))
	}
	if r.BeforeExpiry == 0 && d.written(n, "refresh", "before_expiry") {
		d.fail(at("before_expiry"), "refresh.before_expiry", "must be more than 0; without it a value is replaced when a third of its lifetime is left")
	}
}

// written tells whether a key is given below the keys that lead to it.
func (d *decoder) written(n ast.Node, keys ...string) bool {
	for _, key := range keys {
		target, done := d.resolve(n)
		done()
		if !isMap(target) {
			return false
		}
		list, _ := d.entries(target, "", "")
		e, ok := find(list, key)
		if !ok {
			return false
		}
		n = e.value
	}
	return true
}

func isMap(n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

// short prints a duration without zero parts: 5m, not 5m0s.
func short(d fmt.Stringer) string {
	s := d.String()
	s = strings.TrimSuffix(s, "m0s") + strings.Repeat("m", strings.Count(s, "m0s"))
	return strings.TrimSuffix(s, "h0m") + strings.Repeat("h", strings.Count(s, "h0m"))
}

// checkConfig checks the options beside the tokens.
func (d *decoder) checkConfig(c *Config) {
	problem := func(key, problem string) {
		if problem != "" {
			d.fail(d.locate(d.doc.body, key, place{}), key, problem)
		}
	}
	if c.Limits.Mints < 1 || c.Limits.Mints > 10_000 {
		problem("limits.mints", "must be 1 to 10000")
	}
	if p := c.Limits.ProbesPerSecond; p < 0 || math.IsNaN(p) || math.IsInf(p, 0) {
		problem("limits.probes_per_second", "must be 0 (no limit) or more")
	}
	if c.Status.Listen != "" {
		problem("status.listen", listenProblem(c.Status.Listen))
	}
	v := reflect.ValueOf(&c.Endpoints).Elem()
	for _, f := range d.fieldsOf(v.Type()) {
		value := v.FieldByIndex(f.index)
		if value.String() == "" {
			continue
		}
		address, wrong := endpoint(f.key, value.String())
		value.SetString(address)
		problem("endpoints."+f.key, wrong)
	}
}

// Endpoint returns an address in the form that [Endpoints] promises; key is its
// key there. The error continues a sentence about the address.
func Endpoint(key, address string) (string, error) {
	normal, problem := endpoint(key, address)
	if problem != "" {
		return "", errors.New(problem)
	}
	return normal, nil
}

// listenProblem says what is wrong with an address to listen on.
func listenProblem(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Sprintf(`%q is not host:port: write for example "127.0.0.1:9117"`, address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Sprintf("%q has no port number (0 is any free port, 65535 the highest)", address)
	}
	if _, err := netip.ParseAddr(host); host != "" && host != "localhost" && err != nil {
		return fmt.Sprintf("%q: a listener needs an IP address of this machine, or localhost", address)
	}
	return ""
}

// Endpoints are the addresses of the services; an empty one means the usual.
// In a Config IAM is host:port, the others URLs without a final slash.
type Endpoints struct {
	IAM           string `yaml:"iam" doc:"host:port of IAM (gRPC over TLS)"`
	TokenExchange string `yaml:"token_exchange" doc:"URL that exchanges workload identity tokens"`
	Metadata      string `yaml:"metadata" doc:"URL of the virtual machine's metadata service"`
	OAuth         string `yaml:"oauth" doc:"URL of Yandex OAuth"`
	Tracker       string `yaml:"tracker" doc:"URL of the Tracker API"`
}

// metadataIP is the metadata service's address on a virtual machine, which
// speaks HTTP without TLS over a link that stays within the host:
// https://yandex.cloud/en/docs/compute/operations/vm-metadata/get-vm-metadata
const metadataIP = "169.254.169.254"

// endpoint returns an address in the form that Endpoints promises, and what is
// wrong with it. An address that may hold a password is not repeated.
func endpoint(key, address string) (normal, problem string) {
	scheme, rest, isURL := strings.Cut(address, "://")
	grpc := key == "iam"
	switch {
	case strings.Contains(address, "@"):
		return address, "an address holds no user and no password"
	case grpc && isURL && scheme != "https":
		return address, fmt.Sprintf("%q is not host:port; this service is asked over TLS only", address)
	case grpc:
		return grpcEndpoint(address, strings.TrimSuffix(rest, "/"), isURL)
	case !isURL && key == "metadata":
		address = "http://" + address
	case !isURL:
		address = "https://" + address
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Hostname() == "":
		return address, "is neither a URL nor host:port"
	case !validPort(u.Port()):
		return address, fmt.Sprintf("%q: a port is a number from 1 to 65535", address)
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return address, fmt.Sprintf("%q: an address holds no ? and no #", address)
	case u.Scheme != "http" && u.Scheme != "https":
		return address, fmt.Sprintf("%q: an address begins with https://", address)
	case u.Scheme == "http" && key == "metadata" && u.Hostname() == metadataIP:
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return address, fmt.Sprintf("%q would send secrets in the clear: http is for loopback addresses only, write https", address)
	}
	return strings.TrimSuffix(address, "/"), ""
}

// validPort tells whether there is a port of that number; empty is the usual one.
func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

func grpcEndpoint(address, rest string, isURL bool) (normal, problem string) {
	target := address
	if isURL {
		target = rest
	}
	host, port, err := net.SplitHostPort(target)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || strings.ContainsAny(host, "/ ?#") || portErr != nil || n == 0 {
		return address, fmt.Sprintf("%q is not host:port, for example iam.api.cloud.yandex.net:443", address)
	}
	return target, ""
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
