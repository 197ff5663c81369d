package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// TestLife takes two installations, as far apart as they can be, through what happens to one
// in the course of time: credentials end, people are blocked, and every part is restarted.
func TestLife(t *testing.T) {
	t.Parallel()
	t.Run("1 embedded server/plain/sqlite", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, worldOptions{noXKey: true})
		w.live(nil, w.serve(serveOptions{process: true, env: []string{"GATEHOUSE_LEEWAY=1s"}}))
	})
	t.Run("3 processes/xkey/2 replicas on postgres", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, worldOptions{servers: 3, mode: devtest.AsProcess})
		wire, through := startWire(t, storetest.Postgres(t, postgres.Migrate))
		o := serveOptions{process: true, store: through, env: []string{"GATEHOUSE_LEEWAY=1s"}}
		w.live(wire, w.serve(o), w.serve(o))
	})
}

// live is the life of an installation; wire is the way to its database, if it has one.
func (w *world) live(wire *wire, replicas ...*replica) {
	w.Helper()
	expiring := w.startExpiring()
	w.testBlock(replicas)
	w.testLogout(replicas)
	lasting := w.connect(someone(), time.Hour)
	w.testServerRestart(lasting, replicas)
	if wire != nil {
		w.testDatabaseCut(wire, replicas)
	}
	w.testExpired(expiring, replicas[0])
	w.testIssuerRestart()
	w.testServiceRestart(lasting, replicas)
}

// connect connects as programs do, with the client library, and tokens of a developer that
// are valid for that long.
func (w *world) connect(subject string, ttl time.Duration, options ...nats.Option) *nats.Conn {
	w.Helper()
	source := gatehouse.TokenFunc(func(context.Context) (string, error) {
		return w.provider.Token("alice", devstack.Audience, ttl, developer(subject))
	})
	options = append(options, nats.CustomReconnectDelay(func(int) time.Duration { return 50 * time.Millisecond }))
	nc, err := gatehouse.Connect(w.Context(), w.set.ClientURL(), source, gatehouse.WithNATSOptions(options...))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(nc.Close)
	return nc
}

// expiring is a connection whose credential ends soon.
type expiring struct {
	nc    *nats.Conn
	name  string
	first seen
	again chan struct{} // receives when it has logged in anew
}

func (w *world) startExpiring() *expiring {
	w.Helper()
	subject := someone()
	e := &expiring{name: "demo-" + subject, again: make(chan struct{}, 16)}
	e.nc = w.connect(subject, 7*time.Second, nats.ReconnectHandler(func(*nats.Conn) { e.again <- struct{}{} }))
	e.first = whereabouts(w, e.nc)
	return e
}

// testExpired checks that the server ended the connection with its credential, and that the
// client has logged in again by itself.
func (w *world) testExpired(e *expiring, r *replica) {
	w.Helper()
	select {
	case <-e.again:
	case <-time.After(30 * time.Second):
		w.Fatal("the connection outlives its credential")
	}
	eventually(w, func() error {
		allowed := r.audit("--name", e.name, "--outcome", "allowed")
		if len(allowed) < 2 {
			return fmt.Errorf("the client has logged in %d times", len(allowed))
		}
		if first := allowed[len(allowed)-1]; (seen{first.ServerID, first.CID}) != e.first || first.Expires.After(time.Now()) {
			return fmt.Errorf("the first login of %v is recorded as %+v", e.first, first)
		}
		return nil
	})
	if at := w.connection(e.nc); at.AuthorizedUser != e.name {
		w.Errorf("the connection is %s's after the login, want %s", at.AuthorizedUser, e.name)
	}
}

// testBlock blocks somebody through one replica and lifts that through another.
func (w *world) testBlock(replicas []*replica) {
	w.Helper()
	first, last := replicas[0], replicas[len(replicas)-1]
	subject := someone()
	token := w.token("alice", developer(subject))
	w.login(token)
	made := decodeLines[api.RevokeResult](w, first.must("revoke", "--issuer", "demo", "--subject", subject, "--reason", "left", "--json"))[0]
	for _, r := range replicas {
		r.eventuallyExplains(token, "blocked")
	}
	eventually(w, func() error { // as many logins as it takes until each replica was asked
		w.mustBeRefused(token)
		byReplica := map[string]int{}
		for _, e := range last.audit("--subject", subject, "--issuer", "demo", "--reason", "blocked") {
			byReplica[e.Replica]++
		}
		if len(byReplica) != len(replicas) {
			return fmt.Errorf("refusals by replica: %v", byReplica)
		}
		return nil
	})
	w.login(w.token("alice", developer(someone())))
	listed := decodeLines[api.Revocation](w, last.must("revocations", "--json"))
	if !slices.ContainsFunc(listed, func(r api.Revocation) bool { return r.ID == made.Revocation.ID && r.InForce && r.Reason == "left" }) {
		w.Errorf("the block %s is not listed: %+v", made.Revocation.ID, listed)
	}
	last.must("revoke", "lift", made.Revocation.ID, "--reason", "came back")
	for _, r := range replicas {
		r.eventuallyExplains(token, "allowed")
	}
	for range 2 * len(replicas) {
		w.login(token)
	}
}

// testLogout voids the tokens that somebody has; new ones are good.
func (w *world) testLogout(replicas []*replica) {
	w.Helper()
	subject := someone()
	old := w.token("alice", developer(subject))
	w.login(old)
	replicas[0].must("revoke", "--issuer", "demo", "--subject", subject, "--reason", "laptop stolen", "--logout")
	for _, r := range replicas {
		r.eventuallyExplains(old, "logged_out")
	}
	w.mustBeRefused(old)
	var fresh string
	for _, r := range replicas { // the first token that is surely later carries the next second
		eventually(w, func() error {
			fresh = w.token("alice", developer(subject))
			return r.explains(fresh, "allowed")
		})
	}
	w.login(fresh)
	w.mustBeRefused(old)
}

// explains returns nil when the replica would decide so on a token now.
func (r *replica) explains(token, reason string) error {
	r.Helper()
	got := command(r.TB, r.env, token, "explain", "--live", "--json", "--token-file", "-")
	if !strings.Contains(got.out, fmt.Sprintf("%q:%q", "reason", reason)) {
		return fmt.Errorf("%s explains: %s%s", r.name, got.out, got.err)
	}
	return nil
}

func (r *replica) eventuallyExplains(token, reason string) {
	r.Helper()
	eventually(r, func() error { return r.explains(token, reason) })
}

// testServerRestart restarts every server in turn: clients come back, and logins there work.
func (w *world) testServerRestart(lasting *nats.Conn, replicas []*replica) {
	w.Helper()
	for _, s := range w.servers {
		before := s.ClientURL()
		s.Restart()
		devtest.AwaitReady(w, w.servers...)
		if s.ClientURL() != before {
			w.Fatalf("the server moved from %s to %s", before, s.ClientURL())
		}
		eventually(w, func() error {
			nc, err := dial(s.ClientURL(), w.token("alice", nil), nats.Timeout(2*time.Second))
			if err == nil {
				nc.Close()
			}
			return err
		})
	}
	eventually(w, func() error { return lasting.FlushTimeout(time.Second) })
	for _, r := range replicas {
		r.mustGetReady()
	}
}

// testDatabaseCut cuts the connection to the database for a while: logins go on, and what is
// blocked stays so.
func (w *world) testDatabaseCut(wire *wire, replicas []*replica) {
	w.Helper()
	blocked := someone()
	token := w.token("alice", developer(blocked))
	replicas[0].must("revoke", "--issuer", "demo", "--subject", blocked, "--reason", "left")
	for _, r := range replicas {
		r.eventuallyExplains(token, "blocked")
	}
	wire.setCut(true)
	nc := w.login(w.token("alice", developer(someone())))
	w.mustBeRefused(token)
	if got := replicas[0].command("revoke", "--issuer", "demo", "--subject", "bob", "--reason", "left"); got.code != exitFailed {
		w.Errorf("a block that cannot be stored ends with %d: %s%s", got.code, got.out, got.err)
	}
	wire.setCut(false)
	for _, r := range replicas {
		r.auditOf(nc)
		r.mustGetReady()
	}
}

// testIssuerRestart stops the issuer, and brings it back with a new key.
func (w *world) testIssuerRestart() {
	w.Helper()
	w.provider.SetDown(true)
	w.login(w.token("alice", nil), nats.Timeout(2*time.Second))
	w.provider.SetDown(false)
	old := w.token("alice", nil)
	if err := w.provider.RotateKeys(); err != nil {
		w.Fatal(err)
	}
	w.eventuallyLogin(w.token("alice", nil))
	w.login(old)
}

// testServiceRestart restarts every replica: with one left logins go on, without any they are
// not answered, and who is connected stays so.
func (w *world) testServiceRestart(lasting *nats.Conn, replicas []*replica) {
	w.Helper()
	before := whereabouts(w, lasting)
	for i, r := range replicas {
		r.stop()
		if i < len(replicas)-1 {
			w.login(w.token("alice", nil))
		}
	}
	nc, err := w.dial(w.token("alice", nil), nats.Timeout(time.Second))
	if err == nil {
		nc.Close()
	}
	if err == nil || errors.Is(err, nats.ErrAuthorization) {
		w.Errorf("a login without a service got %v, want no answer", err)
	}
	emergency, err := nats.Connect(w.set.ClientURL(), nats.UserCredentials(filepath.Join(w.dir, "offline", "emergency-app.creds")))
	if err != nil {
		w.Errorf("the emergency user cannot connect while no service runs: %v", err)
	} else {
		emergency.Close()
	}
	for _, r := range replicas {
		r.start(true)
		r.mustGetReady()
	}
	w.login(w.token("alice", nil))
	if err := lasting.FlushTimeout(5 * time.Second); err != nil || whereabouts(w, lasting) != before {
		w.Errorf("the restart of the service cut off a client: %v", err)
	}
}
