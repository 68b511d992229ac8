package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// duration reads and writes as "10s".
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as \"10s\"", b)
	}
	*d = duration(v)
	return nil
}

// adminError is an error with its HTTP status.
type adminError struct {
	status int
	err    error
}

func (a *adminError) Error() string { return a.err.Error() }

func notThere(format string, args ...any) error {
	return &adminError{http.StatusNotFound, fmt.Errorf(format, args...)}
}

// command makes an admin handler: in is the decoded body, the result is
// written as JSON, nil as 204. An empty body leaves in as it is.
func command[In any](do func(r *http.Request, in In) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		dec.DisallowUnknownFields()
		err := dec.Decode(&in)
		if errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil && dec.More() {
			err = errors.New("one JSON object is enough")
		}
		if err != nil {
			err = fmt.Errorf("read the request body: %w", err)
		}
		var out any
		if err == nil {
			out, err = do(r, in)
		}
		var with *adminError
		switch {
		case errors.As(err, &with):
			writeJSON(w, with.status, map[string]string{"error": err.Error()})
		case err != nil:
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		case out == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			if file, ok := out.(jsonFile); ok {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(file)
				return
			}
			writeJSON(w, http.StatusOK, out)
		}
	}
}

type none struct{}

// jsonFile is written as it stands.
type jsonFile []byte

// adminHandler is documented in the package documentation.
func (e *Emulator) adminHandler() http.Handler {
	mux := http.NewServeMux()
	e.adminFaults(mux)
	e.adminTokens(mux)
	e.adminAccounts(mux)
	e.adminOAuth(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusNotFound, map[string]string{
			"error": "there is no " + r.Method + " " + cut(r.URL.Path) + ": see GET / for what there is",
		})
	})
	mux.HandleFunc("GET /{$}", command(func(*http.Request, none) (any, error) { return e.about(), nil }))
	return mux
}

// about is what somebody needs who knows the admin address alone.
func (e *Emulator) about() any {
	return map[string]any{
		"dir": e.o.Dir, "endpoints": e.endpoints, "now": e.Now().UTC(),
		"cloud_org_id": CloudOrgID, "org_id": OrgID,
		"accounts":     map[string]string{"bot": BotAccount, "target": TargetAccount, "outsider": OutsiderAccount, "person": Person},
		"oauth_client": map[string]string{"id": ClientID, "secret_file": e.path(fileOAuthSecret)},
		"federation":   map[string]string{"issuer": Issuer, "subject": Subject, "audience": *e.federation.audience.Load()},
		"routes": []string{
			"GET /faults", "POST /faults", "DELETE /faults[?service=S]", "GET /calls", "DELETE /calls",
			"GET /clock", "POST /clock", "POST /revoke", "GET /tokens", "POST /tokens", "POST /subject-tokens",
			"GET /accounts", "POST /accounts/{id}/disable", "POST /accounts/{id}/enable",
			"POST /accounts/{id}/tracker", "POST /accounts/{id}/impersonate", "POST /subjects",
			"POST /keys", "DELETE /keys/{id}", "POST /metadata",
			"GET /oauth/devices", "POST /oauth/devices/{user_code}", "POST /oauth/logins",
		},
	}
}

func (e *Emulator) adminFaults(mux *http.ServeMux) {
	mux.HandleFunc("GET /faults", command(func(*http.Request, none) (any, error) { return e.faults.list(), nil }))
	mux.HandleFunc("POST /faults", command(func(_ *http.Request, f Fault) (any, error) {
		if err := e.Inject(f); err != nil {
			return nil, err
		}
		return f, nil
	}))
	mux.HandleFunc("DELETE /faults", command(func(r *http.Request, _ none) (any, error) {
		service := r.URL.Query().Get("service")
		if _, ok := methods[service]; service != "" && !ok {
			return nil, fmt.Errorf("service %q: want one of %s", cut(service), names(methods))
		}
		e.faults.clear(service)
		return nil, nil
	}))
	mux.HandleFunc("GET /calls", command(func(*http.Request, none) (any, error) { return e.Calls(), nil }))
	mux.HandleFunc("DELETE /calls", command(func(*http.Request, none) (any, error) {
		e.ResetCalls()
		return nil, nil
	}))
	type clock struct {
		Offset duration  `json:"offset"`
		Now    time.Time `json:"now"`
	}
	showClock := func() clock { return clock{duration(e.offset.Load()), e.Now().UTC()} }
	mux.HandleFunc("GET /clock", command(func(*http.Request, none) (any, error) { return showClock(), nil }))
	mux.HandleFunc("POST /clock", command(func(_ *http.Request, in struct {
		Offset *duration `json:"offset"`
	},
	) (any, error) {
		if in.Offset == nil {
			return nil, errors.New(`offset is missing, such as {"offset": "7m"}`)
		}
		err := e.SetClockOffset(time.Duration(*in.Offset))
		return showClock(), err
	}))
}

func (e *Emulator) adminTokens(mux *http.ServeMux) {
	mux.HandleFunc("POST /revoke", command(func(_ *http.Request, in struct {
		Token string `json:"token"`
	},
	) (any, error) {
		if in.Token == "" {
			return nil, errors.New("token is missing")
		}
		if !e.Revoke(in.Token) {
			return nil, notThere("this token was never issued, or is long expired")
		}
		return nil, nil
	}))
	mux.HandleFunc("GET /tokens", command(func(*http.Request, none) (any, error) { return e.Issued(), nil }))
	mux.HandleFunc("POST /tokens", command(func(_ *http.Request, in struct {
		Account  string   `json:"account"`
		Lifetime duration `json:"lifetime"`
	},
	) (any, error) {
		setDefault(&in.Account, BotAccount)
		value, expires, err := e.Mint(in.Account, time.Duration(in.Lifetime))
		return map[string]any{"token": value, "expires_at": expires.UTC()}, err
	}))
	mux.HandleFunc("POST /subject-tokens", command(func(_ *http.Request, in struct {
		Issuer   string   `json:"issuer"`
		Audience []string `json:"audience"`
		Subject  string   `json:"subject"`
		Lifetime duration `json:"lifetime"`
	},
	) (any, error) {
		raw, err := e.SignSubject(SubjectClaims{in.Issuer, in.Audience, in.Subject, time.Duration(in.Lifetime)})
		return map[string]string{"token": raw}, err
	}))
	mux.HandleFunc("POST /subjects", command(func(_ *http.Request, in struct {
		Subject string `json:"subject"`
		Account string `json:"account"`
	},
	) (any, error) {
		if in.Subject == "" {
			return nil, errors.New("subject is missing")
		}
		return nil, e.LinkSubject(in.Subject, in.Account)
	}))
	mux.HandleFunc("POST /metadata", command(func(_ *http.Request, in struct {
		Account *string  `json:"account"`
		Left    duration `json:"left"`
	},
	) (any, error) {
		account := BotAccount
		if in.Account != nil {
			account = *in.Account
		}
		return nil, e.SetMetadata(account, time.Duration(in.Left))
	}))
}

func (e *Emulator) adminAccounts(mux *http.ServeMux) {
	mux.HandleFunc("GET /accounts", command(func(*http.Request, none) (any, error) { return e.Accounts(), nil }))
	account := func(what string, do func(id string) error) {
		mux.HandleFunc("POST /accounts/{id}/"+what, command(func(r *http.Request, _ none) (any, error) {
			if err := do(r.PathValue("id")); err != nil {
				return nil, &adminError{http.StatusNotFound, err}
			}
			return nil, nil
		}))
	}
	account("disable", e.DeleteAccount)
	account("enable", e.RestoreAccount)
	type allowed struct {
		Allowed *bool  `json:"allowed"`
		Account string `json:"account"`
	}
	mux.HandleFunc("POST /accounts/{id}/tracker", command(func(r *http.Request, in allowed) (any, error) {
		if in.Allowed == nil || in.Account != "" {
			return nil, errors.New(`want {"allowed": true} or {"allowed": false}`)
		}
		return nil, e.SetTrackerAccess(r.PathValue("id"), *in.Allowed)
	}))
	mux.HandleFunc("POST /accounts/{id}/impersonate", command(func(r *http.Request, in allowed) (any, error) {
		if in.Allowed == nil || in.Account == "" {
			return nil, errors.New(`want {"account": "WHOM", "allowed": true}`)
		}
		return nil, e.AllowImpersonation(r.PathValue("id"), in.Account, *in.Allowed)
	}))
	mux.HandleFunc("POST /keys", command(func(_ *http.Request, in struct {
		Account    string `json:"account"`
		OwnRSA     bool   `json:"own_rsa"`
		Mismatched bool   `json:"mismatched"`
	},
	) (any, error) {
		setDefault(&in.Account, BotAccount)
		key, err := e.NewKey(in.Account, KeyOptions{OwnRSA: in.OwnRSA, Mismatched: in.Mismatched})
		if err != nil {
			return nil, err
		}
		return jsonFile(key.File), nil // curl -d '{}' $admin/keys > key.json
	}))
	mux.HandleFunc("DELETE /keys/{id}", command(func(r *http.Request, _ none) (any, error) {
		if !e.DeleteKey(r.PathValue("id")) {
			return nil, notThere("there is no key %q", cut(r.PathValue("id")))
		}
		return nil, nil
	}))
}

func (e *Emulator) adminOAuth(mux *http.ServeMux) {
	mux.HandleFunc("GET /oauth/devices", command(func(*http.Request, none) (any, error) { return e.PendingDevices(), nil }))
	mux.HandleFunc("POST /oauth/devices/{user_code}", command(func(r *http.Request, in struct {
		Decision Decision `json:"decision"`
	},
	) (any, error) {
		return nil, e.DecideDevice(r.PathValue("user_code"), in.Decision)
	}))
	mux.HandleFunc("POST /oauth/logins", command(func(_ *http.Request, in struct {
		Scope string `json:"scope"`
	},
	) (any, error) {
		scope, ok := wantedScope(in.Scope)
		if !ok {
			return nil, fmt.Errorf("scope %q: the application has %v", in.Scope, clientScopes)
		}
		return e.NewLogin(scope), nil
	}))
}
