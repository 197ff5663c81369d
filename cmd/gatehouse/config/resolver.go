package config

import (
	"fmt"
	"maps"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// The values of nats.resolver.type.
const (
	FullResolver   = "full"
	URLResolver    = "url"
	MemoryResolver = "memory"
)

// AccountJWT is an account JWT that others have made, kept in a file. It prints as the account's public key.
type AccountJWT struct {
	path, token string
	id          string
	issued      int64
}

func (a *AccountJWT) parse(text string, f form) (err error) {
	if err = wantText(text, f); err != nil {
		return err
	}
	a.path, err = fileName(text)
	return err
}

func (a *AccountJWT) load(l *loader, _ string, _ tags) error {
	a.path = l.path(a.path)
	content, err := l.read(a.path, false)
	if err != nil {
		return err
	}
	token, err := nkeys.ParseDecoratedJWT(content) // as nsc prints it, or alone
	if err != nil {
		return fmt.Errorf("%s: %w", a.path, err)
	}
	a.token = strings.TrimSpace(token)
	claims, err := jwt.DecodeAccountClaims(a.token)
	if err != nil {
		return fmt.Errorf("%s holds no account JWT: take it from where the account was made, such as nsc describe account NAME --raw", a.path)
	}
	a.id, a.issued = claims.Subject, claims.IssuedAt
	return nil
}

// Account returns the account's public key (A…).
func (a AccountJWT) Account() string { return a.id }

// Token returns the JWT.
func (a AccountJWT) Token() string { return a.token }

// Issued returns the second in which it was signed.
func (a AccountJWT) Issued() int64 { return a.issued }

// MarshalText returns the path.
func (a AccountJWT) MarshalText() ([]byte, error) { return []byte(a.path), nil }

// resolver checks that servers which fetch accounts from Gatehouse find all of them there.
func (r *report) resolver(f *File) {
	there := map[string]bool{}
	for i, a := range f.NATS.Resolver.Accounts {
		if a.id == "" {
			continue // reported when it was loaded, or not read
		}
		if there[a.id] {
			r.problem(index("nats.resolver.accounts", i), "is of account %s, as another one is: name one file for each account", a.id)
		}
		there[a.id] = true
	}
	if f.NATS.Resolver.Type != URLResolver || len(there) < len(f.NATS.Resolver.Accounts) {
		return
	}
	needed := map[string]string{f.NATS.systemAccount(): "the system account", f.NATS.calloutAccount(): "the callout account", f.NATS.Lobby.Account: "the lobby account"}
	for name, a := range f.Accounts {
		if a != nil {
			needed[a.ID] = "account " + name
		}
	}
	delete(needed, "") // reported already
	maps.DeleteFunc(needed, func(id string, _ string) bool { return there[id] })
	for _, id := range sorted(needed) {
		r.problem("nats.resolver.accounts", "lacks the JWT of %s (%s), which servers would fetch here in vain: name its file", needed[id], id)
	}
}

var _ scalar = (*AccountJWT)(nil)
