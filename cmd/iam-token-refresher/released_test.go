package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// release is the program as it is shipped, with the flags of the Makefile: the
// race detector of the test binary costs ten times the memory and much time.
var release = sync.OnceValues(func() (path string, err error) {
	dir, err := os.MkdirTemp("", "itr-release")
	if err != nil {
		return "", err
	}
	releaseDir = dir
	if err := os.Chmod(dir, 0o755); err != nil { // daemons of other users run it
		return "", err
	}
	path = filepath.Join(dir, program)
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return path, cmd.Run()
})

// releaseDir is removed at the end of all tests.
var releaseDir string

// released has the scene run the program as it is shipped.
func (s *scene) released() {
	s.Helper()
	path, err := release()
	s.try(err)
	s.binary = path
}

// tests are those of the package, with what is to be done after them.
type tests struct{ m *testing.M }

func (t tests) Run() int {
	defer func() {
		if releaseDir != "" {
			_ = os.RemoveAll(releaseDir)
		}
	}()
	return t.m.Run()
}
