package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store"
)

// A replica ends right after it has stored that a member was removed, before it has closed anything: the next one closes what
// the member has open, and nobody else's connection.
func TestRemovalIsTakenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: accountPolicy})
	first := w.serve(serveOptions{})
	alice, bob := w.personFile("alice"), w.personFile("bob")
	as := func(file string, args ...string) string {
		t.Helper()
		return first.must(append(append([]string{"account"}, args...), "--token-file", file, "--json")...)
	}
	eventually(t, func() error {
		if up := decodeOne[api.AccountSignup](t, as(alice, "signup", "--name", "orders", "--plan", "free", "--url", first.http)); up.State != "active" {
			return errors.New("it is " + up.State)
		}
		return nil
	})
	invited := decodeOne[api.MemberInvitation](t, as(alice, "invite", "orders", "--role", "app"))
	secret := filepath.Join(w.dir, "secret")
	if err := os.WriteFile(secret, []byte(invited.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	as(bob, "accept", "orders", "--secret-file", secret)
	mine, theirs := w.mustEnterAccount(0, "orders", alice), w.mustEnterAccount(0, "orders", bob)
	first.stop()

	s := w.store()
	list, _, err := s.Accounts(t.Context(), store.AccountFilter{Name: "orders", Limit: 1})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	a := list[0]
	i := slices.IndexFunc(a.Members, func(m account.Member) bool { return m.ID == invited.Member.ID })
	if i < 0 {
		t.Fatalf("bob is no member: %+v", a.Members)
	}
	a.Leave(account.Left{ID: "left", Member: a.Members[i], At: time.Now().UTC(), By: "alice"})
	a.Members = slices.Delete(a.Members, i, i+1)
	a.Revision++
	if _, err := s.SaveAccount(t.Context(), store.AccountChange{Account: a, Entry: store.AuditEntry{
		ID: "left", At: time.Now(), Kind: store.AdminEntry, Outcome: "done", Op: api.OpMemberRemove, Target: a.ID,
	}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if theirs.IsClosed() || mine.IsClosed() {
		t.Fatal("closed although nothing serves")
	}
	w.serve(serveOptions{})
	eventually(t, func() error {
		if !theirs.IsClosed() {
			return errors.New("who was removed is connected")
		}
		return nil
	})
	if mine.IsClosed() {
		t.Error("the owner was closed as well")
	}
}
