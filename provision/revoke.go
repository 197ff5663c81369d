package provision

import (
	"context"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Revoke blocks an identity, or logs it out. Once it returns, this replica denies; the
// others do as soon as the feed has told them. Connections that exist stay.
func (s *Service) Revoke(ctx context.Context, c Caller, req api.RevokeRequest) (api.RevokeResult, error) {
	if err := c.admin(); err != nil {
		return api.RevokeResult{}, err
	}
	now := s.now()
	r, err := s.revocation(req, now)
	if err != nil {
		return api.RevokeResult{}, err
	}
	r.ID, r.Actor = newID(), c.Actor
	stored, existing, err := s.Store.Revoke(ctx, r, req.IdempotencyKey)
	if err != nil {
		return api.RevokeResult{}, s.storeError(api.OpRevoke, err)
	}
	s.Logger.Info("revocation", "revocation", stored.ID, "kind", stored.Kind, "issuer", stored.Issuer, "subject", stored.Subject,
		"actor", stored.Actor, "reason", stored.Reason, "existing", existing, "request_id", c.RequestID)
	if err := s.refresh(ctx); err != nil {
		return api.RevokeResult{}, err
	}
	return api.RevokeResult{Revocation: s.wire(stored, now), Existing: existing, Unseen: s.unseen(ctx, stored.Principal)}, nil
}

// unseen reports whether no login of the identity is recorded, as far as that can be told now.
func (s *Service) unseen(ctx context.Context, p policy.Principal) bool {
	page, _, err := s.Store.Audit(ctx, store.AuditFilter{Kind: store.LoginEntry, Principal: p, Limit: 1})
	return err == nil && len(page) == 0
}

// revocation checks the request and returns what to store.
func (s *Service) revocation(req api.RevokeRequest, now time.Time) (store.Revocation, error) {
	var out store.Revocation
	kind := policy.RevocationKind(req.Kind)
	if kind == "" {
		kind = policy.Block
	}
	until := req.Until.UTC().Truncate(time.Microsecond)
	issuer, err := s.issuerURL(req.Issuer)
	switch {
	case err != nil:
		return out, err
	case kind != policy.Block && kind != policy.Logout:
		return out, badRequest("kind %.40q is not one: use block or logout", req.Kind)
	case req.Subject == "":
		return out, badRequest("subject is empty: give the sub of the identity, as gatehouse audit shows it")
	case len(req.Subject) > MaxSubject:
		return out, badRequest("subject has %d bytes, at most %d are possible", len(req.Subject), MaxSubject)
	case strings.ContainsRune(req.Subject, 0), strings.ContainsRune(req.Subject, utf8.RuneError):
		// Such a token is refused, so the revocation would look as if it did something.
		return out, badRequest("subject holds a character that is not text, which no token's sub may: give it as gatehouse audit shows it")
	case req.Reason == "":
		return out, badRequest("reason is empty: say why, for the audit trail")
	case len(req.Reason) > MaxReason:
		return out, badRequest("reason has %d bytes, at most %d are kept", len(req.Reason), MaxReason)
	case len(req.IdempotencyKey) > maxKey:
		return out, badRequest("idempotency key has %d bytes, at most %d are possible", len(req.IdempotencyKey), maxKey)
	case !until.IsZero() && kind == policy.Logout:
		return out, badRequest("a logout has no end: it voids what was issued until now")
	case !until.IsZero() && !until.After(now):
		return out, badRequest("until lies in the past")
	}
	out.Kind, out.At, out.Until = kind, now, until
	out.Principal = policy.Principal{Issuer: issuer, Subject: req.Subject}
	out.Reason = req.Reason
	return out, nil
}

// now returns the time as the store keeps it, so that what is answered is what is read later.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Microsecond) }

// Lift ends a revocation by its id, or every block in force of an identity.
func (s *Service) Lift(ctx context.Context, c Caller, req api.LiftRequest) (api.LiftResult, error) {
	if err := c.admin(); err != nil {
		return api.LiftResult{}, err
	}
	if req.Reason == "" || len(req.Reason) > MaxReason {
		return api.LiftResult{}, badRequest("reason must have 1 to %d bytes: say why, for the audit trail", MaxReason)
	}
	now := s.now()
	ids, err := s.liftTargets(ctx, req, now)
	if err != nil {
		return api.LiftResult{}, err
	}
	result := api.LiftResult{Lifted: []api.Revocation{}}
	for _, id := range ids {
		lifted, err := s.Store.Lift(ctx, store.Lift{ID: id, At: now, Actor: c.Actor, Note: req.Reason})
		if err != nil {
			return result, s.storeError(api.OpRevokeLift, err)
		}
		s.Logger.Info("revocation lifted", "revocation", id, "actor", lifted.LiftedBy, "reason", lifted.LiftNote, "at", lifted.LiftedAt,
			"existing", !lifted.LiftedAt.Equal(now), "request_id", c.RequestID)
		result.Lifted = append(result.Lifted, s.wire(lifted, now))
	}
	return result, s.refresh(ctx)
}

// liftTargets returns the ids of the revocations to lift. Logouts of an identity are lifted
// by id only: whoever lifts a block does not mean to make old tokens valid again.
func (s *Service) liftTargets(ctx context.Context, req api.LiftRequest, now time.Time) ([]string, error) {
	switch byID, byIdentity := req.ID != "", req.Issuer != "" || req.Subject != ""; {
	case byID == byIdentity:
		return nil, badRequest("give either the id of a revocation, or issuer and subject of an identity")
	case byID:
		return []string{req.ID}, nil
	}
	issuer, err := s.storedIssuerURL(req.Issuer)
	if err != nil {
		return nil, err
	}
	if req.Subject == "" {
		return nil, badRequest("subject is empty: give the sub of the identity")
	}
	ids, err := s.blocksInForce(ctx, policy.Principal{Issuer: issuer, Subject: req.Subject}, now)
	if err != nil {
		return nil, s.storeError(api.OpRevokeLift, err)
	}
	if len(ids) == 0 {
		return nil, refuse(http.StatusNotFound, api.ReasonNotFound, "no block of this identity is in force")
	}
	return ids, nil
}

// blocksInForce returns the ids of an identity's blocks.
func (s *Service) blocksInForce(ctx context.Context, p policy.Principal, now time.Time) ([]string, error) {
	var ids []string
	f := store.RevocationFilter{Target: policy.Target{Principal: p}, Kind: policy.Block, InForceAt: now}
	for {
		page, next, err := s.Store.Revocations(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			ids = append(ids, r.ID)
		}
		if next == "" {
			return ids, nil
		}
		f.Cursor = next
	}
}

// Revocations lists revocations, newest first.
func (s *Service) Revocations(ctx context.Context, c Caller, req api.RevocationsRequest) (api.RevocationsPage, error) {
	if err := c.admin(); err != nil {
		return api.RevocationsPage{}, err
	}
	now := s.now()
	f := store.RevocationFilter{Limit: req.Limit, Cursor: req.Cursor}
	f.Target.Subject = req.Subject
	if req.Issuer != "" {
		url, err := s.storedIssuerURL(req.Issuer)
		if err != nil {
			return api.RevocationsPage{}, err
		}
		f.Target.Issuer = url
	}
	if !req.All {
		f.InForceAt = now
	}
	list, next, err := s.Store.Revocations(ctx, f)
	if err != nil {
		return api.RevocationsPage{}, s.storeError(api.OpRevocations, err)
	}
	page := api.RevocationsPage{Revocations: []api.Revocation{}, Cursor: next}
	for _, r := range list {
		page.Revocations = append(page.Revocations, s.wire(r, now))
	}
	return page, nil
}

func (s *Service) refresh(ctx context.Context) error {
	if s.Refresh == nil {
		return nil
	}
	if err := s.Refresh(ctx); err != nil {
		s.Logger.Error("the state could not be refreshed after a change", "error", err)
		return again(http.StatusServiceUnavailable, api.ReasonUnavailable,
			"the change is stored, but this replica has not read it back: it will within the poll interval once the store answers")
	}
	return nil
}

func (s *Service) wire(r store.Revocation, now time.Time) api.Revocation {
	return api.Revocation{
		ID: r.ID, Kind: string(r.Kind), Issuer: r.Issuer, Subject: r.Subject, Name: s.principalName(r.Principal),
		Reason: r.Reason, Actor: r.Actor, At: r.At, Until: r.Until,
		LiftedAt: r.LiftedAt, LiftedBy: r.LiftedBy, LiftCause: r.LiftNote, InForce: r.InForce(now),
	}
}
