package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"iam-token-refresher/refresher"
	"iam-token-refresher/refresher/oauth"
)

// secret reads the application's secret, or asks for it and writes its file.
func (l *login) secret(ctx context.Context) (refresher.Value, error) {
	secret, err := oauth.ReadSecret(l.secretFile)
	if !errors.Is(err, fs.ErrNotExist) || !l.canAsk() {
		return secret, err
	}
	text, err := l.ask(ctx, "Client secret of the application (it is not shown): ", true)
	if err != nil {
		return refresher.Value{}, fmt.Errorf("ask for the client secret: %w", err)
	}
	if err := oauth.KeepSecret(l.secretFile, text); err != nil {
		return refresher.Value{}, fmt.Errorf("store the client secret: %w", err)
	}
	l.tell("The secret is stored in %s.\n", l.secretFile)
	return oauth.ReadSecret(l.secretFile)
}

// flow logs in the way that the flags say.
func (l *login) flow(ctx context.Context) (oauth.Login, error) {
	switch {
	case l.paste:
		return l.byPasting(ctx)
	case l.listen != "":
		return l.byListening(ctx)
	case l.code:
		return l.byCode(ctx)
	}
	return l.byDevice(ctx)
}

func (l *login) byDevice(ctx context.Context) (oauth.Login, error) {
	d, err := l.client.StartDevice(ctx, l.scopes...)
	if err != nil {
		return oauth.Login{}, err
	}
	l.tell("Open this page in any browser, log in there as the person whose access it is to be,\nand enter the code:\n\n  %s\n  code: %s\n\nWaiting until %s; Ctrl-C gives up.\n",
		d.URL, d.UserCode, d.Expires.Local().Format(time.TimeOnly))
	return d.Wait(ctx)
}

func (l *login) byCode(ctx context.Context) (oauth.Login, error) {
	c := l.client.StartConfirmation("", l.scopes...)
	l.tell("Open this page in any browser, log in there as the person whose access it is to be,\nand allow the access:\n\n  %s\n\n", c.URL)
	text, err := l.ask(ctx, "Paste the code that the page shows then: ", false)
	if err != nil {
		return oauth.Login{}, fmt.Errorf("ask for the code: %w", err)
	}
	return c.Finish(ctx, text)
}

func (l *login) byPasting(ctx context.Context) (oauth.Login, error) {
	if l.canAsk() {
		l.tell("Open this page in any browser, log in there as the person whose access it is to be,\nand allow the access:\n\n  %s\n\n", l.client.DebugURL(l.scopes...))
	}
	text, err := l.ask(ctx, "Paste the token that the page shows then, or its whole address (it is not shown): ", true)
	if err != nil {
		return oauth.Login{}, fmt.Errorf("ask for the token: %w", err)
	}
	return l.client.Pasted(text)
}

// codeLife is how long the browser may take.
const codeLife = 10 * time.Minute

// byListening waits for the browser to bring the code.
func (l *login) byListening(ctx context.Context) (oauth.Login, error) {
	listener, err := net.Listen("tcp", l.listen)
	if err != nil {
		return oauth.Login{}, fmt.Errorf("listen for the browser: %w: choose another port, and make it a redirect URI of the application", err)
	}
	ctx, cancel := context.WithTimeout(ctx, codeLife)
	defer cancel()
	c := l.client.StartConfirmation("http://"+l.listen+"/", l.scopes...)
	type result struct {
		login oauth.Login
		err   error
	}
	results := make(chan result, 1)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet || r.URL.Path != "/" || !q.Has("state") {
			http.Error(w, "only the page of Yandex OAuth leads here", http.StatusNotFound)
			return
		}
		got, err := c.Answer(ctx, q)
		if errors.Is(err, oauth.ErrForeignAnswer) {
			// Whoever can make a browser come here must not be able to end a login.
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		text := "Done: go back to the terminal."
		if err != nil {
			text = "That did not work: go back to the terminal."
		}
		_, _ = fmt.Fprintln(w, text)
		select {
		case results <- result{got, err}:
		default: // the page was loaded again
		}
	})}
	served := make(chan struct{})
	go func() {
		_ = server.Serve(listener)
		close(served)
	}()
	defer func() {
		// The browser gets its page before we go.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(end) != nil {
			_ = server.Close()
		}
		<-served
	}()
	l.tell("Open this page in a browser on this machine, log in there as the person whose access it\nis to be, and allow the access:\n\n  %s\n\nWaiting until %s; Ctrl-C gives up. http://%s/ must be a redirect URI of the application.\n",
		c.URL, time.Now().Add(codeLife).Format(time.TimeOnly), l.listen)
	select {
	case r := <-results:
		return r.login, r.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return oauth.Login{}, errors.New("nobody came back from the page in ten minutes: run the command again")
		}
		return oauth.Login{}, ctx.Err()
	}
}

// lives says how long a login lasts.
func (l *login) lives(got oauth.Login) string {
	text := ""
	if !got.ExpiresAt.IsZero() {
		text = ", and its token lives until " + got.ExpiresAt.Local().Format(time.DateOnly)
	}
	if got.Refresh.IsZero() {
		text += "; it cannot be refreshed: log in again before it ends"
	}
	return text
}

// canAsk tells whether there is a person to ask.
func (l *login) canAsk() bool { return l.screenOf(l.stdin).terminal }

// ask reads a line from the person, or from whatever standard input is; hidden
// ones do not show on a terminal.
func (l *login) ask(ctx context.Context, question string, hidden bool) (string, error) {
	var text string
	var err error
	switch {
	case l.canAsk() && hidden:
		text, err = readHidden(ctx, l.stdin, l.stderr, question)
	case l.canAsk():
		l.tell("%s", question)
		fallthrough
	default:
		text, err = readLine(ctx, l.stdin)
	}
	if text = strings.TrimSpace(text); err == nil && text == "" {
		err = errors.New("nothing was given")
		if !l.canAsk() {
			err = errors.New("nothing was given: there is no terminal, so it is read from standard input")
		}
	}
	return text, err
}
