package setup

import (
	"cmp"
	_ "embed"
	"strings"
	"text/template"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/seal"
)

// IntoOptions names the existing set-up that [Into] enters. All of its names are files.
type IntoOptions struct {
	Store    string // folder of nsc or nats auth, searched for what the fields below leave out
	Operator string // name in the store; may be empty when the store has one operator only

	OperatorJWT string
	OperatorKey string            // seed of a signing key, or of the identity unless the operator is strict
	SystemCreds string            // creds of a user of the system account
	Accounts    []ExistingAccount // to place users in; nil: all of the store that can be

	URL    string // where the servers listen; default nats://127.0.0.1:4222
	TLSCA  string // file that verifies the servers' certificates
	NoXKey bool

	// SelfService prepares for accounts of sign-up: the callout may place users in every account, not in those named alone,
	// and there is a key that seals the seeds of their signing keys.
	SelfService bool

	Service
}

// ExistingAccount is an application account that Gatehouse is to place users in.
type ExistingAccount struct {
	JWT        string // file
	SigningKey string // file with the seed of a signing key; searched in the store when empty
}

// Addition is what enters an existing set-up: two accounts, the sentinel, and Gatehouse's
// own files. Nothing that exists is changed by it.
type Addition struct {
	Callout, Lobby              Account
	XKey                        Secret // nil without
	SentinelJWT                 string
	CalloutCreds, SentinelCreds Secret
	LeftOut                     []string // accounts that were found and cannot be offered, with the reason

	file     serviceFile
	operator string
	sealKey  string // empty where accounts of sign-up are not prepared for
}

// Into makes the callout account, the lobby account and the sentinel for an existing
// operator, signed by the operator key that o names. It reads files and writes nothing.
// Its errors wrap [ErrExisting] or [ErrOptions].
func Into(o IntoOptions) (*Addition, error) {
	var bad problems
	o.Service = o.Service.complete(&bad)
	if err := bad.err(); err != nil {
		return nil, err
	}
	have, err := findExisting(o)
	if err != nil {
		return nil, err
	}
	var f forge
	callout, lobby := f.account(have.freeName(calloutName)), f.account(have.freeName(lobbyName))
	var xkey key
	if !o.NoXKey {
		xkey = f.key(nkeys.PrefixByteCurve)
	}
	service := f.user(callout, "gatehouse", serviceUser)
	bearer := f.user(callout, "sentinel", sentinel)
	allowed := []string{lobby.identity.public}
	for _, a := range have.accounts {
		allowed = append(allowed, a.id)
	}
	if o.SelfService {
		allowed = []string{jwt.AnyAccount}
	}
	a := &Addition{
		Callout: callout.signed(f.sign(calloutClaims(callout, service.public, xkey.public, allowed...), have.signer)),
		Lobby:   lobby.signed(f.sign(lobbyClaims(lobby, callout, f.sign(lobbyActivation(callout, lobby), callout.signing)), have.signer)),
		XKey:    xkey.seed, SentinelJWT: bearer.token,
		CalloutCreds: service.creds, SentinelCreds: bearer.creds,
		LeftOut:  have.left,
		file:     have.serviceFile(o),
		operator: have.operator.Name,
	}
	a.file.Lobby, a.file.LobbyKey = a.Lobby.ID, "keys/lobby.nk"
	if a.XKey != nil {
		a.file.XKey = "keys/callout.xk"
	}
	if o.SelfService {
		a.sealKey, a.file.SealKey = seal.NewKey(), "keys/seal.key"
	}
	if f.err != nil {
		return nil, f.err
	}
	return a, nil
}

func (e *existing) serviceFile(o IntoOptions) serviceFile {
	f := serviceFile{
		URL: cmp.Or(o.URL, "nats://127.0.0.1:4222"), CA: o.TLSCA,
		CalloutCreds: "creds/callout.creds", CalloutKey: "keys/callout.nk",
		SystemCreds: e.systemCreds, OperatorKey: e.signerFile, OperatorIdentity: e.signer.public == e.operator.Subject,
		Service: o.Service,
	}
	for _, a := range e.accounts {
		f.Accounts = append(f.Accounts, serviceAccount{Name: a.name, ID: a.id, Key: a.keyFile, Notes: a.notes})
	}
	return f
}

// ServiceConfig returns gatehouse.yaml. It refers to the existing signing keys and system
// creds where they are.
func (a *Addition) ServiceConfig() string { return render(serviceConf, a.file) }

// ServerLines returns what the configuration of every server needs besides what it has.
func (a *Addition) ServerLines() string { return render(serverLines, a) }

// PreloadLines returns what resolver_preload of every server with a resolver in memory
// needs besides what it has. Servers with a full resolver get the accounts by a push.
func (a *Addition) PreloadLines() string { return render(preloadLines, []Account{a.Callout, a.Lobby}) }

// Instructions returns the text that tells how to put the addition, written to the folder
// dir, to use, and how to go back.
func (a *Addition) Instructions(dir string) string {
	return render(instructions, struct {
		*Addition
		Operator, URL, SystemCreds, Dir string
		SelfService                     bool
	}{a, a.operator, a.file.URL, a.file.SystemCreds, dir, a.sealKey != ""})
}

// Write puts the addition into the folder dir, as [Set.Write] does.
func (a *Addition) Write(dir string) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	t := tree{
		"gatehouse.yaml":                      a.ServiceConfig(),
		"README.md":                           a.Instructions(dir),
		"nats-server-additions.conf":          a.ServerLines(),
		"resolver-preload.conf":               a.PreloadLines(),
		"accounts/" + a.Callout.Name + ".jwt": a.Callout.JWT + "\n",
		"accounts/" + a.Lobby.Name + ".jwt":   a.Lobby.JWT + "\n",
		"keys/callout.nk":                     a.Callout.SigningKey.line(),
		"keys/lobby.nk":                       a.Lobby.SigningKey.line(),
		"creds/callout.creds":                 a.CalloutCreds.Reveal(),
		"creds/sentinel.creds":                a.SentinelCreds.Reveal(),
		"offline/callout.nk":                  a.Callout.Identity.line(),
		"offline/lobby.nk":                    a.Lobby.Identity.line(),
	}
	if a.XKey != nil {
		t["keys/callout.xk"] = a.XKey.line()
	}
	if a.sealKey != "" {
		t["keys/seal.key"] = a.sealKey + "\n"
	}
	return t.write(dir)
}

//go:embed templates/additions.conf.tmpl
var serverLinesTemplate string

//go:embed templates/preload.conf.tmpl
var preloadLinesTemplate string

//go:embed templates/into.md.tmpl
var instructionsTemplate string

var (
	serverLines  = template.Must(template.New("nats-server-additions.conf").Funcs(confFuncs).Parse(serverLinesTemplate))
	preloadLines = template.Must(template.New("resolver-preload.conf").Funcs(confFuncs).Parse(preloadLinesTemplate))
	instructions = template.Must(template.New("README.md").Funcs(template.FuncMap{"sh": shellQuote}).Parse(instructionsTemplate))
)

// shellQuote returns s as one word of a POSIX shell.
func shellQuote(s string) string {
	if plainScalar.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
