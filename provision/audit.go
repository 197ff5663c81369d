package provision

import (
	"context"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Audit lists the audit trail, newest first.
func (s *Service) Audit(ctx context.Context, c Caller, req api.AuditRequest) (api.AuditPage, error) {
	if err := c.admin(); err != nil {
		return api.AuditPage{}, err
	}
	f := store.AuditFilter{
		ID: req.Request, Kind: store.AuditKind(req.Kind), Outcome: req.Outcome, Reason: req.Reason,
		Principal: policy.Principal{Subject: req.Subject}, Name: req.Name, Account: req.Account, Actor: req.Actor,
		Since: req.Since, Before: req.Before, Limit: req.Limit, Cursor: req.Cursor,
	}
	if req.Issuer != "" {
		url, err := s.issuerURL(req.Issuer)
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
		page.Entries = append(page.Entries, auditEntry(e))
	}
	return page, nil
}

func auditEntry(e store.AuditEntry) api.AuditEntry {
	return api.AuditEntry{
		ID: e.ID, At: e.At, Kind: string(e.Kind), Outcome: e.Outcome, Reason: e.Reason, Detail: e.Detail,
		Issuer: e.Issuer, Subject: e.Subject, Name: e.Name, Display: e.Display, TokenID: e.TokenID,
		Account: e.Account, Roles: e.Roles, Bindings: e.Bindings, Expires: e.Expires,
		ServerID: e.ServerID, ServerName: e.ServerName, CID: e.CID, UserKey: e.UserKey,
		Source: e.Source, ConnType: e.ConnType, Client: e.Client,
		Actor: e.Actor, Op: e.Op, Target: e.Target,
		Replica: e.Replica, Rules: e.Rules, Count: e.Count,
	}
}
