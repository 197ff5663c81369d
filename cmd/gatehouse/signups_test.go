package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// TestProveSignUps: clients sign up at once, half of them over HTTP and half over NATS, and log in at once at another server than
// those that the service is connected to. The long form has bars of time.
func TestProveSignUps(t *testing.T) {
	t.Parallel()
	clients, accounts := 8, 40
	if long() {
		clients, accounts = 32, 1000
	}
	for name, dsn := range map[string]func(t testing.TB) string{
		"sqlite":   func(testing.TB) string { return "" },
		"postgres": func(t testing.TB) string { return startDatabase(t).dsn() }, // one that keeps its durability
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{servers: 3, mode: devtest.AsProcess, policy: applicantPolicy})
			r := w.serve(serveOptions{process: true, store: dsn(t), env: []string{"GATEHOUSE_NATS_URL=" + w.servers[0].ClientURL()}})
			r.mustWrite()
			all := w.applicants(clients, r)
			var running sync.WaitGroup
			var next atomic.Int64
			began := time.Now()
			for _, a := range all {
				running.Go(func() {
					for n := next.Add(1); n <= int64(accounts); n = next.Add(1) {
						a.signUp(t, fmt.Sprintf("team-%d", n), 1+int(n)%2)
					}
				})
			}
			running.Wait()
			took := time.Since(began)

			var answered, entered []time.Duration
			calls, logins := 0, 0
			for _, a := range all {
				for _, one := range a.made {
					answered, entered = append(answered, one.answered), append(entered, one.entered)
					calls, logins = calls+one.calls, logins+one.logins
				}
			}
			if len(entered) != accounts {
				t.Fatalf("%d accounts of %d were signed up for and entered", len(entered), accounts)
			}
			rate, slowest := float64(accounts)/took.Seconds(), percentile(entered, 99)
			t.Logf("%d accounts by %d clients: %.0f a second; answered as active p50 %s p99 %s, logged in at another server p50 %s p99 %s after the call; %d calls, %d logins",
				accounts, clients, rate, ms(percentile(answered, 50)), ms(percentile(answered, 99)), ms(percentile(entered, 50)), ms(slowest), calls, logins)
			if long() && (rate < 100 || slowest > time.Second) {
				t.Errorf("%.0f a second with p99 %s, want 100 and 1s", rate, ms(slowest))
			}
		})
	}
}

// mustWrite waits until the replica is the one that writes claims.
func (r *replica) mustWrite() {
	r.Helper()
	eventually(r, func() error {
		status, err := r.status()
		if err == nil && !status.Claims.Writer {
			err = fmt.Errorf("it does not write the claims: %+v", status.Claims)
		}
		return err
	})
}
