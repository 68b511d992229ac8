// Package compat runs the cloud's first Go SDK, unmodified, against the
// metadata listener. It is a module of its own: that SDK links the whole cloud,
// which takes minutes to compile and has no place in the product's module. The
// second SDK is tested there.
package compat

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	ycsdk "github.com/yandex-cloud/go-sdk"
)

// start runs a built program until the test ends, and returns when a line of
// its output contains ready.
func start(t *testing.T, ready, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join("..", "..", "bin", name), args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	lines := bufio.NewScanner(out)
	var seen []string
	for lines.Scan() {
		seen = append(seen, lines.Text())
		if strings.Contains(lines.Text(), ready) {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for lines.Scan() { // the pipe must not fill up
				}
			}()
			t.Cleanup(func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				<-ended
				_ = cmd.Wait()
			})
			return
		}
	}
	_ = cmd.Wait()
	t.Fatalf("%s ended before it said %q:\n%s", name, ready, strings.Join(seen, "\n"))
}

func TestTheFirstSDKReadsTheMetadataListener(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cloud")
	start(t, "ready", "iam-emulator", "--dir", dir)
	config := filepath.Join(dir, "config.yaml")
	start(t, `"msg":"ready"`, "iam-token-refresher", "run", "--config", config)

	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	listen := regexp.MustCompile(`metadata: \{listen: "([^"]+)"`).FindSubmatch(text)
	if listen == nil {
		t.Fatal("the configuration has no metadata sink")
	}
	t.Setenv(ycsdk.InstanceMetadataOverrideEnvVar, string(listen[1]))
	want, err := os.ReadFile(filepath.Join(dir, "bot.token"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	got, err := ycsdk.InstanceServiceAccount().IAMToken(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetIamToken() != string(want) {
		t.Error("the SDK's token is not the one in the file")
	}
	if left := time.Until(got.GetExpiresAt().AsTime()); left < 11*time.Hour || left > 12*time.Hour {
		t.Errorf("the SDK thinks that it lives %s", left)
	}
}
