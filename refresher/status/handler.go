package status

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves /livez, /readyz and /metrics. Errors of a scrape go to log.
// It holds no secrets, so that anybody on its listener may ask.
func Handler(s Source, log *slog.Logger) http.Handler {
	if s.Readiness == nil {
		s.Readiness = new(Readiness)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.livez)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", metrics(s, log))
	return mux
}

func metrics(s Source, log *slog.Logger) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(s))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: errorLog{log},
		// One bad series must not hide the others.
		ErrorHandling: promhttp.ContinueOnError,
		// A compressor takes most of a megabyte, and the listener is local.
		DisableCompression: true,
	})
}

func (s Source) livez(w http.ResponseWriter, _ *http.Request) {
	if s.Alive != nil {
		if err := s.Alive(); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
	}
	answer(w, http.StatusOK, "ok")
}

func (s Source) readyz(w http.ResponseWriter, _ *http.Request) {
	if missing := s.Readiness.Missing(s.Snapshots(), s.Now()); len(missing) > 0 {
		answer(w, http.StatusServiceUnavailable, strings.Join(missing, "\n"))
		return
	}
	answer(w, http.StatusOK, "ready")
}

func answer(w http.ResponseWriter, code int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n")
}

// errorLog makes promhttp's errors lines of the log.
type errorLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l errorLog) Println(v ...any) {
	l.log.Warn("metrics are incomplete", "error", strings.TrimSuffix(fmt.Sprintln(v...), "\n"))
}
