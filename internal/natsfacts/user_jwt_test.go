package natsfacts

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
)

// Fact: the user JWT's exp ends the connection with "authentication expired", and
// nats.go reconnects by itself, with a new callout. Short ttls rest on it: every login
// is decided anew.
func TestUserExpiryReconnects(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app, func(u *jwt.UserClaims) { u.Expires = time.Now().Add(3 * time.Second).Unix() }))
	watch := newWatch()
	c.login(t, watch.options()...)
	if err := await(t, watch.errors); !errors.Is(err, nats.ErrAuthExpired) {
		t.Errorf("connection ended with %v, want %v", err, nats.ErrAuthExpired)
	}
	await(t, watch.reconnects)
	if got := len(c.seen()); got != 2 {
		t.Errorf("callouts = %d, want 2", got)
	}
}

// Fact: a user JWT that has expired or is not valid yet by the server's clock is
// refused. mint sets no nbf, and Gatehouse watches the servers' clocks.
func TestUserTimesAreChecked(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	for name, edit := range map[string]func(*jwt.UserClaims){
		"expired":       func(u *jwt.UserClaims) { u.Expires = time.Now().Add(-time.Second).Unix() },
		"not valid yet": func(u *jwt.UserClaims) { u.NotBefore = time.Now().Add(time.Minute).Unix() },
	} {
		c.answerWith(c.admit(app, edit))
		if _, err := c.dial(t); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: connect error = %v, want %v", name, err, nats.ErrAuthorization)
		}
	}
}

// Fact: the server holds a callout user to src, subs and payload in the user JWT since
// v2.15.3; v2.15.2 and v2.14.9 do not check them. So policy checks the source itself, and
// promises no limits for callout users.
func TestUserLimitsAreEnforced(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app, func(u *jwt.UserClaims) { u.Src.Add("10.0.0.0/8") }))
	if _, err := c.dial(t); !errors.Is(err, nats.ErrAuthorization) { // from 127.0.0.1
		t.Errorf("from an address outside of src: %v, want %v", err, nats.ErrAuthorization)
	}
	c.answerWith(c.admit(app, func(u *jwt.UserClaims) { u.NatsLimits.Subs = 1 }))
	watch := newWatch()
	nc := c.login(t, watch.options()...)
	subscribe(t, nc, "one")
	subscribe(t, nc, "two")
	if err := await(t, watch.errors); !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
		t.Errorf("a subscription over the limit: %v, want %v", err, nats.ErrMaxSubscriptionsExceeded)
	}
}

// Fact: for direct users the server does check src. Their restrictions live in the JWT.
func TestDirectUserSourceIsEnforced(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	user := app.user("tool")
	user.claims.Src.Add("10.0.0.0/8")
	option, err := app.direct(user)
	check(t, err)
	if _, err := dial(t, d.servers[0], option); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("connect error = %v, want %v", err, nats.ErrAuthorization)
	}
}

// Fact: a user JWT without permissions takes the account's default_permissions, and may
// do everything when there are none. A grant without permissions therefore is one to
// everything: policy has to render a role that allows nothing as a deny of ">".
func TestEmptyPermissionsTakeAccountDefaults(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	open := d.newAccount(t, "OPEN")
	narrow := d.newAccount(t, "NARROW", func(a *jwt.AccountClaims) {
		a.DefaultPermissions.Pub.Allow.Add("allowed", "$SYS.REQ.USER.INFO")
	})
	c := d.newCallout(t)

	c.answerWith(c.admit(open))
	if got := userInfo(t, c.login(t)).Permissions; got != nil {
		t.Errorf("permissions without defaults = %+v, want none: everything is allowed", got)
	}
	c.answerWith(c.admit(narrow))
	violations := newWatch()
	nc := c.login(t, violations.options()...)
	check(t, nc.Publish("other", nil))
	if err := await(t, violations.errors); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("publish outside the defaults: %v, want %v", err, nats.ErrPermissionViolation)
	}
}

// Fact: permissions of the user JWT replace the account's defaults and are enforced.
func TestUserPermissionsAreEnforced(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(app, func(u *jwt.UserClaims) {
		u.Pub.Allow.Add("app.>")
		u.Pub.Deny.Add("app.secret")
		u.Sub.Allow.Add("app.>")
	}))
	for _, tc := range []struct {
		name string
		do   func(*nats.Conn) error
		ok   bool
	}{
		{"publish allowed", func(nc *nats.Conn) error { return nc.Publish("app.a", nil) }, true},
		{"publish denied", func(nc *nats.Conn) error { return nc.Publish("app.secret", nil) }, false},
		{"publish elsewhere", func(nc *nats.Conn) error { return nc.Publish("other", nil) }, false},
		{"subscribe elsewhere", func(nc *nats.Conn) error { _, err := nc.SubscribeSync("other"); return err }, false},
	} {
		watch := newWatch()
		nc := c.login(t, watch.options()...)
		check(t, tc.do(nc))
		check(t, nc.Flush())
		if got := nc.LastError(); errors.Is(got, nats.ErrPermissionViolation) == tc.ok {
			t.Errorf("%s: error = %v, want allowed = %v", tc.name, got, tc.ok)
		}
	}
}

// Fact: allowed_connection_types of the user JWT is enforced on callout users (since
// v2.14.9 and v2.15.2). policy checks it too, for the sake of older servers.
func TestConnectionTypesAreEnforced(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	for _, tc := range []struct {
		kind string
		want error
	}{
		{jwt.ConnectionTypeStandard, nil},
		{jwt.ConnectionTypeWebsocket, nats.ErrAuthorization},
	} {
		c.answerWith(c.admit(app, func(u *jwt.UserClaims) { u.AllowedConnectionTypes.Add(tc.kind) }))
		if _, err := c.dial(t); !errors.Is(err, tc.want) {
			t.Errorf("%s only: connect error = %v, want %v", tc.kind, err, tc.want)
		}
	}
}

// Fact: the account's revocations are not consulted when a callout user connects, for
// all that they revoke every user. Only Gatehouse's decision keeps a blocked identity
// out.
func TestRevocationsDoNotStopCalloutLogins(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP", func(a *jwt.AccountClaims) {
		a.RevokeAt(jwt.All, time.Now().Add(time.Hour))
	})
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	c.login(t)

	option, err := app.direct(app.user("tool"))
	check(t, err)
	if _, err := dial(t, d.servers[0], option); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("direct user: connect error = %v, want %v", err, nats.ErrAuthorization)
	}
}

// Fact: an account's expiry disconnects its users but does not stop callout logins, so a
// client is back at once. policy checks the account's state itself.
func TestAccountExpiryDoesNotStopCalloutLogins(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP", func(a *jwt.AccountClaims) { a.Expires = time.Now().Add(3 * time.Second).Unix() })
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	watch := newWatch()
	nc := c.login(t, watch.options()...)
	if err := await(t, watch.errors); !errors.Is(err, nats.ErrAccountAuthExpired) {
		t.Errorf("connection ended with %v, want %v", err, nats.ErrAccountAuthExpired)
	}
	await(t, watch.reconnects)
	if got := userInfo(t, nc).Account; got != app.id {
		t.Errorf("account after the expiry = %s, want %s again", got, app.id)
	}
}

// Fact: the account's conn limit does apply to callout users. Suspension and plans rest
// on it.
func TestAccountConnectionLimitApplies(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP", func(a *jwt.AccountClaims) { a.Limits.Conn = 1 })
	c := d.newCallout(t)
	c.answerWith(c.admit(app))
	c.login(t)
	if _, err := c.dial(t); err == nil || err.Error() != "nats: maximum account active connections exceeded" {
		t.Errorf("connect error = %v, want the account's connection limit", err)
	}
}
