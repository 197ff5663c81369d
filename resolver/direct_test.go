package resolver

import (
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/policy"
)

func TestCommonKey(t *testing.T) {
	both := func(c *jwt.AccountClaims) { c.SigningKeys.Add(otherKey) }
	onlyOther := func(c *jwt.AccountClaims) { c.SigningKeys.Add(otherKey); delete(c.SigningKeys, plainKey) }
	scope := func(types ...string) func(*jwt.AccountClaims) {
		return func(c *jwt.AccountClaims) {
			s := &jwt.UserScope{Kind: jwt.UserScopeType, Key: scopedKey}
			s.Template.AllowedConnectionTypes.Add(types...)
			c.SigningKeys.AddScopedSigner(s)
		}
	}
	expired := func(c *jwt.AccountClaims) { c.Expires = now.Unix() }
	late := holding{AccountState: applied(expired), server: "s2", now: now.Add(-time.Second)}
	for _, c := range []struct {
		name   string
		states []AccountState
		more   []holding
		keys   []string
		scoped string
		leaf   bool
		want   string
		why    policy.Reason
	}{
		{name: "the newest on one server", states: []AccountState{applied(both)}, keys: []string{otherKey, plainKey}, want: otherKey},
		{name: "the newest is not everywhere", states: []AccountState{applied(both), applied(nil)}, keys: []string{otherKey, plainKey}, want: plainKey},
		{name: "the same, the other way round", states: []AccountState{applied(nil), applied(both)}, keys: []string{otherKey, plainKey}, want: plainKey},
		{name: "one on each server", states: []AccountState{applied(nil), applied(onlyOther)}, keys: []string{otherKey, plainKey}, why: policy.AccountUnready},
		{name: "not applied on the second", states: []AccountState{applied(nil), {Problem: "why"}}, keys: []string{plainKey}, why: policy.AccountUnready},
		{name: "expired on the second", states: []AccountState{applied(nil), applied(expired)}, keys: []string{plainKey}, why: policy.AccountExpired},
		{name: "not expired by its own clock", states: []AccountState{applied(nil)}, more: []holding{late}, keys: []string{plainKey}, want: plainKey},
		{name: "scoped", states: []AccountState{applied(scope("STANDARD")), applied(scope("STANDARD", "WEBSOCKET"))}, scoped: scopedKey, want: scopedKey},
		{name: "scoped, missing on the second", states: []AccountState{applied(scope("STANDARD")), applied(func(c *jwt.AccountClaims) { delete(c.SigningKeys, scopedKey) })}, scoped: scopedKey, why: policy.AccountUnready},
		{name: "scoped, without types", states: []AccountState{applied(nil)}, scoped: scopedKey, why: policy.DirectNotGranted},
		{name: "scoped, for leaf nodes on the second", states: []AccountState{applied(scope("STANDARD")), applied(scope("STANDARD", "LEAFNODE"))}, scoped: scopedKey, why: policy.DirectNotGranted},
		{name: "scoped, for leaf nodes over WebSocket", states: []AccountState{applied(scope("LEAFNODE_WS"))}, scoped: scopedKey, why: policy.DirectNotGranted},
		{name: "scoped, for leaf nodes as is meant", states: []AccountState{applied(scope("LEAFNODE"))}, scoped: scopedKey, leaf: true, want: scopedKey},
	} {
		var all []holding
		for _, s := range c.states {
			all = append(all, holding{AccountState: s, server: "s1", now: now})
		}
		key, r := commonKey(append(all, c.more...), &policy.Account{Name: "APP", ID: accountID, SigningKeys: c.keys}, c.scoped, c.leaf)
		switch {
		case key != c.want:
			t.Errorf("%s: key %q, want %q", c.name, key, c.want)
		case (r == nil) != (c.why == "") || r != nil && r.Reason != c.why:
			t.Errorf("%s: %v, want %q", c.name, r, c.why)
		}
	}
}

// A key that a server has not shown yet would make direct users that it does not admit.
func TestSigningKeyOfAllServers(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	if key, refusal := r.SigningKeyOfAll(s.app, "", false, time.Now()); key != s.app.SigningKeys[0] {
		t.Errorf("key %q, %v: want %s", key, refusal, s.app.SigningKeys[0])
	}
	unread := &policy.Account{Name: "OTHER", ID: newAccount(t, "OTHER").ID, SigningKeys: s.app.SigningKeys}
	if _, refusal := r.SigningKeyOfAll(unread, "", false, time.Now()); refusal == nil || refusal.Reason != policy.AccountUnready {
		t.Errorf("an account that was not read back: %v", refusal)
	}
	r.mu.Lock()
	r.active = 4
	r.mu.Unlock()
	if _, refusal := r.SigningKeyOfAll(s.app, "", false, time.Now()); refusal == nil || refusal.Reason != policy.AccountUnready {
		t.Errorf("one of four servers has not answered: %v", refusal)
	}
	blind := New(Options{Blind: true})
	if _, refusal := blind.SigningKeyOfAll(s.app, "", false, time.Now()); refusal == nil || refusal.Reason != policy.AccountUnready {
		t.Errorf("without a system connection: %v", refusal)
	}
}

// A direct user of an account of sign-up may connect to every server, so that all are asked.
func TestAccountIsReadEverywhereForADirectUser(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	other := s.run(t, Options{Interval: never}, s.need(t)) // a replica that did not push it
	ready(t, other)
	a := signUp(t, records, 1)[0]
	k.active(t, a)
	record := records.get(a.ID)
	named := record.Entry().Account
	if key, refusal := other.SigningKeyOfAll(&named, "", false, time.Now()); refusal == nil || refusal.Reason != policy.AccountUnready {
		t.Errorf("before anybody was asked: %s, %v", key, refusal)
	}
	for _, r := range []*Resolver{other, k.r} {
		r.ReadEverywhere(t.Context(), &named)
		if key, refusal := r.SigningKeyOfAll(&named, "", false, time.Now()); key != a.Keys[0].Public {
			t.Errorf("%s, %v", key, refusal)
		}
	}
	unknown := newSigned(t, "absent")
	absent := unknown.Entry().Account
	other.ReadEverywhere(t.Context(), &absent)
	if key, refusal := other.SigningKeyOfAll(&absent, "", false, time.Now()); refusal == nil || refusal.Reason != policy.AccountUnready {
		t.Errorf("an account that nobody has: %s, %v", key, refusal)
	}
}
