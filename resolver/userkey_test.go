package resolver

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// direct is a user with a user JWT for its own key.
type direct struct {
	key   string
	token string
	pair  nkeys.KeyPair
}

func newDirect(t *testing.T, account setup.Account, signer string, edit func(*jwt.UserClaims)) direct {
	t.Helper()
	kp, err := nkeys.FromSeed([]byte(signer))
	if err != nil {
		t.Fatal(err)
	}
	user, public := newKey(t, nkeys.PrefixByteUser)
	claims := jwt.NewUserClaims(public)
	claims.IssuerAccount = account.ID
	if edit != nil {
		edit(claims)
	}
	token, err := claims.Encode(kp)
	if err != nil {
		t.Fatal(err)
	}
	return direct{public, token, user}
}

func (u direct) option() nats.Option {
	return nats.UserJWT(func() (string, error) { return u.token, nil }, u.pair.Sign)
}

// dial connects once to one server.
func (u direct) dial(url string) error {
	nc, err := nats.Connect(url, u.option(), nats.NoReconnect(), nats.DontRandomize())
	if err == nil {
		nc.Close()
	}
	return err
}

// follower is a connection that comes back at once, for ever.
type follower struct {
	*nats.Conn
	lost, back chan struct{}
}

func (s *system) follow(t *testing.T, u direct) *follower {
	t.Helper()
	c := &follower{lost: make(chan struct{}, 1000), back: make(chan struct{}, 1000)}
	nc, err := nats.Connect(s.ClientURL(), u.option(), nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.IgnoreAuthErrorAbort(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), nats.DisconnectErrHandler(func(*nats.Conn, error) { c.lost <- struct{}{} }), nats.ReconnectHandler(func(*nats.Conn) { c.back <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c.Conn = nc
	return c
}

// keptOut fails unless no server lets the user in.
func (s *system) keptOut(t *testing.T, u direct) {
	t.Helper()
	for _, server := range s.servers {
		if err := u.dial(server.ClientURL()); !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthRevoked) && !errors.Is(err, nats.ErrMaxAccountConnectionsExceeded) {
			t.Errorf("%s: %v, want a refusal", server.ClientURL(), err)
		}
	}
}

// A direct user whose client comes back at once is closed and kept out by every server, and in again when the
// revocation is lifted; nobody else notices.
func TestUserKeyIsKeptOut(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	d := startDesk(t, s, newLedger(), nil)
	user, other := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil), newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	in, bystander := s.follow(t, user), s.follow(t, other)
	began := time.Now()
	r := d.store(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
	await(t, in.lost)
	t.Logf("closed %s after it was stored", time.Since(began))
	d.converged(r)
	t.Logf("proven %s after it was stored", time.Since(began))
	s.keptOut(t, user)
	if in.IsConnected() {
		t.Error("it came back")
	}
	d.lift(r)
	await(t, in.back)
	if len(bystander.lost) > 0 {
		t.Error("another user of the account was closed")
	}
	eventually(t, func() error { // it is counted after the servers have it
		n := d.pushes.Load()
		return check(n == 2, "%d pushes, want one and one to lift it", n)
	})
	for _, how := range []drift{absent, older, foreign, "stored"} {
		if n := d.drifted(string(how)); n != 0 {
			t.Errorf("%d servers counted as %s", n, how)
		}
	}
}

// The keys that an identity obtained go with it.
func TestBlockReachesOwnKeys(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	l := newLedger()
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	l.keys = []store.UserKey{{Key: user.key, AccountID: s.App.ID, Issuer: "https://corp", Subject: "alice", Issued: time.Now(), Expires: time.Now().Add(time.Hour)}}
	d := startDesk(t, s, l, nil)
	in := s.follow(t, user)
	d.revoke(policy.Block, policy.Target{Principal: policy.Principal{Issuer: "https://corp", Subject: "alice"}})
	await(t, in.lost)
	s.keptOut(t, user)
	if done, why, err := d.c.Converged(t.Context(), asked(policy.Block, policy.Target{Principal: policy.Principal{Issuer: "https://corp", Subject: "bob"}}, nil)); !done || err != nil {
		t.Errorf("somebody without keys: %s, %v", why, err)
	}
}
