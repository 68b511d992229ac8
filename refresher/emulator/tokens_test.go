package emulator_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"iam-token-refresher/refresher/emulator"
)

func TestATokenDiesAtItsEnd(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{TokenLifetime: time.Minute})
	out := c.mint()
	for _, step := range []struct {
		offset time.Duration
		want   int
	}{{50 * time.Second, 200}, {61 * time.Second, 401}, {0, 200}} {
		if err := c.SetClockOffset(step.offset); err != nil {
			t.Fatal(err)
		}
		if a := c.myself(out.IamToken); a.status != step.want {
			t.Errorf("%s later Tracker answers %d, want %d", step.offset, a.status, step.want)
		}
	}
}

func TestARevokedTokenIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	first, second := c.mint().IamToken, c.mint().IamToken
	if first == second {
		t.Fatal("without --reissue-until each token is new")
	}
	if !c.Revoke(first) || c.Revoke("rubbish") {
		t.Error("Revoke does not tell whether there was such a token")
	}
	wantStatus(t, c.myself(first), http.StatusUnauthorized, "revoked")
	wantStatus(t, c.myself(second), http.StatusOK, "uid")
}

func TestAYoungTokenIsReissued(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{TokenLifetime: 100 * time.Second, ReissueUntil: 0.9})
	first := c.mint()
	if again := c.mint(); again.IamToken != first.IamToken || !again.ExpiresAt.AsTime().Equal(first.ExpiresAt.AsTime()) {
		t.Error("a young token was not given again with the same end")
	}
	if other, err := c.impersonate(first.IamToken, emulator.TargetAccount); err != nil || other.IamToken == first.IamToken {
		t.Errorf("another account got the same token (%v)", err)
	}
	if err := c.SetClockOffset(85 * time.Second); err != nil {
		t.Fatal(err)
	}
	if c.mint().IamToken != first.IamToken {
		t.Error("at 85 % of its life it was not given again")
	}
	if err := c.SetClockOffset(95 * time.Second); err != nil {
		t.Fatal(err)
	}
	second := c.mint()
	if second.IamToken == first.IamToken {
		t.Error("at 95 % of its life it was given again")
	}
	wantStatus(t, c.myself(first.IamToken), http.StatusOK, "uid") // a new token does not end the old one
	c.Revoke(second.IamToken)
	if c.mint().IamToken == second.IamToken {
		t.Error("a revoked token was given again")
	}
}

func TestTheNewFormatSharesNothingWithTodays(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{TokenFormat: emulator.FormatNew})
	value := c.mint().IamToken
	if strings.Contains(value, "t1.") || todaysFormat.MatchString(value) {
		t.Errorf("%q is today's format", value)
	}
	wantStatus(t, c.myself(value), http.StatusOK, "uid")
	if oauth := c.NewLogin("").AccessToken; strings.HasPrefix(oauth, "y0_") {
		t.Errorf("%q is today's format", oauth)
	}
}

func TestIssuedRemembersEverySecretThatWasHandedOut(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	login := c.NewLogin("")
	minted, _, err := c.Mint(emulator.BotAccount, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := c.SignSubject(emulator.SubjectClaims{})
	if err != nil {
		t.Fatal(err)
	}
	issued := c.Issued()
	for name, value := range map[string]string{
		"a minted token": minted, "an IAM token": c.mint().IamToken, "an access token": login.AccessToken,
		"a refresh token": login.RefreshToken, "a subject token": subject, "oidc.jwt": c.read("oidc.jwt"),
		"oauth.token": strings.TrimSpace(c.read("oauth.token")),
	} {
		if name == "an IAM token" {
			issued = c.Issued()
		}
		if !slices.Contains(issued, value) && !slices.Contains(c.Issued(), value) {
			t.Errorf("%s is not remembered", name)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{KeepIssued: 100})
	var last string
	for range 5000 {
		last, _, _ = c.Mint(emulator.BotAccount, -time.Hour)
	}
	issued := c.Issued()
	if len(issued) != 100 || issued[99] != last {
		t.Errorf("%d values are remembered, want the newest 100, oldest first", len(issued))
	}
	if n := emulator.Known(c.Emulator); n > 2100 {
		t.Errorf("%d tokens are known although all but a few have long expired", n)
	}
}

func TestMintGivesTokensOfAnyLife(t *testing.T) {
	t.Parallel()
	c := start(t, emulator.Options{})
	for _, test := range []struct {
		lifetime time.Duration
		want     int
	}{{0, 200}, {time.Minute, 200}, {-time.Second, 401}} {
		value, expires, err := c.Mint(emulator.BotAccount, test.lifetime)
		if err != nil {
			t.Fatal(err)
		}
		if test.lifetime != 0 && time.Until(expires) > test.lifetime {
			t.Errorf("a life of %s ends in %s", test.lifetime, time.Until(expires))
		}
		if a := c.myself(value); a.status != test.want {
			t.Errorf("life %s: Tracker answers %d, want %d", test.lifetime, a.status, test.want)
		}
	}
	if _, _, err := c.Mint("ajenobody", 0); err == nil {
		t.Error("nobody got a token")
	}
}
