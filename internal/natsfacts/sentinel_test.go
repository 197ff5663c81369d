package natsfacts

import (
	"encoding/base64"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Fact: any valid user JWT of the callout account that is not in auth_users triggers the
// callout, and a bearer one needs no signature; its permissions are replaced whole by
// those of the response. So the sentinel that init writes is a bearer user with
// everything denied.
func TestSentinelIsReplacedWhole(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	nc := c.login(t)
	sub := subscribe(t, nc, "greeting")
	check(t, nc.Publish("greeting", []byte("hello")))
	if got := string(next(t, sub).Data); got != "hello" {
		t.Errorf("message = %q, want %q", got, "hello")
	}
	if got := userInfo(t, nc).Account; got != app.id {
		t.Errorf("account = %s, want %s", got, app.id)
	}
}

// Fact: a user JWT of another account is an ordinary login and never reaches the
// callout. Direct users bypass Gatehouse's decision; only account claims reach them.
func TestDirectUserBypassesCallout(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	if got := userInfo(t, app.connect(t, d.servers[0], app.user("tool"))).Account; got != app.id {
		t.Errorf("account = %s, want %s", got, app.id)
	}
	if got := len(c.seen()); got != 0 {
		t.Errorf("callout requests = %d, want 0", got)
	}
}

// Fact: a sentinel's exp ends the connection although the user JWT of the response lives
// longer. The sentinel that init writes has no exp, and check rejects one that has.
func TestSentinelExpiryEndsConnection(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app, func(u *jwt.UserClaims) { u.Expires = time.Now().Add(time.Hour).Unix() }))
	expiring := c.bearer(t, func(u *jwt.UserClaims) { u.Expires = time.Now().Add(3 * time.Second).Unix() })
	reasons := make(chan error, 8)
	_, err := c.dial(t, withJWT(expiring), nats.NoReconnect(), nats.ErrorHandler(
		func(_ *nats.Conn, _ *nats.Subscription, err error) { reasons <- err }))
	check(t, err)
	if err := await(t, reasons); !errors.Is(err, nats.ErrAuthExpired) {
		t.Errorf("connection ended with %v, want %v", err, nats.ErrAuthExpired)
	}
}

// Fact: connections that wait for their callout count against the callout account's conn
// limit, and one over it is closed although the service still gets its request. init
// leaves that limit off, or the service's own connections would lock everyone out.
func TestCalloutAccountLimitCountsWaitingClients(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t, func(a *jwt.AccountClaims) { a.Limits.Conn = 1 }) // taken by the service
	c.answerWith(c.admit(app))
	_, err := c.dial(t)
	if err == nil || err.Error() != "nats: maximum account active connections exceeded" {
		t.Errorf("connect error = %v, want the connection limit of the callout account", err)
	}
	check(t, poll(func() error {
		if got := len(c.seen()); got != 1 {
			return fmt.Errorf("callout requests = %d, want 1", got)
		}
		return nil
	}))
}

// Fact: with default_sentinel a token travels in auth_token or pass, without any
// sentinel in the CONNECT, but a token in the jwt field is replaced by the sentinel and
// lost. This is why Gatehouse reads auth_token and then pass, and never jwt.
func TestDefaultSentinelReplacesForeignJWT(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	c := makeCallout(t)
	d.startServer(t, fmt.Sprintf("%s\ndefault_sentinel: %s\n", d.config("default", t.TempDir(), false), c.sentinel))
	c.join(t, d)
	c.listen(t)
	app := d.newAccount(t, "APP")
	c.answerWith(c.admit(app))
	for _, tc := range []struct {
		name   string
		option nats.Option
		want   jwt.ConnectOptions
	}{
		{"auth_token", nats.Token("token"), jwt.ConnectOptions{JWT: c.sentinel, Token: "token"}},
		{"pass", nats.UserInfo("account:APP", "token"), jwt.ConnectOptions{JWT: c.sentinel, Username: "account:APP", Password: "token"}},
		{"jwt", withJWT("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), jwt.ConnectOptions{JWT: c.sentinel}},
		{"nothing", nats.Name(""), jwt.ConnectOptions{JWT: c.sentinel}},
	} {
		_, err := dial(t, d.servers[0], tc.option)
		check(t, err)
		seen := c.seen()
		got := seen[len(seen)-1].ConnectOptions
		got.Lang, got.Version, got.Protocol, got.SignedNonce = "", "", 0, ""
		if got != tc.want {
			t.Errorf("%s: service saw %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// Fact: without default_sentinel a CONNECT whose jwt field is not a NATS user JWT, or
// that has none, is refused by the server alone. Clients need the sentinel's creds then.
func TestNoSentinelNoCallout(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	c := d.newCallout(t)
	for _, option := range []nats.Option{nats.Token("token"), withJWT("eyJhbGciOiJSUzI1NiJ9.e30.c2ln")} {
		if _, err := dial(t, d.servers[0], option); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("connect error = %v, want %v", err, nats.ErrAuthorization)
		}
	}
	if got := len(c.seen()); got != 0 {
		t.Errorf("callout requests = %d, want 0", got)
	}
}

// Fact: with a bearer sentinel the server passes the client's signature over its nonce
// on without checking it, wrong ones too, and the nonce along with it. Key-bound tokens
// rest on it: Gatehouse checks the signature itself.
func TestBearerSignatureReachesServiceUnchecked(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	key, err := nkeys.CreateUser()
	check(t, err)
	for _, tc := range []struct {
		name  string
		sign  func(nonce []byte) ([]byte, error)
		valid bool
	}{
		{"right", key.Sign, true},
		{"wrong", func([]byte) ([]byte, error) { return make([]byte, 64), nil }, false},
	} {
		c.login(t, nats.UserJWT(func() (string, error) { return c.sentinel, nil }, tc.sign))
		seen := c.seen()
		r := seen[len(seen)-1]
		if r.ClientInformation.Nonce == "" {
			t.Fatalf("%s: request has no nonce", tc.name)
		}
		signature, err := base64.RawURLEncoding.DecodeString(r.ConnectOptions.SignedNonce)
		check(t, err)
		if got := key.Verify([]byte(r.ClientInformation.Nonce), signature) == nil; got != tc.valid {
			t.Errorf("%s: signature verifies = %v, want %v", tc.name, got, tc.valid)
		}
	}
}
