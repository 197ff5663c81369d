package provision_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// meeting is a store in which something else happens, once, at a point of a call.
type meeting struct {
	store.Store
	mu    sync.Mutex
	point string
	meet  func()
}

func (m *meeting) at(point string, meet func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.point, m.meet = point, meet
}

func (m *meeting) reach(point string) {
	m.mu.Lock()
	meet := m.meet
	if m.point != point {
		meet = nil
	} else {
		m.meet = nil
	}
	m.mu.Unlock()
	if meet != nil {
		meet()
	}
}

func (m *meeting) Revoke(ctx context.Context, r store.Revocation, key string) (store.Revocation, bool, error) {
	m.reach("before revoke")
	stored, existing, err := m.Store.Revoke(ctx, r, key)
	m.reach("after revoke")
	return stored, existing, err
}

func (m *meeting) Lift(ctx context.Context, l store.Lift) (store.Revocation, error) {
	m.reach("before lift")
	lifted, err := m.Store.Lift(ctx, l)
	m.reach("after lift")
	return lifted, err
}

func (m *meeting) SaveAccount(ctx context.Context, c store.AccountChange) (json.RawMessage, error) {
	m.reach("before save")
	first, err := m.Store.SaveAccount(ctx, c)
	m.reach("after save")
	return first, err
}

func (m *meeting) Accounts(ctx context.Context, f store.AccountFilter) ([]account.Account, string, error) {
	page, next, err := m.Store.Accounts(ctx, f)
	m.reach("after list")
	return page, next, err
}

// A suspension that meets a deletion, or its end, anywhere is there afterwards.
func TestSuspensionMeetsDeletion(t *testing.T) {
	t.Parallel()
	for kind, open := range stores() {
		for _, point := range []string{"before revoke", "after revoke", "before lift", "after lift", "before save", "after save"} {
			for _, op := range []string{api.OpAccountDelete, api.OpAccountUndelete} {
				for _, first := range []string{op, api.OpAccountSuspend} {
					t.Run(strings.Join([]string{kind, op, point, "of " + first}, " "), func(t *testing.T) {
						t.Parallel()
						meetDeletion(t, open(t), point, op, first == op)
					})
				}
			}
		}
	}
}

func meetDeletion(t *testing.T, kind func(*provision.Options), point, op string, first bool) {
	m := &meeting{}
	b := newAccountBed(t, kind, func(o *provision.Options) { m.Store, o.Store = o.Store, m })
	id := b.orders(t).Account
	deletion := func() {
		_, err := b.AccountDelete(t.Context(), admin, api.AccountDeleteRequest{Account: id})
		if op == api.OpAccountUndelete {
			_, err = b.AccountUndelete(t.Context(), caller("alice"), api.AccountActRequest{Account: id})
		}
		if err != nil {
			t.Error(err)
		}
	}
	suspend := func() {
		if _, err := b.AccountSuspend(t.Context(), admin, api.AccountSuspendRequest{Account: id, Reason: "fraud"}); err != nil {
			t.Error(err)
		}
	}
	if op == api.OpAccountUndelete {
		if _, err := b.AccountDelete(t.Context(), admin, api.AccountDeleteRequest{Account: id}); err != nil {
			t.Fatal(err)
		}
	}
	if first {
		m.at(point, suspend)
		deletion()
	} else {
		m.at(point, deletion)
		suspend()
	}
	m.reach(point) // where the call has no such point, one comes after the other
	if op == api.OpAccountDelete {
		if _, err := b.AccountUndelete(t.Context(), caller("alice"), api.AccountActRequest{Account: id}); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.get(t, id); got.State != "active" || !got.Suspended {
		t.Errorf("%+v", got)
	}
	if d := b.login("alice", "orders"); d.Reason() != policy.AccountSuspended {
		t.Errorf("login: %v", d.Reason())
	}
	if _, err := b.AccountResume(t.Context(), admin, api.AccountActRequest{Account: id, Reason: "cleared"}); err != nil {
		t.Fatal(err)
	}
	if d := b.login("alice", "orders"); !d.Allowed() {
		t.Errorf("login once it is cleared: %v", d.Reason())
	}
}

// every returns a row of the numbers below kinds in which each row of length stands somewhere (de Bruijn).
func every(kinds, length int) []int {
	var row []int
	part := make([]int, kinds*length+1)
	var extend func(t, p int)
	extend = func(t, p int) {
		if t > length {
			if length%p == 0 {
				row = append(row, part[1:p+1]...)
			}
			return
		}
		part[t] = part[t-p]
		extend(t+1, p)
		for j := part[t-p] + 1; j < kinds; j++ {
			part[t] = j
			extend(t+1, t)
		}
	}
	extend(1, 1)
	return append(row, row[:length-1]...)
}

// In whatever order an account is suspended, resumed, deleted and had back, it is closed exactly while a suspension or a deletion lasts.
func TestAccountIsClosedInEveryOrder(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, kb *keyBed) {
		b := kb.accountBed
		id := b.orders(t).Account
		suspended, deleting := false, false
		var done []string
		for _, i := range every(4, 3) {
			var err error
			refused := false
			switch op := []string{"suspend", "resume", "delete", "undelete"}[i]; op {
			case "suspend":
				_, err = b.AccountSuspend(t.Context(), admin, api.AccountSuspendRequest{Account: id, Reason: "fraud"})
				suspended = true
			case "resume":
				_, err = b.AccountResume(t.Context(), admin, api.AccountActRequest{Account: id, Reason: "cleared"})
				suspended = false
			case "delete":
				_, err = b.AccountDelete(t.Context(), admin, api.AccountDeleteRequest{Account: id})
				deleting, refused = true, deleting
			case "undelete":
				_, err = b.AccountUndelete(t.Context(), admin, api.AccountActRequest{Account: id})
				deleting, refused = false, !deleting
			}
			done = append(done, []string{"suspend", "resume", "delete", "undelete"}[i])
			done = done[max(0, len(done)-4):]
			if refused != (reasonOf(err) == api.ReasonWrongState) || err != nil && !refused {
				t.Fatalf("after %v: %v", done, err)
			}
			got, allowed := b.get(t, id), b.login("alice", "orders").Allowed()
			if closed := suspended || deleting; allowed == closed || got.Suspended != closed || (got.State == "deleting") != deleting {
				t.Fatalf("after %v: suspended %t, deleting %t; login allowed %t, %+v", done, suspended, deleting, allowed, got)
			}
			list, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{Kind: policy.Suspension, InForceAt: now})
			want := map[bool]int{true: 1}
			if err != nil || len(list) != want[suspended]+want[deleting] {
				t.Fatalf("after %v: suspensions %+v, %v", done, list, err)
			}
		}
	})
}

// Whoever is told that an account is open again is let in: servers have applied that by then, and not only what closed it.
func TestOpeningWaitsForServers(t *testing.T) {
	t.Parallel()
	for op, closes := range map[string]func(b *accountBed, id string) error{
		api.OpAccountResume: func(b *accountBed, id string) error {
			_, err := b.AccountSuspend(t.Context(), admin, api.AccountSuspendRequest{Account: id, Reason: "unpaid"})
			return err
		},
		api.OpAccountUndelete: func(b *accountBed, id string) error {
			_, err := b.AccountDelete(t.Context(), admin, api.AccountDeleteRequest{Account: id})
			return err
		},
	} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			m := &meeting{}
			b := newAccountBed(t, func(o *provision.Options) { m.Store, o.Store = o.Store, m })
			id := b.orders(t).Account
			opens := map[string]func(context.Context, provision.Caller, api.AccountActRequest) (api.Account, error){
				api.OpAccountResume: b.AccountResume, api.OpAccountUndelete: b.AccountUndelete,
			}[op]
			b.applies.Store(false)
			if err := closes(b, id); err != nil {
				t.Fatal(err)
			}
			before := b.get(t, id)
			applied := make(chan error, 1)
			m.at("after save", func() {
				if err := b.Store.MarkApplied(context.Background(), []store.Applied{{ID: id, Revision: before.Revision}}); err != nil {
					t.Error(err)
				}
				m.at("after list", func() { go func() { applied <- applyAll(context.Background(), b.Store) }() })
			})
			got, err := opens(t.Context(), admin, api.AccountActRequest{Account: id, Reason: "paid"})
			if err != nil || got.Suspended || got.State != "active" || got.Revision <= before.Revision || got.Applied != got.Revision {
				t.Errorf("%+v, %v", got, err)
			}
			if err := <-applied; err != nil {
				t.Error(err)
			}
			// Whoever waits no longer is told how it is.
			if err := closes(b, id); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			m.at("after save", func() { m.at("after list", cancel) })
			late, err := opens(ctx, admin, api.AccountActRequest{Account: id, Reason: "paid"})
			if err != nil || late.Revision <= got.Revision || late.Applied != got.Applied || ctx.Err() == nil {
				t.Errorf("%+v, %v", late, err)
			}
		})
	}
}
