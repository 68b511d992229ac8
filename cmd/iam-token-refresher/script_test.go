package main

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"iam-token-refresher/refresher/emulator"
)

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){
		program: main, dockerHelper: main,
		"example-sdk": exampleSDK, "example-oauth2": exampleOAuth2,
	})
}

// TestScripts runs the program itself on an emulated cloud of its own for each
// script. What the scripts can do beyond the usual is in scriptcmds_test.go.
func TestScripts(t *testing.T) {
	t.Parallel()
	p := testscript.Params{
		Dir:                 "testdata",
		Cmds:                scriptCommands(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			s := env.T().(scriptT).stage
			env.Values[stageKey{}] = s
			env.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector waits a second at each exit otherwise
			env.Setenv("UID", strconv.Itoa(os.Geteuid()))
			env.Defer(s.close)
			return nil
		},
	}
	if deadline, ok := t.Deadline(); ok {
		p.Deadline = deadline
	}
	testscript.RunT(scriptT{T: t}, p)
}

// scriptT is the T of a script. It keeps all that the script and its programs
// say, and at the end looks for secrets in it.
type scriptT struct {
	*testing.T
	stage *stage
}

// Verbose makes testscript keep the whole log.
func (scriptT) Verbose() bool { return true }

func (t scriptT) Log(args ...any) { t.stage.say(fmt.Sprint(args...)) }

func (t scriptT) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(tt *testing.T) {
		s := &stage{t: tt, daemons: map[string]*process{}}
		defer func() {
			if tt.Failed() {
				tt.Log(s.said())
			}
		}()
		f(scriptT{tt, s})
		for _, leak := range s.leaks() {
			tt.Errorf("a secret got out: %s", leak)
		}
	})
}

// stage is what a script plays on.
type stage struct {
	t       *testing.T
	cloud   *emulator.Emulator
	daemons map[string]*process

	mu  sync.Mutex
	log strings.Builder
}

type stageKey struct{}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

func (s *stage) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.WriteString(text + "\n")
}

func (s *stage) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// close ends what the script left running.
func (s *stage) close() {
	for name, p := range s.daemons {
		p.kill()
		s.say("--- log of " + name + "\n" + p.log.text())
	}
	if s.cloud != nil {
		if err := s.cloud.Close(); err != nil {
			s.t.Error(err)
		}
	}
}

// leaks lists where something secret was said: a value that the cloud gave
// out, also a piece of it, or a key.
func (s *stage) leaks() []string {
	if s.cloud == nil {
		return nil
	}
	secrets := s.cloud.Issued()
	for _, key := range s.cloud.PrivateKeys() {
		secrets = append(secrets, strings.Split(strings.TrimSpace(key), "\n")[1:3]...)
	}
	return leaksIn(s.said(), secrets)
}

func leaksIn(text string, secrets []string) (found []string) {
	for line := range strings.Lines(text) {
		masked := line
		for _, secret := range secrets {
			for _, piece := range pieces(secret) {
				masked = strings.ReplaceAll(masked, piece, "<<HERE>>")
			}
		}
		if masked != line {
			found = append(found, masked)
		}
	}
	return found
}

// pieces cuts a secret into parts that are long enough to be no accident.
func pieces(secret string) (list []string) {
	const length = 24
	if len(secret) < 2*length {
		return []string{secret}
	}
	for i := 0; i+length <= len(secret); i += length {
		list = append(list, secret[i:i+length])
	}
	return list
}

func TestLeakOfAValueIsFoundAlsoInPart(t *testing.T) {
	t.Parallel()
	secret := "t1." + strings.Repeat("abcdefghij0123456789", 10)
	if found := leaksIn("all is well\n", []string{secret}); len(found) != 0 {
		t.Errorf("found %q", found)
	}
	if found := leaksIn("all is well\nvalue="+secret[20:100]+"\n", []string{secret}); len(found) == 0 {
		t.Error("a leak was not found")
	}
}

// sharedRSA is the one key of all emulators: it takes long to make.
var sharedRSA = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
