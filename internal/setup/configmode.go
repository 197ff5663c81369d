package setup

import (
	_ "embed"
	"fmt"
	"text/template"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

//go:embed templates/offline-config.md.tmpl
var offlineConfigTemplate string

var offlineConfigReadme = template.Must(template.New("README.md").Parse(offlineConfigTemplate))

// FileUsers are the users that the servers' files of a set-up without operator name, all of
// them in auth_users: everybody else is sent to the callout.
type FileUsers struct {
	Service, System               FileUser // of Gatehouse
	EmergencySystem, EmergencyApp FileUser // that work while Gatehouse is down
}

// FileUser is a user who proves to be who it is with an nkey.
type FileUser struct {
	Nkey               string // public key, U…
	Seed               Secret
	Publish, Subscribe []string // all that it may do; without any, everything
}

// newConfigMode makes a set-up without operator. Its users are nkeys and no passwords, because
// servers send the nonce that key-bound tokens sign only when they know users with nkeys.
func newConfigMode(o Options) (*Set, error) {
	var f forge
	issuer := f.key(nkeys.PrefixByteAccount)
	var xkey key
	if !o.NoXKey {
		xkey = f.key(nkeys.PrefixByteCurve)
	}
	named := func(name string) Account { return Account{Name: name, ID: name} }
	s := &Set{
		System: named(systemName), Callout: named(calloutName), App: named(o.Account),
		XKey: xkey.seed,
		Users: &FileUsers{
			Service: f.fileUser(serviceUser), System: f.fileUser(watchingUser),
			EmergencySystem: f.fileUser(nil), EmergencyApp: f.fileUser(nil),
		},
		options: o, issuer: issuer.public, xkeyPublic: xkey.public, routePassword: f.password(),
	}
	s.Callout.SigningKey = issuer.seed
	return s, f.err
}

// fileUser makes a user with the permissions that shape gives to one with a user JWT.
func (f *forge) fileUser(shape func(*jwt.UserClaims)) FileUser {
	k := f.key(nkeys.PrefixByteUser)
	u := FileUser{Nkey: k.public, Seed: k.seed}
	if shape != nil {
		var claims jwt.UserClaims
		shape(&claims)
		u.Publish, u.Subscribe = claims.Pub.Allow, claims.Sub.Allow
	}
	return u
}

// AuthUsers returns the public keys of all of them.
func (u *FileUsers) AuthUsers() []string {
	return []string{u.Service.Nkey, u.System.Nkey, u.EmergencySystem.Nkey, u.EmergencyApp.Nkey}
}

// configModeTree is [Set.tree] for a set without operator.
func (s *Set) configModeTree(dir string) tree {
	t := tree{
		"gatehouse.yaml":              s.ServiceConfig(),
		"keys/callout.nk":             s.Callout.SigningKey.line(),
		"keys/service.nk":             s.Users.Service.Seed.line(),
		"keys/system.nk":              s.Users.System.Seed.line(),
		"offline/README.md":           s.offlineReadme(dir),
		"offline/emergency-system.nk": s.Users.EmergencySystem.Seed.line(),
		"offline/emergency-app.nk":    s.Users.EmergencyApp.Seed.line(),
	}
	if s.XKey != nil {
		t["keys/callout.xk"] = s.XKey.line()
	}
	s.addServers(t, dir)
	return t
}

// affected says for whom a server without operator asks the callout.
func (s *Set) affected() string {
	return fmt.Sprintf(`# Without an operator nats-server sends every client to the callout that it does not know as one of
# auth_users, users that you add to the account %s in its file included: put those into
# auth_users too, or they need a token. Four users are in it: Gatehouse's own two, and the two in the
# folder offline. Users of accounts that allowed_accounts does not list are not affected.
`, s.App.Name)
}
