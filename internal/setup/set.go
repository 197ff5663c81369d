// Package setup makes what a Gatehouse installation starts from: keys, account and user
// JWTs, server configurations and gatehouse.yaml. [New] makes a whole new one, [Into] the
// few pieces that enter an existing one. Both work in memory; their results are written
// by Write, which never overwrites anything.
package setup

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/seal"
)

// Account is an account that init made.
type Account struct {
	Name       string
	ID         string // the public identity key, A…
	JWT        string // claims signed by the operator's signing key
	SigningKey Secret // seed that signs users of the account
	Identity   Secret // seed kept offline
}

func (a accountKeys) signed(token string) Account {
	return Account{Name: a.name, ID: a.identity.public, JWT: token, SigningKey: a.signing.seed, Identity: a.identity.seed}
}

// Set is a complete set-up in memory: all that [Set.Write] puts on disk. In config mode there is no
// operator, lobby, sentinel or JWT; accounts go by their names, and users are in Users.
type Set struct {
	OperatorJWT        string
	OperatorSigningKey Secret // seed that signs account claims
	OperatorIdentity   Secret // seed kept offline

	System, Callout, Lobby, App Account

	XKey        Secret // seed that opens sealed callout requests; nil without
	SentinelJWT string // bearer JWT that may do nothing

	CalloutCreds, SystemCreds, SentinelCreds Secret // creds files of Gatehouse and its clients
	EmergencySystemCreds, EmergencyAppCreds  Secret // creds files that work while Gatehouse is down

	Users *FileUsers // in config mode; otherwise nil

	emergencySystemUser, emergencyAppUser string // public keys, for whoever must revoke them

	options       Options
	issuer        string // in config mode: public key that signs answers and users
	xkeyPublic    string // in config mode
	routePassword string
	sealKey       string // encrypts the seeds of the keys of self-service accounts // shared by the servers of a cluster
}

// New makes all keys, JWTs and creds of a new set-up. It writes nothing and reads nothing
// but the TLS certificate. Its errors wrap [ErrOptions], but for those of the machine's
// random source.
func New(o Options) (*Set, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if o.ConfigMode {
		return newConfigMode(o)
	}
	var f forge
	identity, signing := f.key(nkeys.PrefixByteOperator), f.key(nkeys.PrefixByteOperator)
	system, callout, lobby, app := f.account(systemName), f.account(calloutName), f.account(lobbyName), f.account(o.Account)
	var xkey key
	if !o.NoXKey {
		xkey = f.key(nkeys.PrefixByteCurve)
	}
	service, bearer := f.user(callout, "gatehouse", serviceUser), f.user(callout, "sentinel", sentinel)
	emergencySystem, emergencyApp := f.user(system, "emergency", nil), f.user(app, "emergency", nil)
	s := &Set{
		OperatorJWT:        f.sign(operatorClaims(o.Name, identity, signing, system), identity),
		OperatorSigningKey: signing.seed,
		OperatorIdentity:   identity.seed,

		System:  system.signed(f.sign(newAccountClaims(system), signing)),
		Callout: callout.signed(f.sign(calloutClaims(callout, service.public, xkey.public, jwt.AnyAccount), signing)),
		Lobby:   lobby.signed(f.sign(lobbyClaims(lobby, callout, f.sign(lobbyActivation(callout, lobby), callout.signing)), signing)),
		App:     app.signed(f.sign(applicationClaims(app, !o.NoJetStream), signing)),

		XKey:         xkey.seed,
		SentinelJWT:  bearer.token,
		CalloutCreds: service.creds, SentinelCreds: bearer.creds,
		SystemCreds:          f.user(system, "gatehouse", systemUser).creds,
		EmergencySystemCreds: emergencySystem.creds, emergencySystemUser: emergencySystem.public,
		EmergencyAppCreds: emergencyApp.creds, emergencyAppUser: emergencyApp.public,

		options:       o,
		routePassword: f.password(),
		sealKey:       seal.NewKey(),
	}
	if f.err != nil {
		return nil, f.err
	}
	return s, nil
}

// operatorClaims returns the claims of a new operator. Only signing keys count below it,
// so that an identity key can stay offline for good: it signs nothing that servers accept.
func operatorClaims(name string, identity, signing key, system accountKeys) *jwt.OperatorClaims {
	claims := jwt.NewOperatorClaims(identity.public)
	claims.Name = name
	claims.SigningKeys.Add(signing.public)
	claims.SystemAccount = system.identity.public
	claims.StrictSigningKeyUsage = true
	return claims
}

// password returns a random text without characters that would need escaping: a public key is
// as good as any.
func (f *forge) password() string { return f.key(nkeys.PrefixByteUser).public }

// accounts returns all accounts of the set, in the order in which they are written.
func (s *Set) accounts() []Account { return []Account{s.System, s.Callout, s.Lobby, s.App} }

// ClientURL returns the comma-separated URLs under which clients reach all servers.
func (s *Set) ClientURL() string { return s.options.clientURL() }

// appKeyFile returns the path of the application account's signing key in the folder.
func (s *Set) appKeyFile() string { return "keys/" + strings.ToLower(s.App.Name) + ".nk" }

// jwtFile returns the path of the account's JWT in the folder, where servers do not keep it.
func (a Account) jwtFile() string { return "accounts/" + strings.ToLower(a.Name) + ".jwt" }

// tree returns all files of the set for the folder dir, which must be absolute.
func (s *Set) tree(dir string) tree {
	if s.Users != nil {
		return s.configModeTree(dir)
	}
	app := strings.ToLower(s.App.Name)
	t := tree{
		"gatehouse.yaml":                 s.ServiceConfig(),
		"keys/operator-signing.nk":       s.OperatorSigningKey.line(),
		"keys/callout.nk":                s.Callout.SigningKey.line(),
		"keys/lobby.nk":                  s.Lobby.SigningKey.line(),
		s.appKeyFile():                   s.App.SigningKey.line(),
		"creds/callout.creds":            s.CalloutCreds.Reveal(),
		"creds/system.creds":             s.SystemCreds.Reveal(),
		"creds/sentinel.creds":           s.SentinelCreds.Reveal(),
		"offline/README.md":              s.offlineReadme(dir),
		"offline/operator.nk":            s.OperatorIdentity.line(),
		"offline/operator.jwt":           s.OperatorJWT + "\n",
		"offline/system.nk":              s.System.Identity.line(),
		"offline/system-signing.nk":      s.System.SigningKey.line(),
		"offline/callout.nk":             s.Callout.Identity.line(),
		"offline/lobby.nk":               s.Lobby.Identity.line(),
		"offline/" + app + ".nk":         s.App.Identity.line(),
		"offline/emergency-system.creds": s.EmergencySystemCreds.Reveal(),
		"offline/emergency-app.creds":    s.EmergencyAppCreds.Reveal(),
	}
	if s.XKey != nil {
		t["keys/callout.xk"] = s.XKey.line()
	}
	t["keys/seal.key"] = s.sealKey + "\n"
	if s.options.Resolver != fullResolver {
		for _, a := range s.accounts() {
			t[a.jwtFile()] = a.JWT + "\n"
		}
	}
	if s.options.Resolver == memoryResolver {
		t["preload.conf"] = render(serverPreload, s.accounts())
	}
	s.addServers(t, dir)
	return t
}

// addServers adds the configuration files of the servers.
func (s *Set) addServers(t tree, dir string) {
	for i := range s.options.Servers {
		t[s.ServerFile(i)] = s.ServerConfig(i, dir)
	}
}

// Write puts the set into the folder dir, which is made when it is missing: folders 0700,
// files 0600. It changes nothing that exists: when one of its files or folders is already
// there the error wraps [ErrExists], and a failure takes back what it had written.
func (s *Set) Write(dir string) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	return s.tree(dir).write(dir, s.dataFolders()...)
}

// NextSteps returns what to do after [Set.Write] to the folder dir, for a terminal.
func (s *Set) NextSteps(dir string) string {
	path := func(file string) string { return shellQuote(filepath.Join(dir, file)) }
	servers, service := "", fmt.Sprintf("gatehouse check -c %s\ngatehouse serve -c %[1]s\n", path("gatehouse.yaml"))
	for i := range s.options.Servers {
		servers += fmt.Sprintf("nats-server -c %s\n", path(s.ServerFile(i)))
	}
	if s.options.Issuer == nil && s.options.Policy == "" {
		service = fmt.Sprintf("# name your OIDC provider in %s\n%s", path("gatehouse.yaml"), service)
	}
	steps := servers + service
	if s.Users == nil && s.options.Resolver == urlResolver {
		steps = service + "# once it serves, since the servers fetch their accounts from it:\n" + servers
	}
	steps += fmt.Sprintf("# move %s to a safe place: its README.md says what it is for\n", path("offline"))
	if s.Users != nil {
		steps += s.affected()
	}
	return steps
}
