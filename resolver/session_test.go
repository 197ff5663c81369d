package resolver

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// sessions asks for sessions until every server has answered.
func sessions(t *testing.T, r *Resolver, f SessionFilter) []policy.Session {
	t.Helper()
	list, unanswered, err := r.Sessions(t.Context(), f)
	if err != nil || len(unanswered) > 0 {
		t.Fatalf("sessions: %v did not answer, %v", unanswered, err)
	}
	return list
}

func TestSessionsOfAllServers(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	g := s.admit(t)
	var ids []string
	for _, server := range s.servers {
		ids = append(ids, g.login(server.ClientURL(), "alice").ConnectedServerId())
	}
	bob := g.login(s.servers[0].ClientURL(), "bob")
	alice := policy.PrincipalName(issuerName, "alice")

	found := sessions(t, r, SessionFilter{Account: s.App.ID, User: alice})
	if len(found) != 3 {
		t.Fatalf("found %+v, want one on each server", found)
	}
	for _, c := range found {
		if !slices.Contains(ids, c.ServerID) || c.Server == "" || c.Name != alice || c.Account != s.App.ID || c.SigningKey != s.app.SigningKeys[0] ||
			c.Source != "127.0.0.1" || c.Type != policy.Standard || c.Client != "go "+nats.Version || time.Since(c.Since).Abs() > soon || c.Direct() {
			t.Errorf("session %+v", c)
		}
	}
	one := sessions(t, r, SessionFilter{Server: bob.ConnectedServerId(), CID: bob.cid(t)})
	if len(one) != 1 || one[0].Name != policy.PrincipalName(issuerName, "bob") {
		t.Errorf("by cid: %+v", one)
	}
	all := sessions(t, r, SessionFilter{})
	if !slices.ContainsFunc(all, func(c policy.Session) bool { return c.Direct() && c.Account == s.System.ID }) {
		t.Errorf("no direct user of the system account in %+v", all)
	}
	if _, _, err := r.Sessions(t.Context(), SessionFilter{Server: newServerKey(t)}); err == nil {
		t.Error("a server that does not exist was asked")
	}
}

// A direct user that names somebody else when it connects is known by its key all the same.
func TestDirectUserUnderAnothersName(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	g := s.admit(t)
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	key, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	token, err := g.userJWT(key, "mallory")
	if err != nil {
		t.Fatal(err)
	}
	alice := policy.PrincipalName(issuerName, "alice")
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(alice, ""), nats.UserJWT(func() (string, error) { return token, nil }, user.Sign))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	cid, err := nc.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	found := sessions(t, r, SessionFilter{Server: nc.ConnectedServerId(), CID: cid})
	if len(found) != 1 || found[0].Name != key || !found[0].Direct() {
		t.Errorf("known as %+v, want %s", found, key)
	}
}

// A page that the limit cuts is asked for again from the start.
func TestCutPageIsAskedForAgain(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	g := s.admit(t)
	for range 3 {
		g.login(s.ClientURL(), "alice")
	}
	f := SessionFilter{User: policy.PrincipalName(issuerName, "alice")}
	server := s.admin.ConnectedServerId()
	for limit, cut := range map[int]bool{1: true, 3: true, 4: false} {
		list, more, err := r.page(t.Context(), server, f, limit)
		if err != nil || more != cut || len(list) != min(limit, 3) {
			t.Errorf("limit %d: %d connections, cut %t, %v", limit, len(list), more, err)
		}
	}
	list, err := r.allOf(t.Context(), server, f, 1, 8)
	if err != nil || len(list) != 3 {
		t.Errorf("from a page of 1 on: %d connections, %v", len(list), err)
	}
	if _, err = r.allOf(t.Context(), server, f, 1, 3); !errors.Is(err, errCut) {
		t.Errorf("more than the largest page holds: %v, want %v", err, errCut)
	}
}

// A server that does not answer is named, and the others are listed all the same.
func TestSilentServerIsNamed(t *testing.T) {
	t.Parallel()
	s := startSystemAs(t, 3, devtest.AsProcess)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	home := r.nc.ConnectedServerName()
	frozen, name := s.away(t, r.nc)
	frozen.Freeze()
	defer frozen.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	list, unanswered, err := r.Sessions(ctx, SessionFilter{})
	if err != nil || !slices.Equal(unanswered, []string{name}) {
		t.Errorf("unanswered %v, %v, want %s", unanswered, err, name)
	}
	if !slices.ContainsFunc(list, func(c policy.Session) bool { return c.Server == home }) {
		t.Errorf("the connections of %s are missing in %+v", home, list)
	}
}

// Nobody is said to be connected where nobody could be asked.
func TestSessionsWithoutServers(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	line := new(cuttable)
	r := s.run(t, Options{Interval: never}, s.need(t), nats.SetCustomDialer(line))
	ready(t, r)
	r.mu.Lock()
	r.active++
	r.mu.Unlock()
	if _, unanswered, err := r.Sessions(t.Context(), SessionFilter{}); err != nil || len(unanswered) != 1 {
		t.Errorf("with a server too few: %v did not answer, %v", unanswered, err)
	}
	line.cut()
	eventually(t, func() error { return check(!r.nc.IsConnected(), "still connected") })
	if _, _, err := r.Sessions(t.Context(), SessionFilter{}); !errors.Is(err, errDisconnected) {
		t.Errorf("without a connection: %v", err)
	}
	line.mend()
	ready(t, r)
	r.mu.Lock()
	clear(r.servers)
	r.mu.Unlock()
	eventually(t, func() error { return check(r.nc.IsConnected(), "not connected") })
	if list, _, err := r.Sessions(t.Context(), SessionFilter{}); err == nil {
		t.Errorf("without a known server: %v", list)
	}
}

func TestKick(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	g := s.admit(t)
	alice, bob := g.login(s.servers[1].ClientURL(), "alice"), g.login(s.servers[1].ClientURL(), "bob")
	server, cid := alice.ConnectedServerId(), alice.cid(t)
	if err := r.Kick(t.Context(), server, cid); err != nil {
		t.Fatal(err)
	}
	await(t, alice.closed)
	if err := r.Kick(t.Context(), server, cid); err != nil {
		t.Errorf("kick of a connection that is gone: %v", err)
	}
	if !bob.IsConnected() {
		t.Error("another connection was closed too")
	}
	closed, err := r.KickAll(t.Context(), server, []uint64{cid, bob.cid(t), 1 << 40})
	if closed != 1 || err != nil {
		t.Errorf("closed %d, %v, want one", closed, err)
	}
	await(t, bob.closed)
	if err := r.Kick(t.Context(), newServerKey(t), 1); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("kick on a server that is not there: %v", err)
	}
	for _, id := range []string{"", "*", ">", "PING", server + ".KICK"} {
		if err := r.Kick(t.Context(), id, 1); err == nil {
			t.Errorf("kick on server %q was sent", id)
		}
	}
}

func TestBlindSeesNoSessions(t *testing.T) {
	t.Parallel()
	r := New(Options{Blind: true})
	if _, _, err := r.Sessions(t.Context(), SessionFilter{}); !errors.Is(err, ErrNoSystemUser) {
		t.Errorf("sessions: %v", err)
	}
	if err := r.Kick(t.Context(), newServerKey(t), 1); !errors.Is(err, ErrNoSystemUser) {
		t.Errorf("kick: %v", err)
	}
	if _, err := r.KickAll(t.Context(), newServerKey(t), []uint64{1}); !errors.Is(err, ErrNoSystemUser) {
		t.Errorf("kicks: %v", err)
	}
}
