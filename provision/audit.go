package provision

import (
	"context"
	"slices"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

const byArrival = "arrival"

// What a filter of the audit trail may ask for: a misspelt one would find nothing, silently.
var (
	auditOrders   = []string{"", "newest", byArrival}
	auditKinds    = []string{"", store.LoginEntry, store.AdminEntry}
	auditOutcomes = []string{"", string(policy.OutcomeAllowed), string(policy.OutcomeRefused), string(policy.OutcomeSilent), "done"}
)

// Audit lists the audit trail, newest first or as it arrived.
func (s *Service) Audit(ctx context.Context, c Caller, req api.AuditRequest) (api.AuditPage, error) {
	if err := c.admin(); err != nil {
		return api.AuditPage{}, err
	}
	f, err := s.auditFilter(req)
	if err != nil {
		return api.AuditPage{}, err
	}
	page := api.AuditPage{Entries: []api.AuditEntry{}}
	var list []store.AuditEntry
	if req.Order == byArrival {
		list, page.Cursor, page.More, err = s.Store.Arrivals(ctx, f)
	} else {
		list, page.Cursor, err = s.Store.Audit(ctx, f)
	}
	if err != nil {
		return api.AuditPage{}, s.storeError(api.OpAudit, err)
	}
	for _, e := range list {
		page.Entries = append(page.Entries, api.AuditEntry(e))
	}
	return page, nil
}

// auditFilter checks the request and returns what to ask of the store.
func (s *Service) auditFilter(req api.AuditRequest) (store.AuditFilter, error) {
	switch {
	case !slices.Contains(auditOrders, req.Order):
		return store.AuditFilter{}, badRequest("order %.40q is not one: use newest or arrival", req.Order)
	case !slices.Contains(auditKinds, req.Kind):
		return store.AuditFilter{}, badRequest("kind %.40q is not one: use login or admin", req.Kind)
	case !slices.Contains(auditOutcomes, req.Outcome):
		return store.AuditFilter{}, badRequest("outcome %.40q is not one: use allowed, refused, silent or done", req.Outcome)
	case req.Tail && req.Order != byArrival:
		return store.AuditFilter{}, badRequest("tail is for what arrives: use it with order arrival")
	}
	f := store.AuditFilter{
		ID: req.Request, Kind: req.Kind, Outcome: req.Outcome, Reason: req.Reason,
		Principal: policy.Principal{Subject: req.Subject}, Name: req.Name, Actor: req.Actor,
		Op: req.Op, Session: req.Session, Display: req.Display, Claims: req.Claims, Tail: req.Tail,
		Since: req.Since, Before: req.Before, Limit: req.Limit, Cursor: req.Cursor,
	}
	f.Account, f.AccountID = s.auditedAccount(req.Account)
	if req.Issuer != "" {
		url, err := s.storedIssuerURL(req.Issuer)
		if err != nil {
			return store.AuditFilter{}, err
		}
		f.Principal.Issuer = url
	}
	return f, nil
}

// auditedAccount returns the name and the id of an account that is given by either, as far as they are known: logins have its name,
// revocations its id. The trail may be of accounts that are no more.
func (s *Service) auditedAccount(given string) (name, id string) {
	if given == "" {
		return "", ""
	}
	if id, ok := s.accounts()[given]; ok {
		return given, id
	}
	if state := s.State(); state != nil {
		if e := state.Accounts.Named(given); e != nil {
			return given, e.Account.ID
		}
	}
	if nkeys.IsValidPublicAccountKey(given) {
		return s.shownAccount(given), given
	}
	return given, ""
}
