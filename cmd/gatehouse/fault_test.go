package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// await waits until the database has committed what a wire holds.
func await(t testing.TB, committed <-chan struct{}) {
	t.Helper()
	select {
	case <-committed:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was committed")
	}
}

// TestServerIsAwayWhileRevoking: a server that does not answer is named, and the proof is not given without it. When it
// is back it closes whom it has missed and nobody else, and keeps direct users out whom it knew as good.
func TestServerIsAwayWhileRevoking(t *testing.T) {
	t.Parallel()
	for name, frozen := range map[string]bool{"frozen": true, "killed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{servers: 3, mode: devtest.AsProcess, policy: directPolicy})
			r := w.serve(serveOptions{process: true})
			subject := someone()
			token, others := w.token("alice", map[string]any{"sub": subject, "groups": []string{"jobs"}}), w.token("bob", developer(someone()))
			var hers, his []closing
			for _, server := range w.servers {
				hers, his = append(hers, w.loginAt(server, token)), append(his, w.loginAt(server, others))
			}
			away := w.servers[2]
			url, awayName := away.ClientURL(), hers[2].ConnectedServerName()
			file := w.directCreds(r, subject)
			direct := connectStubborn(t, away, file)
			if frozen {
				away.Freeze()
				defer away.Thaw()
			} else {
				away.Kill()
				his = his[:2]
			}
			id := r.revokedWithout(awayName, subject)
			w.awaitClosed(hers[0])
			w.awaitClosed(hers[1])
			if frozen && !(hers[2].IsConnected() && direct.IsConnected()) {
				t.Error("a connection to the frozen server has ended before it is back: this shows nothing")
			}
			if p, err := call[api.Progress](r, api.OpProgress, api.RevocationProgressRequest{ID: id}); err != nil || p.Done || !slices.Contains(p.ServersMissing, awayName) {
				t.Errorf("while the server is away: %+v, %v", p, err)
			}

			if frozen {
				away.Thaw()
			} else {
				away.Start()
			}
			w.awaitClosed(hers[2])
			if p := w.proved(r, id); p.ServersAnswered != 3 || p.ServersKnown != 3 || p.Claims != "" {
				t.Errorf("proved with %+v", p)
			}
			if err := direct.FlushTimeout(100 * time.Millisecond); err == nil {
				t.Error("the server still answers the direct user after the proof")
			}
			returned := direct.returned.Load()
			r.must("revoke", "wait", id)
			for what, login := range map[string]nats.Option{"a token": nats.Token(token), "a creds file": nats.UserCredentials(file)} {
				nc, err := nats.Connect(url, login, nats.Timeout(10*time.Second), nats.NoReconnect(), nats.IgnoreDiscoveredServers())
				if err == nil {
					nc.Close()
				}
				if !errors.Is(err, nats.ErrAuthorization) {
					t.Errorf("at the server that is back %s gets %v", what, err)
				}
			}
			if n := direct.returned.Load(); n != returned || direct.IsConnected() {
				t.Errorf("the direct user came back %d times after the proof", n-returned)
			}
			w.mustBeAlive(his...)
			r.mustGetReady()
			w.mustBeDirect(w.directCreds(r, someone()))
		})
	}
}

// revokedWithout blocks an identity while a server does not answer, which is named, and returns the revocation's id.
func (r *replica) revokedWithout(server, subject string) string {
	r.Helper()
	var id string
	eventually(r, func() error { // the service's own connection may be there, and goes elsewhere
		got := r.command("revoke", "--issuer", "demo", "--subject", subject, "--reason", "left", "--yes", "--wait", "--timeout", "3s", "--json")
		if got.code == exitDone {
			r.Fatalf("proved although a server does not answer: %s", got.out)
		}
		if got.code != exitPartial {
			return fmt.Errorf("it ended with %d: %s", got.code, got.err)
		}
		answer := decodeLines[proof](r, got.out)[0]
		id = answer.Revocation.ID
		if !slices.Contains(answer.ServersMissing, server) || !strings.Contains(got.err, server) || !strings.Contains(got.err, "gatehouse revoke wait "+id) {
			return fmt.Errorf("%s is not named: %s%s", server, got.out, got.err)
		}
		return nil
	})
	return id
}

// TestReplicaIsKilledAfterTheCommit kills the replica that also writes the claims once what it stores is committed, and
// before it knows: it has told nobody and closed nothing. The other one denies, closes, changes the claims and proves it.
func TestReplicaIsKilledAfterTheCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{servers: 3, policy: directPolicy})
	dsn := storetest.Postgres(t, postgres.Migrate)
	wire, through := startWire(t, dsn)
	staleness := []string{"GATEHOUSE_MAX_STALENESS=5s"}
	killed := w.serve(serveOptions{process: true, store: through, env: staleness})
	eventually(t, func() error {
		status, err := killed.status()
		if err == nil && !status.Claims.Writer {
			err = fmt.Errorf("it does not write the claims: %+v", status.Claims)
		}
		return err
	})
	survivor := w.serve(serveOptions{process: true, store: dsn, env: staleness})
	hear(t, killed, survivor)
	subject := someone()
	token := w.token("alice", map[string]any{"sub": subject, "groups": []string{"jobs"}})
	var hers, his []closing
	for _, server := range w.servers {
		hers, his = append(hers, w.loginAt(server, token)), append(his, w.loginAt(server, w.token("bob", developer(someone()))))
	}
	file := w.directCreds(killed, subject)
	direct := closing{Conn: w.mustBeDirect(file), closed: make(chan struct{})}
	direct.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	direct.SetClosedHandler(func(*nats.Conn) { close(direct.closed) })

	reason := "a test of " + uuid.NewString()
	committed, answered := wire.holdCommit(reason), make(chan error, 1)
	go func() {
		_, err := call[api.RevokeResult](killed, api.OpRevoke, api.RevokeRequest{Target: api.Target{Issuer: "demo", Subject: subject}, Reason: reason})
		answered <- err
	}()
	await(t, committed)
	killed.kill()
	wire.setCut(true)
	if err := <-answered; err == nil {
		t.Error("the killed replica has answered: this shows nothing")
	}

	if survivor.deniedAt(token).IsZero() {
		t.Fatal("the other replica still admits the blocked identity")
	}
	w.mustBeRefused(token)
	for _, c := range append(hers, direct) {
		w.awaitClosed(c)
	}
	if p := w.proved(survivor, survivor.only(reason).ID); p.Replicas != 1 || p.ReplicasKnown != 1 || p.ServersAnswered != 3 || p.Claims != "" {
		t.Errorf("proved with %+v", p)
	}
	if nc, err := w.direct(file); err == nil {
		nc.Close()
		t.Error("the direct user is let in after the proof")
	}
	w.mustBeAlive(his...)
}

// only returns the one revocation of that reason.
func (r *replica) only(reason string) api.Revocation {
	r.Helper()
	var found []api.Revocation
	for _, one := range decodeLines[api.Revocation](r, r.must("revocations", "--json")) {
		if one.Reason == reason {
			found = append(found, one)
		}
	}
	if len(found) != 1 {
		r.Fatalf("%d revocations for %s: %+v", len(found), reason, found)
	}
	return found[0]
}

// TestAnswerOfTheDatabaseIsLost loses the connection to PostgreSQL between its commit and its answer: what is stored has
// its effect, and the call with the same key gets the answer that was lost.
func TestAnswerOfTheDatabaseIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	wire, through := startWire(t, storetest.Postgres(t, postgres.Migrate))
	r := w.serve(serveOptions{process: true, store: through})
	for _, flags := range [][]string{nil, {"--logout"}} {
		subject, reason, key := someone(), "a test of "+uuid.NewString(), uuid.NewString()
		token := w.token("alice", developer(subject))
		open := w.loginAt(w.servers[0], token)
		revoke := func(reason string) result {
			return r.command(append([]string{"revoke", "--issuer", "demo", "--subject", subject, "--reason", reason, "--idempotency-key", key, "--yes", "--json"}, flags...)...)
		}
		committed, ended := wire.holdCommit(reason), make(chan result, 1)
		go func() { ended <- revoke(reason) }()
		await(t, committed)
		wire.setCut(true)
		if got := <-ended; got.code != exitFailed || !strings.Contains(got.err, "the store is not available: call again, with the same idempotency key") {
			t.Errorf("without an answer it ended with %d: %s%s", got.code, got.out, got.err)
		}
		wire.setCut(false)
		w.awaitClosed(open) // nobody has called again
		w.mustBeRefused(token)
		for range 2 {
			var got result
			eventually(t, func() error {
				if got = revoke(reason); got.code != exitDone {
					return errors.New(got.err)
				}
				return nil
			})
			answer := decodeLines[api.RevokeResult](t, got.out)[0]
			if answer.Existing || answer.Revocation.ID != r.only(reason).ID {
				t.Errorf("called again it answers %+v", answer)
			}
		}
		if got := revoke("another one"); got.code == exitDone || !strings.Contains(got.err, "idempotency key was used before") {
			t.Errorf("another call with the key ended with %d: %s%s", got.code, got.out, got.err)
		}
		w.proved(r, r.only(reason).ID)
	}
}
