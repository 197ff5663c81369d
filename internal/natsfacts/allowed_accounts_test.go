package natsfacts

import (
	"errors"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
)

// Fact: with "*" in allowed_accounts a response may place the user in the system account
// and in the callout account itself. The server does not protect them: policy refuses
// both as targets, at load and in every decision.
func TestAnyAccountIncludesSystemAndCallout(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	c := d.newCallout(t)

	c.answerWith(c.admit(d.system))
	msg, err := c.login(t).Request("$SYS.REQ.SERVER.PING.IDZ", nil, patience)
	check(t, err)
	var server struct{ ID string }
	decode(t, msg.Data, &server)
	if server.ID != d.servers[0].ID() {
		t.Errorf("callout user in the system account pinged server %q, want %q", server.ID, d.servers[0].ID())
	}

	c.answerWith(c.admit(c.account))
	if got := userInfo(t, c.login(t)).Account; got != c.id {
		t.Errorf("callout user is in account %s, want the callout account %s", got, c.id)
	}
}

// Fact: since v2.15.3 a callout user in the callout account can neither see nor answer the
// logins of others, whatever its permissions say. In v2.15.2 and v2.14.9 it receives them,
// their tokens included, and can answer them. This is why policy never places anyone there.
func TestUserInCalloutAccountSeesNoLogins(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	c.answerWith(c.admit(c.account))
	thief := c.login(t)
	stolen := subscribe(t, thief, ">")

	c.answerWith(c.admit(app))
	c.login(t, nats.Token("secret"))
	// The request came before this message, had it come at all.
	check(t, thief.Publish("after", nil))
	if msg := next(t, stolen); msg.Subject != "after" {
		t.Errorf("the user in the callout account saw %s", msg.Subject)
	}
}

// Fact: a user in another account sees nothing of other logins, even with ">". The lobby
// account, where identities without a grant may only sign up, rests on it.
func TestUserInOtherAccountSeesNoLogins(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	lobby := d.newAccount(t, "LOBBY")
	c := d.newCallout(t)
	c.answerWith(c.admit(lobby))
	nc := c.login(t)
	everything := subscribe(t, nc, ">")

	c.login(t, nats.Token("secret"))
	check(t, nc.Publish("marker", nil))
	if got := next(t, everything).Subject; got != "marker" {
		t.Errorf("user in the lobby account received %q, want only its own marker", got)
	}
}

// Fact: with a list in allowed_accounts only the listed accounts and the callout account
// are targets. A new account has to be listed before Gatehouse may answer with it.
func TestListedAccountsBoundTargets(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	listed, other := d.newAccount(t, "LISTED"), d.newAccount(t, "OTHER")
	c := d.newCallout(t, func(a *jwt.AccountClaims) {
		a.Authorization.AllowedAccounts = jwt.StringList{listed.id}
	})
	for _, tc := range []struct {
		name   string
		target *account
		want   error
	}{
		{"listed", listed, nil},
		{"callout account", c.account, nil},
		{"not listed", other, nats.ErrAuthorization},
	} {
		c.answerWith(c.admit(tc.target))
		if _, err := c.dial(t); !errors.Is(err, tc.want) {
			t.Errorf("%s: connect error = %v, want %v", tc.name, err, tc.want)
		}
	}
}

// Fact: "*" has to be the only element of allowed_accounts, and allowed_accounts needs
// auth_users. What init writes has to keep to both.
func TestAllowedAccountsValidation(t *testing.T) {
	t.Parallel()
	app, err := makeAccount("APP")
	check(t, err)
	for _, tc := range []struct {
		name string
		edit func(*jwt.AccountClaims)
		ok   bool
	}{
		{"any", func(*jwt.AccountClaims) {}, true},
		{"any and one", func(a *jwt.AccountClaims) { a.Authorization.AllowedAccounts.Add(app.id) }, false},
		{"no auth users", func(a *jwt.AccountClaims) { a.Authorization.AuthUsers = nil }, false},
	} {
		var results jwt.ValidationResults
		makeCallout(t, tc.edit).claims.Validate(&results)
		if got := !results.IsBlocking(true); got != tc.ok {
			t.Errorf("%s: valid = %v, want %v (%v)", tc.name, got, tc.ok, results.Errors())
		}
	}
}
