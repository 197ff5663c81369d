package provision_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// ofTeam is what a login of somebody of the team leads to.
func ofTeam(team string) *policy.Creation {
	return &policy.Creation{
		Name: "of-" + team, Plan: "free", Role: "app", Binding: "teams", PerMinute: 1000,
		Origin: policy.Origin{Issuer: corp, Template: "of-{{claim.team}}", Claims: fmt.Sprintf("[%q]", team)},
	}
}

// ownOf is what a login of somebody leads to who gets an account of their own.
func ownOf(subject, name string) *policy.Creation {
	c := ofTeam("")
	c.Name, c.Own, c.Binding, c.Origin = name, true, "homes", policy.Origin{Issuer: corp, Template: "{{claim.nick}}", Subject: subject}
	return c
}

// runs has a service make accounts until the function that it returns is called.
func runs(t testing.TB, s *provision.Service) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	// It makes accounts from some moment on; one that it has already says since when.
	for {
		c := ofTeam("none")
		c.Plan = "gone"
		if r := found(s, "alice", c); r != nil && r.Reason == policy.AccountNotGranted {
			return stop
		}
	}
}

// found returns what came of a login that leads to the account.
func found(s *provision.Service, subject string, c *policy.Creation) *policy.Refusal {
	done, refusal := s.Found(person(subject), netip.Addr{}, c)
	<-done
	return refusal()
}

func TestFoundOnce(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	if r := found(b.Service, "alice", ofTeam("red")); r == nil || !r.Reason.Silent() {
		t.Errorf("before the service runs: %v", r)
	}
	services := []*provision.Service{b.Service, provision.New(b.Options)}
	for _, s := range services {
		runs(t, s)
	}
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if r := found(services[i%2], fmt.Sprint("u", i), ofTeam(fmt.Sprint("t", i%3))); r != nil {
				t.Errorf("login %d: %v", i, r)
			}
		})
	}
	all.Wait()
	for i := range 3 {
		list, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{Name: fmt.Sprint("of-t", i), Deleted: true})
		if err != nil || len(list) != 1 || len(list[0].Members) != 0 || list[0].Owner != (account.Person{}) || list[0].Origin.Binding != "teams" {
			t.Errorf("the accounts are %+v, %v", list, err)
		}
		entries, _, err := b.Store.Audit(t.Context(), store.AuditFilter{Op: api.OpAccountSignup, Account: fmt.Sprint("of-t", i)})
		if err != nil || len(entries) != 1 || !strings.Contains(entries[0].Detail, "made by binding teams") || entries[0].ConnType != "login" || entries[0].Bindings[0] != "teams" {
			t.Errorf("recorded is %+v, %v", entries, err)
		}
	}
}

func TestFoundForOne(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	runs(t, b.Service)
	for _, nick := range []string{"ada", "ada2", "ada"} {
		if r := found(b.Service, "ada", ownOf("ada", nick)); r != nil {
			t.Errorf("%s: %v", nick, r)
		}
	}
	a := b.get(t, "ada")
	if a.Owner.Subject != "ada" || a.Members != 2 || !b.login("ada", "ada").Allowed() || b.login("eve", "ada").Allowed() {
		t.Errorf("it is %+v", a)
	}
	r := found(b.Service, "ada", ownOf("ada", "ada3"))
	if r == nil || r.Reason != policy.AccountNotGranted || !strings.Contains(r.Detail, "as many accounts") {
		t.Errorf("a third one: %v", r)
	}
	if r := found(b.Service, "eve", ownOf("eve", "Ada")); r == nil || r.Reason != policy.AccountForeign {
		t.Errorf("a name that is like it: %v", r)
	}
	_, err := b.AccountRename(t.Context(), admin, api.AccountRenameRequest{Account: "ada", Name: "other", Revision: a.Revision})
	if err == nil || !strings.Contains(err.Error(), "which it keeps") {
		t.Errorf("renamed: %v", err)
	}
}

func TestFoundInVain(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	runs(t, b.Service)
	if _, err := b.AccountSignup(t.Context(), caller("alice"), api.AccountSignupRequest{Name: "of-Taken", Plan: "free"}); err != nil {
		t.Fatal(err)
	}
	if r := found(b.Service, "bob", ofTeam("gone")); r != nil {
		t.Fatal(r)
	}
	gone, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{Name: "of-gone"})
	if err != nil || len(gone) != 1 {
		t.Fatal(gone, err)
	}
	gone[0].State, gone[0].Revision = account.Deleted, gone[0].Revision+1
	entry := store.AuditEntry{ID: "01970000-0000-7000-8000-0000000000ff", At: now, Kind: store.AdminEntry, Outcome: "done"}
	if _, err := b.Store.SaveAccount(t.Context(), store.AccountChange{Account: gone[0], Entry: entry}); err != nil {
		t.Fatal(err)
	}
	fast := ofTeam("fast")
	fast.Binding, fast.PerMinute = "slow", 1
	faster := *fast
	faster.Name, faster.Origin.Claims = "of-faster", `["faster"]`
	reserved := ofTeam("x")
	reserved.Name = "APP"
	for _, c := range []struct {
		what   string
		create *policy.Creation
		want   policy.Reason
		detail string
	}{
		{"a name that somebody signed up for", ofTeam("taken"), policy.AccountForeign, "was not made by binding teams"},
		{"one that was deleted", ofTeam("gone"), policy.AccountForeign, "no login makes it again"},
		{"and again", ofTeam("gone"), policy.AccountForeign, "no login makes it again"},
		{"a name of the configuration", reserved, policy.AccountForeign, "an account of the configuration"},
		{"the first in a minute", fast, "", ""},
		{"the second", &faster, policy.Overloaded, "bounds them"},
	} {
		r := found(b.Service, "bob", c.create)
		if (r == nil) != (c.want == "") || r != nil && (r.Reason != c.want || !strings.Contains(r.Detail, c.detail)) {
			t.Errorf("%s: %v, want %s", c.what, r, c.want)
		}
	}
}

// Two services make exactly as many accounts by a binding as there may be, and go on letting into those that are there.
func TestFoundUpToTheLimit(t *testing.T) {
	t.Parallel()
	const most = 5
	b := newAccountBed(t)
	services := []*provision.Service{b.Service, provision.New(b.Options)}
	for _, s := range services {
		runs(t, s)
	}
	limited := func(i int) *policy.Creation {
		c := ofTeam(fmt.Sprint("l", i))
		c.Binding, c.Max = "limited", most
		return c
	}
	var all sync.WaitGroup
	refusals := make([]*policy.Refusal, 40)
	for i := range refusals {
		all.Go(func() { refusals[i] = found(services[i%2], fmt.Sprint("u", i), limited(i/2)) }) // each account is asked for at both
	}
	all.Wait()
	made := 0
	for i := range 20 {
		list, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{Name: limited(i).Name})
		if err != nil {
			t.Fatal(err)
		}
		made += len(list)
		for _, r := range refusals[2*i : 2*i+2] {
			if there := len(list) == 1; there != (r == nil) || r != nil && (r.Reason != policy.AccountLimit || r.Reason.Silent() || !strings.Contains(r.Detail, "there are 5 by binding limited already")) {
				t.Errorf("%s is there: %t, and a login to it is told %v", limited(i).Name, there, r)
			}
		}
	}
	if made != most {
		t.Errorf("%d accounts were made, want %d", made, most)
	}
	if !strings.Contains(b.log.String(), "binding=limited max=5") {
		t.Error("the log does not say that the binding has reached its limit")
	}
	if r := found(b.Service, "bob", ofTeam("others")); r != nil {
		t.Errorf("by another binding: %v", r)
	}
}

// A bug that an account brings out is met by its login alone, and the next login tries again.
func TestFoundPanics(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	b := newAccountBed(t, func(o *provision.Options) {
		plans := o.Accounts.Plans
		o.Accounts.Plans = func() map[string]*account.Plan {
			if broken.Load() {
				panic("boom")
			}
			return plans()
		}
	})
	runs(t, b.Service)
	broken.Store(true)
	for range 2 * 64 { // more than may be under way at once: a panic gives its place back
		if r := found(b.Service, "alice", ofTeam("red")); r == nil || r.Reason != policy.Internal || !r.Reason.Silent() || strings.Contains(r.Detail, "boom") {
			t.Fatalf("got %v", r)
		}
	}
	if log := b.log.String(); !strings.Contains(log, "panic=boom") || !strings.Contains(log, "firstlogin.go") || !strings.Contains(log, "account=of-red") {
		t.Errorf("the log says %s", log)
	}
	broken.Store(false)
	if r := found(b.Service, "alice", ofTeam("red")); r != nil {
		t.Errorf("after it: %v", r)
	}
}

// A service that ends keeps nobody waiting for servers.
func TestFoundEnds(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	stop := runs(t, b.Service)
	b.applies.Store(false)
	done, refusal := b.Found(person("bob"), netip.Addr{}, ofTeam("late"))
	stop()
	<-done
	if r := refusal(); r == nil || !r.Reason.Silent() {
		t.Errorf("got %v", r)
	}
	if r := found(b.Service, "bob", ofTeam("later")); r == nil || !r.Reason.Silent() {
		t.Errorf("after its end: %v", r)
	}
}
