package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/emulator"
)

func TestALoginIsRefreshedAtAThirdOfItsLifeAndAtMostDaily(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	issued := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for life, want := range map[time.Duration]time.Duration{
		360 * day: 120 * day, 6 * day: 2 * day, 3 * day: day, 50 * hour: day, 40 * hour: 20 * hour, 2 * hour: hour,
	} {
		if got := (Login{IssuedAt: issued, ExpiresAt: issued.Add(life)}).RenewAt(); !got.Equal(issued.Add(want)) {
			t.Errorf("one that lives %s is refreshed after %s and not after %s", life, got.Sub(issued), want)
		}
	}
	if at := (Login{IssuedAt: issued}).RenewAt(); !at.IsZero() {
		t.Errorf("one whose end nobody knows is refreshed at %s", at)
	}
}

func TestAYoungLoginIsGivenAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	l := w.stored()
	s := w.source()
	for range 3 {
		if m := w.mint(s); m.Value != l.Access || !m.ExpiresAt.Equal(l.ExpiresAt) {
			t.Errorf("it gives another value, or end: %+v", m)
		}
		w.later(3 * day)
	}
	if n := w.exchanges(); n != 0 {
		t.Errorf("it was refreshed %d times", n)
	}
	w.later(2 * day)
	m := w.mint(s)
	got := w.stored()
	switch {
	case m.Value == l.Access, m.Value != got.Access, got.Refresh == l.Refresh:
		t.Error("after a third of its life it is not refreshed, or not stored")
	case got.RenewAt().Sub(w.now()) < 9*day:
		t.Errorf("the next refresh is due at %s", got.RenewAt())
	case m.ServerTime.IsZero():
		t.Error("the answer's Date is lost")
	}
	if st, err := os.Stat(w.path("login")); err != nil || st.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", st.Mode(), err)
	}
	// The refresh token that came with it works, in another process, too.
	w.later(11 * day)
	if w.mint(w.source()).Value == got.Access || w.exchanges() != 2 {
		t.Errorf("the second refresh did not work: %d exchanges", w.exchanges())
	}
}

// Old and new source while a configuration changes, and a second process: the
// server would call the second use of a refresh token invalid.
func TestSourcesOfOneFileNeverRefreshAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	w.later(11 * day)
	w.try(w.Inject(emulator.Fault{Service: emulator.ServiceOAuth, Kind: emulator.KindLate, Latency: 200 * time.Millisecond}))
	var all sync.WaitGroup
	values := make([]refresher.Value, 6)
	shared := w.config
	shared.Logins = &Logins{}
	for i := range values {
		config := w.config
		if i%2 == 0 {
			config = shared
		}
		s, err := w.options().New(config)
		w.try(err)
		all.Go(func() {
			m, err := s.Mint(t.Context())
			if values[i] = m.Value; err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, v := range values {
		if v != w.stored().Access {
			t.Error("one gave another value than the file holds")
		}
	}
	if n := w.exchanges(); n != 1 {
		t.Errorf("there were %d exchanges", n)
	}
}

func TestWhatCannotBeStoredIsNotGivenAndNotLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	s := w.source()
	old := w.mint(s)
	w.later(11 * day)
	s.file.write = func(string, Login) error { return errors.New("no space left on device") }
	for range 2 {
		w.fails(s, false, "cannot write the refreshed login to "+w.path("login")+": only this process holds it")
	}
	if w.stored().Access != old.Value {
		t.Error("the file has changed")
	}
	s.file.write = writeLogin
	if m := w.mint(s); m.Value == old.Value || m.Value != w.stored().Access {
		t.Error("what was to be stored is lost")
	}
	if n := w.exchanges(); n != 1 {
		t.Errorf("there were %d exchanges", n)
	}
	// A new login goes before what could not be stored.
	w.later(11 * day)
	s.file.write = func(string, Login) error { return errors.New("no space left on device") }
	w.fails(s, false, "no space left")
	s.file.write = writeLogin
	if l := w.login(); w.mint(s).Value != l.Access || w.stored().Refresh != l.Refresh {
		t.Error("the new login was overwritten")
	}
}

func TestWhatASourceWroteItselfIsNoChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	w.config.Logins = &Logins{}
	changed := func(want bool, when string) {
		t.Helper()
		if got := w.config.Logins.Changed(w.path("login")); got != want {
			t.Errorf("%s: changed is %v", when, got)
		}
	}
	changed(true, "nobody reads it")
	s := w.source()
	w.mint(s)
	changed(true, "somebody logged in, and it was not refreshed yet")
	w.later(11 * day)
	w.mint(s)
	changed(false, "it was refreshed")
	w.later(11 * day)
	s.file.write = func(path string, l Login) error {
		w.try(writeLogin(path, l))
		changed(false, "it is just being refreshed")
		return nil
	}
	w.mint(s)
	w.login()
	changed(true, "somebody logged in again")
	w.mint(s)
	w.write("login", "{")
	changed(true, "it is damaged")
	w.try(os.Remove(w.path("login")))
	changed(true, "it is gone")
}

func TestNothingIsAskedForThatCannotBeStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	s := w.source()
	w.mint(s)
	w.later(11 * day)
	w.try(os.Link(w.path("login"), w.path("other")))
	w.fails(s, false, "2 hard links")
	if n := w.exchanges(); n != 0 {
		t.Errorf("there were %d exchanges", n)
	}
}

// sending is a RoundTripper that does something before each request.
type sending struct {
	http.RoundTripper
	first func()
}

func (s sending) RoundTrip(r *http.Request) (*http.Response, error) {
	s.first()
	return s.RoundTripper.RoundTrip(r)
}

func TestAnExchangeThatHasBegunIsBroughtToItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	w.later(11 * day)
	old := w.stored().Access
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.config.Logins = &Logins{}
	w.config.HTTP = sending{w.config.HTTP, cancel}
	w.try(w.Inject(emulator.Fault{Service: emulator.ServiceOAuth, Kind: emulator.KindLate, Latency: 100 * time.Millisecond}))
	s := w.source()
	ended := make(chan struct{})
	go func() {
		_, _ = s.Mint(ctx)
		close(ended)
	}()
	<-ctx.Done()
	w.config.Logins.Wait(20 * time.Second) // as the daemon does before it ends
	if w.stored().Access == old {
		t.Error("the answer was dropped, and with it the refresh token")
	}
	<-ended
}

func TestTheCommandToLogInAgainIsReadByAShellAsItIsMeant(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/plain/path-1.json", "/with a blank", "/$HOME/*", `/it's "quoted" \ here`, "/~/;#&|<>()`id`", "/путь"} {
		s := &source{application: &application{app: App{ClientID: "id"}}, options: Options{ClientSecretFile: path, TokenFile: path + "2"}}
		_, command, _ := strings.Cut(s.again(), ": ")
		out, err := exec.Command("sh", "-c", "printf '%s\\n' "+command).CombinedOutput()
		want := "iam-token-refresher\nlogin\n--client-id\nid\n--client-secret-file\n" + path + "\n--token-file\n" + path + "2\n"
		if err != nil || string(out) != want {
			t.Errorf("%s is read as %s, %v", command, out, err)
		}
	}
}

func TestALoginThatIsOverIsPermanentAndSaysHowToLogInAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	s := w.source()
	again := "log in again: iam-token-refresher login --client-id " + emulator.ClientID + " --client-secret-file " + w.path("secret") + " --token-file " + w.path("login")
	if !w.Revoke(w.stored().Refresh.Reveal()) {
		t.Fatal("it cannot be revoked")
	}
	w.later(11 * day)
	// Whoever has no value yet gets the one that lives on, once.
	w.mint(s)
	for range 2 {
		w.fails(s, true, "refused: invalid_grant: "+again)
	}
	// The same after the end, in a new process.
	w.later(30 * day)
	w.fails(w.source(), true, again)
	l := w.login()
	if w.mint(s).Value != l.Access {
		t.Error("the new login is not taken up")
	}
}

func TestARejectedTokenIsRefreshedOnceAndThenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	first := w.mint(w.source()).Value
	second := w.mint(w.source(), first).Value
	if second == first || w.exchanges() != 1 {
		t.Fatalf("it was not refreshed: %d exchanges", w.exchanges())
	}
	if w.mint(w.source(), first).Value != second || w.exchanges() != 1 {
		t.Error("it was refreshed for a token that it does not give any more")
	}
	for range 3 {
		w.fails(w.source(), true, "log in again: iam-token-refresher login ", first, second)
	}
	if n := w.exchanges(); n != 1 {
		t.Errorf("there were %d exchanges", n)
	}
	w.later(25 * time.Hour)
	if w.mint(w.source(), second).Value == second {
		t.Error("another day it is not tried again")
	}
	// A pasted token has nothing to be refreshed with.
	l := w.login()
	l.Refresh, l.ExpiresAt = refresher.Value{}, time.Time{}
	w.try(writeLogin(w.path("login"), l))
	w.later(1000 * day)
	w.mint(w.source())
	w.fails(w.source(), true, "there is no refresh token: log in again", l.Access)
}

func TestARejectedTokenIsTriedAgainNowAndThen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	s := w.source()
	first := w.mint(s).Value
	second := w.mint(s, first).Value
	for _, words := range []string{"although it had been refreshed for that reason", "there is no refresh token"} {
		l := w.stored()
		for range 2 {
			w.fails(s, true, words, first, second)
			w.later(tryAgain)
			if w.mint(s, first, second).Value != second {
				t.Error("it gives another")
			}
		}
		w.fails(s, true, words, first, second)
		l.Refresh = refresher.Value{} // as if it had been pasted
		w.try(writeLogin(w.path("login"), l))
	}
	if n := w.exchanges(); n != 1 {
		t.Errorf("there were %d exchanges", n)
	}
}

func TestALookChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	before, err := os.ReadFile(w.path("login"))
	w.try(err)
	look := refresher.WithLookOnly(t.Context())
	w.later(20 * day)
	if m, err := w.source().Mint(look); err != nil || m.Value != w.stored().Access {
		t.Errorf("it gives %+v, %v", m, err)
	}
	w.later(20 * day)
	_, err = w.source().Mint(look)
	w.says(err, "has expired")
	after, err := os.ReadFile(w.path("login"))
	w.try(err)
	if string(after) != string(before) || w.exchanges() != 0 {
		t.Error("it was refreshed")
	}
	if _, err := os.Stat(w.path("login.lock")); !os.IsNotExist(err) {
		t.Error("a lock file was made")
	}
}

func TestWhatElseTheServiceMayAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day, RefreshGrace: 100 * day})
	s := w.source()
	w.mint(s)
	w.later(11 * day)
	for _, c := range []struct {
		fault     emulator.Fault
		permanent bool
		words     string
	}{
		{fault: emulator.Fault{Kind: emulator.KindError, Status: 503, RetryAfter: 7 * time.Second}, words: "refused: "},
		{fault: emulator.Fault{Kind: emulator.KindStatus, Status: 503, RetryAfter: 7 * time.Second}, words: "503 Service Unavailable"},
		{fault: emulator.Fault{Kind: emulator.KindStatus, Status: 429, RetryAfter: 7 * time.Second}, words: "too many requests"},
		{fault: emulator.Fault{Kind: emulator.KindStatus, Status: 403}, words: "is not the service's"},
		{fault: emulator.Fault{Kind: emulator.KindError, Code: "invalid_client"}, permanent: true, words: "client secret is not its own"},
		{fault: emulator.Fault{Kind: emulator.KindError, Code: "unauthorized_client"}, permanent: true, words: "client_id"},
		{fault: emulator.Fault{Kind: emulator.KindError, Code: "something_new"}, permanent: true, words: "refused: something_new"},
		{fault: emulator.Fault{Kind: emulator.KindError, Code: "<b>Not a code"}, words: "is not the service's"},
		{fault: emulator.Fault{Kind: emulator.KindHTML}, words: "another program may answer"},
		{fault: emulator.Fault{Kind: emulator.KindGarbage}, words: "another program may answer"},
		{fault: emulator.Fault{Kind: emulator.KindEmpty}, words: "another program may answer"},
		{fault: emulator.Fault{Kind: emulator.KindRedirect}, words: "redirect (302 Found), which is not followed"},
		{fault: emulator.Fault{Kind: emulator.KindReset}, words: "the connection was closed"},
	} {
		c.fault.Service, c.fault.Method = emulator.ServiceOAuth, "token"
		w.try(w.Inject(c.fault))
		f := w.fails(s, c.permanent, c.words)
		if f.RetryAfter != c.fault.RetryAfter {
			t.Errorf("%s: retry after %s", c.words, f.RetryAfter)
		}
		w.ClearFaults()
	}
	if n := w.Calls()["oauth/redirected"]; n != 0 {
		t.Error("the redirect was followed")
	}
	w.mint(s)
}

// An answer whose token has expired holds the only refresh token there is.
func TestATokenThatExpiredAtOnceIsNotTakenAndItsRefreshTokenIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{OAuthLifetime: 30 * day})
	before := w.stored()
	w.later(11 * day)
	w.try(w.Inject(emulator.Fault{Service: emulator.ServiceOAuth, Kind: emulator.KindExpired}))
	s := w.source()
	const words = "refresh the login at https://127"
	if m := w.mint(s); m.Value != before.Access || !m.ExpiresAt.Equal(before.ExpiresAt) {
		t.Error("the token that lives on is not given")
	}
	w.fails(s, false, words)
	w.fails(s, false, "the token it gave has expired")
	w.later(20 * day) // past the old one's end
	w.fails(s, false, words)
	if got := w.stored(); got.Access != before.Access || got.Refresh == before.Refresh {
		t.Error("the refresh token is lost, or the token was stored")
	}
	w.fails(s, false, words, before.Access)
	w.ClearFaults()
	if m := w.mint(s, before.Access); m.Value == before.Access || m.Value != w.stored().Access || m.ExpiresAt.IsZero() {
		t.Error("it does not go on from there")
	}
}

func TestUnfitFilesAreRefusedWithWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{})
	whole, err := os.ReadFile(w.path("login"))
	w.try(err)
	reset := func() {
		w.try(os.RemoveAll(w.path("login")))
		w.write("login", string(whole))
	}
	for name, c := range map[string]struct {
		spoil func() error
		words string
	}{
		"gone":      {func() error { return os.Remove(w.path("login")) }, "does not exist: log in: iam-token-refresher login --client-id"},
		"truncated": {func() error { return os.Truncate(w.path("login"), int64(len(whole)/2)) }, "is cut short or damaged: log in again"},
		"empty":     {func() error { return os.Truncate(w.path("login"), 0) }, "holds something else than a login: log in again"},
		"foreign":   {func() error { return os.WriteFile(w.path("login"), []byte(`{"token":"x"}`), 0o600) }, "holds something else than a login"},
		"readable":  {func() error { return os.Chmod(w.path("login"), 0o644) }, "can be read or written by others (mode 0644): chmod 600 it"},
		"a link": {func() error {
			return errors.Join(os.Rename(w.path("login"), w.path("real")), os.Symlink(w.path("real"), w.path("login")))
		}, "is a symbolic link"},
		"a directory": {func() error { return errors.Join(os.Remove(w.path("login")), os.Mkdir(w.path("login"), 0o700)) }, "is a directory"},
		"of another application": {func() error {
			return os.WriteFile(w.path("login"), []byte(strings.Replace(string(whole), emulator.ClientID, "another", 1)), 0o600)
		}, "is of application another: set client_id to that"},
	} {
		reset()
		s := w.source()
		w.try(c.spoil())
		_, err := w.options().New(w.config)
		w.says(err, c.words)
		w.fails(s, true, c.words)
		_ = name
	}
	reset()
	w.write("secret", "\ufeff"+emulator.ClientSecret+"\r\n")
	_, err = w.options().New(w.config)
	w.try(err)
	for text, words := range map[string]string{"": "is empty", "two words": "has a blank", "\xff\xfew\x00": "is UTF-16"} {
		w.write("secret", text)
		_, err := w.options().New(w.config)
		w.says(err, words)
	}
	o := w.options()
	o.ClientSecretFile = ""
	_, err = o.New(w.config)
	w.says(err, "is refreshed with the application's secret")
}

func TestAClientSecretThatOthersMayReadIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, emulator.Options{})
	for mode, want := range map[os.FileMode]string{0o600: "", 0o640: "by its group", 0o644: "by everybody"} {
		var log strings.Builder
		w.config.Log = slog.New(slog.NewTextHandler(&log, nil))
		w.try(os.Chmod(w.path("secret"), mode))
		_ = w.source()
		if got := log.String(); (want == "") != (got == "") || !strings.Contains(got, want) || strings.Count(got, w.path("secret")) > 1 {
			t.Errorf("mode %o: %q", mode, got)
		}
	}
}
