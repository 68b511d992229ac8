package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
)

const (
	daemonUser = 4305 // of a daemon that is not root
	stranger   = 4306
)

// mount mounts a file system on a directory of the scene for as long as it
// plays.
func (s *scene) mount(source, target, kind string, flags uintptr, data string) {
	s.Helper()
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		s.Skipf("nothing can be mounted here: %v", err)
	}
	s.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
}

// disk makes a directory that is a small file system of its own.
func (s *scene) disk() {
	s.Helper()
	s.try(os.Mkdir(s.path("disk"), 0o755))
	s.mount("tmpfs", s.path("disk"), "tmpfs", 0, "size=64k,mode=755")
}

// fill leaves no room on the disk.
func (s *scene) fill() {
	s.Helper()
	f, err := os.Create(s.path("disk/filler"))
	s.try(err)
	defer f.Close()
	for page := make([]byte, 4096); ; {
		if _, err := f.Write(page); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			s.Fatal(err)
		}
	}
}

// othersHaveIt waits until the value is where nothing is wrong.
func (s *scene) othersHaveIt() {
	s.Helper()
	s.logged(`"msg":"sink written".*"sink":"file:` + s.path("bot.token") + `"`)
	if v := s.read(); v.code != http.StatusOK || v.Value != s.file() {
		s.Errorf("the others have no value: %d", v.code)
	}
}

func (s *scene) remount(flags uintptr) {
	s.Helper()
	s.try(syscall.Mount("", s.path("disk"), "", syscall.MS_REMOUNT|flags, ""))
}

// diskSinks are a file that gets into trouble and two sinks that do not.
const diskSinks = `      - file: {path: $S/disk/bot.token, mode: "0640"}
      - file: {path: $S/bot.token}
      - socket: {path: $S/s}
`

// refreshes has version n published to the two sinks without trouble.
func (s *scene) refreshes(n uint64) {
	s.Helper()
	s.do(0, "^bot: a new version is published: ", "refresh", "bot", "--socket", s.path("s"))
	for _, sink := range []string{"file:" + s.path("bot.token"), "socket:" + s.path("s")} {
		s.logged(fmt.Sprintf(`"msg":"sink written( again)?","token":"bot","sink":%q,"version":%d\b`, sink, n))
	}
	if v := s.read(); v.code != http.StatusOK || v.Version != n || v.Value != s.file() {
		s.Errorf("the socket answers %d with version %d, not with version %d as the file", v.code, v.Version, n)
	}
}

func TestOneFilesTroubleIsItsOwn(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount file systems and give files away")
	}
	target := func(s *scene) string { return s.path("disk/bot.token") }
	replaced := func(f func(path string) error) func(*scene) {
		return func(s *scene) { s.try(errors.Join(os.RemoveAll(target(s)), f(target(s)))) }
	}
	cleared := func(s *scene) { s.try(os.RemoveAll(target(s))) }
	together(t, map[string]struct {
		spoil, mend func(*scene)
		says        string
	}{
		"a full disk": {
			(*scene).fill, func(s *scene) { s.try(os.Remove(s.path("disk/filler"))) },
			"no space left on device: make room on the file system of $S/disk",
		},
		"a read-only disk": {
			func(s *scene) { s.remount(syscall.MS_RDONLY) }, func(s *scene) { s.remount(0) },
			"read-only file system: choose a directory that is not read-only",
		},
		"a directory that is removed": {
			func(s *scene) {
				s.try(syscall.Unmount(s.path("disk"), syscall.MNT_DETACH))
				s.try(os.Remove(s.path("disk")))
			},
			func(s *scene) { s.try(os.Mkdir(s.path("disk"), 0o755)) },
			"no such file or directory: create the directory $S/disk",
		},
		"a directory in its place": {
			replaced(func(path string) error { return os.Mkdir(path, 0o755) }), cleared,
			"is a directory: name a file in it",
		},
		"a FIFO in its place": {
			replaced(func(path string) error { return syscall.Mkfifo(path, 0o644) }), cleared,
			"it is a FIFO: remove it",
		},
		"a symbolic link in its place": {
			replaced(func(path string) error { return os.Symlink("elsewhere", path) }), cleared,
			"it is a symbolic link: name the file that it points to",
		},
		"another hard link": {
			func(s *scene) { s.try(os.Link(target(s), s.path("disk/other"))) },
			func(s *scene) { s.try(os.Remove(s.path("disk/other"))) },
			"it has 2 hard links",
		},
		"a mount of the file alone": {
			func(s *scene) {
				s.write("mounted", "old")
				s.mount(s.path("mounted"), target(s), "", syscall.MS_BIND, "")
			},
			func(s *scene) { s.try(syscall.Unmount(target(s), syscall.MNT_DETACH)) },
			"the file is a mount of its own and cannot be replaced .*mount its directory instead, or set `write: in_place` .a reader may then see half a token",
		},
	}, func(t *testing.T, c struct {
		spoil, mend func(*scene)
		says        string
	},
	) {
		play(t, emulator.Options{}, func(s *scene) {
			s.disk()
			says := strings.ReplaceAll(c.says, "$S", s.dir)
			s.run(plot{sinks: diskSinks})
			s.ready()
			c.spoil(s)
			code, out := s.outcome("check", "--config", "bot.yaml")
			if s.matches("check says", out, says); code == 0 {
				s.Error("check finds nothing wrong")
			}
			s.refreshes(2)
			s.logged(`"level":"ERROR","msg":"sink not written, its old content stays","token":"bot","sink":"file:` + target(s) + `","version":[12],"error":".*` + says)
			s.do(0, "", "healthcheck", "--status-listen", s.health) // there is a valid value
			st := s.status()
			for _, sink := range st.Sinks {
				if trouble := sink.ID == "file:"+target(s); trouble == sink.Current || trouble != (sink.Failure != "") {
					s.Errorf("the status says of %s: %+v", sink.ID, sink)
				}
			}
			s.measures(`iam_token_sink_version{sink="socket:` + s.path("s") + `",token="bot"} 2`)
			s.measures(`iam_token_sink_version{sink="file:` + target(s) + `",token="bot"} 0`)

			c.mend(s)
			// What happens to the file ends the backoff, which may be long by now.
			if err := os.Chtimes(target(s), time.Time{}, time.Now()); !errors.Is(err, fs.ErrNotExist) {
				s.try(err)
			}
			s.logged(`"level":"INFO","msg":"sink written again","token":"bot","sink":"file:` + target(s) + `","version":2\b`)
			text, err := os.ReadFile(target(s))
			s.try(err)
			if string(text) != s.file() {
				s.Error("the file holds another value than the others")
			}
			if info, err := os.Stat(target(s)); err != nil || info.Mode().Perm() != 0o640 {
				s.Errorf("its mode is %v, %v", info.Mode(), err)
			}
			if left, _ := filepath.Glob(s.path("disk/.*")); len(left) > 0 {
				s.Errorf("left behind: %q", left)
			}
			s.do(0, "", "check", "--config", "bot.yaml")
			s.ends()
		})
	})
}

// asDaemonUser has the daemon run as somebody who is not root.
func (s *scene) asDaemonUser(cmd *exec.Cmd) *exec.Cmd {
	s.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: daemonUser, Gid: daemonUser}}
	s.try(filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, daemonUser, daemonUser))
	}))
	return cmd
}

// runAs starts the daemon by a command that was changed.
func (s *scene) runAs(change func(*exec.Cmd) *exec.Cmd) {
	s.Helper()
	p, err := start(change(s.exec("run", "--config", "bot.yaml")))
	s.try(err)
	s.daemon, s.daemons["run"] = p, p
}

func TestWhatAFileIsDoesNotDependOnWhoStartsTheDaemon(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	together(t, map[string]func(*scene){
		"a umask that takes everything": func(s *scene) {
			s.configure("bot", plot{sinks: strings.ReplaceAll(diskSinks, "/disk", "") + `      - env_file: {path: $S/bot.env, variables: {T: "{{.Value}}"}, mode: "0604"}` + "\n"}, false)
			s.write("bot.yaml", strings.Replace(s.text("bot.yaml"), "      - file: {path: "+s.path("bot.token")+"}\n", "", 1))
			s.runAs(func(cmd *exec.Cmd) *exec.Cmd {
				sh := exec.Command("/bin/sh", append([]string{"-c", `umask 0777; exec "$0" "$@"`}, cmd.Args...)...)
				sh.Dir, sh.Env = cmd.Dir, cmd.Env
				return s.asDaemonUser(sh)
			})
			s.ready()
			for name, mode := range map[string]os.FileMode{"bot.token": 0o640, "bot.env": 0o604, "s": 0o600 | os.ModeSocket, "state": 0o700 | os.ModeDir} {
				if info, err := os.Lstat(s.path(name)); err != nil || info.Mode() != mode {
					s.Errorf("the mode of %s is %v, want %v: %v", name, info.Mode(), mode, err)
				}
			}
			s.do(0, "^bot: a new version is published", "refresh", "bot", "--config", "bot.yaml")
			if v := s.read(); v.Version != 2 {
				s.Errorf("version %d is served", v.Version)
			}
		},
		"a group that we are not in": func(s *scene) {
			s.try(os.Mkdir(s.path("disk"), 0o755))
			s.configure("bot", plot{sinks: strings.Replace(diskSinks, `mode: "0640"`, `group: "`+strconv.Itoa(stranger)+`"`, 1)}, false)
			s.runAs(s.asDaemonUser)
			s.logged(`"msg":"sink not written, its old content stays".*"error":".*give it to group 4306: operation not permitted: run as a member of that group or as root, or choose another group`)
			s.othersHaveIt()
			if code, _ := s.get(http.DefaultClient, "http://"+s.health+"/readyz"); code != http.StatusServiceUnavailable {
				s.Errorf("/readyz is %d although a sink was never written", code)
			}
		},
		"a file of somebody else in a sticky directory": func(s *scene) {
			s.try(os.Mkdir(s.path("disk"), 0o755))
			s.configure("bot", plot{sinks: diskSinks}, false)
			s.runAs(func(cmd *exec.Cmd) *exec.Cmd {
				cmd = s.asDaemonUser(cmd)
				s.write("disk/bot.token", "theirs")
				s.try(os.Chown(s.path("disk/bot.token"), stranger, stranger))
				s.try(os.Chmod(s.path("disk/bot.token"), 0o644))
				s.try(os.Chown(s.path("disk"), 0, 0))
				s.try(os.Chmod(s.path("disk"), 0o777|os.ModeSticky))
				return cmd
			})
			s.logged(`"msg":"sink not written, its old content stays".*"error":".*it belongs to user 4306 and its directory is sticky: remove it, or choose a directory of our own`)
			s.othersHaveIt()
			s.try(os.Remove(s.path("disk/bot.token")))
			s.ready()
		},
		"a file of somebody else in our directory": func(s *scene) {
			s.try(os.Mkdir(s.path("disk"), 0o755))
			s.configure("bot", plot{sinks: diskSinks}, false)
			s.runAs(func(cmd *exec.Cmd) *exec.Cmd {
				cmd = s.asDaemonUser(cmd)
				s.write("disk/bot.token", "theirs")
				s.try(os.Chown(s.path("disk/bot.token"), stranger, stranger))
				return cmd
			})
			s.ready()
			info, err := os.Stat(s.path("disk/bot.token"))
			s.try(err)
			if st := info.Sys().(*syscall.Stat_t); st.Uid != daemonUser || info.Mode() != 0o640 {
				s.Errorf("it belongs to %d, mode %v", st.Uid, info.Mode())
			}
		},
		"a mount of the file alone, written in place": func(s *scene) {
			s.try(os.Mkdir(s.path("disk"), 0o755))
			s.write("disk/bot.token", "something that is a lot longer than a token is: "+strings.Repeat("x", 4096))
			s.mount(s.path("disk/bot.token"), s.path("disk/bot.token"), "", syscall.MS_BIND, "")
			s.run(plot{sinks: strings.Replace(diskSinks, `mode: "0640"`, "write: in_place", 1)})
			s.ready()
			for n := uint64(2); n < 4; n++ {
				s.refreshes(n)
				s.logged(fmt.Sprintf(`"msg":"sink written","token":"bot","sink":"file:%s","version":%d\b`, s.path("disk/bot.token"), n))
				if s.text("disk/bot.token") != s.file() {
					s.Error("it holds another value than the others")
				}
			}
		},
		"no inotify instances": func(s *scene) {
			s.configure("bot", plot{sinks: strings.ReplaceAll(diskSinks, "/disk/bot", "/other")}, false)
			s.runAs(withoutInotify)
			s.logged(unwatched)
			s.ready()
			s.refreshes(2)
			if st := s.status(); st.State != refresher.Fresh || st.Version != 2 {
				s.Errorf("the token is %+v", st)
			}
		},
	}, func(t *testing.T, f func(*scene)) {
		play(t, emulator.Options{}, func(s *scene) {
			s.released()
			s.try(os.Chmod(s.dir, 0o755))
			f(s)
			if s.daemon != nil {
				s.ends()
			}
		})
	})
}
