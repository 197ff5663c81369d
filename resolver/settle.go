package resolver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gatehouse-nats/gatehouse/store"
)

// settle brings one account to what is asked of it.
func (c *Claims) settle(ctx context.Context, a *accountStatus, record store.AccountClaims, o overlay) error {
	h, err := historyOf(record)
	if err != nil {
		return fmt.Errorf("what the store has of its claims cannot be read: %w", err)
	}
	held, d, err := c.look(ctx, record.Account, h, o)
	if d == nil {
		return err
	}
	if err := c.vouch(ctx, record, held); err != nil {
		return err
	}
	for _, how := range d.drifts {
		c.OnDrift(record.Account, string(how))
	}
	stored, stale, failed := c.stale(ctx, record.Account, d, held)
	err = errors.Join(err, failed)
	renew := c.signedByAnother(h, held)
	switch {
	case d.push || stale || renew:
		return errors.Join(c.change(ctx, a, record, h, d, held, o, renew), err)
	case !d.base.same(h.base) || !d.desired.same(h.desired):
		return errors.Join(c.adopt(ctx, record, d, held), err)
	default:
		if err == nil {
			c.soothe(a, record, held, stored)
		}
		return err
	}
}

// signedByAnother reports whether claims that are to stay as they are must be signed anew, for the operator signing key has
// changed since: another than ours signed what the store has, or what a server has applied of ours.
func (c *Claims) signedByAnother(h history, held []serverClaims) bool {
	if h.base == nil {
		return false
	}
	return !c.isOwn(h.base.issuer()) || c.isOwn(h.desired.issuer()) && slices.ContainsFunc(held, func(s serverClaims) bool {
		if s.found == nil || c.isOwn(s.found.issuer()) {
			return false
		}
		_, ours := s.found.ours()
		return ours || s.found.issued() < h.desired.issued()
	})
}

// vouch returns an error unless what the store has of an account was signed by our key, by one that servers have applied claims
// of, or by one that they trust: whoever writes to the store must not get claims of their own signed.
func (c *Claims) vouch(ctx context.Context, record store.AccountClaims, held []serverClaims) error {
	for _, token := range []string{record.Base, record.Desired} {
		if token == "" {
			continue
		}
		issuer, err := signedBy(token)
		if err == nil && !c.isOwn(issuer) && !slices.ContainsFunc(held, func(h serverClaims) bool { return h.signedBy(issuer) }) && !c.trustedKey(ctx, issuer) {
			err = fmt.Errorf("key %s signed it", issuer)
		}
		if err != nil {
			return fmt.Errorf("what the store has of the claims of account %s is not signed by the operator, and nothing is made of it (%w): find out who writes to the store, and delete the account's row in account_claims", record.Account, err)
		}
	}
	return nil
}

// isOwn reports whether the key is the operator signing key.
func (c *Claims) isOwn(key string) bool {
	signer := c.Signer()
	if signer == nil {
		return false
	}
	public, err := signer.PublicKey()
	return err == nil && public == key
}

// look reads an account back and decides what becomes of it; nil when nothing does. A server that is silent keeps
// the others waiting only where nothing is to be pushed to them.
func (c *Claims) look(ctx context.Context, account string, h history, o overlay) ([]serverClaims, *decision, error) {
	short, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	held, err := c.r.appliedEverywhere(short, account)
	given, distrusted := c.given(ctx, account, held)
	if err != nil && anyOf(held) {
		if d, failed := decide(h, documents(held), given, o); failed == nil && d != nil && d.push {
			return held, d, errors.Join(err, distrusted)
		}
	}
	if err != nil {
		if held, err = c.r.appliedEverywhere(ctx, account); err != nil && !anyOf(held) {
			return nil, nil, err
		}
	}
	d, failed := decide(h, documents(held), given, o)
	return held, d, errors.Join(err, failed, distrusted)
}

// given returns the claims of an account that the configuration has for servers that fetch it; nil when it has none. The error says
// that another signed them than the operator, so that nothing is made of them.
func (c *Claims) given(ctx context.Context, account string, held []serverClaims) (*document, error) {
	token := c.Given(account)
	if token == "" {
		return nil, nil
	}
	issuer, err := signedBy(token)
	if err == nil && !c.isOwn(issuer) && !slices.ContainsFunc(held, func(h serverClaims) bool { return h.signedBy(issuer) }) && !c.r.applies(issuer) && !c.trustedKey(ctx, issuer) {
		err = fmt.Errorf("no server is known to trust key %s, which signed it", issuer)
	}
	if err != nil {
		return nil, fmt.Errorf("the JWT of account %s in nats.resolver.accounts is not made use of (%w): have the operator sign it, or push it", account, err)
	}
	return parseDocument(token)
}

// stale returns what servers store, and reports whether one of them stores other claims than it has applied: it would come up with them.
func (c *Claims) stale(ctx context.Context, account string, d *decision, held []serverClaims) (tokens []string, stale bool, err error) {
	if d.push {
		return nil, false, nil
	}
	if tokens, err = c.r.lookup(ctx, account); err != nil {
		return nil, false, err
	}
	for _, token := range tokens {
		if slices.ContainsFunc(held, func(h serverClaims) bool { return h.token == token }) {
			continue
		}
		if found, err := parseDocument(token); err != nil || !d.desired.same(found) || !slices.ContainsFunc(held, func(h serverClaims) bool { return h.signedBy(found.issuer()) }) {
			c.OnDrift(account, string(stored))
			return tokens, true, nil
		}
	}
	return tokens, false, nil
}

// adopt keeps what all servers have as what they are to have: others made it so.
func (c *Claims) adopt(ctx context.Context, record store.AccountClaims, d *decision, held []serverClaims) error {
	for _, h := range held {
		if h.found != nil && h.found.same(d.desired) {
			record.Desired = h.token
		}
	}
	signer := c.Signer()
	if signer == nil {
		return ErrNotManaged
	}
	base, err := d.base.sign(signer, d.base.issued(), record.Revision)
	if err != nil {
		return err
	}
	record.Base = base
	return c.save(ctx, record)
}

// save keeps an account's claims, unless another replica has since they were read.
func (c *Claims) save(ctx context.Context, record store.AccountClaims) error {
	record.Revision++
	err := c.Store.SaveAccountClaims(ctx, record)
	if errors.Is(err, store.ErrChanged) {
		return errOvertaken
	}
	return err
}

// historyOf returns what is kept as documents.
func historyOf(r store.AccountClaims) (h history, err error) {
	if r.Base == "" {
		return h, nil
	}
	h.revision = r.Revision
	if h.base, err = parseDocument(r.Base); err != nil {
		return h, err
	}
	if h.desired, err = parseDocument(r.Desired); err != nil {
		return h, err
	}
	for _, d := range []*document{h.base, h.desired} {
		if of := text(d.claims["sub"]); of != r.Account {
			return h, fmt.Errorf("it is of account %s", of)
		}
	}
	return h, nil
}
