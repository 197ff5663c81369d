package callout

import (
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/resolver"
)

// tokenTable is a Tokens whose answers tests choose.
type tokenTable struct {
	mu    sync.Mutex
	rows  map[string]func() (*policy.Identity, *policy.Refusal, <-chan struct{})
	asked map[string]int
}

// newTokenTable knows some identities, each by a token of its own.
func newTokenTable() *tokenTable {
	return &tokenTable{asked: map[string]int{}, rows: map[string]func() (*policy.Identity, *policy.Refusal, <-chan struct{}){
		secret + "alice":   valid("alice", "dev"),
		secret + "both":    valid("both", "dev", "guest"),
		secret + "browser": valid("browser", "web"),
		secret + "nobody":  valid("nobody"),
		secret + "forged": func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
			return nil, policy.Refuse(policy.SignatureInvalid, "the signature does not verify"), nil
		},
		secret + "expired": func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
			id, _, _ := valid("alice", "dev")()
			return id, policy.Refuse(policy.TokenExpired, "expired a minute ago"), nil
		},
		secret + "panic": func() (*policy.Identity, *policy.Refusal, <-chan struct{}) { panic("a bug") },
	}}
}

// valid returns the answer for a token that verifies.
func valid(subject string, groups ...any) func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
	return func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
		return &policy.Identity{
			Issuer: "corp", IssuerURL: issuer, Subject: subject, TokenID: "jti-" + subject, SessionID: "sid-" + subject,
			IssuedAt: time.Now().Add(-time.Minute), Expires: time.Now().Add(2 * time.Hour),
			Claims: map[string]any{"groups": groups, "email": subject + "@example.com", "password": secret},
		}, nil, nil
	}
}

func (x *tokenTable) set(token string, row func() (*policy.Identity, *policy.Refusal, <-chan struct{})) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.rows[token] = row
}

// Verify implements Tokens.
func (x *tokenTable) Verify(token string) (*policy.Identity, *policy.Refusal, <-chan struct{}) {
	x.mu.Lock()
	row, ok := x.rows[token]
	x.asked[token]++
	x.mu.Unlock()
	if !ok {
		return nil, policy.Refuse(policy.TokenMalformed, "not a token"), nil
	}
	return row()
}

func (x *tokenTable) times(token string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked[token]
}

// serverTable is the real resolver, plus one server whose key the test has.
type serverTable struct {
	real  *resolver.Resolver
	id    string // of the server that runs
	extra string // known too, and equal to it
	// known and signingKey replace what the resolver says, when set.
	known      func(id string) (bool, <-chan struct{})
	signingKey func(account *policy.Account) (string, *policy.Refusal)
}

// Known implements Servers.
func (s *serverTable) Known(id string) (bool, <-chan struct{}) {
	if s.known != nil {
		return s.known(id)
	}
	if id == s.extra {
		return true, nil
	}
	return s.real.Known(id)
}

// Reading implements Servers.
func (s *serverTable) Reading(id string, account *policy.Account) <-chan struct{} {
	if s.signingKey != nil {
		return nil
	}
	return s.real.Reading(id, account)
}

// Offset implements Servers.
func (s *serverTable) Offset(id string) time.Duration {
	if id == s.extra {
		id = s.id
	}
	return s.real.Offset(id)
}

// SigningKey implements Servers.
func (s *serverTable) SigningKey(id string, account *policy.Account, scoped string, now time.Time) (string, *policy.Refusal) {
	if s.signingKey != nil {
		return s.signingKey(account)
	}
	if id == s.extra {
		id = s.id
	}
	return s.real.SigningKey(id, account, scoped, now)
}
