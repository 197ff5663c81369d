package provision

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// AccountGet shows an account to its members, to whom a binding leads there, and to admins.
func (s *Service) AccountGet(ctx context.Context, c Caller, req api.AccountRequest) (api.Account, error) {
	return asParty(ctx, s, api.OpAccountGet, c, req, func(ctx context.Context, p party, req api.AccountRequest) (api.Account, error) {
		a, err := s.find(ctx, p, api.OpAccountGet, req.Account)
		if err != nil {
			return api.Account{}, err
		}
		out := s.wireAccount(&a)
		if p.admin && s.Accounts.Problem != nil {
			out.Problem = s.Accounts.Problem(a.ID)
		}
		return out, nil
	})
}

// AccountList lists accounts by name: of admins all, of everybody else those whose member they are or to which a binding leads them.
func (s *Service) AccountList(ctx context.Context, c Caller, req api.AccountListRequest) (api.AccountsPage, error) {
	return asParty(ctx, s, api.OpAccountList, c, req, s.listAccounts)
}

func (s *Service) listAccounts(ctx context.Context, p party, req api.AccountListRequest) (api.AccountsPage, error) {
	page := api.AccountsPage{Accounts: []api.Account{}}
	if req.Limit < 0 || req.Limit > store.MaxPage {
		return page, badRequest("limit is %d: use 1 to %d, or none", req.Limit, store.MaxPage)
	}
	states := []account.State{account.Requested, account.Creating, account.Active, account.Published, account.Deleting, account.Deleted}
	f := store.AccountFilter{Plan: req.Plan, State: account.State(req.State), Deleted: req.Deleted, Limit: req.Limit, Cursor: req.Cursor}
	if req.State != "" && !slices.Contains(states, f.State) {
		return page, badRequest("state %.40q is not one: use one of %v", req.State, states)
	}
	if !p.admin {
		return s.ownAccounts(ctx, p, req)
	}
	if req.Issuer != "" || req.Subject != "" {
		if req.Issuer == "" || req.Subject == "" {
			return page, badRequest("an owner is named by issuer and subject, both")
		}
		issuer, err := s.storedIssuerURL(req.Issuer)
		if err != nil {
			return page, err
		}
		f.Owner = policy.Principal{Issuer: issuer, Subject: req.Subject}
	}
	list, next, err := s.Store.Accounts(ctx, f)
	if err != nil {
		return page, s.accountError(api.OpAccountList, err)
	}
	for i := range list {
		page.Accounts = append(page.Accounts, s.wireAccount(&list[i]))
	}
	page.Cursor = next
	return page, nil
}

// ownAccounts lists the accounts whose member the caller is, or to which a binding leads them; the cursor is the last name.
func (s *Service) ownAccounts(ctx context.Context, p party, req api.AccountListRequest) (api.AccountsPage, error) {
	page := api.AccountsPage{Accounts: []api.Account{}}
	if req.Issuer != "" || req.Subject != "" || req.Deleted {
		return page, refuse(http.StatusForbidden, api.ReasonForbidden, "issuer, subject and deleted are for admins: without them your own accounts are listed")
	}
	state := s.State()
	if state == nil {
		return page, errNoState
	}
	limit := req.Limit
	if limit == 0 {
		limit = store.MaxPage
	}
	var ids []string
	for _, e := range p.accounts(state, s.Now()) {
		if e.Account.Name <= req.Cursor || req.Plan != "" && e.Plan != req.Plan || req.State != "" && e.State != req.State {
			continue
		}
		if len(ids) == limit {
			page.Cursor = state.Accounts.ID(ids[limit-1]).Account.Name
			break
		}
		ids = append(ids, e.Account.ID)
	}
	if len(ids) == 0 {
		return page, nil
	}
	list, _, err := s.Store.Accounts(ctx, store.AccountFilter{IDs: ids, Limit: len(ids)})
	if err != nil {
		return page, s.accountError(api.OpAccountList, err)
	}
	for i := range list {
		if p.sees(&list[i], s.Now()) {
			page.Accounts = append(page.Accounts, s.wireAccount(&list[i]))
		}
	}
	return page, nil
}

// AccountUpdate changes what an account says and, for admins, what it may.
func (s *Service) AccountUpdate(ctx context.Context, c Caller, req api.AccountUpdateRequest) (api.Account, error) {
	return asParty(ctx, s, api.OpAccountUpdate, c, req, s.updateAccount)
}

func (s *Service) updateAccount(ctx context.Context, p party, req api.AccountUpdateRequest) (api.Account, error) {
	if req.Revision < 1 {
		return api.Account{}, badRequest("revision is not given: say which one you have read, so that nobody's change is overwritten unseen")
	}
	var owner *account.Person
	if req.Owner != nil {
		person, err := s.person(*req.Owner)
		if err != nil {
			return api.Account{}, err
		}
		owner = &person
	}
	c := act{
		op: api.OpAccountUpdate, account: req.Account, revision: req.Revision, key: req.IdempotencyKey, request: req, reason: "changed",
		admins: req.Limits != nil || req.Plan != "" || req.Owner != nil,
	}
	return s.acting(ctx, p, c, func(a *account.Account) error {
		if a.State == account.Deleting || a.State == account.Deleted {
			return wrongState(a, "an account that is deleted is changed no more")
		}
		if req.Description != nil {
			a.Description = *req.Description
		}
		if req.Tags != nil {
			a.Tags = *req.Tags
		}
		if err := account.CheckTexts(a.Description, a.Tags); err != nil {
			return badRequest("%v", err)
		}
		if owner != nil {
			if err := s.give(a, *owner, p.Actor); err != nil {
				return err
			}
		}
		return s.relimit(a, req)
	})
}

// give makes somebody the owner of the account.
func (s *Service) give(a *account.Account, owner account.Person, actor string) error {
	a.Owner = owner
	if a.IsOwner(owner.Principal) {
		return nil
	}
	if len(a.Members) >= account.MaxMembers {
		return errFull
	}
	a.Members = append(a.Members, account.Member{ID: newID(), Role: account.OwnerRole, Person: owner, Accepted: s.now(), By: actor})
	return nil
}

// relimit gives the account another plan or other limits.
func (s *Service) relimit(a *account.Account, req api.AccountUpdateRequest) error {
	if req.Plan != "" {
		a.Plan = req.Plan
	}
	if req.Limits != nil {
		a.Limits = patch(*req.Limits)
		if a.Limits.Tiers != nil {
			if err := theirs(a, "JetStream limits by replica tier"); err != nil {
				return err
			}
		}
		if a.Limits.Exports != nil || a.Limits.Imports != nil {
			// Servers would refuse the claims as a whole where others export or import more.
			if err := theirs(a, "limits of exports and imports"); err != nil {
				return err
			}
		}
		if reflect.ValueOf(*a.Limits).IsZero() {
			a.Limits = nil
		}
	}
	if req.Plan == "" && req.Limits == nil {
		return nil
	}
	plan := s.Accounts.Plans()[a.Plan]
	if plan == nil {
		return refuse(http.StatusBadRequest, api.ReasonPlanUnknown, "plan %.80q is not in the configuration: put it back there, or give the account another plan", a.Plan)
	}
	if err := plan.Limits.With(a.Limits).Check(); err != nil {
		return badRequest("%v", err)
	}
	return nil
}

// acting is [Service.change] for an operation that answers with the account, once the servers have it or a few seconds later.
func (s *Service) acting(ctx context.Context, p party, c act, do func(*account.Account) error) (api.Account, error) {
	a, err := s.change(ctx, p, c, do)
	if err == nil {
		a, err = s.settle(ctx, c.op, a)
	}
	if err != nil {
		return api.Account{}, err
	}
	return s.wireAccount(&a), nil
}

// opening is [Service.acting] for what opens an account that servers had closed.
func (s *Service) opening(ctx context.Context, p party, c act, do func(*account.Account) error) (api.Account, error) {
	a, err := s.change(ctx, p, c, do)
	if err == nil {
		a, err = s.opened(ctx, c.op, a)
	}
	if err != nil {
		return api.Account{}, err
	}
	return s.wireAccount(&a), nil
}

func wrongState(a *account.Account, why string) error {
	return refuse(http.StatusConflict, api.ReasonWrongState, "account %s is %s: %s", a.Name, a.State, why)
}

// AccountRename gives an account another name.
func (s *Service) AccountRename(ctx context.Context, c Caller, req api.AccountRenameRequest) (api.Account, error) {
	return asParty(ctx, s, api.OpAccountRename, c, req, func(ctx context.Context, p party, req api.AccountRenameRequest) (api.Account, error) {
		if req.Revision < 1 {
			return api.Account{}, badRequest("revision is not given: say which one you have read")
		}
		c := act{op: api.OpAccountRename, account: req.Account, revision: req.Revision, key: req.IdempotencyKey, request: req, reason: "renamed to " + clipped(req.Name)}
		return s.acting(ctx, p, c, func(a *account.Account) error {
			if a.State == account.Deleting || a.State == account.Deleted {
				return wrongState(a, "an account that is deleted is changed no more")
			}
			if a.Origin != nil {
				return wrongState(a, "logins by binding "+a.Origin.Binding+" are led to it by its name, which it keeps")
			}
			plan := s.Accounts.Plans()[a.Plan]
			if plan == nil {
				plan = &account.Plan{Name: a.Plan} // it was removed, and asks nothing of names
			}
			a.Name = req.Name
			return s.nameable(req.Name, plan)
		})
	})
}

// clipped bounds a text of a request for the audit trail.
func clipped(text string) string { return text[:min(len(text), account.MaxName)] }

// AccountApprove has an account made that was requested.
func (s *Service) AccountApprove(ctx context.Context, c Caller, req api.AccountActRequest) (api.Account, error) {
	return asParty(ctx, s, api.OpAccountApprove, c, req, func(ctx context.Context, p party, req api.AccountActRequest) (api.Account, error) {
		if _, err := s.sealing(); err != nil {
			return api.Account{}, err // nothing would ever make it
		}
		c := act{op: api.OpAccountApprove, account: req.Account, admins: true, key: req.IdempotencyKey, request: req, reason: reasonOr(req.Reason, "approved")}
		return s.acting(ctx, p, c, func(a *account.Account) error {
			if a.State != account.Requested {
				return wrongState(a, "only one that was requested is approved")
			}
			a.State = account.Creating
			return nil
		})
	})
}

func reasonOr(reason, other string) string {
	if reason == "" {
		return other
	}
	return reason
}

// AccountReject ends an account that was requested.
func (s *Service) AccountReject(ctx context.Context, c Caller, req api.AccountActRequest) (api.Account, error) {
	return asParty(ctx, s, api.OpAccountReject, c, req, func(ctx context.Context, p party, req api.AccountActRequest) (api.Account, error) {
		if req.Reason == "" {
			return api.Account{}, errNoReason
		}
		c := act{op: api.OpAccountReject, account: req.Account, admins: true, key: req.IdempotencyKey, request: req, reason: req.Reason}
		return s.acting(ctx, p, c, func(a *account.Account) error {
			if a.State != account.Requested {
				return wrongState(a, "only one that was requested is rejected: gatehouse account delete ends another")
			}
			a.State = account.Deleted
			return nil
		})
	})
}

var errNoReason = badRequest("reason is empty: say why, for the audit trail")

// AccountSuspend closes an account to all its users. It is a revocation, and carried out as such.
func (s *Service) AccountSuspend(ctx context.Context, c Caller, req api.AccountSuspendRequest) (api.Account, error) {
	return asParty(ctx, s, api.OpAccountSuspend, c, req, func(ctx context.Context, p party, req api.AccountSuspendRequest) (api.Account, error) {
		a, err := s.find(ctx, p, api.OpAccountSuspend, req.Account)
		if err == nil {
			err = s.may(p, act{op: api.OpAccountSuspend, admins: true}, &a)
		}
		if err != nil {
			return api.Account{}, err
		}
		r, err := s.revocation(api.RevokeRequest{Kind: string(policy.Suspension), Target: api.Target{Account: a.ID}, Reason: req.Reason, Until: req.Until, IdempotencyKey: req.IdempotencyKey}, s.now())
		if err != nil {
			return api.Account{}, err
		}
		r.ID, r.Actor = newID(), p.Actor
		if _, _, err := s.revoke(ctx, r, p.own(req.IdempotencyKey), p.RequestID); err != nil {
			return api.Account{}, err
		}
		return s.wireAccount(&a), nil
	})
}

// AccountResume lifts the suspensions of an account, but for that of its deletion. It returns once the servers let everybody in
// again, or a few seconds later.
func (s *Service) AccountResume(ctx context.Context, c Caller, req api.AccountActRequest) (api.Account, error) {
	return asParty(ctx, s, api.OpAccountResume, c, req, s.resume)
}

func (s *Service) resume(ctx context.Context, p party, req api.AccountActRequest) (api.Account, error) {
	if req.Reason == "" {
		return api.Account{}, errNoReason
	}
	var lifts []string
	c := act{op: api.OpAccountResume, account: req.Account, admins: true, key: req.IdempotencyKey, request: req, reason: req.Reason}
	c.lifts = func() []string { return lifts }
	return s.opening(ctx, p, c, func(a *account.Account) error {
		if a.State == account.Deleted {
			return wrongState(a, "nobody is let in to it again")
		}
		lifts = nil
		list, err := s.suspensions(ctx, a.ID, s.now())
		for _, r := range list {
			if r.ID != a.Closing {
				lifts = append(lifts, r.ID)
			}
		}
		return err // the record is new, so that what servers have applied of it says that they have opened the account
	})
}

// suspensions returns those of the account that are in force.
func (s *Service) suspensions(ctx context.Context, id string, now time.Time) ([]store.Revocation, error) {
	list, _, err := s.Store.Revocations(ctx, store.RevocationFilter{Target: policy.Target{Account: id}, Kind: policy.Suspension, InForceAt: now, Limit: store.MaxPage})
	if err != nil {
		return nil, s.storeError(api.OpRevocations, err)
	}
	return list, nil
}
