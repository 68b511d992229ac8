package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

var minutesFlag = flag.Bool("minutes", false, "also try what takes real minutes")

// unwatched is what a daemon says that has nothing to watch files with.
const unwatched = `"level":"WARN","msg":"files cannot be watched and are read again once a minute instead".*fs.inotify.max_user_instances`

// withoutInotify has a program run where no inotify instance is to be had: a
// user namespace has limits of its own.
func withoutInotify(cmd *exec.Cmd) *exec.Cmd {
	sh := exec.Command("/bin/sh", append([]string{"-c", `echo 0 >/proc/sys/user/max_inotify_instances && exec "$0" "$@"`}, cmd.Args...)...)
	sh.Dir, sh.Env = cmd.Dir, cmd.Env
	sh.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	return sh
}

func TestDaemonThatCannotWatchReadsItsFilesOnceAMinute(t *testing.T) {
	t.Parallel()
	if !*minutesFlag {
		t.Skip("it takes two minutes: make soak")
	}
	play(t, emulator.Options{}, func(s *scene) {
		s.released()
		rotate := func() emulator.Key {
			key, err := s.cloud.NewKey(emulator.BotAccount, emulator.KeyOptions{})
			s.try(err)
			s.write("key.json", string(key.File))
			return key
		}
		old := rotate()
		p := plot{source: "service_account_key: {file: $S/key.json}"}
		s.configure("bot", p, false)
		begin := time.Now()
		s.runAs(withoutInotify)
		s.ready()
		notices := func(after time.Duration, line string) {
			s.Helper()
			s.try(s.daemon.log.awaitFor(time.Minute+patience, line, 1))
			took := time.Since(begin)
			t.Logf("%s %s after the start", line, took.Round(time.Millisecond))
			if took < after {
				t.Errorf("noticed %s after the start and not after %s: the files are read more often", took, after)
			}
		}

		rotate()
		notices(time.Minute, `"msg":"key changed"`)
		s.renews()
		s.cloud.DeleteKey(old.ID)
		s.renews()

		p.refresh = `schedule: "@every 8000h", before_expiry: 3m`
		s.configure("bot", p, false)
		s.try(os.Remove(s.path("bot.token")))
		notices(2*time.Minute, `"msg":"configuration changed"`)
		notices(2*time.Minute, `"msg":"sink was changed by somebody else, putting the value back"`)
		v := s.read()
		s.loggedTimes(fmt.Sprintf(`"msg":"sink written","token":"bot","sink":"file:[^"]*","version":%d\b`, v.Version), 2)
		if s.file() != v.Value {
			t.Error("the file that was put back holds another value")
		}
		s.measures(`iam_token_config_reloads_total{result="success"} 2`)
		if n := strings.Count(s.daemon.log.text(), "files cannot be watched"); n != 1 {
			t.Errorf("said %d times that files cannot be watched", n)
		}
		s.ends()
	})
}
