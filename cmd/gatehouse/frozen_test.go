package main

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// attempts are logins at a constant rate, each at the next server, whether earlier ones have ended or not.
type attempts struct {
	mu     sync.Mutex
	began  []time.Time // of all that have ended
	failed []time.Time // when those began that failed
}

// run makes them until stopped is closed, and returns when the last has ended.
func (a *attempts) run(w *world, token string, perSecond int, stopped <-chan struct{}) {
	var logins sync.WaitGroup
	defer logins.Wait()
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-stopped:
			return
		case <-tick.C:
		}
		logins.Go(func() {
			began := time.Now()
			nc, err := dial(w.servers[n%len(w.servers)].ClientURL(), token, nats.Timeout(1900*time.Millisecond))
			if err == nil {
				nc.Close()
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			a.began = append(a.began, began)
			if err != nil {
				a.failed = append(a.failed, began)
			}
		})
	}
}

// between returns how many began in that time and ended, how many of them failed, and when the last of those began.
func (a *attempts) between(from, to time.Time) (all, failed int, last time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	within := func(t time.Time) bool { return !t.Before(from) && t.Before(to) }
	for _, t := range a.began {
		if within(t) {
			all++
		}
	}
	for _, t := range a.failed {
		if !within(t) {
			continue
		}
		failed++
		if t.After(last) {
			last = t
		}
	}
	return all, failed, last
}

// frozen is what one round of freezing a replica did.
type frozen struct {
	failed int           // logins that began while it was frozen
	last   time.Duration // when the last of them began, after the freeze
	fenced time.Duration // when that was seen, after the freeze
	// unfit says why the round measures the machine; empty otherwise.
	unfit string
}

// quiet is for how long logins are watched before a freeze, and settled for how long after a fence: those that the
// frozen replica has swallowed end within two seconds.
const (
	quiet   = 5 * time.Second
	settled = 4 * time.Second
)

// freeze stops a replica until the other one has fenced it and logins are admitted again, each of them.
func (w *world) freeze(a *attempts, token string, healthy, victim *replica) (f frozen) {
	w.Helper()
	pass := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			<-time.After(20 * time.Millisecond)
		}
	}
	fenced := func() float64 { return healthy.metric("gatehouse_replica_fenced_total") }
	late := func() float64 { return healthy.metric("gatehouse_replica_late_total") }
	before, slow := fenced(), late()
	pass(quiet)
	p := victim.run.(*process)
	if err := p.signal(syscall.SIGSTOP); err != nil {
		w.Fatal(err)
	}
	defer func() {
		if err := p.signal(syscall.SIGCONT); err != nil {
			w.Error(err)
		}
	}()
	froze := time.Now()
	eventually(w, func() error {
		if fenced() <= before {
			return errors.New("the frozen replica is not fenced")
		}
		return nil
	})
	f.fenced = time.Since(froze)
	if n := late() - slow; n > 0 {
		f.unfit = fmt.Sprintf("the healthy replica heard itself late %g times", n)
	}
	// Those that began less than two seconds before the freeze may have been swallowed too.
	if all, failed, _ := a.between(froze.Add(-quiet), froze.Add(-2*time.Second)); all == 0 || failed > 0 {
		f.unfit = fmt.Sprintf("%d of %d logins failed before the freeze", failed, all)
	}
	pass(settled)
	eventually(w, func() error {
		for n := range 20 { // half of them would fail if the servers still asked it
			nc, err := dial(w.servers[n%len(w.servers)].ClientURL(), token)
			if err != nil {
				return fmt.Errorf("a login beside a replica that was fenced: %w", err)
			}
			nc.Close()
		}
		return nil
	})
	var last time.Time
	if _, f.failed, last = a.between(froze, time.Now()); f.failed > 0 {
		f.last = last.Sub(froze)
	}
	return f
}

// TestProveFrozenReplica freezes one of two replicas: the other one has its connections closed, and logins go on. How
// many fail meanwhile is judged by rounds in which the machine had time for what was left. The others are said and played again, three
// times as many in all at most: on a machine that spoils more nothing is proved, and that is a failure.
func TestProveFrozenReplica(t *testing.T) {
	t.Parallel()
	perSecond, rounds, spare := 20, 1, 0
	if long() {
		perSecond, rounds, spare = 100, 5, 10
	}
	w := newWorld(t, worldOptions{servers: 3, mode: devtest.AsProcess})
	o := serveOptions{process: true, store: storetest.Postgres(t, postgres.Migrate)}
	healthy, victim := w.serve(o), w.serve(o)
	token := w.token("alice", developer(someone()))
	var a attempts
	var logins sync.WaitGroup
	stopped := make(chan struct{})
	logins.Go(func() { a.run(w, token, perSecond, stopped) })
	stop := sync.OnceFunc(func() { close(stopped); logins.Wait() })
	t.Cleanup(stop)
	var worst frozen
	played, measured := 0, 0
	var spoiled []string
	for ; measured < rounds && played < rounds+spare; played++ {
		hear(t, healthy, victim)
		victim.mustGetReady()
		f := w.freeze(&a, token, healthy, victim)
		t.Logf("round %d: fenced after %s, %d logins failed, the last began %s after the freeze; %s", played+1, f.fenced.Round(time.Millisecond), f.failed, f.last.Round(time.Millisecond), f.unfit)
		if f.unfit != "" && long() {
			spoiled = append(spoiled, f.unfit)
			continue
		}
		measured++
		worst = frozen{failed: max(worst.failed, f.failed), last: max(worst.last, f.last)}
	}
	stop()
	if measured < rounds {
		t.Fatalf("nothing is proved: of %d rounds %d measured the replicas, and %d are needed; give the test a machine of its own. The others:\n%s", played, measured, rounds, strings.Join(spoiled, "\n"))
	}
	share := float64(perSecond) / 2
	right, wrong := healthy.metric("gatehouse_replica_fenced_total"), victim.metric("gatehouse_replica_fenced_total")
	t.Logf("%d rounds, of which the machine spoiled %d", played, len(spoiled))
	t.Logf("one of 2 replicas frozen %d times at %d logins a second: at most %d logins failed (%.2f s worth of its share), the last of them began %s after the freeze; %d logins in all; it was fenced %g times, and fenced the other one %g times",
		measured, perSecond, worst.failed, float64(worst.failed)/share, worst.last.Round(time.Millisecond), len(a.began), right, wrong)
	if long() && (right != float64(played) || wrong != 0) {
		t.Errorf("fenced %g times and the other one %g times, want %d and 0", right, wrong, played)
	}
	if limit := 1.5 * share; long() && float64(worst.failed) > limit {
		t.Errorf("%d logins failed, at most %.0f", worst.failed, limit)
	}
}
