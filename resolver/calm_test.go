package resolver

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/account"
)

// adopt has servers store an account that others made, takes it over with a limit of 50 subscriptions, and returns its claims.
func (k *keeper) adopt(t *testing.T, name string) *jwt.AccountClaims {
	t.Helper()
	a := newSigned(t, name)
	claims := jwt.NewAccountClaims(a.ID)
	claims.Name = name
	token, err := claims.Encode(keyOf(t, k.OperatorSigningKey))
	if err != nil {
		t.Fatal(err)
	}
	for _, answer := range k.ask(t, "$SYS.REQ.CLAIMS.UPDATE", token) {
		if !strings.Contains(string(answer), `"code":200`) {
			t.Fatalf("push of %s: %s", name, answer)
		}
	}
	if err := k.c.Keep(t.Context(), token, nil); err != nil {
		t.Fatal(err)
	}
	most := int64(50)
	a.Adopted, a.Limits = true, &account.LimitsPatch{Subscriptions: &most}
	a.Account = k.records.save(a.Account)
	k.active(t, a)
	return claims
}

// questions counts the messages that ask servers for the account.
func (s *system) questions(t *testing.T, id string) *atomic.Int64 {
	t.Helper()
	var n atomic.Int64
	for _, subject := range []string{"$SYS.REQ.ACCOUNT." + id + ".>", "$SYS.REQ.SERVER.*.ACCOUNTZ", "$SYS.REQ.SERVER.*.CONNZ"} {
		if _, err := s.admin.Subscribe(subject, func(m *nats.Msg) {
			if strings.Contains(m.Subject+string(m.Data), id) {
				n.Add(1)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.admin.Flush(); err != nil {
		t.Fatal(err)
	}
	return &n
}

// merge gives one server an account JWT as another server does from its folder, which nobody hears of.
func (s *system) merge(t *testing.T, id, token string) {
	t.Helper()
	sub, err := s.admin.SubscribeSync("$SYS.REQ.CLAIMS.PACK")
	if err != nil {
		t.Fatal(err)
	}
	pack, err := sub.NextMsg(soon)
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	if err := s.admin.Publish(pack.Reply, []byte(id+"|"+token)); err != nil {
		t.Fatal(err)
	}
}

// calm waits until nothing is read of the account any more.
func (k *keeper) calm(t *testing.T, id string) {
	t.Helper()
	eventually(t, func() error {
		k.c.mu.Lock()
		a := k.c.accounts[id]
		var o overlay
		if a != nil {
			o = a.asked
		}
		k.c.mu.Unlock()
		kept, err := k.c.Store.AccountClaims(t.Context())
		if err != nil {
			return err
		}
		for _, record := range kept {
			if record.Account == id {
				return check(k.c.rests(id, record, o), "it is looked at in each pass: %v", k.c.Status().Problems)
			}
		}
		return check(false, "its claims are not kept")
	})
}

// While nothing changes no server is asked for an adopted account. What another changed is found by what servers make known of their stores,
// without any push that could be heard, and stays beside what its record asks; so is a server that lost it.
func TestAdoptedAccountsRest(t *testing.T) {
	t.Parallel()
	s, folders := startFolders(t, 3)
	k := keep(t, s, newLedger(), newRecords(), nil)
	claims := k.adopt(t, "legacy")
	id := claims.Subject
	k.calm(t, id)
	asked := s.questions(t, id)
	for range 5 {
		passed(t, k.desk)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d messages in passes in which nothing changed", n)
	}

	claims.Limits.Conn, claims.Limits.Subs = 9, 5
	eventually(t, func() error {
		is, err := k.r.Published(t.Context(), id)
		if err != nil {
			return err
		}
		if _, err := claims.Encode(keyOf(t, s.OperatorSigningKey)); err != nil {
			return err
		}
		return check(claims.IssuedAt > is.IssuedAt, "it is the same second still")
	})
	token, err := claims.Encode(keyOf(t, s.OperatorSigningKey))
	if err != nil {
		t.Fatal(err)
	}
	s.merge(t, id, token)
	both := func(c *jwt.AccountClaims) bool { return c.Limits.Conn == 9 && c.Limits.Subs == 50 }
	k.mustHave(t, id, both)
	k.calm(t, id)

	s.servers[1].Stop()
	replace(t, folders[1], t.TempDir())
	s.servers[1].Start()
	ready(t, k.r)
	k.mustHave(t, id, both)
	k.calm(t, id)
	if n := k.drifted(string(foreign)); n == 0 {
		t.Error("the change of another is not counted")
	}

	// What is asked of it is looked at anew.
	most := int64(60)
	a := k.records.get(id)
	a.Limits = &account.LimitsPatch{Subscriptions: &most}
	a = k.records.save(a)
	k.active(t, signed{Account: a})
	k.mustHave(t, id, func(c *jwt.AccountClaims) bool { return c.Limits.Conn == 9 && c.Limits.Subs == 60 })
}
