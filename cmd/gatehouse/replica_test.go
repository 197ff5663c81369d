package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	replicas "github.com/gatehouse-nats/gatehouse/replica"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// status returns what a replica says of itself.
func (r *replica) status() (status api.Status, err error) {
	r.Helper()
	got := r.command("status", "--json")
	if got.code != exitDone { // one that has been frozen comes to itself
		return status, errors.New(got.err)
	}
	return decodeLines[api.Status](r, got.out)[0], nil
}

// id returns what the other replicas know a replica by.
func (r *replica) id() string {
	r.Helper()
	status, err := r.status()
	if err != nil {
		r.Fatal(err)
	}
	return status.Replica
}

// hear waits until each replica hears all the others.
func hear(t testing.TB, replicas ...*replica) {
	t.Helper()
	for _, r := range replicas {
		eventually(t, func() error {
			status, err := r.status()
			if err == nil && len(status.Replicas) != len(replicas)-1 {
				err = fmt.Errorf("%s hears %+v", r.name, status.Replicas)
			}
			return err
		})
	}
}

// block blocks an identity of the demo issuer through the replica, and returns the revocation's id.
func (r *replica) block(subject string) string {
	r.Helper()
	var got api.RevokeResult
	eventually(r, func() (err error) { // a replica that was frozen while it wrote may hold others up until its session ends
		got, err = call[api.RevokeResult](r, api.OpRevoke, api.RevokeRequest{Target: api.Target{Issuer: "demo", Subject: subject}, Reason: "a test"})
		return err
	})
	return got.Revocation.ID
}

// unheardCreds returns a creds file of the callout user as it was before replicas talked to each other.
func (w *world) unheardCreds() string {
	w.Helper()
	token, err := nkeys.ParseDecoratedJWT(w.set.CalloutCreds)
	if err != nil {
		w.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		w.Fatal(err)
	}
	user, err := nkeys.ParseDecoratedUserNKey(w.set.CalloutCreds)
	if err != nil {
		w.Fatal(err)
	}
	signer, err := nkeys.FromSeed(w.set.Callout.SigningKey)
	if err != nil {
		w.Fatal(err)
	}
	talk := func(subject string) bool { return subject == "gatehouse.>" || subject == "_INBOX.>" }
	claims.Pub.Allow = slices.DeleteFunc(claims.Pub.Allow, talk)
	claims.Sub.Allow = slices.DeleteFunc(claims.Sub.Allow, talk)
	if token, err = claims.Encode(signer); err != nil {
		w.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		w.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		w.Fatal(err)
	}
	file := filepath.Join(w.dir, "unheard.creds")
	if err := os.WriteFile(file, creds, 0o600); err != nil {
		w.Fatal(err)
	}
	return file
}

// TestBroadcastWithoutDatabase blocks somebody while one replica is cut off from the database: it hears of it
// from the other one, denies and confirms.
func TestBroadcastWithoutDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	dsn := storetest.Postgres(t, postgres.Migrate)
	wire, through := startWire(t, dsn)
	whole, cut := w.serve(serveOptions{process: true, store: dsn}), w.serve(serveOptions{process: true, store: through})
	hear(t, whole, cut)
	subject := someone()
	token := w.token("alice", developer(subject))
	w.login(token)
	wire.setCut(true)
	if p := w.proved(whole, whole.block(subject)); p.Replicas != 2 || p.ReplicasKnown != 2 {
		t.Errorf("proved with %+v, want both replicas", p)
	}
	whole.stop() // so that the one without a database answers alone
	w.mustBeRefused(token)
	if err := cut.ready(); err != nil {
		t.Errorf("the replica without a database is not ready although its state is fresh enough: %v", err)
	}
	w.login(w.token("alice", developer(someone())))
}

// TestReplicasThatMayNotTalk leaves it to the store: all is as safe, and said.
func TestReplicasThatMayNotTalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	o := serveOptions{store: storetest.Postgres(t, postgres.Migrate), env: []string{"GATEHOUSE_NATS_CALLOUT_CREDS=" + w.unheardCreds()}}
	one, two := w.serve(o), w.serve(o)
	subject := someone()
	token := w.token("alice", developer(subject))
	w.login(token)
	if p := w.proved(two, one.block(subject)); p.Replicas != 2 || p.ReplicasKnown != 2 {
		t.Errorf("proved with %+v, want both replicas", p)
	}
	w.mustBeRefused(token)
	for _, r := range []*replica{one, two} {
		if at := r.deniedAt(token); at.IsZero() {
			t.Errorf("%s admits whom the other one has blocked", r.name)
		}
		eventually(t, func() error {
			status, err := r.status()
			if err == nil && (!slices.Contains(status.Warnings, replicas.ErrUnheard.Error()) || len(status.Replicas) > 0) {
				err = fmt.Errorf("warnings %q, replicas %+v", status.Warnings, status.Replicas)
			}
			return err
		})
	}
	if got := one.command("check"); got.code != exitDone || !strings.Contains(got.err, "nats.callout.creds: the user may not publish to gatehouse.>") {
		t.Errorf("check ended with %d: %s", got.code, got.err)
	}
}

// TestReplicaIsMissing revokes while a replica cannot be told. For as long as it could decide on what it has read
// the proof names it; then it decides on nothing, and counts as gone.
func TestReplicaIsMissing(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"killed": true, "cut off from the database and from the others": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{})
			dsn := storetest.Postgres(t, postgres.Migrate)
			wire, through := startWire(t, dsn)
			whole := w.serve(serveOptions{process: true, store: dsn})
			o := serveOptions{process: true, store: through, env: []string{"GATEHOUSE_MAX_STALENESS=10s"}}
			if !killed {
				o.env = append(o.env, "GATEHOUSE_NATS_CALLOUT_CREDS="+w.unheardCreds())
			}
			lost := w.serve(o)
			id, subject := lost.id(), someone()
			token := w.token("alice", developer(subject))
			if killed {
				lost.kill()
			}
			wire.setCut(true)
			w.provesWithout(whole, lost, id, whole.block(subject), token, killed)
		})
	}
}

// provesWithout waits for the proof of a revocation, until which the lost replica has to be named and may admit.
func (w *world) provesWithout(whole, lost *replica, id, revocation, token string, killed bool) {
	w.Helper()
	named, admitted := false, false
	eventuallyWithin(w, 2*time.Minute, func() error {
		p, err := call[api.Progress](whole, api.OpProgress, api.RevocationProgressRequest{ID: revocation, Wait: 1}) // so that admits may be called each time
		if err != nil {
			return err
		}
		missing := slices.Contains(p.ReplicasMissing, id)
		named = named || missing
		if !killed {
			allowed, err := lost.admits(token) // after it was seen whether it is missing
			if refused, ok := errors.AsType[*api.Error](err); ok && refused.Reason == api.ReasonRateLimited {
				w.Fatal(err) // it shows nothing
			}
			admitted = admitted || allowed
			if allowed && p.Replicas > 0 && !missing {
				w.Fatalf("a replica admits that is not missing: %+v", p)
			}
		}
		if !p.Done {
			return fmt.Errorf("not proved: %+v", p)
		}
		if p.Replicas != 1 || p.ReplicasKnown != 1 {
			w.Errorf("proved with %+v, want the one that is left", p)
		}
		return nil
	})
	if !named {
		w.Error("the lost replica was not named as missing")
	}
	if !killed && !admitted {
		w.Error("the replica that could not be told denied before its state was stale")
	}
}

// TestThawedReplica freezes a replica for longer than max_staleness. It is fenced, and when it wakes up it joins
// again, and answers nothing by what it knew.
func TestThawedReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	dsn := storetest.Postgres(t, postgres.Migrate)
	wire, through := startWire(t, dsn)
	whole := w.serve(serveOptions{process: true, store: dsn})
	frozen := w.serve(serveOptions{process: true, store: through, env: []string{"GATEHOUSE_MAX_STALENESS=5s"}})
	hear(t, whole, frozen)
	subject := someone()
	token := w.token("alice", developer(subject))
	w.login(token)
	p := frozen.run.(*process)
	if err := p.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.signal(syscall.SIGCONT) }) // so that it can be stopped, however this ends
	if got := w.proved(whole, whole.block(subject)); got.Replicas != 1 || got.ReplicasKnown != 1 {
		t.Errorf("proved with %+v, want the one that is not frozen", got)
	}
	eventually(t, func() error {
		if whole.metric("gatehouse_replica_fenced_total") == 0 {
			return errors.New("the frozen replica is not fenced")
		}
		return nil
	})
	wire.setCut(true)
	whole.stop() // so that the frozen one answers alone, and has only what it knew
	if err := p.signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		err := frozen.ready()
		if !strings.Contains(frozen.log.String(), "connected again") { // its connections were closed
			return errors.New("the frozen replica has not connected again")
		}
		if err == nil || strings.Contains(err.Error(), "callout:") || !strings.Contains(err.Error(), "store: the store has not confirmed the state for") {
			return fmt.Errorf("/readyz: %v", err)
		}
		return nil
	})
	w.mustBeSilent(token)
	wire.setCut(false)
	frozen.mustGetReady()
	w.mustBeRefused(token)
	w.login(w.token("alice", developer(someone())))
}

// TestWrongClock runs a replica whose host's clock is 90 s behind: it answers no logins, and confirms what it is told.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	o := serveOptions{store: storetest.Postgres(t, postgres.Migrate)}
	right, wrong := w.serve(o), w.newReplica(o)
	var shift atomic.Int64
	shift.Store(int64(-90 * time.Second))
	d := wrong.daemon(func() time.Time { return time.Now().Add(time.Duration(shift.Load())) })
	serving := func(want bool) {
		t.Helper()
		eventually(t, func() error {
			status, err := right.status()
			if err == nil && (d.callout.Serving() != want || len(status.Replicas) != 1 || status.Replicas[0].Serving != want) {
				err = fmt.Errorf("it serves: %t, and is known as %+v, want %t", d.callout.Serving(), status.Replicas, want)
			}
			return err
		})
	}
	serving(false)
	if err := wrong.ready(); err == nil || !strings.Contains(err.Error(), "clock: this host's clock is -1m") {
		t.Errorf("/readyz: %v", err)
	}
	subject := someone()
	if p := w.proved(right, right.block(subject)); p.Replicas != 2 || p.ReplicasKnown != 2 {
		t.Errorf("proved with %+v, want both replicas", p)
	}
	w.login(w.token("alice", developer(someone())))
	shift.Store(0)
	serving(true)
}

// daemon runs the replica in this process, until the test ends, by that clock.
func (r *replica) daemon(now func() time.Time) *daemon {
	r.Helper()
	cfg, err := config.Load(r.config(), r.env)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d, err := newDaemon(ctx, cfg, r.env, now, devtest.Log(r.TB))
	if err != nil {
		cancel()
		r.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	r.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.Error(err)
		}
		d.close()
	})
	return d
}
