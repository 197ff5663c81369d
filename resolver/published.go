package resolver

import (
	"context"

	"github.com/nats-io/jwt/v2"
)

// Published returns the claims that servers have stored of an account, or have applied where they store none, the newest where they
// differ; nil when none has any.
func (r *Resolver) Published(ctx context.Context, account string) (*jwt.AccountClaims, error) {
	if r.blind {
		return nil, ErrNoSystemUser
	}
	tokens, err := r.lookup(ctx, account)
	var newest *jwt.AccountClaims
	for _, token := range tokens {
		if c, failed := jwt.DecodeAccountClaims(token); failed == nil && c.Subject == account && (newest == nil || c.IssuedAt > newest.IssuedAt) {
			newest = c
		}
	}
	if newest != nil {
		return newest, nil
	}
	if err != nil || r.kind.stores() {
		return nil, err
	}
	token, err := r.Newest(ctx, account)
	if token == "" || err != nil {
		return nil, err
	}
	return jwt.DecodeAccountClaims(token)
}
