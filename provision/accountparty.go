package provision

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// party is who calls an operation of accounts: an identity that acts for itself, or an admin with the right to
// manage accounts.
type party struct {
	Caller
	admin       bool
	represented bool             // a backend acts for the identity
	backend     policy.Principal // that does
	plans       []string         // that it may sign others up under
	led         []policy.Led
}

// asParty carries out an operation of accounts for who calls. What is refused to an identity is recorded.
func asParty[Req, Resp any](ctx context.Context, s *Service, op string, c Caller, req Req, do func(context.Context, party, Req) (Resp, error)) (Resp, error) {
	var none Resp
	p, err := s.party(ctx, op, c)
	switch {
	case err != nil:
		return none, err
	case s.Accounts == nil:
		return none, refuse(http.StatusNotFound, api.ReasonNotFound, "this service has no accounts of sign-up")
	}
	resp, err := do(ctx, p, req)
	if e, ok := errors.AsType[*api.Error](err); ok && !p.admin && e.Code >= http.StatusUnauthorized && e.Code < http.StatusInternalServerError {
		if err := s.noteRefused(operation{name: op}, p.Caller, p.Identity, e); err != nil {
			s.Logger.Error("a call that was refused could not be recorded", "op", op, "request_id", c.RequestID, "error", err)
		}
	}
	return resp, err
}

// party finds out who calls. A token for administration makes an admin of who has the right accounts, one for logins does
// not; who is on the host and sends none is an admin.
func (s *Service) party(ctx context.Context, op string, c Caller) (party, error) {
	p := party{Caller: c}
	switch {
	case c.OnBehalf.given:
		return s.represent(ctx, op, p)
	case c.entitled:
		p.admin = true
		return p, nil
	case c.Token == "" && (c.Transport == Socket || c.Actor != ""):
		p.admin = true
		if err := c.admin(); err != nil {
			return p, err // a peer that cannot be told
		}
		return p, s.noteCall(operation{name: op}, c, nil)
	case c.Token == "":
		return p, refuse(http.StatusUnauthorized, api.ReasonUnauthenticated, "send the token in the header Authorization: Bearer …")
	case isAdminToken(c.Token):
		return s.adminParty(ctx, op, p)
	}
	id, r := s.verify(ctx, c.Token)
	switch {
	case r != nil && r.Reason == policy.AudienceRefused:
		return s.adminParty(ctx, op, p)
	case r != nil:
		return p, unverified(r)
	}
	now := s.Now()
	if wait := s.rates.take(id.Principal(), now); wait > 0 {
		return p, tooMany(wait)
	}
	state := s.State()
	if state == nil {
		return p, errNoState
	}
	if r := policy.Standing(state, id, now); r != nil {
		return p, refusedIdentity(r)
	}
	if id.BoundKey() != nil {
		return p, refusedIdentity(policy.Refuse(policy.KeyProofMissing, "the token is bound to a key, and calls prove none: get one that is not bound"))
	}
	p.Identity, p.Actor, p.led = id, id.Name(), policy.LedBy(state, id, p.Source)
	return p, nil
}

// adminParty is [Service.party] for a token for administration.
func (s *Service) adminParty(ctx context.Context, op string, p party) (party, error) {
	id, refused := s.entitle(ctx, policy.RightAccounts, &p.Caller)
	if refused != nil {
		refused = s.forNobody(p, id, refused)
		if err := s.noteRefused(operation{name: op}, p.Caller, id, refused); err != nil {
			s.Logger.Error("a call that was refused could not be recorded", "op", op, "request_id", p.RequestID, "error", err)
		}
		return p, refused
	}
	p.admin = true
	return p, s.noteCall(operation{name: op}, p.Caller, id)
}

// key returns what tells the caller's idempotency keys from others'.
func (p party) key() string {
	switch {
	case p.represented:
		return apart("backend", p.backend.Issuer, p.backend.Subject, p.Identity.IssuerURL, p.Identity.Subject)
	case p.Identity != nil:
		return apart("identity", p.Identity.IssuerURL, p.Identity.Subject)
	default:
		return apart("actor", p.Actor)
	}
}

// own returns the idempotency key as one that no other caller has; empty when there is none.
func (p party) own(key string) string {
	if key == "" {
		return ""
	}
	return apart(p.key(), key)
}

// principal returns whom the caller acts for; nobody in the case of an admin.
func (p party) principal() policy.Principal {
	if p.admin || p.Identity == nil {
		return policy.Principal{}
	}
	return p.Identity.Principal()
}

// owns reports whether the caller is an owner of the account.
func (p party) owns(a *account.Account) bool {
	return !p.admin && p.Identity != nil && a.IsOwner(p.principal())
}

// sees reports whether the caller may know of the account: its members, whom a binding leads there, and admins may.
func (p party) sees(a *account.Account, now time.Time) bool {
	if p.admin || p.owns(a) {
		return true
	}
	if a.State == account.Deleted || p.Identity == nil {
		return false
	}
	if a.Origin != nil && slices.Contains(p.led, policy.Led{Name: a.Name, Origin: a.Origin.Origin}) {
		return true
	}
	entry := a.Entry()
	return entry.IsMember(p.Identity, now)
}

// accounts returns the accounts that the caller is a member of or is led to, by name, as decisions know them.
func (p party) accounts(state *policy.Snapshot, now time.Time) []*policy.Entry {
	list := state.Accounts.Of(p.Identity, now)
	for _, l := range p.led {
		if e := state.Accounts.Named(l.Name); e != nil && e.Origin != nil && *e.Origin == l.Origin {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *policy.Entry) int { return strings.Compare(a.Account.Name, b.Account.Name) })
	return slices.Compact(list)
}
