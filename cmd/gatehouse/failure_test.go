package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// TestProveDatabaseOutage stops PostgreSQL under load: logins go on, and afterwards every
// decision has its audit entry. The long form stops it for a minute.
func TestProveDatabaseOutage(t *testing.T) {
	t.Parallel()
	outage, logins := 3*time.Second, 50
	if long() {
		outage, logins = time.Minute, 2000
	}
	w := newWorld(t, worldOptions{})
	db := startDatabase(t)
	o := serveOptions{process: true, store: db.dsn()}
	replicas := []*replica{w.serve(o), w.serve(o)}
	l := w.startLoad(8)
	l.awaitMore(logins)

	db.stop()
	began := time.Now()
	before, unserved := l.count(), l.unserved.Load()
	l.awaitMore(logins)
	eventuallyWithin(t, 2*outage, func() error {
		if lasted := time.Since(began); lasted < outage {
			return fmt.Errorf("the outage lasted %s", lasted)
		}
		return nil
	})
	for _, r := range replicas {
		if r.metric("gatehouse_store_errors_total") == 0 {
			t.Errorf("%s counts no error of the store", r.name)
		}
		if err := r.ready(); err != nil {
			t.Errorf("%s is not ready although its state is fresh enough: %v", r.name, err)
		}
	}
	l.awaitMore(logins)
	during := l.count()
	// A busy machine may let one or the other client wait for too long.
	if n := l.unserved.Load() - unserved; n > int64(during-before)/20 {
		t.Errorf("%d logins were admitted and %d not answered during the outage", during-before, n)
	}
	db.start()
	l.awaitMore(logins)
	l.stop()

	for _, r := range replicas {
		r.mustGetReady()
		eventually(t, func() error {
			if left := r.metric("gatehouse_spool_bytes"); left > 0 {
				return fmt.Errorf("%v bytes wait in the spool of %s", left, r.name)
			}
			return nil
		})
	}
	entries := replicas[0].audit("--kind", "login")
	if missing := l.missing(entries); len(missing) > 0 {
		t.Errorf("%d of %d admitted logins have no audit entry", len(missing), l.count())
	}
	recorded := map[string]float64{}
	for _, e := range entries {
		recorded[e.Outcome] += float64(max(1, e.Count))
	}
	for _, outcome := range []string{"allowed", "refused"} {
		var decided float64
		for _, r := range replicas {
			decided += r.metric("gatehouse_logins_total", fmt.Sprintf("outcome=%q", outcome))
		}
		if recorded[outcome] != decided {
			t.Errorf("%v decisions were %s, the audit trail has %v", decided, outcome, recorded[outcome])
		}
	}
	if n := l.unfounded.Load(); n > 0 {
		t.Errorf("%d logins were refused without a reason", n)
	}
	t.Logf("%d logins were admitted and %d refused, %d of them before the end of an outage of %s; all %d entries are there",
		l.count(), l.refusals.Load(), during, outage, len(entries))
}

// TestProveKill kills the service under load: every login that a client saw admitted has its
// audit entry after the restart.
func TestProveKill(t *testing.T) {
	t.Parallel()
	kills, logins := 2, 50
	if long() {
		kills, logins = 20, 500
	}
	w := newWorld(t, worldOptions{})
	r := w.serve(serveOptions{process: true})
	l := w.startLoad(8)
	for range kills {
		l.awaitMore(logins)
		r.kill()
		r.start(true)
		r.mustGetReady()
	}
	l.awaitMore(logins)
	l.stop()
	eventually(t, func() error {
		if missing := l.missing(r.audit("--outcome", "allowed")); len(missing) > 0 {
			return fmt.Errorf("%d of %d admitted logins have no audit entry", len(missing), l.count())
		}
		return nil
	})
	t.Logf("the service was killed %d times; all %d admitted logins have their audit entries", kills, l.count())
}

// TestStaleStateAnswersNobody cuts the service off from its database for longer than
// max_staleness.
func TestStaleStateAnswersNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	wire, through := startWire(t, storetest.Postgres(t, postgres.Migrate))
	r := w.serve(serveOptions{process: true, store: through, env: []string{"GATEHOUSE_MAX_STALENESS=1s"}}) // so on a busy machine it is old at times
	token := w.token("alice", nil)
	w.eventuallyLogin(token)
	wire.setCut(true)
	eventually(t, func() error {
		err := r.ready()
		if err == nil || !strings.Contains(err.Error(), "store: the store has not confirmed the state for") {
			return fmt.Errorf("/readyz: %v", err)
		}
		return nil
	})
	nc, err := w.dial(token, nats.Timeout(time.Second))
	if err == nil {
		nc.Close()
	}
	if err == nil || errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a login without a fresh state got %v, want no answer", err)
	}
	wire.setCut(false)
	w.eventuallyLogin(token)
	eventually(t, func() error {
		if len(r.audit("--outcome", "silent", "--reason", "snapshot_stale")) == 0 {
			return errors.New("the unanswered login has no audit entry")
		}
		return nil
	})
}

// twoIssuers returns a world that also trusts a second issuer, named slow, whose answers take
// that long.
func twoIssuers(t testing.TB, delay time.Duration) (*world, *devstack.Provider) {
	t.Helper()
	w := newWorld(t, worldOptions{policy: worldPolicy + `  - name: others
    issuer: slow
    grant: { account: APP, role: developer }
`})
	slow := devtest.StartProvider(t, devstack.ProviderOptions{})
	slow.SetDelay(delay)
	w.edit(func(yaml string) string {
		return strings.Replace(yaml, "issuers:\n", "issuers:\n  - { name: slow, url: "+slow.Issuer()+", audiences: [nats] }\n", 1)
	})
	return w, slow
}

// TestSlowIssuerDelaysNobodyElse logs in by one issuer while another one takes its time, and
// by known keys while it is down.
func TestSlowIssuerDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	w, slow := twoIssuers(t, 5*time.Second)
	r := w.serve(serveOptions{process: true})

	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			nc, err := w.dial(devtest.Token(t, slow, "alice", nil), nats.Timeout(4*time.Second))
			if err == nil {
				nc.Close()
				t.Error("a login was admitted before the keys of its issuer can have been loaded")
			}
		})
	}
	for range 10 {
		w.login(w.token("alice", nil), nats.Timeout(2*time.Second))
	}
	if status := r.must("status", "--json"); !strings.Contains(status, `"name":"slow","url":"`+slow.Issuer()+`","keys_loaded":false`) {
		t.Errorf("the slow issuer has answered before the others' logins were through: %s", status)
	}
	waiting.Wait() // the server itself ends a login that nobody answers in time

	slow.SetDelay(0)
	w.eventuallyLogin(devtest.Token(t, slow, "alice", nil))
	slow.SetDown(true)
	w.login(devtest.Token(t, slow, "alice", nil), nats.Timeout(2*time.Second))
	if err := slow.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	unknown, err := w.dial(devtest.Token(t, slow, "alice", nil), nats.Timeout(time.Second))
	if err == nil {
		unknown.Close()
	}
	if err == nil || errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a login by a new key of an issuer that is down got %v, want no answer", err)
	}
	w.login(w.token("alice", nil), nats.Timeout(2*time.Second))
	if err := r.ready(); err != nil {
		t.Errorf("one issuer that is down makes the replica not ready: %v", err)
	}
}

// TestProveRandomKeyIDs floods the service with tokens whose key nobody has: their issuer is
// asked at most once in an interval, and everybody else is let in meanwhile.
func TestProveRandomKeyIDs(t *testing.T) {
	t.Parallel()
	const clients, interval = 40, 10 * time.Second
	tokens := 400
	if long() {
		tokens = 10_000
	}
	w := newWorld(t, worldOptions{})
	r := w.serve(serveOptions{process: true})
	began, before := time.Now(), w.provider.JWKSFetches()
	var flood sync.WaitGroup
	for range clients {
		flood.Go(func() {
			for range tokens / clients {
				token, err := w.provider.Keys().Sign(map[string]any{"kid": uuid.NewString()}, map[string]any{
					"iss": w.provider.Issuer(), "sub": "mallory", "aud": "nats", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
				})
				if err != nil {
					t.Error(err)
					return
				}
				// Nobody waits for what will not come.
				nc, err := w.dial(token, nats.Timeout(200*time.Millisecond))
				if err == nil {
					nc.Close()
					t.Error("a token with an unknown key was admitted")
				}
			}
		})
	}
	for range 20 {
		w.login(w.token("alice", nil), nats.Timeout(2*time.Second))
	}
	flood.Wait()
	most := 1 + int64(time.Since(began)/interval) + 1 // a fetch may be due at either end
	fetched := w.provider.JWKSFetches() - before
	t.Logf("%d random key ids in %s caused %d fetches", tokens, time.Since(began).Round(time.Second), fetched)
	if fetched > most {
		t.Errorf("%d random key ids caused %d fetches in %s, want %d at most", tokens, fetched, time.Since(began), most)
	}
	if n := r.metric("gatehouse_jwks_fetches_total", `issuer="demo"`); n == 0 || int64(n) > most+before {
		t.Errorf("the service counts %v fetches", n)
	}
}
