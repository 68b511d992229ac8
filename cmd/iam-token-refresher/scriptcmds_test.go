package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"iam-token-refresher/refresher/config"
	"iam-token-refresher/refresher/emulator"
)

type scriptCommand = func(ts *testscript.TestScript, neg bool, args []string)

// scriptCommands are what scripts can do beyond testscript's own commands:
//
//	cloud [OPTION=VALUE…]       start an emulated cloud: $D is its directory, $S the socket, $M the metadata
//	                            and $L the status listener in its config.yaml, which logs at level debug
//	admin METHOD PATH [BODY]    ask the cloud's admin service; the answer is in the file admin.json
//	edit FILE OLD NEW           replace the first OLD in a file
//	revoke FILE                 revoke the value in a file
//	down [SERVICE…]             these services are unreachable; IAM and Tracker if none is named
//	up                          all are back
//	daemon NAME ARGS…           start the program in the background
//	logged NAME REGEXP [N]      wait until N lines (1) of its log match
//	signal NAME SIGNAL          send it a signal
//	ended NAME CODE             wait for its end
//	fails CODE ARGS…            the program, which ends with that exit code
//	getenv NAME FILE            set a variable to what a file holds
//	value FILE ARGS…            "get", with its output in FILE and not in the log
//	fetch FILE URL [HEADER…]    an HTTP request, unix:PATH:/PATH for a socket; the status goes to stdout
//	post FILE URL [HEADER…]     the same with POST
//	extract FILE FROM KEY       a value of a JSON object or of NAME=VALUE lines
//	same FILE FILE…             the files hold the same, but for a line break at the end
func scriptCommands() map[string]scriptCommand {
	plain := map[string]func(ts *testscript.TestScript, s *stage, args []string) error{
		"cloud": cloudCommand, "admin": adminCommand, "revoke": revokeCommand, "down": downCommand, "up": upCommand,
		"daemon": daemonCommand, "logged": loggedCommand, "signal": signalCommand, "ended": endedCommand,
		"value": valueCommand, "fetch": fetchCommand, "post": postCommand, "extract": extractCommand, "edit": editCommand,
		"fails": failsCommand, "getenv": getenvCommand,
	}
	all := map[string]scriptCommand{"same": sameCommand}
	for name, do := range plain {
		all[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("! %s means nothing", name)
			}
			ts.Check(do(ts, stageOf(ts), args))
		}
	}
	return all
}

func cloudCommand(ts *testscript.TestScript, s *stage, args []string) error {
	key, err := sharedRSA()
	if err != nil {
		return err
	}
	o := emulator.Options{Dir: ts.MkAbs("cloud"), RSA: key}
	for _, arg := range args {
		name, text, _ := strings.Cut(arg, "=")
		switch name {
		case "lifetime":
			o.TokenLifetime, err = time.ParseDuration(text)
		case "reissue":
			o.ReissueUntil, err = strconv.ParseFloat(text, 64)
		default:
			err = errors.New("no such option: " + name)
		}
		if err != nil {
			return err
		}
	}
	if s.cloud, err = emulator.Start(context.Background(), o); err != nil {
		return err
	}
	listen, err := freePort()
	if err != nil {
		return err
	}
	path := filepath.Join(o.Dir, "config.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// Schedules begin at a random phase: none may be due while a script runs.
	text = regexp.MustCompile(`@every (1h|15m)`).ReplaceAll(text, []byte("@every 8000h"))
	metadata := between(string(text), `metadata: {listen: "`, `"`)
	text = fmt.Appendf(text, "log: {level: debug, format: json}\nstatus: {listen: %q}\n", listen)
	for name, value := range map[string]string{"D": o.Dir, "S": filepath.Join(o.Dir, "itr.sock"), "M": metadata, "L": listen} {
		ts.Setenv(name, value)
	}
	return os.WriteFile(path, text, 0o644)
}

func between(text, from, to string) string {
	_, rest, _ := strings.Cut(text, from)
	found, _, _ := strings.Cut(rest, to)
	return found
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func editCommand(ts *testscript.TestScript, _ *stage, args []string) error {
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		return fmt.Errorf("%s does not hold %q", args[0], args[1])
	}
	return os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(text, args[1], args[2], 1)), 0o600)
}

func revokeCommand(ts *testscript.TestScript, s *stage, args []string) error {
	if !s.cloud.Revoke(strings.TrimSpace(ts.ReadFile(args[0]))) {
		return errors.New("the cloud never issued that")
	}
	return nil
}

func downCommand(_ *testscript.TestScript, s *stage, services []string) error {
	if len(services) == 0 {
		services = []string{"api", "iam", "tracker"}
	}
	for _, service := range services {
		if err := s.cloud.Inject(emulator.Fault{Service: service, Kind: emulator.KindReset}); err != nil {
			return err
		}
	}
	return nil
}

func upCommand(_ *testscript.TestScript, s *stage, _ []string) error {
	s.cloud.ClearFaults()
	return nil
}

func failsCommand(ts *testscript.TestScript, _ *stage, args []string) error {
	err := ts.Exec(program, args[1:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		return fmt.Errorf("it ended with %v", err)
	}
	return nil
}

func getenvCommand(ts *testscript.TestScript, _ *stage, args []string) error {
	ts.Setenv(args[0], ts.ReadFile(args[1]))
	return nil
}

// command is our program with the script's surroundings.
func command(ts *testscript.TestScript, args []string) (*exec.Cmd, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "TMPDIR=" + ts.Getenv("TMPDIR")}
	names := []string{config.EnvSocket, config.EnvConfig, "GORACE"}
	for _, f := range config.Flags() {
		names = append(names, f.Env)
	}
	for _, name := range names {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd, nil
}

func daemonCommand(ts *testscript.TestScript, s *stage, args []string) error {
	cmd, err := command(ts, args[1:])
	if err != nil {
		return err
	}
	if _, again := s.daemons[args[0]]; again {
		return fmt.Errorf("there is a %s already", args[0])
	}
	p, err := start(cmd)
	if err != nil {
		return err
	}
	s.daemons[args[0]] = p
	ts.Setenv("PID_"+args[0], strconv.Itoa(cmd.Process.Pid))
	return nil
}

func (s *stage) daemon(name string) (*process, error) {
	if p := s.daemons[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("there is no daemon %s", name)
}

func loggedCommand(_ *testscript.TestScript, s *stage, args []string) error {
	p, err := s.daemon(args[0])
	if err != nil {
		return err
	}
	n := 1
	if len(args) > 2 {
		if n, err = strconv.Atoi(args[2]); err != nil {
			return err
		}
	}
	return p.log.await(args[1], n)
}

func signalCommand(_ *testscript.TestScript, s *stage, args []string) error {
	p, err := s.daemon(args[0])
	if err != nil {
		return err
	}
	return p.signal(map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
	}[args[1]])
}

// endedCommand leaves the log in NAME.log.
func endedCommand(ts *testscript.TestScript, s *stage, args []string) error {
	p, err := s.daemon(args[0])
	if err != nil {
		return err
	}
	code, err := p.wait()
	if err != nil {
		return err
	}
	if strconv.Itoa(code) != args[1] {
		return fmt.Errorf("%s ended with %d", args[0], code)
	}
	return os.WriteFile(ts.MkAbs(args[0]+".log"), []byte(p.log.text()), 0o600)
}

func valueCommand(ts *testscript.TestScript, _ *stage, args []string) error {
	cmd, err := command(ts, append([]string{"get"}, args[1:]...))
	if err != nil {
		return err
	}
	var value bytes.Buffer
	cmd.Stdout, cmd.Stderr = &value, ts.Stderr()
	if err := cmd.Run(); err != nil {
		return err
	}
	return os.WriteFile(ts.MkAbs(args[0]), value.Bytes(), 0o600)
}

func extractCommand(ts *testscript.TestScript, _ *stage, args []string) error {
	text, key := ts.ReadFile(args[1]), args[2]
	var object map[string]any
	if json.Unmarshal([]byte(text), &object) == nil {
		value, ok := object[key]
		if !ok {
			return fmt.Errorf("%s has no %s", args[1], key)
		}
		return os.WriteFile(ts.MkAbs(args[0]), []byte(fmt.Sprint(value)), 0o600)
	}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, "="); ok && name == key {
			return os.WriteFile(ts.MkAbs(args[0]), []byte(value), 0o600)
		}
	}
	return fmt.Errorf("%s has no %s", args[1], key)
}

func sameCommand(ts *testscript.TestScript, neg bool, args []string) {
	first := strings.TrimSuffix(ts.ReadFile(args[0]), "\n")
	if first == "" {
		ts.Fatalf("%s is empty", args[0])
	}
	for _, other := range args[1:] {
		switch same := strings.TrimSuffix(ts.ReadFile(other), "\n") == first; {
		case same && neg:
			ts.Fatalf("%s and %s hold the same", args[0], other)
		case !same && !neg:
			ts.Fatalf("%s and %s differ", args[0], other)
		}
	}
}
