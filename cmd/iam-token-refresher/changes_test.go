package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

// ways are how a file comes to hold something else. Each is one change to who
// reads it. They are tried in this order: some leave what the next begins with.
var ways = []struct {
	name   string
	change func(s *scene, dir, name string, content []byte) error
}{
	{"rename", func(_ *scene, dir, name string, content []byte) error {
		tmp := filepath.Join(dir, "."+name)
		return errors.Join(os.WriteFile(tmp, content, 0o600), os.Rename(tmp, filepath.Join(dir, name)))
	}},
	{"an editor that truncates and writes", func(_ *scene, dir, name string, content []byte) error {
		return os.WriteFile(filepath.Join(dir, name), content, 0o600)
	}},
	{"removed and put back", func(_ *scene, dir, name string, content []byte) error {
		path := filepath.Join(dir, name)
		return errors.Join(os.Remove(path), os.WriteFile(path, content, 0o600))
	}},
	{"another directory in place of its own", func(s *scene, dir, name string, content []byte) error {
		return errors.Join(os.Mkdir(s.path("next"), 0o700), os.WriteFile(s.path("next/"+name), content, 0o600),
			os.Rename(dir, s.path("past")), os.Rename(s.path("next"), dir))
	}},
	{"a directory as Kubernetes makes them", func(s *scene, dir, name string, content []byte) error {
		return errors.Join(os.MkdirAll(s.path("volume/..first"), 0o700), os.WriteFile(s.path("volume/..first/"+name), content, 0o600),
			os.Symlink("..first", s.path("volume/..data")), os.Symlink("..data/"+name, s.path("volume/"+name)),
			os.RemoveAll(s.path("past")), os.Rename(dir, s.path("past")), os.Rename(s.path("volume"), dir))
	}},
	{"Kubernetes' swap of a symlink", func(_ *scene, dir, name string, content []byte) error {
		return errors.Join(os.Mkdir(filepath.Join(dir, "..second"), 0o700), os.WriteFile(filepath.Join(dir, "..second", name), content, 0o600),
			os.Symlink("..second", filepath.Join(dir, "..data_tmp")), os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")),
			os.RemoveAll(filepath.Join(dir, "..first")))
	}},
}

func TestChangeOfAFileIsNoticedOnceHoweverItIsMade(t *testing.T) {
	t.Parallel()
	reloads := func(s *scene, n int) {
		s.measures(`iam_token_config_reloads_total{result="failure"} 0`)
		s.measures(fmt.Sprintf(`iam_token_config_reloads_total{result="success"} %d`, n))
	}
	together(t, map[string]struct {
		name, source string
		// content is another each time.
		content func(s *scene, n int) []byte
		noticed string
		times   func(s *scene, n int)
	}{
		"the key": {
			"key.json", "service_account_key: {file: $S/in/key.json}",
			func(s *scene, n int) []byte { return []byte(s.text("cloud/key.json") + strings.Repeat("\n", n)) },
			`"msg":"key changed"`, reloads,
		},
		"a person's login": {
			"oauth.token", "oauth_token: {file: $S/in/oauth.token}",
			func(s *scene, n int) []byte { return []byte(s.text("cloud/oauth.token") + strings.Repeat("\n", n)) },
			`"msg":"key changed"`, reloads,
		},
		"the configuration": {
			"bot.yaml", "",
			func(s *scene, n int) []byte {
				s.configure("new", plot{refresh: fmt.Sprintf(`schedule: "@every 8000h", before_expiry: %dm`, n+1)}, false)
				return bytes.ReplaceAll([]byte(s.text("new.yaml")), []byte("new.token"), []byte("bot.token"))
			},
			`"msg":"configuration changed"`, reloads,
		},
		"somebody else's token file": {
			"yc.json", "token_file: {path: $S/in/yc.json}",
			func(s *scene, n int) []byte {
				value, expires, err := s.cloud.Mint(emulator.BotAccount, time.Duration(n+1)*time.Hour)
				s.try(err)
				return fmt.Appendf(nil, `{"iam_token": %q, "expires_at": %q}`, value, expires.UTC().Format(time.RFC3339Nano))
			},
			`"msg":"published"`, func(s *scene, n int) {
				if v := s.read(); v.Version != uint64(n+1) {
					s.Errorf("version %d after %d changes", v.Version, n)
				}
			},
		},
	}, func(t *testing.T, c struct {
		name, source string
		content      func(s *scene, n int) []byte
		noticed      string
		times        func(s *scene, n int)
	},
	) {
		play(t, emulator.Options{}, func(s *scene) {
			dir := s.path("in")
			s.try(os.Mkdir(dir, 0o700))
			s.try(os.WriteFile(filepath.Join(dir, c.name), c.content(s, 0), 0o600))
			if c.source == "" {
				s.daemon = s.background("run", "run", "--config", "in/bot.yaml")
			} else {
				s.run(plot{source: c.source})
			}
			s.ready()
			before := strings.Count(s.daemon.log.text(), c.noticed)
			for n, way := range ways {
				begin := time.Now()
				s.try(way.change(s, dir, c.name, c.content(s, n+1)))
				s.loggedTimes(c.noticed, before+n+1)
				t.Logf("%s: noticed, built and tried after %s", way.name, time.Since(begin).Round(time.Millisecond))
				c.times(s, n+1)
			}
			s.settles()
			c.times(s, len(ways))
			if n := strings.Count(s.daemon.log.text(), c.noticed) - before; n != len(ways) {
				s.Errorf("%d changes were noticed, %d were made", n, len(ways))
			}
			s.ends()
		})
	})
}

// The projected token is not watched: it is read for every mint.
func TestWorkloadTokenIsReadAnewForEveryMint(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.try(os.Mkdir(s.path("in"), 0o700))
		good := []byte(s.text("cloud/oidc.jwt"))
		s.try(os.WriteFile(s.path("in/jwt"), good, 0o600))
		s.run(plot{source: "workload_identity: {service_account_id: " + emulator.BotAccount + ", token_file: $S/in/jwt}"})
		s.ready()
		for _, way := range ways {
			s.try(way.change(s, s.path("in"), "jwt", []byte("not a token")))
			s.do(1, "refresh token .bot.: exchange workload token", "refresh", "bot", "--config", "bot.yaml")
			s.try(os.WriteFile(s.path("in/jwt"), good, 0o600))
			s.renews()
		}
		s.ends()
	})
}

func TestTwoWritersOfOneFileDoNotFightForLong(t *testing.T) {
	t.Parallel()
	play(t, emulator.Options{}, func(s *scene) {
		s.run(plot{})
		s.ready()
		path := s.path("bot.token")
		// The other writer puts its own back as soon as it sees another.
		theirs := []byte("theirs")
		stop, stopped := make(chan struct{}), make(chan error, 1)
		go func() {
			look := time.NewTicker(5 * time.Millisecond)
			defer look.Stop()
			for {
				select {
				case <-stop:
					stopped <- nil
					return
				case <-look.C:
				}
				if text, err := os.ReadFile(path); err == nil && !bytes.Equal(text, theirs) {
					if err := errors.Join(os.WriteFile(path+"~", theirs, 0o600), os.Rename(path+"~", path)); err != nil {
						stopped <- err
						return
					}
				}
			}
		}()
		const contested = `"level":"ERROR","msg":"sink contested: somebody else keeps changing it; it is left alone until the next version"`
		// Each version is written once and put back three times. What was undone
		// before it could be read back was not written, and is tried again.
		const most = 4
		written := func() int {
			return len(regexp.MustCompile(`"msg":"sink written[^"]*","token":"bot","sink":"file:`).FindAllString(s.daemon.log.text(), -1))
		}
		for n := 1; n <= 2; n++ {
			s.loggedTimes(contested, n)
			st := s.status()
			if !st.Sinks[0].Contested || st.Sinks[0].Current || !strings.Contains(st.Sinks[0].Failure, "contested") {
				s.Errorf("the status says %+v", st.Sinks[0])
			}
			if v := s.read(); v.Version != uint64(n) {
				s.Errorf("the socket has version %d, not %d", v.Version, n)
			}
			if got := written(); got > most*n {
				s.Errorf("%d versions were written %d times, want at most %d", n, got, most*n)
			}
			s.do(0, "", "healthcheck", "--config", "bot.yaml")
			if n == 1 {
				s.do(0, "^bot: a new version is published", "refresh", "bot", "--config", "bot.yaml")
			}
		}
		close(stop)
		s.try(<-stopped)
		if text, err := os.ReadFile(path); err != nil || !bytes.Equal(text, theirs) {
			s.Errorf("the file holds %d bytes, %v", len(text), err)
		}
		s.ends()
	})
}
