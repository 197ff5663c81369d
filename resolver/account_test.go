package resolver

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/policy"
)

var now = time.Unix(1_800_000_000, 0)

// Public keys, as far as these pure functions care.
const accountID, plainKey, scopedKey, otherKey = "AACCOUNT", "APLAIN", "ASCOPED", "AOTHER"

// applied returns the state of an account with one plain and one scoped signing key.
func applied(edit func(*jwt.AccountClaims)) AccountState {
	c := jwt.NewAccountClaims(accountID)
	c.SigningKeys.Add(plainKey)
	c.SigningKeys.AddScopedSigner(&jwt.UserScope{Kind: jwt.UserScopeType, Key: scopedKey})
	if edit != nil {
		edit(c)
	}
	return AccountState{Applied: true, Claims: c}
}

func calloutClaims(edit func(*jwt.ExternalAuthorization)) func(*jwt.AccountClaims) {
	return func(c *jwt.AccountClaims) {
		c.Authorization.AuthUsers.Add("USERVICE")
		c.Authorization.XKey = "XKEY"
		c.Authorization.AllowedAccounts.Add("AAPP")
		if edit != nil {
			edit(&c.Authorization)
		}
	}
}

func TestAccountLacks(t *testing.T) {
	callout := Requirement{Callout: &CalloutRequirement{XKey: "XKEY", AllowedAccounts: []string{accountID, "AAPP"}}}
	plain := Requirement{Callout: &CalloutRequirement{AllowedAccounts: []string{"AAPP"}}}
	for _, c := range []struct {
		name  string
		state AccountState
		need  Requirement
		want  string // a part of the error; empty: nothing is lacking
	}{
		{"nothing is needed", applied(nil), Requirement{}, ""},
		{"not applied", AccountState{Problem: "no server has its claims: push them"}, Requirement{}, "no server has its claims: push them"},
		{"not expired yet", applied(func(c *jwt.AccountClaims) { c.Expires = now.Unix() + 1 }), Requirement{}, ""},
		{"expired this second", applied(func(c *jwt.AccountClaims) { c.Expires = now.Unix() }), Requirement{}, "expired"},
		{"signing key", applied(nil), Requirement{SigningKeys: []string{plainKey}}, ""},
		{"one of two signing keys", applied(nil), Requirement{SigningKeys: []string{otherKey, plainKey}}, ""},
		{"identity key", applied(nil), Requirement{SigningKeys: []string{accountID}}, ""},
		{"signing key missing", applied(nil), Requirement{SigningKeys: []string{otherKey}}, "none of the configured signing keys (AOTHER)"},
		{"signing key scoped", applied(nil), Requirement{SigningKeys: []string{scopedKey}}, "without a scope"},
		{"scoped key", applied(nil), Requirement{Scoped: []string{scopedKey}}, ""},
		{"scoped key missing", applied(nil), Requirement{Scoped: []string{scopedKey, otherKey}}, "do not list the scoped signing key AOTHER"},
		{"scoped key without a template", applied(nil), Requirement{Scoped: []string{plainKey}}, "APLAIN without a template"},
		{"callout", applied(calloutClaims(nil)), callout, ""},
		{"callout of a plain account", applied(nil), callout, "auth_users"},
		{"callout without auth_users", applied(calloutClaims(func(a *jwt.ExternalAuthorization) { a.AuthUsers = nil })), callout, "auth_users"},
		{"xkey missing in the claims", applied(calloutClaims(func(a *jwt.ExternalAuthorization) { a.XKey = "" })), callout, "not the configured xkey (XKEY)"},
		{"another xkey in the claims", applied(calloutClaims(func(a *jwt.ExternalAuthorization) { a.XKey = "XOTHER" })), callout, "not the configured xkey (XKEY)"},
		{"xkey not configured", applied(calloutClaims(nil)), plain, "configure nats.callout.xkey"},
		{"no xkey at all", applied(calloutClaims(func(a *jwt.ExternalAuthorization) { a.XKey = "" })), plain, ""},
		{"account not allowed", applied(calloutClaims(func(a *jwt.ExternalAuthorization) { a.AllowedAccounts = jwt.StringList{"AELSE"} })), callout, "allowed_accounts do not hold AAPP"},
		{"no account allowed but its own", applied(calloutClaims(func(a *jwt.ExternalAuthorization) { a.AllowedAccounts = nil })), callout, "allowed_accounts do not hold AAPP"},
		{"a list for accounts of sign-up", applied(calloutClaims(func(a *jwt.ExternalAuthorization) { a.AllowedAccounts = jwt.StringList{"AAPP"} })), Requirement{Callout: &CalloutRequirement{XKey: "XKEY", AllowedAccounts: []string{jwt.AnyAccount}}}, "accounts of sign-up"},
		{"any account allowed", applied(calloutClaims(func(a *jwt.ExternalAuthorization) { a.AllowedAccounts = jwt.StringList{jwt.AnyAccount} })), callout, ""},
	} {
		err := c.state.lacks(c.need, now)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
}

func TestAccountSigningKey(t *testing.T) {
	for _, c := range []struct {
		name  string
		state AccountState
		keys  []string
		scope string
		want  string
		why   policy.Reason
	}{
		{"newest that is applied", applied(nil), []string{otherKey, plainKey, accountID}, "", plainKey, ""},
		{"identity", applied(nil), []string{accountID}, "", accountID, ""},
		{"scoped keys do not sign plain roles", applied(nil), []string{scopedKey}, "", "", policy.AccountUnready},
		{"none applied", applied(nil), []string{otherKey}, "", "", policy.AccountUnready},
		{"none configured", applied(nil), nil, "", "", policy.AccountUnready},
		{"not loaded", AccountState{Problem: "why"}, []string{plainKey}, "", "", policy.AccountUnready},
		{"expired", applied(func(c *jwt.AccountClaims) { c.Expires = now.Unix() }), []string{plainKey}, "", "", policy.AccountExpired},
		{"ends in a second", applied(func(c *jwt.AccountClaims) { c.Expires = now.Unix() + 1 }), []string{plainKey}, "", plainKey, ""},
		{"scoped", applied(nil), []string{plainKey}, scopedKey, scopedKey, ""},
		{"scoped, no plain key configured", applied(nil), nil, scopedKey, scopedKey, ""},
		{"scoped, not in the claims", applied(nil), []string{plainKey}, otherKey, "", policy.AccountUnready},
		{"scoped, without a template", applied(nil), []string{plainKey}, plainKey, "", policy.AccountUnready},
		{"scoped, the identity key", applied(nil), []string{plainKey}, accountID, "", policy.AccountUnready},
		{"scoped, expired", applied(func(c *jwt.AccountClaims) { c.Expires = now.Unix() }), nil, scopedKey, "", policy.AccountExpired},
	} {
		key, r := c.state.signingKey(&policy.Account{Name: "APP", ID: accountID, SigningKeys: c.keys}, c.scope, "s1", now)
		switch {
		case key != c.want:
			t.Errorf("%s: key %q, want %q", c.name, key, c.want)
		case (r == nil) != (c.why == "") || r != nil && r.Reason != c.why:
			t.Errorf("%s: %v, want %q", c.name, r, c.why)
		}
	}
}
