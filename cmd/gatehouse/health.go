package main

import (
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readiness says what keeps a part of the service from doing its work; nil when nothing does.
type readiness struct {
	part  string
	ready func() error
}

// notReady lists what is not ready and why, one line each.
func notReady(parts []readiness) []string {
	var list []string
	for _, p := range parts {
		err := p.ready()
		if err == nil {
			continue
		}
		for line := range strings.Lines(err.Error()) {
			list = append(list, p.part+": "+strings.TrimSpace(line))
		}
	}
	return list
}

// healthHandler serves /metrics, /healthz and /readyz, and Go's profiles when wanted.
func healthHandler(reg *prometheus.Registry, parts []readiness, withPprof bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusOK, "alive")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if list := notReady(parts); len(list) > 0 {
			text(w, http.StatusServiceUnavailable, slices.Insert(list, 0, "not ready")...)
			return
		}
		text(w, http.StatusOK, "ready")
	})
	if withPprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func text(w http.ResponseWriter, code int, lines ...string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(strings.Join(lines, "\n") + "\n")) // a client that is gone cannot be told
}
