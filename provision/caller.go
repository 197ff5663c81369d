package provision

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Transport is how a call came.
type Transport string

// The transports.
const (
	Socket Transport = "socket"
	HTTP   Transport = "http"
	NATS   Transport = "nats"
)

// Caller is who calls an operation.
type Caller struct {
	// Actor names a caller that has the operation's right, for the audit trail: the peer of the local socket,
	// or the principal name of an admin. Empty for everybody else.
	Actor string
	// Identity is whom an admin's token speaks of; nil on the local socket.
	Identity  *policy.Identity
	Transport Transport
	Token     string // bearer token, may be empty
	Source    netip.Addr
	RequestID string
	// OnBehalf is whom the caller says that it acts for.
	OnBehalf OnBehalf

	entitled bool // the operation takes a right, which the caller was found to have; the call is recorded
}

// admin refuses callers without the rights of an admin.
func (c Caller) admin() error {
	if c.Actor == "" {
		return refuse(http.StatusForbidden, api.ReasonForbidden, "this operation is for admins: call it on the host, through the local socket, or with a token for administration")
	}
	return nil
}

// authorize finds out whether the caller may call the operation, and returns it as an admin where that takes
// one. Calls that take a right are recorded, refused ones too, before anything is done for them.
// A peer of the local socket who sends a token calls as who that speaks of.
func (s *Service) authorize(ctx context.Context, op operation, c Caller) (Caller, error) {
	if op.access.everybody {
		return c, nil
	}
	if c.Transport == Socket && (c.Token == "" || c.Actor == "" || op.access == onHost) {
		if err := c.admin(); err != nil {
			return c, err // a peer that cannot be told
		}
		c.entitled = true
		return c, s.noteCall(op, c, nil)
	}
	if op.access == onHost {
		return c, refuse(http.StatusForbidden, api.ReasonForbidden, "%s is for who is on the host: call it there, through the local socket", op.name)
	}
	id, refused := s.entitle(ctx, op.access.right, &c)
	if refused != nil {
		if err := s.noteRefused(op, c, id, refused); err != nil {
			s.Logger.Error("a call that was refused could not be recorded", "op", op.name, "request_id", c.RequestID, "error", err)
		}
		return c, refused
	}
	c.entitled = true
	return c, s.noteCall(op, c, id)
}

// entitle makes the caller an admin if its token gives it the right. The identity comes along with a refusal
// when the token is truly of it.
func (s *Service) entitle(ctx context.Context, right policy.Right, c *Caller) (*policy.Identity, *api.Error) {
	if c.Token == "" {
		return nil, refuse(http.StatusUnauthorized, api.ReasonUnauthenticated, "send a token for administration in the header Authorization: Bearer …")
	}
	state := s.State()
	if state == nil {
		return nil, errNoState
	}
	if isAdminToken(c.Token) {
		return s.entitleByAdminToken(state, right, c)
	}
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	id, r := s.Tokens.VerifyAdmin(ctx, c.Token)
	if r != nil {
		return id, refusedToken(r)
	}
	now := s.Now()
	if wait := s.rates.take(id.Principal(), now); wait > 0 {
		return id, tooMany(wait)
	}
	rights, r := policy.Rights(state, id, c.Source, now, nil)
	switch {
	case r != nil:
		return id, refusedIdentity(r)
	case !slices.Contains(rights, right):
		return id, refuse(http.StatusForbidden, api.ReasonForbidden, "this takes the right %s, and you have %s: ask for a binding whose grant.admin holds it", right, listed(rights))
	}
	c.Actor, c.Identity = id.Name(), id
	return id, nil
}

// entitleByAdminToken is [Service.entitle] for a token that was made on the host. Every use is loud.
func (s *Service) entitleByAdminToken(state *policy.Snapshot, right policy.Right, c *Caller) (*policy.Identity, *api.Error) {
	id, rights, r := s.verifyAdminToken(c.Token, state)
	switch {
	case id != nil && s.rates.take(id.Principal(), s.Now()) > 0:
		return id, tooMany(rateWindow)
	case id == nil || r != nil && r.Reason != policy.Blocked && r.Reason != policy.LoggedOut:
		e := refusedToken(r)
		e.Message = r.Detail + ". Make a new one on a host of the service: gatehouse admin-token"
		return id, e
	case r != nil:
		return id, refusedIdentity(r)
	case !slices.Contains(rights, right):
		return id, refuse(http.StatusForbidden, api.ReasonForbidden, "this takes the right %s, and this admin token has %s: make another one with --rights", right, listed(rights))
	}
	c.Actor, c.Identity = adminTokenName+":"+id.Subject, id
	s.Logger.Warn("an admin token is used", "token", id.TokenID, "made_by", id.Subject, "source", c.Source, "transport", c.Transport, "request_id", c.RequestID)
	return id, nil
}

func listed(rights []policy.Right) string {
	texts := make([]string, len(rights))
	for i, r := range rights {
		texts[i] = string(r)
	}
	return strings.Join(texts, ", ")
}

// refusedToken answers a token that nobody is allowed to administer with.
func refusedToken(r *policy.Refusal) *api.Error {
	e := unverified(r)
	if r.Reason == policy.LoginToken || r.Reason == policy.AdminAudienceRefused {
		e.Code = http.StatusForbidden // another login at the issuer would not help by itself
	}
	return e
}

// refusedIdentity answers somebody who has no rights.
func refusedIdentity(r *policy.Refusal) *api.Error {
	e := unverified(r)
	if !r.Reason.Silent() {
		e.Code = http.StatusForbidden
	}
	return e
}

// pollsEvery is how often the calls of one admin to an operation that is polled are recorded; the first is at once,
// and the next entry counts those between.
const pollsEvery = time.Minute

// noteCall records a call by somebody who has the right, before it is carried out.
func (s *Service) noteCall(op operation, c Caller, id *policy.Identity) error {
	e := s.callEntry(op, c, id)
	e.Outcome, e.Reason = string(policy.OutcomeAllowed), string(policy.Allowed)
	keep, level := s.keep, slog.LevelInfo
	if op.access.polled {
		// Recorded one by one, somebody who follows the audit trail would see nothing but that.
		level = slog.LevelDebug
		keep = func(e store.AuditEntry) error { return s.polls.Offer(e, s.Now()) }
	}
	s.Logger.Log(context.Background(), level, "call", "op", op.name, "actor", c.Actor, "transport", c.Transport, "source", e.Source, "request_id", c.RequestID)
	if err := keep(e); err != nil {
		s.Logger.Error("a call could not be recorded and was not carried out", "op", op.name, "actor", c.Actor, "request_id", c.RequestID, "error", err)
		return errNotRecorded
	}
	return nil
}

// errNotRecorded answers a call that nobody would know of.
var errNotRecorded = again(http.StatusServiceUnavailable, string(policy.RecordUnavailable), "the call could not be recorded, and nothing was done: free disk space for the spool, or repair the store that it drains into")

// noteRefused records a call that is refused. What needs no valid token anybody can cause at will, and so
// can who calls too often: that is counted and sampled.
func (s *Service) noteRefused(op operation, c Caller, id *policy.Identity, refused *api.Error) error {
	e := s.callEntry(op, c, id)
	e.Outcome, e.Reason, e.Detail = string(policy.OutcomeRefused), refused.Reason, refused.Message
	if id == nil || refused.Reason == api.ReasonRateLimited {
		return s.sampler.Offer(e, s.Now())
	}
	s.Logger.Warn("call refused", "op", op.name, "name", e.Name, "reason", refused.Reason, "detail", refused.Message, "transport", c.Transport, "source", e.Source, "request_id", c.RequestID)
	return s.keep(e)
}

// callEntry returns the audit entry of a call. Its identity is the one who calls; that which a change is about
// is in the entry of the change.
func (s *Service) callEntry(op operation, c Caller, id *policy.Identity) store.AuditEntry {
	e := store.AuditEntry{
		ID: c.RequestID, At: s.now(), Kind: store.AdminEntry, Op: op.name, Actor: c.Actor,
		ConnType: string(c.Transport), Replica: s.Replica,
	}
	if c.Source.IsValid() {
		e.Source = c.Source.String()
	}
	if id != nil {
		e.Issuer, e.Subject, e.TokenID = id.IssuerURL, id.Subject, id.TokenID
		if id.IssuerURL != AdminTokenIssuer {
			e.Name = id.Name()
		}
	}
	return e
}

// keep appends to the spool; where there is none, calls are not recorded.
func (s *Service) keep(e store.AuditEntry) error {
	if s.Records == nil {
		return nil
	}
	return s.Records.Append(e)
}
