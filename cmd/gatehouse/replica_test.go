package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// hear waits until each replica hears all the others.
func hear(t testing.TB, replicas ...*replica) {
	t.Helper()
	for _, r := range replicas {
		eventually(t, func() error {
			got := r.command("status", "--json")
			if got.code != exitDone { // a replica that has been frozen comes to itself
				return errors.New(got.err)
			}
			status := decodeLines[api.Status](t, got.out)[0]
			if len(status.Replicas) != len(replicas)-1 {
				return fmt.Errorf("%s hears %+v", r.name, status.Replicas)
			}
			return nil
		})
	}
}

// TestBroadcastWithoutDatabase blocks somebody while one replica is cut off from the database: it hears of it
// from the other one, and denies.
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
	whole.must("revoke", "--issuer", "demo", "--subject", subject, "--reason", "a test")
	whole.stop() // so that the one without a database answers alone
	w.mustBeRefused(token)
	if err := cut.ready(); err != nil {
		t.Errorf("the replica without a database is not ready although its state is fresh enough: %v", err)
	}
	w.login(w.token("alice", developer(someone())))
}

// TestProveFrozenReplica freezes one of two replicas: the other one has its connections closed, and logins go on.
func TestProveFrozenReplica(t *testing.T) {
	t.Parallel()
	perSecond, rounds := 20, 1
	if long() {
		perSecond, rounds = 100, 5
	}
	w := newWorld(t, worldOptions{servers: 3, mode: devtest.AsProcess})
	o := serveOptions{process: true, store: storetest.Postgres(t, postgres.Migrate)}
	healthy, frozen := w.serve(o), w.serve(o)
	hear(t, healthy, frozen)
	before := time.Now()
	var failed, all atomic.Int64
	var last atomic.Int64 // when a login failed last that had begun after the freeze
	var froze atomic.Int64
	token := w.token("alice", developer(someone()))
	stopped := make(chan struct{})
	var logins sync.WaitGroup
	logins.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stopped:
				return
			case <-tick.C:
			}
			logins.Go(func() {
				began := time.Now().UnixNano()
				nc, err := dial(w.servers[n%3].ClientURL(), token, nats.Timeout(1900*time.Millisecond))
				all.Add(1)
				if err == nil {
					nc.Close()
					return
				}
				if errors.Is(err, nats.ErrAuthorization) {
					err = nil // the server's own timeout looks like it
				}
				if began >= froze.Load() && froze.Load() > 0 {
					failed.Add(1)
					last.Store(max(last.Load(), began))
				}
			})
		}
	})
	var worst int64
	var longest time.Duration
	for range rounds {
		// A replica fences nobody before it has heard itself for a while.
		eventually(t, func() error {
			if d := time.Since(before); d < 15*time.Second {
				return fmt.Errorf("%s since the last round", d)
			}
			return nil
		})
		failed.Store(0)
		last.Store(0)
		fenced := healthy.metric("gatehouse_replica_fenced_total")
		if err := frozen.run.(*process).signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		froze.Store(time.Now().UnixNano())
		eventually(t, func() error {
			if healthy.metric("gatehouse_replica_fenced_total") <= fenced {
				return errors.New("the frozen replica is not fenced")
			}
			return nil
		})
		// Logins that the frozen one has swallowed end within two seconds; after them all are admitted.
		settled := time.Now()
		eventually(t, func() error {
			if time.Since(settled) < 4*time.Second {
				return errors.New("not settled")
			}
			return nil
		})
		worst = max(worst, failed.Load())
		if at := last.Load(); at > 0 {
			longest = max(longest, time.Duration(at-froze.Load()))
		}
		froze.Store(0)
		if err := frozen.run.(*process).signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		hear(t, healthy, frozen)
		frozen.mustGetReady()
		before = time.Now()
	}
	close(stopped)
	logins.Wait()
	share := float64(perSecond) / 2
	t.Logf("one of 2 replicas frozen %d times at %d logins a second: at most %d logins failed (%.2f s worth of its share), the last of them began %s after the freeze; %d logins in all",
		rounds, perSecond, worst, float64(worst)/share, longest.Round(time.Millisecond), all.Load())
	if limit := 1.5 * share; long() && float64(worst) > limit {
		t.Errorf("%d logins failed, at most %.0f", worst, limit)
	}
}
