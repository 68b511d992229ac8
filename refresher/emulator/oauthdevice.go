package emulator

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Decision is what the person does when an application asks for access.
type Decision string

// The decisions. Expire is not the person's: the code's time is over.
const (
	Approve Decision = "approve"
	Deny    Decision = "deny"
	Expire  Decision = "expire"
)

// device is one login on a device, waiting for the person.
type device struct {
	userCode string
	scope    string
	decided  Decision
	used     bool
	expires  time.Time
	interval time.Duration
	polled   time.Time
}

// deviceCode starts the device flow:
// https://yandex.com/dev/id/doc/en/codes/screen-code-oauth
func (s *oauthServer) deviceCode(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		refuse(w, r, http.StatusBadRequest, "invalid_request", "the body is not an encoded form")
		return
	}
	scope, ok := wantedScope(r.PostForm.Get("scope"))
	switch {
	case r.PostForm.Get("client_id") != ClientID:
		refuse(w, r, http.StatusBadRequest, "invalid_client", "there is no application with this client_id")
		return
	case !ok:
		refuse(w, r, http.StatusBadRequest, "invalid_scope", "the application does not have these permissions")
		return
	}
	o := s.e.o
	code := strings.ToLower(randomText(24))
	d := &device{
		userCode: randomCode(8), scope: scope, interval: o.DeviceInterval, expires: s.e.now().Add(o.DeviceLifetime),
	}
	s.mu.Lock()
	s.forgetOld()
	s.devices[code] = d
	s.mu.Unlock()
	s.e.tokens.rememberAlso(code)
	callOf(r.Context()).ended("OK")
	writeJSON(w, http.StatusOK, struct {
		DeviceCode      string `json:"device_code"`
		UserCode        string `json:"user_code"`
		VerificationURL string `json:"verification_url"`
		Interval        int64  `json:"interval"`
		ExpiresIn       int64  `json:"expires_in"`
	}{code, d.userCode, s.e.endpoints.OAuth + "/device", int64(o.DeviceInterval / time.Second), int64(o.DeviceLifetime / time.Second)})
}

// pollSlack is how much too early a poll may come: networks are not metronomes.
const pollSlack = 100 * time.Millisecond

func (s *oauthServer) redeemDevice(form url.Values) (scope, name, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.e.now()
	d := s.devices[form.Get("code")]
	switch {
	case d == nil:
		return "", "invalid_grant", "the device code is unknown"
	case d.used:
		return "", "invalid_grant", "the device code was used"
	case d.decided == Expire || !now.Before(d.expires):
		return "", "expired_token", "the device code has expired"
	}
	early := !d.polled.IsZero() && now.Sub(d.polled) < d.interval-pollSlack
	d.polled = now
	if early {
		d.interval += 5 * time.Second // RFC 8628, 3.5
		return "", "slow_down", fmt.Sprintf("polls come too often: wait %s between them", d.interval)
	}
	switch d.decided {
	case Approve:
		d.used = true
		return d.scope, "", ""
	case Deny:
		return "", "access_denied", "the person denied the access"
	}
	return "", "authorization_pending", "the person has not entered the code yet"
}

// DecideDevice is the person entering a user code, or its time being over.
func (e *Emulator) DecideDevice(userCode string, decision Decision) error {
	if decision != Approve && decision != Deny && decision != Expire {
		return fmt.Errorf("decision %q: want %s, %s or %s", decision, Approve, Deny, Expire)
	}
	s := e.oauth
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		if strings.EqualFold(d.userCode, userCode) && !d.used && d.decided == "" && e.now().Before(d.expires) {
			d.decided = decision
			return nil
		}
	}
	return fmt.Errorf("no device waits for the code %q", cut(userCode))
}

// PendingDevices returns the user codes that wait for the person, sorted.
func (e *Emulator) PendingDevices() []string {
	s := e.oauth
	s.mu.Lock()
	defer s.mu.Unlock()
	pending := []string{}
	for _, d := range s.devices {
		if !d.used && d.decided == "" && e.now().Before(d.expires) {
			pending = append(pending, d.userCode)
		}
	}
	slices.Sort(pending)
	return pending
}

const deviceForm = `<form method="post">
<input name="user_code" placeholder="code" autocomplete="off" autofocus>
<button name="decision" value="approve">Allow</button>
<button name="decision" value="deny">Deny</button>
</form>`

func (s *oauthServer) devicePage(w http.ResponseWriter, r *http.Request) {
	writePage(w, r, http.StatusOK, "Enter the code from your device", deviceForm)
}

func (s *oauthServer) deviceDecision(w http.ResponseWriter, r *http.Request) {
	decision := Decision(r.PostFormValue("decision"))
	if decision == Expire {
		decision = "" // not the person's to decide
	}
	if err := s.e.DecideDevice(r.PostFormValue("user_code"), decision); err != nil {
		writePage(w, r, http.StatusBadRequest, "That did not work: "+err.Error(), deviceForm)
		return
	}
	writePage(w, r, http.StatusOK, "Done: go back to your device", "")
}
