// Bench measures the footprint of the built program on the emulator and prints
// each figure beside its budget. It measures, it does not judge: it fails only
// when something cannot be measured.
package main

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	refresher := flag.String("refresher", "bin/iam-token-refresher", "the program to measure")
	emulator := flag.String("emulator", "bin/iam-emulator", "the stand-in cloud")
	idle := flag.Duration("idle", time.Minute, "how long an idle daemon is watched")
	only := flag.String("only", "", "one step alone: binary, first, one, waiters or many")
	accounts := flag.Int("accounts", 1000, "tokens of the mass test")
	mints := flag.Int("mints", 16, "limits.mints of the mass test; its probes have no limit")
	flag.Parse()
	if err := run(*refresher, *emulator, *idle, *accounts, *mints, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(refresher, emulator string, idle time.Duration, accounts, mints int, only string) error {
	dir, err := os.MkdirTemp(shm(), "itr-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, idle: idle, accounts: accounts, mints: mints}
	if b.refresher, err = filepath.Abs(refresher); err != nil {
		return err
	}
	if b.emulator, err = filepath.Abs(emulator); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func() error
	}{{"binary", b.binary}, {"first", b.firstToken}, {"one", b.oneToken}, {"waiters", b.waiters}, {"many", b.manyTokens}} {
		if only != "" && only != step.name {
			continue
		}
		if err := step.do(); err != nil {
			return err
		}
	}
	return nil
}

// shm is a directory in memory where there is one: disks differ.
func shm() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

type bench struct {
	dir, refresher, emulator string
	idle                     time.Duration
	accounts, mints          int
}

func say(what, figure, budget string) { fmt.Printf("%-58s %14s   %s\n", what, figure, budget) }

func (b *bench) binary() error {
	info, err := os.Stat(b.refresher)
	if err != nil {
		return err
	}
	say("binary", fmt.Sprintf("%.1f MB", float64(info.Size())/1e6), "at most 20 MB")
	return nil
}

// cloud starts an emulator and returns its directory and its PID.
func (b *bench) cloud(name string, args ...string) (dir string, pid int, stop func(), err error) {
	dir = filepath.Join(b.dir, name)
	cmd := exec.Command(b.emulator, append([]string{"--dir", dir}, args...)...)
	stop, err = start(cmd)
	if err != nil {
		return "", 0, nil, err
	}
	return dir, cmd.Process.Pid, stop, waitFor(filepath.Join(dir, "endpoints.json"), 20*time.Second, often)
}

// start runs a program until stop is called; its output is shown if it fails.
// It goes to a file: to read it meanwhile would cost what is measured.
func start(cmd *exec.Cmd) (stop func(), err error) {
	// What is set here would be read besides the system's bundle.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SSL_CERT_") })
	out, err := os.CreateTemp(shm(), "itr-bench-output")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(out.Name())
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return func() {
		defer out.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			text, _ := io.ReadAll(io.NewSectionReader(out, 0, 1<<20))
			fmt.Fprintf(os.Stderr, "%s: %v\n%s\n", cmd, err, text)
		}
	}, nil
}

// often is how often a file is looked for whose moment matters.
const often = 200 * time.Microsecond

func waitFor(path string, limit, interval time.Duration) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(interval) {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			return nil
		}
	}
	return fmt.Errorf("%s did not appear within %s", path, limit)
}

// firstToken is the time from exec to the published and probed value.
func (b *bench) firstToken() error {
	dir, _, stop, err := b.cloud("first")
	if err != nil {
		return err
	}
	defer stop()
	var took []time.Duration
	for range 21 {
		_ = os.RemoveAll(filepath.Join(dir, "state"))
		_ = os.Remove(filepath.Join(dir, "bot.token"))
		begin := time.Now()
		end, err := start(exec.Command(b.refresher, "run", "--config", filepath.Join(dir, "config.yaml")))
		if err != nil {
			return err
		}
		err = waitFor(filepath.Join(dir, "bot.token"), 10*time.Second, often)
		took = append(took, time.Since(begin))
		end()
		if err != nil {
			return err
		}
	}
	slices.Sort(took)
	say("exec to the first published and probed value, median of 21", fmt.Sprintf("%.1f ms", ms(took[len(took)/2])), "at most 60 ms")
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (b *bench) oneToken() error {
	dir, _, stop, err := b.cloud("one")
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
	time.Sleep(25 * time.Second) // until the connections of the start have gone idle
	before := switches(cmd.Process.Pid)
	time.Sleep(b.idle)
	after := switches(cmd.Process.Pid)
	m := memory(cmd.Process.Pid)
	say("one token, idle: anonymous memory (RssAnon)", fmt.Sprintf("%.1f MB", m.anon/1e6), "at most 9 MB")
	say("one token, idle: resident (VmRSS)", fmt.Sprintf("%.1f MB", m.resident/1e6), "at most 22 MB")
	say("one token, idle: wake-ups a minute (of all threads)", fmt.Sprintf("%.1f", float64(after-before)*float64(time.Minute)/float64(b.idle)), "at most 5")
	return nil
}

type usage struct{ anon, resident float64 }

var statusLine = regexp.MustCompile(`(?m)^(RssAnon|VmRSS|voluntary_ctxt_switches):\s+(\d+)`)

// memory reads /proc, in bytes.
func memory(pid int) (u usage) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, m := range statusLine.FindAllSubmatch(b, -1) {
		var kb float64
		_, _ = fmt.Sscan(string(m[2]), &kb)
		switch string(m[1]) {
		case "RssAnon":
			u.anon = kb * 1024
		case "VmRSS":
			u.resident = kb * 1024
		}
	}
	return u
}

// switches counts how often threads of a process went to sleep by themselves.
func switches(pid int) (n int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		for _, m := range statusLine.FindAllSubmatch(b, -1) {
			if string(m[1]) == "voluntary_ctxt_switches" {
				var k int
				_, _ = fmt.Sscan(string(m[2]), &k)
				n += k
			}
		}
	}
	return n
}

// manyTokens is what each of many tokens costs, and how long the first refresh
// of all takes.
func (b *bench) manyTokens() error {
	dir, emulator, stop, err := b.cloud("many", "--accounts", fmt.Sprint(b.accounts))
	if err != nil {
		return err
	}
	defer stop()
	text, err := os.ReadFile(filepath.Join(dir, "config-accounts.yaml"))
	if err != nil {
		return err
	}
	text = mintsLimit.ReplaceAll(text, fmt.Appendf(nil, "mints: %d", b.mints))
	head, _, ok := bytes.Cut(text, []byte("  - name: "))
	if !ok {
		return errors.New("config-accounts.yaml lists no tokens")
	}
	tokens := strings.SplitAfter(string(text[len(head):]), "}}]\n")
	one := filepath.Join(dir, "one.yaml")
	all := filepath.Join(dir, "config-accounts.yaml")
	shared := filepath.Join(dir, "shared.yaml")
	keyFile := regexp.MustCompile(`keys/\d+\.json`)
	if err := errors.Join(
		os.WriteFile(one, []byte(string(head)+tokens[0]), 0o600),
		os.WriteFile(all, text, 0o600),
		os.WriteFile(shared, keyFile.ReplaceAll(text, []byte("keys/0001.json")), 0o600),
	); err != nil {
		return err
	}
	base, err := b.memoryOfMass(dir, one)
	if err != nil {
		return err
	}
	for _, c := range []struct{ what, config, budget string }{
		{"one key file", shared, "at most 8 KB"},
		{"a key file each", all, "at most 12 KB"},
	} {
		anon, err := b.memoryOfMass(dir, c.config)
		if err != nil {
			return err
		}
		say(fmt.Sprintf("%d tokens, %s: anonymous memory of each", b.accounts, c.what),
			fmt.Sprintf("%.1f KB", (anon-base)/float64(b.accounts-1)/1024), c.budget)
	}
	// Both again and again, one after the other: the machine is not always as fast.
	type round struct {
		took, signing, cpu time.Duration
	}
	ratio := func(r round) float64 { return float64(r.took) / float64(r.signing) }
	var rounds []round
	for range 7 {
		signing := signatures(b.accounts)
		before := cpu(emulator)
		m, err := b.mass(dir, all, 0)
		if err != nil {
			return err
		}
		rounds = append(rounds, round{m.took, signing, m.cpu + cpu(emulator) - before})
	}
	slices.SortFunc(rounds, func(a, b round) int { return cmp.Compare(ratio(a), ratio(b)) })
	typical := rounds[len(rounds)/2]
	cores := runtime.NumCPU()
	say(fmt.Sprintf("%d tokens: first refresh of all", b.accounts), fmt.Sprintf("%.0f ms", ms(typical.took)), "")
	say(fmt.Sprintf("%d RSA-2048 signatures on %d cores", b.accounts, cores), fmt.Sprintf("%.0f ms", ms(typical.signing)), "")
	say("first refresh of all / signatures, median of 7", fmt.Sprintf("%.2f", ratio(typical)),
		fmt.Sprintf("at most 2 (%.2f to %.2f)", ratio(rounds[0]), ratio(rounds[len(rounds)-1])))
	say("the same of CPU time, the emulator's included", fmt.Sprintf("%.2f", float64(typical.cpu)/float64(typical.signing)/float64(cores)), "")
	return nil
}

var mintsLimit = regexp.MustCompile(`\bmints: \d+`)

var tokenFile = regexp.MustCompile(`file: \{path: "(.+?)"`)

// memoryOfMass is the anonymous memory in bytes of a configuration's daemon at
// rest, median of 3: where the runtime's pages lie is chance.
func (b *bench) memoryOfMass(dir, config string) (float64, error) {
	var anon []float64
	for range 3 {
		m, err := b.mass(dir, config, 5*time.Second)
		if err != nil {
			return 0, err
		}
		anon = append(anon, m.anon)
	}
	slices.Sort(anon)
	return anon[1], nil
}

// mass is the first refresh of many tokens.
type mass struct {
	took, cpu time.Duration // until all were published
	anon      float64       // at the end, in bytes
}

// mass runs a configuration until all tokens are published, and settle longer.
func (b *bench) mass(dir, config string, settle time.Duration) (mass, error) {
	text, err := os.ReadFile(config)
	if err != nil {
		return mass{}, err
	}
	var published []string
	for _, m := range tokenFile.FindAllSubmatch(text, -1) {
		published = append(published, string(m[1]))
		if err := os.Remove(string(m[1])); err != nil && !errors.Is(err, os.ErrNotExist) {
			return mass{}, err
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
		return mass{}, err
	}
	cmd := exec.Command(b.refresher, "run", "--config", config)
	begin := time.Now()
	end, err := start(cmd)
	if err != nil {
		return mass{}, err
	}
	defer end()
	// One file after the other: to count them all again and again would cost
	// what is measured.
	for _, path := range published {
		if err := waitFor(path, time.Minute, 5*time.Millisecond); err != nil {
			return mass{}, err
		}
	}
	m := mass{took: time.Since(begin), cpu: cpu(cmd.Process.Pid)}
	time.Sleep(settle)
	m.anon = memory(cmd.Process.Pid).anon
	return m, nil
}

// cpu is the processor time that a process has used (proc_pid_stat(5)), to 10 ms.
func cpu(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	var user, system int64
	_, _ = fmt.Sscan(fields[11], &user)
	_, _ = fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// signatures is the time of n signatures on all cores.
func signatures(n int) time.Duration {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // the system's random source is gone
	}
	digest := sha256.Sum256([]byte("bench"))
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range runtime.NumCPU() {
		wg.Go(func() {
			for j := i; j < n; j += runtime.NumCPU() {
				_, _ = rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], nil)
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}
