package provision_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// A replica that ends right after it has removed a member leaves that in the record: another one closes what came up meanwhile, voids
// the keys, tries again where a server does not answer, and is done once.
func TestRemovalOutlivesTheReplica(t *testing.T) {
	t.Parallel()
	for name, open := range stores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRemovalOutlivesTheReplica(t, open(t))
		})
	}
}

func testRemovalOutlivesTheReplica(t *testing.T, change func(*provision.Options)) {
	var later atomic.Int64
	b := newAccountBed(t, change, func(o *provision.Options) {
		o.Now = func() time.Time { return now.Add(time.Duration(later.Load())) }
	})
	id := b.orders(t).Account
	m, err := b.MemberAdd(t.Context(), caller("alice"), api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: "bob"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.accept("bob", ""); err != nil {
		t.Fatal(err)
	}
	session := func(cid uint64) policy.Session {
		return policy.Session{ServerID: "NA", Server: "n1", CID: cid, Account: id, Name: "corp-bob",
			Login: &policy.Login{Principal: policy.Principal{Issuer: corp, Subject: "bob"}, Issued: now, Expires: now.Add(time.Hour), Bindings: []string{"member:" + m.ID}}}
	}
	b.servers.list = []policy.Session{session(1)}
	if out, err := b.MemberRemove(t.Context(), caller("alice"), api.MemberRemoveRequest{Account: "orders", ID: m.ID}); err != nil || out.Closed != 1 {
		t.Fatalf("got %+v, %v", out, err)
	}
	removed := b.record(t, "orders")
	if len(removed.Leaving) != 1 {
		t.Fatalf("the record has %+v", removed.Leaving)
	}
	// The replica is gone. A login that was decided on before comes up, and a key that was.
	b.servers.list = append(b.servers.list, session(2))
	if err := b.Store.AddUserKey(t.Context(), store.UserKey{
		Key: directKey, Account: "orders", AccountID: id, Issuer: corp, Subject: "bob", Name: "corp-bob", Issued: now, Expires: now.Add(time.Hour),
	}, 9); err != nil {
		t.Fatal(err)
	}

	options := b.Options
	options.Replica = "r2"
	other := provision.New(options)
	loaded, err := b.Store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other.FollowLeft(loaded.Accounts, true)
	look := func(after time.Duration, closed, left int) {
		t.Helper()
		later.Add(int64(after))
		if err := other.CloseLeft(t.Context()); err != nil {
			t.Error(err)
		}
		if is := b.record(t, "orders"); len(b.servers.closed) != closed || len(is.Leaving) != left || is.Revision != removed.Revision {
			t.Fatalf("closed %v, the record has %d who left at revision %d; want %d, %d and %d", b.servers.closed, len(is.Leaving), is.Revision, closed, left, removed.Revision)
		}
	}
	look(time.Second, 1, 1) // not due
	held, _, err := b.Store.Acquire(t.Context(), "members who left", "r3", time.Minute)
	if err != nil || !held {
		t.Fatal(held, err)
	}
	look(5*time.Second, 1, 1) // a third replica is at it
	if err := b.Store.Release(t.Context(), "members who left", "r3"); err != nil {
		t.Fatal(err)
	}
	b.servers.unanswered = []string{"n2"}
	look(0, 2, 1)
	b.servers.list, b.servers.unanswered = append(b.servers.list, session(3)), nil
	look(time.Second, 2, 1) // not so often
	look(5*time.Second, 3, 0)
	keys, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{Kind: policy.UserKey})
	if err != nil || len(keys) != 1 || keys[0].Key != directKey {
		t.Errorf("voided keys: %+v, %v", keys, err)
	}
	b.servers.list = append(b.servers.list, session(4))
	look(time.Hour, 3, 0)
}

// A server that never answers is given up, and who has left no longer waits for it.
func TestRemovalIsGivenUp(t *testing.T) {
	t.Parallel()
	var later atomic.Int64
	b := newAccountBed(t, func(o *provision.Options) {
		o.Now = func() time.Time { return now.Add(time.Duration(later.Load())) }
	})
	b.orders(t)
	m, err := b.MemberAdd(t.Context(), caller("alice"), api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Match: map[string][]any{"groups": {"dev"}}})
	if err != nil {
		t.Fatal(err)
	}
	b.servers.unanswered = []string{"n2"}
	if _, err := b.MemberRemove(t.Context(), caller("alice"), api.MemberRemoveRequest{Account: "orders", ID: m.ID}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		left  int
	}{{6 * time.Second, 1}, {time.Hour, 0}} {
		later.Add(int64(step.after))
		if err := b.CloseLeft(t.Context()); err != nil {
			t.Error(err)
		}
		if is := b.record(t, "orders").Leaving; len(is) != step.left {
			t.Errorf("after %s more %d wait", step.after, len(is))
		}
	}
	a := account.Account{}
	for i := range account.MaxLeaving + 5 {
		a.Leave(account.Left{At: now.Add(time.Duration(i) * time.Second)})
	}
	if at, waits := a.LookAt(time.Second); len(a.Leaving) != account.MaxLeaving || !waits || !at.Equal(now.Add(6*time.Second)) {
		t.Errorf("%d wait, the first until %s", len(a.Leaving), at)
	}
}
