package provision

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Revoke takes access back. Once it returns, this replica denies; the others are told, and what exists
// already is being ended: [Service.Progress] says how far that is.
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
	if !req.Force && !req.DryRun && concerns(r.Revocation, c.Identity, now) {
		return api.RevokeResult{}, badRequest("that would revoke yourself, %s: set force if you mean it", c.Actor)
	}
	if req.DryRun {
		return api.RevokeResult{Revocation: s.wire(r, now), Unseen: s.unseen(ctx, r.Target), Affected: s.affected(ctx, r)}, nil
	}
	stored, existing, err := s.revoke(ctx, r, party{Caller: c}.own(req.IdempotencyKey), c.RequestID)
	if err != nil {
		return api.RevokeResult{}, err
	}
	return api.RevokeResult{Revocation: s.wire(stored, now), Existing: existing, Unseen: s.unseen(ctx, stored.Target)}, nil
}

// revoke stores a revocation and has it carried out. The replica denies by it when it returns.
func (s *Service) revoke(ctx context.Context, r store.Revocation, key, request string) (store.Revocation, bool, error) {
	stored, existing, err := s.Store.Revoke(ctx, r, key)
	if err != nil {
		return stored, false, s.storeError(api.OpRevoke, err)
	}
	s.Logger.Info("revocation", "revocation", stored.ID, "kind", stored.Kind, "target", stored.Target.String(),
		"actor", stored.Actor, "reason", stored.Reason, "existing", existing, "request_id", request)
	if s.Enforce != nil && stored.LiftedAt.IsZero() && stored.DoneAt.IsZero() {
		s.Enforce(stored)
	}
	return stored, existing, s.refresh(ctx)
}

// concerns reports whether the revocation would deny the identity, which may be nil.
func concerns(r policy.Revocation, id *policy.Identity, now time.Time) bool {
	if id == nil {
		return false
	}
	alone := policy.NewRevocations([]policy.Revocation{r})
	_, blocked := alone.Blocked(id, now)
	_, loggedOut := alone.LoggedOut(id, now)
	return blocked || loggedOut
}

// unseen reports whether no login of the identity is recorded, as far as that can be told now.
func (s *Service) unseen(ctx context.Context, t policy.Target) bool {
	if t.Scope() != policy.OfIdentity {
		return false
	}
	page, _, err := s.Store.Audit(ctx, store.AuditFilter{Kind: store.LoginEntry, Principal: t.Principal, Limit: 1})
	return err == nil && len(page) == 0
}

// revocation checks the request and returns what to store.
func (s *Service) revocation(req api.RevokeRequest, now time.Time) (store.Revocation, error) {
	var out store.Revocation
	kind := policy.RevocationKind(req.Kind)
	if kind == "" {
		kind = policy.Block
	}
	target, err := s.target(kind, req.Target, req.All)
	if err != nil {
		return out, err
	}
	at, until := stored(req.At), stored(req.Until)
	if at.IsZero() {
		at = now
	}
	out.Kind, out.Target, out.At, out.Until, out.Reason, out.Programs = kind, target, at, until, req.Reason, req.Programs
	switch {
	case req.Reason == "" && !req.DryRun:
		return out, badRequest("reason is empty: say why, for the audit trail")
	case len(req.Reason) > MaxReason:
		return out, badRequest("reason has %d bytes, at most %d are kept", len(req.Reason), MaxReason)
	case !req.At.IsZero() && (kind != policy.Logout || out.Whole()):
		return out, badRequest("at is for the logout of an identity, an issuer or an account: the time until which tokens are void")
	case at.After(now):
		return out, badRequest("at lies in the future: tokens that are issued until then could not be told from those of an attacker")
	case !until.IsZero() && !until.After(now):
		return out, badRequest("until lies in the past: give a time to come")
	case !until.IsZero() && kind == policy.Logout && !out.Whole():
		return out, badRequest("this logout has no end: it voids what was issued until now")
	case req.Programs && out.Scope() != policy.OfIdentity:
		return out, badRequest("programs are those of an identity: give its issuer and subject")
	}
	if err := checkRepeat(req.IdempotencyKey); err != nil {
		return out, err
	}
	return out, s.manageable(kind)
}

// manageable returns an error when the kind is carried out in account claims alone, and those cannot be changed.
func (s *Service) manageable(kind policy.RevocationKind) error {
	if s.Unmanaged == nil || kind == policy.Block || kind == policy.Logout {
		return nil
	}
	reason, why := s.Unmanaged()
	if reason == "" {
		return nil
	}
	return refuse(http.StatusConflict, reason, "a %s is carried out in the account's claims, which Gatehouse cannot change: %s", kind, why)
}

// now returns the time as the store keeps it, so that what is answered is what is read later.
func (s *Service) now() time.Time { return stored(s.Now()) }

func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Lift ends a revocation by its id, or every block in force of an identity.
func (s *Service) Lift(ctx context.Context, c Caller, req api.LiftRequest) (api.LiftResult, error) {
	if err := c.admin(); err != nil {
		return api.LiftResult{}, err
	}
	if req.Reason == "" || len(req.Reason) > MaxReason {
		return api.LiftResult{}, badRequest("reason must have 1 to %d bytes: say why, for the audit trail", MaxReason)
	}
	r := keyed[api.LiftResult](party{Caller: c}, api.OpRevokeLift, req.IdempotencyKey, req)
	return once(ctx, s, r, func() (api.LiftResult, error) { return s.liftAll(ctx, c, req) })
}

// liftAll is [Service.Lift] for a request that was checked.
func (s *Service) liftAll(ctx context.Context, c Caller, req api.LiftRequest) (api.LiftResult, error) {
	now := s.now()
	ids, err := s.liftTargets(ctx, req, now)
	if err != nil {
		return api.LiftResult{}, err
	}
	result := api.LiftResult{Lifted: []api.Revocation{}}
	for _, id := range ids {
		if err := s.ofDeletion(ctx, id); err != nil {
			return result, err
		}
		lifted, err := s.Store.Lift(ctx, store.Lift{ID: id, At: now, Actor: c.Actor, Note: req.Reason})
		if err != nil {
			return result, s.storeError(api.OpRevokeLift, err)
		}
		s.Logger.Info("revocation lifted", "revocation", id, "target", lifted.Target.String(), "actor", lifted.LiftedBy, "reason", lifted.LiftNote,
			"at", lifted.LiftedAt, "existing", !lifted.LiftedAt.Equal(now), "request_id", c.RequestID)
		if s.Enforce != nil {
			s.Enforce(lifted)
		}
		result.Lifted = append(result.Lifted, s.wire(lifted, now))
	}
	return result, s.refresh(ctx)
}

// ofDeletion refuses to lift the suspension of an account that is being deleted, which goes with the deletion alone.
func (s *Service) ofDeletion(ctx context.Context, id string) error {
	list, _, err := s.Store.Revocations(ctx, store.RevocationFilter{ID: id, Kind: policy.Suspension, Limit: 1})
	if err != nil {
		return s.storeError(api.OpRevokeLift, err)
	}
	if len(list) == 0 || !nkeys.IsValidPublicAccountKey(list[0].Account) {
		return nil
	}
	a, err := s.lookUp(ctx, api.OpRevokeLift, list[0].Account)
	if err == nil && a.State == account.Deleting && a.Closing == id {
		return wrongState(&a, "this suspension goes with the deletion: gatehouse account undelete "+a.Name+" takes both back")
	}
	return err
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

// blocksInForce returns the ids of an identity's blocks; logouts stay in force for ever, so
// that there may be several pages of them.
func (s *Service) blocksInForce(ctx context.Context, p policy.Principal, now time.Time) ([]string, error) {
	var ids []string
	f := store.RevocationFilter{Target: policy.Target{Principal: p}, Kind: policy.Block, InForceAt: now}
	for {
		page, next, err := s.Store.Revocations(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			if r.Scope() == policy.OfIdentity {
				ids = append(ids, r.ID)
			}
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
	f := store.RevocationFilter{Kind: policy.RevocationKind(req.Kind), Limit: req.Limit, Cursor: req.Cursor}
	f.Target.Subject = req.Subject
	if req.Kind != "" && !slices.Contains(policy.RevocationKinds(), f.Kind) {
		return api.RevocationsPage{}, badRequest("kind %.40q is not one: use %s", req.Kind, kindList())
	}
	var err error
	if req.Issuer != "" {
		if f.Target.Issuer, err = s.storedIssuerURL(req.Issuer); err != nil {
			return api.RevocationsPage{}, err
		}
	}
	if req.Account != "" {
		if f.Target.Account, err = s.account(req.Account); err != nil {
			return api.RevocationsPage{}, err
		}
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
	name := ""
	if r.Subject != "" {
		name = s.principalName(r.Principal)
	}
	return api.Revocation{
		ID: r.ID, Kind: string(r.Kind), Target: wireTarget(r.Target), Name: name, AccountName: s.shownAccount(r.Account),
		Programs: r.Programs, Reason: r.Reason, Actor: r.Actor, At: r.At, Until: r.Until,
		LiftedAt: r.LiftedAt, LiftedBy: r.LiftedBy, LiftCause: r.LiftNote, InForce: r.InForce(now), DoneAt: r.DoneAt,
	}
}
