package config

import (
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
)

// maxLobby is the longest life of a credential for the lobby: whoever gets an account meanwhile connects
// again to be placed in it.
const maxLobby = 15 * time.Minute

// lobby returns the lobby account and the key that signs its users; nil without one.
func (r *report) lobby(f *File) (*policy.Account, *mint.Key) {
	const at = "nats.lobby"
	lobby := f.NATS.Lobby
	if !r.given(at) && lobby.Account == "" && !lobby.SigningKey.Given() || f.NATS.without() {
		return nil, nil
	}
	if lobby.Account == "" {
		r.giveIfMissing(join(at, "account"), "the lobby account's public key (A…)")
	}
	if !lobby.SigningKey.Given() {
		r.giveIfMissing(join(at, "signing_key"), "the key file (SA…) of one of its signing keys")
	}
	r.check(join(at, "account"), lobby.Account, checkAccountID)
	if what, closed := f.NATS.closed()[lobby.Account]; closed {
		r.problem(join(at, "account"), "is %s: give that of an account of its own, as gatehouse init makes one", what)
	}
	for _, name := range sorted(f.Accounts) {
		a := f.Accounts[name]
		if a.ID != "" && a.ID == lobby.Account {
			r.problem(join(join("accounts", name), "id"), "is that of nats.lobby, where users only call operations: grant an application's account")
		}
		if name == policy.LobbyName {
			r.problem(join("accounts", name), "is what clients call the lobby account: give this one another name")
		}
		for i, k := range a.SigningKey {
			if k.Given() && k.Public() == lobby.SigningKey.Public() {
				r.problem(index(join(join("accounts", name), "signing_key"), i), "is the key of nats.lobby: give one of account %s", name)
			}
		}
	}
	if lobby.SigningKey.Given() && lobby.SigningKey.Public() == f.NATS.Callout.SigningKey.Public() {
		r.problem(join(at, "signing_key"), "is the callout's signing key: give one of the lobby account")
	}
	key := lobby.SigningKey.Key()
	if key == nil {
		return nil, nil // reported when it was loaded
	}
	return &policy.Account{Name: policy.LobbyName, ID: lobby.Account, SigningKeys: []string{lobby.SigningKey.Public()}}, key
}

// newcomers returns a binding that lets into the lobby and gives nothing else.
func (r *report) newcomers(at string, f *File, binding *policy.Binding) *policy.Binding {
	grant := join(at, "grant")
	for _, key := range []string{"account", "role", "direct"} {
		if r.given(join(grant, key)) {
			r.problem(join(grant, key), "cannot stand beside lobby: give the account and the role in a binding of their own")
		}
	}
	switch {
	case f.NATS.without():
		r.problem(join(grant, "lobby"), "needs an operator: without one there is no account that only reaches Gatehouse; operations are reached over HTTP")
	case !f.NATS.Lobby.SigningKey.Given():
		r.problem(join(grant, "lobby"), "needs nats.lobby, the account that it leads to: give its account and signing_key, as gatehouse init writes them")
	}
	return binding
}

// intoLobby returns a binding that places whom the other is for in the lobby: there users may call operations
// and hear the answers in an inbox that only they know, nothing else.
func intoLobby(b *policy.Binding, lobby *policy.Account) *policy.Binding {
	into := *b
	into.Rights, into.TTL = nil, min(b.TTL, maxLobby)
	into.Grant = policy.Grant{Account: lobby, Role: lobbyRole()}
	return &into
}

func lobbyRole() *policy.Role {
	template := func(subject string) []policy.Template {
		t, err := policy.ParseTemplate(subject)
		if err != nil {
			panic(err) // it is fixed
		}
		return []policy.Template{t}
	}
	return &policy.Role{
		Name:      "lobby",
		Publish:   policy.PermissionRules{Allow: template(api.Subject(">"))},
		Subscribe: policy.PermissionRules{Allow: template("{{inbox}}.>")},
	}
}

// Lobby returns the lobby account's public key; "" without one.
func (c *Config) Lobby() string {
	if c.NATS.without() {
		return ""
	}
	return c.NATS.Lobby.Account
}
