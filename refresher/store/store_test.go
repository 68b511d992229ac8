package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"iam-token-refresher/refresher"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func version(token string, n uint64) refresher.Version {
	now := time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.FixedZone("MSK", 3*3600))
	return refresher.Version{
		Token:       token,
		Lineage:     "lineage",
		N:           n,
		Value:       refresher.NewValue("t1." + rand.Text() + "." + rand.Text()),
		Type:        refresher.TypeIAM,
		MintedAt:    now,
		ExpiresAt:   now.Add(12 * time.Hour),
		PublishedAt: now.Add(time.Second),
	}
}

func save(t *testing.T, s *Store, v refresher.Version, f refresher.Finding) {
	t.Helper()
	if err := s.Save(t.Context(), v.Token, "fp", v, f); err != nil {
		t.Fatal(err)
	}
}

// mustLoad loads v, or fails.
func mustLoad(t *testing.T, s *Store, want refresher.Version) refresher.Finding {
	t.Helper()
	v, f, ok, err := s.Load(want.Token, "fp")
	if err != nil || !ok {
		t.Fatalf("load %q: ok %v, error %v", want.Token, ok, err)
	}
	for _, times := range [][2]time.Time{
		{v.MintedAt, want.MintedAt}, {v.ExpiresAt, want.ExpiresAt}, {v.PublishedAt, want.PublishedAt},
	} {
		if !times[0].Equal(times[1]) {
			t.Errorf("a time is %v, want %v", times[0], times[1])
		}
	}
	v.MintedAt, v.ExpiresAt, v.PublishedAt = want.MintedAt, want.ExpiresAt, want.PublishedAt
	if v != want {
		t.Errorf("loaded %+v, want %+v (values equal: %v)", v, want, v.Value == want.Value)
	}
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasSavedIsLoadedAfterARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	all := map[string]func(*refresher.Version){
		"bot":               func(*refresher.Version) {},
		"no-expiry":         func(v *refresher.Version) { v.ExpiresAt = time.Time{} },
		"oauth":             func(v *refresher.Version) { v.Type = refresher.TypeOAuth },
		"not-utf8":          func(v *refresher.Version) { v.Value = refresher.NewValue("\xff\xfe\x00\"<>&\u2028") },
		"высокая/.. нагруз": func(*refresher.Version) {},
		".hidden":           func(*refresher.Version) {},
		"-rf":               func(*refresher.Version) {},
		"50%":               func(*refresher.Version) {},
		"lock":              func(*refresher.Version) {},
	}
	var names []string
	saved := map[string]refresher.Version{}
	s := open(t, dir)
	for name, change := range all {
		v := version(name, 7)
		change(&v)
		save(t, s, v, refresher.Finding{Verdict: refresher.RejectedAccess, Reason: `403 "no" <access>`, RetryAfter: 1, Throttled: true})
		saved[name] = v
		names = append(names, name)
	}
	must(t, s.Close())

	s = open(t, dir)
	for name, want := range saved {
		f := mustLoad(t, s, want)
		if f != (refresher.Finding{Verdict: refresher.RejectedAccess, Reason: `403 "no" <access>`}) {
			t.Errorf("%s: finding %+v", name, f)
		}
	}
	got := s.tokens(t)
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("tokens %q, want %q", got, names)
	}
}

func TestFileNamesAreHarmlessAndLeadBackToTheToken(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{
		"bot":                            "bot.json",
		"Bot-1.x_y":                      "Bot-1.x_y.json",
		".hidden":                        "%2Ehidden.json",
		"-rf":                            "%2Drf.json",
		"../../etc":                      "%2E.%2F..%2Fetc.json",
		"a b%\x00":                       "a%20b%25%00.json",
		"lock":                           "lock.json",
		"":                               "",
		strings.Repeat("a", maxName+1):   "",
		strings.Repeat("/", maxName/3+1): "",
	} {
		got, err := fileName(token)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: file %q, error %v, want %q", token, got, err, want)
		}
		if back, ok := tokenOf(got); err == nil && (!ok || back != token) {
			t.Errorf("%q leads back to %q", got, back)
		}
	}
	for _, file := range []string{"lock", ".bot.json.itr-tmp0", "bot.json" + corruptMark + "2026", "%62ot.json", "bot.json~", ".json"} {
		if token, ok := tokenOf(file); ok {
			t.Errorf("%q is taken for the state of %q", file, token)
		}
	}
}

func TestFilesAreForUsAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	save(t, s, version("bot", 1), refresher.Finding{})
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		must(t, err)
		st, err := os.Stat(path)
		must(t, err)
		want := os.FileMode(0o600)
		if st.IsDir() {
			want = 0o700
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %04o", path, st.Mode().Perm())
		}
		return nil
	}))
}

func TestNothingWasSaved(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	if _, _, ok, err := s.Load("bot", "fp"); ok || err != nil {
		t.Errorf("ok %v, error %v", ok, err)
	}
	if got := s.tokens(t); len(got) != 0 {
		t.Errorf("tokens %q", got)
	}
}

func TestAnotherFingerprintsStateIsNotUsedButStaysUntilTheNextSave(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	v := version("bot", 3)
	save(t, s, v, refresher.Finding{})
	if _, _, ok, err := s.Load("bot", "another"); ok || err != nil {
		t.Errorf("ok %v, error %v", ok, err)
	}
	mustLoad(t, s, v) // the configuration was mended

	other := version("bot", 1)
	other.Lineage = "other"
	must(t, s.Save(t.Context(), "bot", "another", other, refresher.Finding{}))
	if _, _, ok, err := s.Load("bot", "fp"); ok || err != nil {
		t.Errorf("ok %v, error %v", ok, err)
	}
}

func TestWhyWhatWasSavedIsNotUsedIsSaid(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s, err := Open(filepath.Join(t.TempDir(), "state"), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer s.Close()
	must(t, s.Save(t.Context(), "bot", "one account", version("bot", 1), refresher.Finding{Verdict: refresher.Accepted}))
	if _, _, ok, err := s.Load("bot", "one account"); !ok || err != nil || log.Len() > 0 {
		t.Errorf("its own: %v, %v, %s", ok, err, &log)
	}
	if _, _, ok, err := s.Load("bot", "another account"); ok || err != nil {
		t.Errorf("another's: %v, %v", ok, err)
	}
	for _, want := range []string{"what was saved is not used", "token=bot", `saved_for="one account"`, `wanted="another account"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in %s", want, &log)
		}
	}
}

func TestALateSaveOfALowerNumberIsIgnored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	five := version("bot", 5)
	save(t, s, five, refresher.Finding{})
	save(t, s, version("bot", 4), refresher.Finding{})
	mustLoad(t, s, five)
	must(t, s.Close())

	// Also when the higher number is known only from the file.
	s = open(t, dir)
	mustLoad(t, s, five)
	save(t, s, version("bot", 4), refresher.Finding{})
	mustLoad(t, s, five)

	// The same number again brings a new finding, and a new lineage begins at 1.
	save(t, s, five, refresher.Finding{Verdict: refresher.Accepted})
	if f := mustLoad(t, s, five); f.Verdict != refresher.Accepted {
		t.Errorf("verdict %v", f.Verdict)
	}
	one := version("bot", 1)
	one.Lineage = "new"
	save(t, s, one, refresher.Finding{})
	mustLoad(t, s, one)
}

func TestAFailedSaveLeavesTheStateBeforeIt(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	one, two := version("bot", 1), version("bot", 2)
	save(t, s, one, refresher.Finding{})
	write := s.write
	s.write = func(string, []byte) error { return errors.New("no space left on device") }
	err := s.Save(t.Context(), "bot", "fp", two, refresher.Finding{})
	if err == nil || !strings.Contains(err.Error(), `"bot"`) {
		t.Errorf("error %v", err)
	}
	mustLoad(t, s, one)
	s.write = write
	save(t, s, two, refresher.Finding{})
	mustLoad(t, s, two)
}

func TestADiskThatHangsForOneTokenHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	write := s.write
	hanging, release := make(chan struct{}), make(chan struct{})
	s.write = func(path string, data []byte) error {
		if filepath.Base(path) == "hung.json" {
			close(hanging)
			<-release
		}
		return write(path, data)
	}
	var hung sync.WaitGroup
	five := version("hung", 5)
	hung.Go(func() { save(t, s, five, refresher.Finding{}) })
	<-hanging

	other := version("other", 1)
	save(t, s, other, refresher.Finding{})
	mustLoad(t, s, other)

	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := s.Save(ctx, "hung", "fp", version("hung", 6), refresher.Finding{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}

	// Closed meanwhile, the directory stays locked until the write is over:
	// what it writes must not come after what another daemon wrote.
	must(t, s.Close())
	var locked *LockedError
	if _, err := Open(dir, Options{}); !errors.As(err, &locked) {
		t.Errorf("opened during a write: %v", err)
	}
	close(release)
	hung.Wait()
	mustLoad(t, open(t, dir), five)
}

func TestSaveDoesNotBeginWhenItsContextIsDone(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Save(ctx, "bot", "fp", version("bot", 1), refresher.Finding{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if got := s.tokens(t); len(got) != 0 {
		t.Errorf("tokens %q", got)
	}
}

func TestAClosedStoreSavesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	must(t, s.Close())
	must(t, s.Close())
	if err := s.Save(t.Context(), "bot", "fp", version("bot", 1), refresher.Finding{}); !errors.Is(err, errClosed) {
		t.Errorf("error %v", err)
	}
}

func TestConcurrentSavesOfOneTokenLeaveTheHighest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	versions := make([]refresher.Version, 20)
	var wg sync.WaitGroup
	for i := range versions {
		versions[i] = version("bot", uint64(i+1))
		wg.Go(func() { save(t, s, versions[i], refresher.Finding{}) })
	}
	wg.Wait()
	mustLoad(t, s, versions[len(versions)-1])
}

func TestNoMessageHoldsAValue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log bytes.Buffer
	s, err := Open(dir, Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	must(t, err)
	defer s.Close()
	v := version("bot", 1)
	path := filepath.Join(dir, "bot.json")
	said := []string{fmt.Sprintf("%+v", newRecord("bot", "fp", v, refresher.Finding{}).version())}
	for _, content := range []string{
		v.Value.Reveal(),
		`"` + v.Value.Reveal() + `"`,
		`{"format":"` + v.Value.Reveal() + `"}`,
		`{"format":1,"sha256":"` + v.Value.Reveal() + `","state":{}}`,
		string(seal([]byte(`{"token":"bot","n":"` + v.Value.Reveal() + `"}`))),
		string(seal([]byte(`{"token":"` + v.Value.Reveal() + `"}`))),
		string(seal([]byte(`{"verdict":"` + v.Value.Reveal() + `"}`))),
	} {
		must(t, os.WriteFile(path, []byte(content), 0o600))
		_, _, ok, err := s.Load("bot", "fp")
		if ok || err == nil {
			t.Fatalf("loaded %q", content)
		}
		said = append(said, err.Error())
	}
	must(t, os.Mkdir(path, 0o700))
	err = s.Save(t.Context(), "bot", "fp", v, refresher.Finding{})
	if err == nil {
		t.Fatal("saved over a directory")
	}
	said = append(said, err.Error(), log.String())
	for _, s := range said {
		if strings.Contains(s, v.Value.Reveal()) {
			t.Errorf("a message holds the value: %s", s)
		}
	}
}

// BenchmarkSave is meant for a tmpfs: TMPDIR=/dev/shm go test -bench Save.
func BenchmarkSave(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	versions := make([]refresher.Version, 1000)
	for i := range versions {
		versions[i] = version(fmt.Sprintf("bot-%d", i), 1)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		v := versions[i%len(versions)]
		v.N += uint64(i)
		if err := s.Save(b.Context(), v.Token, "fp", v, refresher.Finding{Verdict: refresher.Accepted, Reason: "200"}); err != nil {
			b.Fatal(err)
		}
	}
}

// tokens returns the names of the tokens that have a state, usable or not.
func (s *Store) tokens(t *testing.T) []string {
	t.Helper()
	files, err := os.ReadDir(s.dir)
	must(t, err)
	var tokens []string
	for _, f := range files {
		if token, ok := tokenOf(f.Name()); ok {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// tokenOf is the token that a file belongs to.
func tokenOf(file string) (token string, ok bool) {
	name, ok := strings.CutSuffix(file, suffix)
	if !ok {
		return "", false
	}
	token, err := url.PathUnescape(name)
	if err != nil {
		return "", false
	}
	// Only what fileName makes: not a stranger's file, nor a temporary one.
	again, err := fileName(token)
	return token, err == nil && again == file
}
