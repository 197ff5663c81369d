package provision

import (
	"context"
	"slices"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// What a filter of the audit trail may ask for: a misspelt one would find nothing, silently.
var (
	auditKinds    = []string{"", store.LoginEntry, store.AdminEntry}
	auditOutcomes = []string{"", string(policy.OutcomeAllowed), string(policy.OutcomeRefused), string(policy.OutcomeSilent), "done"}
)

// Audit lists the audit trail, newest first.
func (s *Service) Audit(ctx context.Context, c Caller, req api.AuditRequest) (api.AuditPage, error) {
	if err := c.admin(); err != nil {
		return api.AuditPage{}, err
	}
	switch {
	case !slices.Contains(auditKinds, req.Kind):
		return api.AuditPage{}, badRequest("kind %.40q is not one: use login or admin", req.Kind)
	case !slices.Contains(auditOutcomes, req.Outcome):
		return api.AuditPage{}, badRequest("outcome %.40q is not one: use allowed, refused, silent or done", req.Outcome)
	}
	f := store.AuditFilter{
		ID: req.Request, Kind: req.Kind, Outcome: req.Outcome, Reason: req.Reason,
		Principal: policy.Principal{Subject: req.Subject}, Name: req.Name, Account: req.Account, Actor: req.Actor,
		Display: req.Display, Claims: req.Claims,
		Since: req.Since, Before: req.Before, Limit: req.Limit, Cursor: req.Cursor,
	}
	if req.Issuer != "" {
		url, err := s.storedIssuerURL(req.Issuer)
		if err != nil {
			return api.AuditPage{}, err
		}
		f.Principal.Issuer = url
	}
	list, next, err := s.Store.Audit(ctx, f)
	if err != nil {
		return api.AuditPage{}, s.storeError(api.OpAudit, err)
	}
	page := api.AuditPage{Entries: []api.AuditEntry{}, Cursor: next}
	for _, e := range list {
		page.Entries = append(page.Entries, api.AuditEntry(e))
	}
	return page, nil
}
