package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// notReadyNaming returns nil when /readyz is not ready and names all of the texts.
func (r *replica) notReadyNaming(texts ...string) error {
	err := r.ready()
	if err == nil {
		return errors.New("/readyz says ready")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			return fmt.Errorf("/readyz does not name %q:\n%w", text, err)
		}
	}
	return nil
}

// mustBeSilent logs in and fails the test when that is answered at all.
func (w *world) mustBeSilent(token string) {
	w.Helper()
	nc, err := w.dial(token, nats.Timeout(time.Second)) // before the server gives up itself
	if err == nil {
		nc.Close()
	}
	if err == nil || errors.Is(err, nats.ErrAuthorization) {
		w.Errorf("the login got %v, want no answer", err)
	}
}

// TestReadinessNamesWhatIsMissing takes one thing away after the other.
func TestReadinessNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{mode: devtest.AsProcess})
	token := w.token("alice", nil)

	w.provider.SetDown(true)
	r := w.newReplica(serveOptions{})
	r.start(true)
	eventually(t, func() error { return r.notReadyNaming("not ready\n", "issuers: keys of demo are not loaded: ") })
	eventually(t, func() error { // and nothing but that
		if lines := strings.Count(r.ready().Error(), "\n"); lines != 2 {
			return r.ready()
		}
		return nil
	})
	w.mustBeSilent(token)
	w.provider.SetDown(false)
	r.mustGetReady()
	w.login(token)

	// A signing key that the account's claims do not list.
	other, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := other.Seed()
	if err != nil {
		t.Fatal(err)
	}
	public, err := other.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "keys", "other.nk"), seed, 0o600); err != nil {
		t.Fatal(err)
	}
	w.edit(func(yaml string) string { return strings.Replace(yaml, "keys/app.nk", "keys/other.nk", 1) })
	eventually(t, func() error {
		return r.notReadyNaming("servers: server gatehouse-1: account APP: its claims list none of the configured signing keys", public)
	})
	w.mustBeSilent(token)
	w.edit(func(yaml string) string { return strings.Replace(yaml, "keys/other.nk", "keys/app.nk", 1) })
	r.mustGetReady()
	w.login(token)

	// The server.
	w.servers[0].Kill()
	eventually(t, func() error { return r.notReadyNaming("callout: 16 of 16 connections are down") })
	if code, body, err := get(r.metrics + "/healthz"); err != nil || code != http.StatusOK || body != "alive\n" {
		t.Errorf("/healthz without a server: %d %q %v", code, body, err)
	}
	if got := r.command("status"); got.code != exitFailed || !strings.Contains(got.out, "not ready: callout: ") {
		t.Errorf("status without a server ends with %d: %s%s", got.code, got.out, got.err)
	}
	if v := r.metric("gatehouse_ready"); v != 0 {
		t.Errorf("gatehouse_ready is %v without a server", v)
	}
	w.servers[0].Start()
	r.mustGetReady()
	w.eventuallyLogin(token)
}

// TestMetrics: what is measured is there, is right where a test can know it, and follows
// Prometheus' conventions.
func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	r := w.serve(serveOptions{process: true})
	w.login(w.token("alice", nil))
	w.mustBeRefused(w.token("carol", nil))
	eventually(t, func() error {
		if n := r.metric("gatehouse_server_rejections_total", `kind="refused"`); n != 1 {
			return fmt.Errorf("servers report %v refused logins", n)
		}
		return nil
	})
	_, body, err := get(r.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		`gatehouse_logins_total issuer="demo" outcome="allowed" reason="allowed"`:    1,
		`gatehouse_logins_total issuer="demo" outcome="refused" reason="no_binding"`: 1,
		`gatehouse_logins_total`:                                 2,
		`gatehouse_login_stage_seconds_count stage="mint"`:       1,
		`gatehouse_login_stage_seconds_count stage="verify"`:     2,
		`gatehouse_login_stage_seconds_count stage="total"`:      2,
		`gatehouse_queue_depth`:                                  0,
		`gatehouse_queue_oldest_seconds`:                         0,
		`gatehouse_jwks_fetches_total issuer="demo" result="ok"`: 1,
		`gatehouse_jwks_fetches_total result="failed"`:           0,
		`gatehouse_store_errors_total`:                           0,
		`gatehouse_server_rejections_total kind="rejected"`:      0,
		`gatehouse_ready`:                                        1,
	} {
		fields := strings.Fields(name)
		if got := sum(t, body, fields[0], fields[1:]...); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"gatehouse_snapshot_age_seconds", "gatehouse_spool_bytes", `gatehouse_server_clock_offset_seconds{server="gatehouse-1"}`, "go_goroutines", "process_start_time_seconds"} {
		if !strings.Contains(body, "\n"+name+" ") {
			t.Errorf("there is no %s", name)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if code, _, err := get(r.metrics + "/debug/pprof/"); err != nil || code != http.StatusNotFound {
		t.Errorf("profiles are served without being asked for: %d %v", code, err)
	}
}

func TestProfilesOnDemand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{noServers: true})
	r := w.newReplica(serveOptions{env: []string{"GATEHOUSE_METRICS_PPROF=true"}})
	r.start(true)
	eventually(t, func() error {
		code, body, err := get(r.metrics + "/debug/pprof/goroutine?debug=1")
		if err != nil || code != http.StatusOK || !strings.Contains(body, "goroutine profile") {
			return fmt.Errorf("%d %s %w", code, body, err)
		}
		return nil
	})
}
