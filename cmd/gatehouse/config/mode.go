package config

import (
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
)

// The values of nats.callout.mode.
const (
	OperatorMode = "operator"
	ConfigMode   = "config"
)

// global is the account in which nats-server puts users that no account names, and
// defaultSystem the system account of a server that names none (server/const.go).
const (
	global        = "$G"
	defaultSystem = "$SYS"
)

// without reports whether the servers have no operator.
func (n *NATS) without() bool { return n.Callout.Mode == ConfigMode }

// calloutAccount returns what the servers know the callout account by.
func (n *NATS) calloutAccount() string {
	if n.without() {
		return n.Callout.Account
	}
	return n.Callout.Creds.Account()
}

// systemAccount returns what the servers know the system account by.
func (n *NATS) systemAccount() string {
	if n.without() {
		return n.System.Account
	}
	return n.System.Creds.Account()
}

// closed returns the accounts in which nobody is placed, by what the servers know them by, with
// what they are. nats-server protects none of them: with allowed_accounts "*", and without an
// operator whatever it says, the callout may place users there.
func (n *NATS) closed() map[string]string {
	const system = "the system account, where users command the servers"
	accounts := map[string]string{}
	if n.without() {
		accounts[global] = "the global account, where users end up that no account names"
		accounts[defaultSystem] = system
	}
	accounts[n.systemAccount()] = system
	accounts[n.calloutAccount()] = "the callout account, where users could read and answer the logins of others"
	delete(accounts, "") // not given
	return accounts
}

// modeRules reports what a mode asks for beyond its keys.
func (r *report) modeRules(n *NATS) {
	if !n.without() {
		return
	}
	if !n.System.Nkey.Given() && !r.given("nats.system.nkey") && !n.Callout.XKey.Given() && !r.given("nats.callout.xkey") {
		r.problem("nats.callout.xkey", "is missing: without nats.system.nkey the servers cannot be asked who they are, so that only a sealed request shows where it comes from: give xkey, or a system user")
	}
	if n.System.Nkey.Given() && n.System.Nkey.Public() == n.Callout.Nkey.Public() {
		r.problem("nats.system.nkey", "is the key of nats.callout.nkey: give that of a user of the system account")
	}
}

// namedAccount returns an account of servers without operator: its name is all that there is,
// and its users are signed with the callout's own key.
func namedAccount(name string, issuer KeyFile) (*policy.Account, []*mint.Key) {
	account := &policy.Account{Name: name, ID: name, ByName: true}
	if issuer.Key() == nil {
		return account, nil // reported when it was loaded
	}
	account.SigningKeys = []string{issuer.Public()}
	return account, []*mint.Key{issuer.Key()}
}

// CalloutAccount returns what the servers know the callout account by: its public key, or its
// name in config mode.
func (c *Config) CalloutAccount() string { return c.NATS.calloutAccount() }

// SystemAccount returns what the servers know the system account by: its public key, or its
// name in config mode.
func (c *Config) SystemAccount() string { return c.NATS.systemAccount() }

// Addressee returns whom callout requests are for: the callout account, or the issuer of the
// answers in config mode.
func (c *Config) Addressee() string {
	if c.NATS.without() {
		return c.NATS.Callout.SigningKey.Public()
	}
	return c.CalloutAccount()
}

// ClosedAccounts returns what the servers know the accounts by in which nobody is placed.
func (c *Config) ClosedAccounts() []string {
	return sorted(c.NATS.closed())
}

// CalloutUser returns how to connect to the callout account.
func (c *Config) CalloutUser() nats.Option {
	if c.NATS.without() {
		return c.NATS.Callout.Nkey.Option()
	}
	return c.NATS.Callout.Creds.Option()
}

// SystemUser returns how to connect to the system account; nil when there is no user for it,
// which only config mode allows.
func (c *Config) SystemUser() nats.Option {
	switch {
	case !c.NATS.without():
		return c.NATS.System.Creds.Option()
	case c.NATS.System.Nkey.Given():
		return c.NATS.System.Nkey.Option()
	default:
		return nil
	}
}
