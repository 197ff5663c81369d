package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// TestProveHolderKilled kills replicas at random moments of sign-ups, most of them the one that writes the claims, and freezes that
// one for longer than its lease lasts: clients call again with the same name, which is what makes a sign-up happen once. Afterwards
// the store, the servers and the answers agree. The long form kills 50 times.
func TestProveHolderKilled(t *testing.T) {
	t.Parallel()
	clients, kills, frozen := 6, 1, 6*time.Second
	if long() {
		clients, kills, frozen = 32, 25, 10*time.Second
	}
	for name, replicas := range map[string]int{"sqlite": 1, "postgres": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{servers: 3, mode: devtest.AsProcess, policy: applicantPolicy})
			p := &signUps{world: w}
			o := serveOptions{process: true}
			if replicas > 1 {
				o.store = storetest.Postgres(t, postgres.Migrate)
			}
			for range replicas {
				p.replicas = append(p.replicas, w.serve(o))
			}
			p.all = w.applicants(clients, p.replicas...)
			holders := 0
			for n := range kills {
				victim, holds := p.victim(n%4 == 3)
				if holds {
					holders++
				}
				p.round(t, 3*clients, func() {
					victim.kill()
					victim.start(true)
				})
			}
			victim, _ := p.victim(false)
			p.round(t, 6*clients, func() { victim.standStill(frozen) })
			p.mustAgree(t, o.store)
			for _, r := range p.replicas {
				r.stop()
			}
			p.replicas[0].mustAgree(len(p.owners()))
			t.Logf("%d accounts by %d clients in %d calls; %d kills, %d of them of the replica that wrote the claims",
				len(p.owners()), len(p.all), p.calls(), kills, holders)
		})
	}
}

// signUps are those of clients at replicas that get killed.
type signUps struct {
	*world
	replicas []*replica
	all      []*applicant
	next     atomic.Int64
}

// victim returns the replica that writes the claims, waiting until there is one, or any of them, which may just be starting.
func (p *signUps) victim(anyone bool) (r *replica, holds bool) {
	p.Helper()
	if anyone {
		return p.replicas[rand.IntN(len(p.replicas))], false
	}
	eventually(p, func() error {
		for _, r = range p.replicas {
			if status, err := r.status(); err == nil && status.Claims.Writer {
				return nil
			}
		}
		return errors.New("no replica writes the claims")
	})
	return r, true
}

// round has the clients sign up for so many accounts, disturbs them at a random moment, and returns when all are active and entered.
func (p *signUps) round(t *testing.T, accounts int, disturb func()) {
	t.Helper()
	first := p.next.Load()
	last, moment := first+int64(accounts), first+1+rand.Int64N(int64(accounts)/2)
	reached := make(chan struct{})
	var running sync.WaitGroup
	for _, a := range p.all {
		running.Go(func() {
			for {
				n := p.next.Add(1)
				if n == moment {
					close(reached)
				}
				if n > last {
					return
				}
				a.signUp(t, fmt.Sprintf("team-%d", n), int(n)%len(p.servers))
			}
		})
	}
	<-reached
	<-time.After(rand.N(100 * time.Millisecond)) // any moment of a sign-up
	disturb()
	running.Wait()
	p.next.Store(last)
}

// standStill freezes the replica for that long.
func (r *replica) standStill(d time.Duration) {
	r.Helper()
	p := r.run.(*process)
	if err := p.signal(syscall.SIGSTOP); err != nil {
		r.Fatal(err)
	}
	<-time.After(d)
	if err := p.signal(syscall.SIGCONT); err != nil {
		r.Fatal(err)
	}
}

// calls returns how many calls the accounts took.
func (p *signUps) calls() (n int) {
	for _, a := range p.all {
		for _, one := range a.made {
			n += one.calls
		}
	}
	return n
}

// owners returns who was told, by the name, that an account is active.
func (p *signUps) owners() map[string]owned {
	all := map[string]owned{}
	for _, a := range p.all {
		for _, one := range a.made {
			all[one.Name] = owned{a, one.Account}
		}
	}
	return all
}

// owned is an account as its owner was told of it.
type owned struct {
	*applicant
	id string
}

// mustAgree waits until what is stored is what clients were told, and what servers have, and each owner gets in at each server.
func (p *signUps) mustAgree(t *testing.T, dsn string) {
	t.Helper()
	told := p.owners()
	if n := int(p.next.Load()); len(told) != n {
		t.Fatalf("%d accounts of %d were signed up for and entered", len(told), n)
	}
	eventually(t, func() error { return p.settled(len(told)) })
	var records []account.Account
	eventually(t, func() error {
		records = p.records(dsn)
		for _, a := range records {
			if a.State != account.Active || a.Applied < a.Revision {
				return fmt.Errorf("%s is %s, applied %d of %d", a.Name, a.State, a.Applied, a.Revision)
			}
		}
		return nil
	})
	if len(records) != len(told) {
		t.Errorf("%d accounts are stored, %d were signed up for", len(records), len(told))
	}
	eventually(t, func() error { return p.settled(len(told)) }) // also where the replica was restarted to read
	for _, a := range records {
		o, ok := told[a.Name]
		if !ok || o.id != a.ID {
			t.Errorf("%s is stored as %s, and was answered with %q", a.Name, a.ID, o.id)
			continue
		}
		p.mustBeEverywhere(a, o.token)
	}
}

// records returns the accounts that are stored, deleted ones too. Without a DSN the replica is stopped meanwhile, which has SQLite
// to itself.
func (p *signUps) records(dsn string) (all []account.Account) {
	p.Helper()
	var s store.Store
	if dsn == "" {
		p.replicas[0].stop()
		s = p.store()
		defer p.replicas[0].start(true)
	} else {
		var err error
		if s, err = postgres.Open(p.Context(), postgres.Options{DSN: dsn}); err != nil {
			p.Fatal(err)
		}
	}
	defer func() { _ = s.Close() }()
	for f := (store.AccountFilter{Deleted: true}); ; {
		page, next, err := s.Accounts(p.Context(), f)
		if err != nil {
			p.Fatal(err)
		}
		if all = append(all, page...); next == "" {
			return all
		}
		f.Cursor = next
	}
}

// settled returns nil when every replica is ready, one of them writes the claims, and it finds them as they are to be.
func (p *signUps) settled(accounts int) error {
	p.Helper()
	writers := 0
	for _, r := range p.replicas {
		if err := r.ready(); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		status, err := r.status()
		if err != nil {
			return err
		}
		c := status.Claims
		if !c.Writer {
			continue
		}
		writers++
		if c.SelfService != accounts || c.Waiting != 0 || c.Settled != c.Accounts || len(c.Problems)+len(c.Unknown)+len(c.Gone) > 0 {
			return fmt.Errorf("%d accounts, and the claims are %+v", accounts, c)
		}
	}
	if writers != 1 {
		return fmt.Errorf("%d replicas write the claims", writers)
	}
	return nil
}

// mustBeEverywhere waits until every server stores the account with the signing keys of its record, and lets its owner in.
func (p *signUps) mustBeEverywhere(a account.Account, token string) {
	p.Helper()
	inbox, err := p.system.SubscribeSync(p.system.NewInbox())
	if err != nil {
		p.Fatal(err)
	}
	defer func() { _ = inbox.Unsubscribe() }()
	if err := p.system.PublishRequest("$SYS.REQ.ACCOUNT."+a.ID+".CLAIMS.LOOKUP", inbox.Subject, nil); err != nil {
		p.Fatal(err)
	}
	var keys []string
	for _, k := range a.Keys {
		keys = append(keys, k.Public)
	}
	slices.Sort(keys)
	for n := range p.servers {
		msg, err := inbox.NextMsg(time.Minute)
		if err != nil {
			p.Fatalf("%d servers say what they store of %s: %v", n, a.Name, err)
		}
		claims, err := jwt.DecodeAccountClaims(string(msg.Data))
		if err != nil {
			p.Errorf("a server stores %q of %s: %v", msg.Data, a.Name, err)
			continue
		}
		if got := slices.Sorted(slices.Values(claims.SigningKeys.Keys())); !slices.Equal(got, keys) {
			p.Errorf("a server stores %s with the signing keys %v, want %v", a.Name, got, keys)
		}
	}
	for _, server := range p.servers {
		eventually(p, func() error {
			nc, err := nats.Connect(server.ClientURL(), nats.UserInfo("account:"+a.Name, token), nats.Timeout(5*time.Second),
				nats.NoReconnect(), nats.IgnoreDiscoveredServers())
			if err != nil {
				return fmt.Errorf("log in to %s: %w", a.Name, err)
			}
			nc.Close()
			return nil
		})
	}
}
