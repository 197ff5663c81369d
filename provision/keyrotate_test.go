package provision_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

// rotation is an account whose key is rotated, at times that the test sets.
type rotation struct {
	*keyBed
	testing.TB
	ahead *atomic.Int64 // of the bed's time
}

func onRotations(t *testing.T, test func(t *testing.T, r *rotation)) {
	t.Helper()
	for name, open := range stores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &rotation{TB: t, ahead: &atomic.Int64{}}
			r.keyBed = newKeyBed(t, open(t), func(o *provision.Options) { o.Now = func() time.Time { return now.Add(time.Duration(r.ahead.Load())) } })
			r.orders(t)
			test(t, r)
		})
	}
}

// record returns the account as it is stored.
func (r *rotation) record() account.Account {
	r.Helper()
	list, _, err := r.Store.Accounts(r.Context(), store.AccountFilter{Name: "orders"})
	if err != nil || len(list) != 1 {
		r.Fatal(list, err)
	}
	return list[0]
}

// turn lets so much time pass, has the servers apply what there is, and the rotation go one step on.
func (r *rotation) turn(s *provision.Service, pass time.Duration) string {
	r.Helper()
	r.ahead.Add(int64(pass))
	if err := r.refresh(r.Context(), r.Store); err != nil {
		r.Fatal(err)
	}
	s.FollowKeys([]account.Account{r.record()}, true)
	if err := s.TurnKeys(r.Context()); err != nil {
		r.Fatal(err)
	}
	return r.stages()
}

// stages are those of the keys, and of how many seeds are kept.
func (r *rotation) stages() string {
	r.Helper()
	var list []string
	a := r.record()
	for _, k := range a.Keys {
		list = append(list, string(k.Stage))
	}
	rows, _, err := r.Store.SealedKeys(r.Context(), store.SealedKeyFilter{Accounts: []string{a.ID}})
	if err != nil {
		r.Fatal(err)
	}
	for _, row := range rows {
		if _, err := r.ring.Open(row.Box, row.Row()); err != nil {
			r.Error(err)
		}
	}
	return fmt.Sprintf("%s, %d seeds", strings.Join(list, " "), len(rows))
}

func (r *rotation) rotate(req api.RotateRequest) api.Rotation {
	r.Helper()
	req.Account = "orders"
	out, err := r.AccountRotate(r.Context(), admin, req)
	if err != nil {
		r.Fatal(err)
	}
	return out
}

func TestAccountRotate(t *testing.T) {
	t.Parallel()
	onRotations(t, func(t *testing.T, r *rotation) {
		first := r.record().Keys[0].Public
		r.applies.Store(false)
		r.rotate(api.RotateRequest{IdempotencyKey: "1"})
		r.rotate(api.RotateRequest{IdempotencyKey: "1"}) // sent again
		expect := func(got, want string) {
			t.Helper()
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
		expect(r.turn(r.Service, time.Hour), "added current, 2 seeds") // no server has it
		_, err := r.AccountRotate(t.Context(), admin, api.RotateRequest{Account: "orders"})
		wantError(t, err, http.StatusConflict, api.ReasonWrongState)
		r.applies.Store(true)
		expect(r.turn(r.Service, 0), "current leaving, 2 seeds")
		if signs := r.login("alice", "orders").Account.SigningKeys; len(signs) != 1 || signs[0] == first {
			t.Errorf("logins are signed with one of %q, want the new key alone", signs)
		}
		if got := r.record(); got.Keys[1].Public != first || !got.Keys[1].Until.Equal(now.Add(2*time.Hour+time.Minute)) {
			t.Errorf("the old key: %+v, want one that leaves when the credentials of the plan have ended", got.Keys[1])
		}
		// A restart: a service that knows nothing goes on, unless another one is at it.
		other := provision.New(provision.Options{Store: r.Store, State: r.state.Load, Refresh: r.Refresh, Accounts: r.Accounts, Replica: "r2", Now: r.Now})
		expect(r.turn(r.Service, 59*time.Minute), "current leaving, 2 seeds")

		// A direct user has a JWT of the old key that ends later than the plan lets by now.
		if err := r.Store.AddUserKey(t.Context(), store.UserKey{
			Key: directKey, Account: "orders", AccountID: r.record().ID, Issuer: corp, Subject: "alice", Issued: now, Expires: now.Add(10 * time.Hour),
		}, 3); err != nil {
			t.Fatal(err)
		}
		expect(r.turn(r.Service, 5*time.Minute), "current leaving, 2 seeds")
		if err := r.Store.Release(t.Context(), "account keys", "r1"); err != nil {
			t.Fatal(err)
		}
		expect(r.turn(other, 10*time.Hour), "current, 1 seeds")
		if got := r.record().Keys[0].Public; got == first {
			t.Error("the new key was taken out")
		}
		expect(r.turn(other, time.Hour), "current, 1 seeds")
		entries, _, err := r.Store.Audit(t.Context(), store.AuditFilter{Op: api.OpAccountRotate, Outcome: "done"})
		if err != nil || len(entries) != 3 {
			t.Errorf("audit: %d entries of the rotation, %v, want one of each step", len(entries), err)
		}
	})
}

func TestOneReplicaTurnsKeys(t *testing.T) {
	t.Parallel()
	onRotations(t, func(t *testing.T, r *rotation) {
		r.rotate(api.RotateRequest{})
		other := provision.New(provision.Options{Store: r.Store, State: r.state.Load, Refresh: r.Refresh, Accounts: r.Accounts, Replica: "r2", Now: r.Now})
		if held, _, err := r.Store.Acquire(t.Context(), "account keys", "r1", time.Hour); !held || err != nil {
			t.Fatal(held, err)
		}
		if got := r.turn(other, 0); got != "added current, 2 seeds" {
			t.Errorf("another replica holds the lease: %s", got)
		}
		if got := r.turn(r.Service, 0); got != "current leaving, 2 seeds" {
			t.Errorf("the holder: %s", got)
		}
	})
}

// TestLeakedKey takes keys away at once.
func TestLeakedKey(t *testing.T) {
	t.Parallel()
	onRotations(t, func(t *testing.T, r *rotation) {
		a := r.record()
		leaked := a.Keys[0].Public
		for i, signed := range []time.Time{now.Add(time.Hour), now.Add(-time.Hour)} { // the second is from before the key was there
			if err := r.Store.AddUserKey(t.Context(), store.UserKey{
				Key: fmt.Sprint(directKey, i), Account: "orders", AccountID: a.ID, Issuer: corp, Subject: "alice", Issued: signed, Expires: now.Add(10 * time.Hour),
			}, 3); err != nil {
				t.Fatal(err)
			}
		}
		r.servers.list = []policy.Session{{Name: "U1", Account: a.ID, SigningKey: leaked}, {Name: "U2", Account: a.ID, SigningKey: "AOTHER"}}
		preview := r.rotate(api.RotateRequest{Now: true, DryRun: true})
		if c := preview.Affected; c.Connections != 1 || len(c.Sessions) != 1 || c.KeysFound != 1 || len(preview.Revoked) != 0 {
			t.Errorf("would be cut: %+v", c)
		}
		if r.stages() != "current, 1 seeds" || r.record().Keys[0].Public != leaked {
			t.Fatal("a dry run changes something")
		}
		_, err := r.AccountRotate(t.Context(), admin, api.RotateRequest{Account: "orders", Now: true})
		wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest)
		_, err = r.AccountRotate(t.Context(), caller("alice"), api.RotateRequest{Account: "orders", Now: true, Reason: "mine"})
		wantError(t, err, http.StatusForbidden, api.ReasonForbidden)
		_, err = r.AccountRotate(t.Context(), admin, api.RotateRequest{Account: "orders", Now: true, Reason: "x", Key: "SAAG6ZLVLJSVJ3RVQZ6EMRHHBFNMCVZRJVLHWWWTKU3OLTKRNCBSLBSAOU"})
		if message := wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest); strings.Contains(message, "SAAG") {
			t.Error("the answer repeats a seed")
		}

		got := r.rotate(api.RotateRequest{Now: true, Reason: "leaked", IdempotencyKey: "k"})
		if len(got.Revoked) != 1 || r.stages() != "current, 1 seeds" || r.record().Keys[0].Public == leaked {
			t.Errorf("got %+v, %s", got, r.stages())
		}
		list, _, err := r.Store.Revocations(t.Context(), store.RevocationFilter{Kind: policy.SigningKey})
		if err != nil || len(list) != 1 || list[0].Key != leaked || list[0].Account != a.ID || list[0].Reason != "leaked" {
			t.Errorf("revocations: %+v, %v", list, err)
		}
		// The same call again leaves the key that it has made.
		second := r.record().Keys[0].Public
		r.rotate(api.RotateRequest{Now: true, Reason: "leaked", IdempotencyKey: "k"})
		if r.record().Keys[0].Public != second {
			t.Error("the same call took the new key away")
		}

		// One that is leaving is taken away without a new one.
		r.rotate(api.RotateRequest{})
		if got := r.turn(r.Service, 0); got != "current leaving, 2 seeds" {
			t.Fatal(got)
		}
		r.rotate(api.RotateRequest{Now: true, Reason: "leaked", Key: second})
		if got := r.stages(); got != "current, 1 seeds" {
			t.Errorf("the leaving one was taken away: %s", got)
		}
	})
}

// TestOwnersRotate: owners may where nobody is cut, and nobody else may.
func TestOwnersRotate(t *testing.T) {
	t.Parallel()
	onRotations(t, func(t *testing.T, r *rotation) {
		_, err := r.AccountRotate(t.Context(), caller("bob"), api.RotateRequest{Account: "orders"})
		wantError(t, err, http.StatusNotFound, api.ReasonNotFound)
		if _, err := r.AccountRotate(t.Context(), caller("alice"), api.RotateRequest{Account: "orders"}); err != nil {
			t.Error(err)
		}
		r.ring = (*seal.Ring)(nil)
		_, err = r.AccountRotate(t.Context(), admin, api.RotateRequest{Account: "orders"})
		wantError(t, err, http.StatusConflict, api.ReasonSealMissing)
	})
}
