package main

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// The bars of 20,000 accounts.
const (
	startBar = 5 * time.Second
	passBar  = time.Second
)

// TestProveManyAccountsOfAService starts a service on a store with many accounts, whose seeds are sealed and which the server
// stores: it is ready soon, and looks after them without a message for each. The long form has 20,000 of them, and bars.
func TestProveManyAccountsOfAService(t *testing.T) {
	t.Parallel()
	accounts, interval := 1000, time.Second
	if long() {
		accounts, interval = 20_000, 10*time.Second
	}
	for name, dsn := range map[string]func() string{
		"sqlite":   func() string { return "" },
		"postgres": func() string { return storetest.Postgres(t, postgres.Migrate) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{mode: devtest.AsProcess, policy: accountPolicy, interval: interval.String()})
			r := w.newReplica(serveOptions{store: dsn()})
			e := w.overhear()
			without := r.startsUp()
			idleWithout := r.idles(e)
			r.stop()

			p := w.grow(r, e, accounts)
			before := e.questions.Load()
			with := r.startsUp()
			p.settled()
			asked := e.questions.Load() - before
			idle := r.idles(e)
			t.Logf("%d accounts: ready after %s, without any after %s", accounts, with.Round(time.Millisecond), without.Round(time.Millisecond))
			t.Logf("%d questions until all are known to be as they are to be, %d in an interval without changes", asked, idle.questions)
			t.Logf("all that the service does in an interval of %s takes %s of processor time, without accounts %s", interval, idle.cpu, idleWithout.cpu)
			t.Logf("resident memory %.0f MiB, without accounts %.0f MiB: %.1f KiB for each", idle.memory/(1<<20), idleWithout.memory/(1<<20), (idle.memory-idleWithout.memory)/float64(accounts)/(1<<10))
			if asked >= int64(accounts) || idle.questions >= int64(accounts/2) {
				t.Errorf("%d and %d questions for %d accounts", asked, idle.questions, accounts)
			}
			if long() && (with > startBar || idle.cpu > passBar) {
				t.Errorf("the bars are %s until it is ready and %s for a pass", startBar, passBar)
			}
			owner := w.personFile(fmt.Sprintf("owner-%d", accounts/2))
			if at := w.connection(w.mustEnterAccount(0, fmt.Sprintf("filled-%d", accounts/2), owner)).Account; at != p.ids[accounts/2] {
				t.Errorf("the owner is in account %s", at)
			}
		})
	}
}

// grow has the service and the server take that many accounts, and returns them when the service has stopped.
func (w *world) grow(r *replica, e *eavesdropper, accounts int) *population {
	w.Helper()
	p, began, before := &population{replica: r}, time.Now(), e.questions.Load()
	for len(p.ids) < accounts {
		// A server takes the longer to load an account the more it has loaded: none after a restart.
		p.ids = append(p.ids, w.fillStore(r, len(p.ids), min(2000, accounts-len(p.ids)))...)
		r.startsUp()
		p.settled()
		r.stop()
		w.servers[0].Restart()
	}
	w.Logf("%d accounts were stored, pushed and applied in %s", accounts, time.Since(began).Round(time.Second))
	eventually(w, func() error { return w.system.FlushTimeout(time.Second) }) // it is connected again
	if n := e.questions.Load() - before; n < int64(accounts) {
		w.Errorf("%d questions were overheard when %d accounts were pushed", n, accounts)
	}
	return p
}

// fillStore is fill for the store of a replica that does not run.
func (w *world) fillStore(r *replica, from, accounts int) []string {
	w.Helper()
	cfg, err := config.Load(w.config(), r.env)
	if err != nil {
		w.Fatal(err)
	}
	var s store.Store
	if cfg.Store.Driver() == config.SQLite {
		s = w.store()
	} else if s, err = postgres.Open(w.Context(), postgres.Options{DSN: cfg.Store.Source()}); err != nil {
		w.Fatal(err)
	}
	ids := w.fill(s, from, accounts)
	if err := s.Close(); err != nil {
		w.Fatal(err)
	}
	return ids
}

// eavesdropper hears what the servers are asked for.
type eavesdropper struct {
	questions atomic.Int64  // about accounts that the configuration does not name
	prints    chan struct{} // one for each time that the server has told what it stores, which starts a comparison
}

func (w *world) overhear() *eavesdropper {
	w.Helper()
	e := &eavesdropper{prints: make(chan struct{}, 1)}
	configured := []string{w.set.App.ID, w.set.Callout.ID, w.set.System.ID, w.set.Lobby.ID}
	for subject, hear := range map[string]nats.MsgHandler{
		"$SYS.REQ.ACCOUNT.*.>": func(m *nats.Msg) {
			if !slices.ContainsFunc(configured, func(id string) bool { return strings.Contains(m.Subject, id) }) {
				e.questions.Add(1)
			}
		},
		"$SYS.REQ.CLAIMS.UPDATE": func(*nats.Msg) { e.questions.Add(1) },
		"$SYS.REQ.CLAIMS.PACK": func(*nats.Msg) {
			select {
			case e.prints <- struct{}{}:
			default: // somebody waits for one only
			}
		},
	} {
		if _, err := w.system.Subscribe(subject, hear); err != nil {
			w.Fatal(err)
		}
	}
	if err := w.system.Flush(); err != nil {
		w.Fatal(err)
	}
	return e
}

// startsUp starts the service as a process and returns how long it takes to be ready.
func (r *replica) startsUp() time.Duration {
	r.Helper()
	began := time.Now()
	r.start(true)
	r.mustGetReady()
	return time.Since(began)
}

// idle is what a service takes while nothing happens, in an interval.
type idle struct {
	cpu       time.Duration
	questions int64
	memory    float64 // bytes, at the end
}

// idles returns what the service takes in intervals in which nothing happens.
func (r *replica) idles(e *eavesdropper) idle {
	r.Helper()
	next := func() {
		select {
		case <-e.prints: // an old one
		default:
		}
		select {
		case <-e.prints:
		case <-time.After(5 * time.Minute):
			r.Fatal("the server does not tell what it stores")
		}
	}
	const intervals = 3
	next()
	cpu, questions := r.metric("process_cpu_seconds_total"), e.questions.Load()
	for range intervals {
		next()
	}
	cpu, questions = r.metric("process_cpu_seconds_total")-cpu, e.questions.Load()-questions
	return idle{time.Duration(cpu / intervals * float64(time.Second)), questions / intervals, r.metric("process_resident_memory_bytes")}
}
