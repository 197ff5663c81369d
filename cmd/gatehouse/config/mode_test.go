package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

// TestConfigMode loads a configuration for servers without operator.
func TestConfigMode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	system, systemUser := testKey(t, nkeys.PrefixByteUser, "system user")
	f.write("keys/system.nk", system)
	const rest = `
issuers:
  - { name: corp, url: "https://login.example.com", audiences: [nats] }
accounts:
  APP: {}
  OTHER:
roles:
  app: { publish: { allow: ["app.>"] } }
bindings:
  - { name: developers, issuer: corp, match: { groups: dev }, grant: { account: APP, role: app } }
`
	_, issuer := testKey(t, nkeys.PrefixByteAccount, "callout")
	_, user := testKey(t, nkeys.PrefixByteUser, "user")
	for name, test := range map[string]struct {
		nats   string
		system string // public key of the system user
		closed []string
	}{
		"sealed": {`
nats:
  callout: { mode: config, account: AUTH, nkey: keys/user.nk, signing_key: keys/callout.nk, xkey: keys/callout.xk }
`, "", []string{"$G", "$SYS", "AUTH", "SYS"}},
		"with a system user": {`
nats:
  callout: { mode: config, account: AUTH, nkey: keys/user.nk, signing_key: keys/callout.nk }
  system: { nkey: keys/system.nk, account: OPS }
`, systemUser, []string{"$G", "$SYS", "AUTH", "OPS"}},
	} {
		c := f.mustLoad(test.nats + rest)
		if c.CalloutAccount() != "AUTH" || c.Addressee() != issuer || !slices.Equal(c.ClosedAccounts(), test.closed) {
			t.Errorf("%s: callout account %s, requests for %s, closed %q", name, c.CalloutAccount(), c.Addressee(), c.ClosedAccounts())
		}
		if c.NATS.Callout.Nkey.Public() != user || c.NATS.System.Nkey.Public() != test.system || (c.SystemUser() != nil) != (test.system != "") {
			t.Errorf("%s: users %s and %s", name, c.NATS.Callout.Nkey, c.NATS.System.Nkey)
		}
		for _, account := range []string{"APP", "OTHER"} {
			got := c.Rules().Accounts[account]
			if !got.ByName || got.ID != account || !slices.Equal(got.SigningKeys, []string{issuer}) || c.Keyring().Key(issuer) == nil {
				t.Errorf("%s: account %s is %+v", name, account, got)
			}
		}
	}
}

// TestClosedAccounts: with an operator the two accounts are closed by their keys.
func TestClosedAccounts(t *testing.T) {
	t.Parallel()
	c := newFixture(t).mustLoad(small)
	_, callout := testKey(t, nkeys.PrefixByteAccount, "callout")
	_, system := testKey(t, nkeys.PrefixByteAccount, "system")
	want := []string{callout, system}
	slices.Sort(want)
	if got := c.ClosedAccounts(); !slices.Equal(got, want) || c.Addressee() != callout {
		t.Errorf("closed %q, want %q; requests for %s", got, want, c.Addressee())
	}
}

// TestUnmanaged: account claims can be changed only where there is an operator, with a signing key of it.
func TestUnmanaged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, operator := testKey(t, nkeys.PrefixByteOperator, "operator")
	const configMode = `
nats:
  callout: { mode: config, account: AUTH, nkey: keys/user.nk, signing_key: keys/callout.nk, xkey: keys/callout.xk }
`
	const key = "operator: { signing_key: file:keys/operator.nk }\n"
	if c := f.mustLoad(connected + key); c.Unmanaged() != "" || c.Operator.SigningKey.Public() != operator {
		t.Errorf("with a key: %q, %s", c.Unmanaged(), c.Operator.SigningKey)
	}
	for name, text := range map[string]string{"operator.signing_key": connected, "no operator": configMode} {
		if got := f.mustLoad(text).Unmanaged(); !strings.Contains(got, name) {
			t.Errorf("without: %q, want %q in it", got, name)
		}
	}
	for want, text := range map[string]string{
		"want an operator seed (SO…)": connected + "operator: { signing_key: keys/app.nk }\n",
		"operator.signing_key":        configMode + key,
	} {
		if _, err := f.load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}
