package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

func testServedClaims(t *testing.T, s store.Store) {
	served := func(id string) string {
		t.Helper()
		token, err := s.Served(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	hold := func(holder string, ttl time.Duration) {
		t.Helper()
		if held, _, err := s.Acquire(t.Context(), "claims", holder, ttl); !held || err != nil {
			t.Fatalf("the lease is not %s's: %v", holder, err)
		}
	}
	serve := func(claims ...store.ServedClaims) {
		t.Helper()
		if err := s.Serve(t.Context(), "claims", "r1", claims); err != nil {
			t.Fatal(err)
		}
	}
	hold("r1", time.Hour)
	if token := served("Aorders"); token != "" {
		t.Errorf("served %q of nobody", token)
	}
	c := created("orders", "alice")
	c.Account.State = account.Requested
	saveAccount(t, s, c)
	serve(store.ServedClaims{Account: "Aorders", Revision: 1, Token: "one"}, store.ServedClaims{Account: "Anone", Revision: 1, Token: "none"})
	if got := served("Aorders") + served("Anone"); got != "" {
		t.Errorf("served %q of what no server is to hold", got)
	}
	c.Account.Revision, c.Account.State, c.Entry = 2, account.Creating, acted("account.approve", "orders")
	saveAccount(t, s, c)
	for _, step := range []struct {
		revision    int64
		token, want string
	}{{1, "again", "again"}, {3, "three", "three"}, {2, "late", "three"}, {3, "anew", "anew"}} {
		if serve(store.ServedClaims{Account: "Aorders", Revision: step.revision, Token: step.token}); served("Aorders") != step.want {
			t.Errorf("after %+v %q is served", step, served("Aorders"))
		}
	}
	// Whoever lost the lease changes nothing, nor does who never had it, or had it until just now.
	if err := s.Release(t.Context(), "claims", "r1"); err != nil {
		t.Fatal(err)
	}
	hold("r2", time.Microsecond)
	for _, holder := range []string{"r1", "r2", "r3"} {
		err := s.Serve(t.Context(), "claims", holder, []store.ServedClaims{{Account: "Aorders", Revision: 9, Token: "of " + holder}})
		if !errors.Is(err, store.ErrChanged) || served("Aorders") != "anew" {
			t.Errorf("%s without the lease: %v, served is %q", holder, err, served("Aorders"))
		}
	}
	adopted := created("adopted", "alice")
	adopted.Account.Adopted = true
	saveAccount(t, s, adopted)
	for _, id := range []string{"Aadopted", "Aconfigured"} {
		if err := s.SaveAccountClaims(t.Context(), store.AccountClaims{Account: id, Base: "base", Desired: "of " + id, Revision: 1}); err != nil {
			t.Fatal(err)
		}
		if got := served(id); got != "of "+id {
			t.Errorf("of %s %q is served", id, got)
		}
	}
	for _, c := range []*store.AccountChange{&c, &adopted} {
		c.Account.Revision, c.Account.State, c.Entry = c.Account.Revision+1, account.Deleted, acted("account.delete", c.Account.Name)
		saveAccount(t, s, *c)
		if got := served(c.Account.ID); got != "" {
			t.Errorf("%q is served of what is deleted", got)
		}
	}
}
