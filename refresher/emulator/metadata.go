package emulator

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// machine is the virtual machine whose metadata service is emulated.
type machine struct {
	mu      sync.Mutex
	account string        // empty: the machine has no service account
	left    time.Duration // above 0: tokens are handed out with that much left
}

func (m *machine) get() (account string, left time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.account, m.left
}

// SetMetadata says whose tokens the metadata service hands out: an empty
// account means that the machine has none (404). A left above 0 makes it hand
// out partly used tokens that end so soon.
func (e *Emulator) SetMetadata(account string, left time.Duration) error {
	if _, ok := e.dir.account(account); account != "" && !ok {
		return fmt.Errorf("set the machine's service account: there is no account %q", account)
	}
	if left < 0 {
		return fmt.Errorf("set what is left of the machine's tokens: %s is negative; for expired tokens inject the fault %q", left, KindExpired)
	}
	e.vm.mu.Lock()
	defer e.vm.mu.Unlock()
	e.vm.account, e.vm.left = account, left
	return nil
}

// metadataHandler serves the metadata API:
// https://yandex.cloud/en/docs/compute/operations/vm-metadata/get-vm-metadata
func (e *Emulator) metadataHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/computeMetadata/v1/instance/service-accounts/default/token",
		e.method(ServiceMetadata, "token", e.machineToken))
	mux.HandleFunc("/redirected", e.redirected(ServiceMetadata))
	mux.HandleFunc("/", e.method(ServiceMetadata, "other", func(w http.ResponseWriter, r *http.Request) {
		e.refuseMetadata(w, r, http.StatusNotFound, "not found")
	}))
	return mux
}

func (e *Emulator) machineToken(w http.ResponseWriter, r *http.Request) {
	c := callOf(r.Context())
	account, left := e.vm.get()
	switch {
	case c.does(KindError):
		status, message := c.fault.Status, c.fault.Message
		setDefault(&status, http.StatusInternalServerError)
		setDefault(&message, "injected fault")
		setRetryAfter(w, c.fault.RetryAfter)
		e.refuseMetadata(w, r, status, message)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		e.refuseMetadata(w, r, http.StatusMethodNotAllowed, "method not allowed")
		return
	case r.Header.Get("Metadata-Flavor") != "Google":
		e.refuseMetadata(w, r, http.StatusForbidden, "missing header Metadata-Flavor: Google")
		return
	case account == "" || !e.dir.alive(account):
		e.refuseMetadata(w, r, http.StatusNotFound, "no service account is linked to this machine")
		return
	}
	var t token
	if left > 0 && c.fault == nil {
		c.by(account)
		t = e.tokens.issue(order{owner: account, lifetime: left, aside: true}, e.now())
	} else {
		t = e.issue(c, account, "")
	}
	c.ended("OK")
	w.Header().Set("Metadata-Flavor", "Google")
	writeJSON(w, http.StatusOK, tokenAnswer{AccessToken: t.value, ExpiresIn: e.left(t), TokenType: "Bearer"})
}

func (e *Emulator) refuseMetadata(w http.ResponseWriter, r *http.Request, status int, message string) {
	callOf(r.Context()).ended(message)
	http.Error(w, message, status)
}
