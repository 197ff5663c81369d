package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

var targetTests = map[string]func(*testing.T, store.Store){
	"EveryTargetIsKept":        testTargets,
	"EqualTargets":             testEqualTargets,
	"TargetFilters":            testTargetFilters,
	"IllegalTargetsAreRefused": testIllegalTargets,
}

// targets returns a revocation of each kind and scope.
func targets() map[string]store.Revocation {
	of := func(kind policy.RevocationKind, target policy.Target) store.Revocation {
		return store.Revocation{
			Revocation: policy.Revocation{ID: newID(), Kind: kind, Target: target, At: base}, Reason: "it leaked", Actor: "root",
		}
	}
	identity, whole := policy.Principal{Issuer: issuer, Subject: "alice"}, policy.Principal{Issuer: issuer}
	return map[string]store.Revocation{
		"block of an identity":  of(policy.Block, policy.Target{Principal: identity}),
		"block of an issuer":    of(policy.Block, policy.Target{Principal: whole}),
		"block by claims":       of(policy.Block, policy.Target{Principal: whole, Match: `{"groups":["contractors"]}`}),
		"block in an account":   of(policy.Block, policy.Target{Principal: whole, Match: `{"groups":["contractors"]}`, Account: "A1"}),
		"logout of an identity": of(policy.Logout, policy.Target{Principal: identity}),
		"logout of an issuer":   of(policy.Logout, policy.Target{Principal: whole}),
		"logout of a session":   of(policy.Logout, policy.Target{Principal: whole, Session: "s1"}),
		"logout of a token":     of(policy.Logout, policy.Target{Principal: whole, Token: "t1"}),
		"logout of an account":  of(policy.Logout, policy.Target{Account: "A1"}),
		"user key":              of(policy.UserKey, policy.Target{Account: "A1", Key: "U1"}),
		"signing key":           of(policy.SigningKey, policy.Target{Account: "A1", Key: "S1"}),
		"activation":            of(policy.Activation, policy.Target{Account: "A1", Key: "A2", Export: "orders.>"}),
		"suspension":            of(policy.Suspension, policy.Target{Account: "A1"}),
	}
}

func testTargets(t *testing.T, s store.Store) {
	start := load(t, s).Position
	want := map[string]policy.Revocation{}
	for name, r := range targets() {
		r.Programs = true
		stored := revoke(t, s, r)
		list, err := allRevocations(t.Context(), s, store.RevocationFilter{ID: r.ID})
		if err != nil {
			t.Fatal(err)
		}
		r.Position = stored.Position
		if diff := cmp.Diff([]store.Revocation{r}, list); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		audit, err := allAudit(t.Context(), s, store.AuditFilter{Kind: store.AdminEntry})
		if err != nil || len(audit) != len(want)+1 {
			t.Fatalf("%s: %d audit entries, %v", name, len(audit), err)
		}
		if e := audit[0]; e.Target != r.Target.String() || !strings.Contains(e.Detail, string(r.Kind)+" "+r.ID) {
			t.Errorf("%s: the audit entry says %q of %q", name, e.Detail, e.Target)
		}
		want[r.ID] = r.Revocation
	}
	if diff := cmp.Diff(want, byID(load(t, s).Revocations)); diff != "" {
		t.Errorf("loaded: %s", diff)
	}
	changes, _, err := s.Changes(t.Context(), start, 100)
	if err != nil {
		t.Fatal(err)
	}
	fed := map[string]policy.Revocation{}
	for _, c := range changes {
		fed[c.Revocation.Revocation.ID] = c.Revocation.Revocation
	}
	if diff := cmp.Diff(want, fed); diff != "" {
		t.Errorf("fed: %s", diff)
	}
}

// testEqualTargets: what is asked for again is answered by what there is, but a logout is a point in time.
func testEqualTargets(t *testing.T, s store.Store) {
	end := base.Add(24 * time.Hour)
	for name, r := range targets() {
		first := revoke(t, s, r)
		again := targets()[name]
		again.Reason, again.Actor, again.At = "other", "other", base.Add(time.Minute)
		point := r.Kind == policy.Logout && r.Session == "" && r.Token == ""
		got, existing, err := s.Revoke(t.Context(), again, "")
		if err != nil || existing == point || existing != (got.ID == first.ID) {
			t.Errorf("%s: %s, existing %t, %v", name, got.ID, existing, err)
		}
		for what, change := range map[string]func(*store.Revocation){
			"end":      func(r *store.Revocation) { r.Until = end },
			"programs": func(r *store.Revocation) { r.Programs = true },
		} {
			other := targets()[name]
			change(&other)
			if _, existing, err := s.Revoke(t.Context(), other, ""); existing || err != nil {
				t.Errorf("%s with another %s: existing %t, %v", name, what, existing, err)
			}
		}
		lift(t, s, first.ID)
		if _, existing, err := s.Revoke(t.Context(), targets()[name], ""); existing || err != nil {
			t.Errorf("%s after its lift: existing %t, %v", name, existing, err)
		}
	}
}

func testTargetFilters(t *testing.T, s store.Store) {
	all := targets()
	names := map[string]string{} // by id
	for name, r := range all {
		r.At = base.Add(time.Duration(len(names)) * time.Second)
		if r.Kind == policy.Suspension {
			r.Actor = "night shift"
		}
		revoke(t, s, r)
		names[r.ID] = name
	}
	const everything = "*"
	for name, c := range map[string]struct {
		filter store.RevocationFilter
		want   []string
	}{
		"all":             {store.RevocationFilter{}, []string{everything}},
		"id":              {store.RevocationFilter{ID: all["user key"].ID}, []string{"user key"}},
		"subject":         {store.RevocationFilter{Target: policy.Target{Principal: policy.Principal{Subject: "alice"}}}, []string{"block of an identity", "logout of an identity"}},
		"session":         {store.RevocationFilter{Target: policy.Target{Session: "s1"}}, []string{"logout of a session"}},
		"token":           {store.RevocationFilter{Target: policy.Target{Token: "t1"}}, []string{"logout of a token"}},
		"match":           {store.RevocationFilter{Target: policy.Target{Match: `{"groups":["contractors"]}`}}, []string{"block by claims", "block in an account"}},
		"match, account":  {store.RevocationFilter{Target: all["block in an account"].Target}, []string{"block in an account"}},
		"account":         {store.RevocationFilter{Target: policy.Target{Account: "A1"}}, []string{"block in an account", "logout of an account", "user key", "signing key", "activation", "suspension"}},
		"key":             {store.RevocationFilter{Target: policy.Target{Key: "S1"}}, []string{"signing key"}},
		"export":          {store.RevocationFilter{Target: policy.Target{Export: "orders.>"}}, []string{"activation"}},
		"kind":            {store.RevocationFilter{Kind: policy.Suspension}, []string{"suspension"}},
		"kind of account": {store.RevocationFilter{Kind: policy.Logout, Target: policy.Target{Account: "A1"}}, []string{"logout of an account"}},
		"actor":           {store.RevocationFilter{Actor: "night shift"}, []string{"suspension"}},
		"since":           {store.RevocationFilter{Since: base}, []string{everything}},
		"since then":      {store.RevocationFilter{Since: base.Add(time.Hour)}, nil},
		"before":          {store.RevocationFilter{Before: base.Add(time.Hour)}, []string{everything}},
		"before then":     {store.RevocationFilter{Before: base}, nil},
		"another account": {store.RevocationFilter{Target: policy.Target{Account: "A2"}}, nil},
	} {
		list, err := allRevocations(t.Context(), s, c.filter)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, r := range list {
			got = append(got, names[r.ID])
		}
		if slices.Equal(c.want, []string{everything}) {
			c.want = nil
			for _, n := range names {
				c.want = append(c.want, n)
			}
		}
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func testIllegalTargets(t *testing.T, s store.Store) {
	for name, change := range map[string]func(*store.Revocation){
		"nothing":                  func(r *store.Revocation) { r.Target = policy.Target{} },
		"subject without issuer":   func(r *store.Revocation) { r.Issuer = "" },
		"suspended identity":       func(r *store.Revocation) { r.Kind = policy.Suspension },
		"user key of no account":   func(r *store.Revocation) { r.Kind, r.Target = policy.UserKey, policy.Target{Key: "U1"} },
		"block of a login session": func(r *store.Revocation) { r.Session = "s1" },
	} {
		r := block("alice")
		change(&r)
		if _, _, err := s.Revoke(t.Context(), r, ""); err == nil {
			t.Errorf("%s: it was stored", name)
		}
	}
	if n := len(load(t, s).Revocations); n != 0 {
		t.Errorf("%d are in force", n)
	}
}
