package provision

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Accounts is what the operations of self-service accounts need.
type Accounts struct {
	Audience string // address of the service, which proofs name
	Plans    func() map[string]*account.Plan
	Seal     func() *seal.Ring // nil: no sealing key is configured
	// TrustsEmail says whether an issuer's word on e-mail addresses counts, by its URL.
	TrustsEmail func(issuer string) bool
	// Known says whether any server has an account with that id, whoever made it.
	Known func(ctx context.Context, id string) (bool, error)
	// Stored says what an account has in JetStream.
	Stored func(ctx context.Context, id string) (Stored, error)
	// Claims returns the claims that servers have of an account, the newest; nil when none has any.
	Claims func(ctx context.Context, id string) (*jwt.AccountClaims, error)
	Keys   func() *mint.Keyring // signing keys, which sign activation tokens
	// Problem says why not all servers have what an account is to have; "" when they have, or another replica knows. Nil knows none.
	Problem func(id string) string
	// Others are the accounts that others made; nil where none can be taken over.
	Others *Others
}

// Stored is what an account has in JetStream.
type Stored struct {
	Streams    int
	Bytes      uint64   // of one replica of each stream
	Unanswered []string // servers that did not say what they have
}

// savesAtOnce is how often a change is tried again when others change the same account.
const savesAtOnce = 16

// find returns the account with that name or id, as it is in the store. Whoever may not see it is told what they are told
// where there is none.
func (s *Service) find(ctx context.Context, p party, op, ref string) (account.Account, error) {
	a, err := s.lookUp(ctx, op, ref)
	switch {
	case err != nil:
		return a, err
	case a.ID == "" || !p.sees(&a, s.Now()):
		return account.Account{}, refuse(http.StatusNotFound, api.ReasonNotFound, "there is no account %.80q that you may see: gatehouse account list lists them", ref)
	default:
		return a, nil
	}
}

// lookUp is [Service.find] for nobody in particular; the zero account when there is none.
func (s *Service) lookUp(ctx context.Context, op, ref string) (account.Account, error) {
	f := store.AccountFilter{Name: ref, Limit: 1}
	switch {
	case ref == "" || len(ref) > account.MaxName:
		return account.Account{}, badRequest("account is not a name: give that of an account, or its public key (A…)")
	case nkeys.IsValidPublicAccountKey(ref):
		f = store.AccountFilter{IDs: []string{ref}, Deleted: true, Limit: 1}
	}
	list, _, err := s.Store.Accounts(ctx, f)
	if err != nil || len(list) == 0 {
		return account.Account{}, s.accountError(op, err)
	}
	return list[0], nil
}

// accountError turns an error of the store into one for callers; nil stays nil.
func (s *Service) accountError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrChanged):
		return refuse(http.StatusConflict, api.ReasonChanged, "the account was changed meanwhile, and nothing was done: read it again, and call with its revision")
	case errors.Is(err, store.ErrTaken):
		return refuse(http.StatusConflict, api.ReasonNameTaken, "an account with that name is there already: choose another one")
	case errors.Is(err, store.ErrTooMany):
		return refuse(http.StatusConflict, api.ReasonQuotaExceeded, "the owner has as many accounts of the plan as its per_subject lets (1 unless it says more): delete one, or ask an admin")
	default:
		return s.storeError(op, err)
	}
}

// act is one change of an account on somebody's behalf.
type act struct {
	op       string
	account  string // name or id
	reason   string
	detail   string
	revision int64  // that the caller has read; 0: any
	key      string // idempotency key
	request  any    // what the key stands for
	admins   bool   // only they may
	closed   bool   // owners may while the account is suspended or being deleted
	anybody  bool   // do itself looks at who may
	// seeds returns the seeds that are kept from now on, and the public keys of those that no longer are, after do.
	seeds func() (kept []store.SealedKey, dropped []string)
	// closes returns the suspension that is made with the change, and lifts the ids of those that end with it, after do.
	closes func(*account.Account) *store.Revocation
	lifts  func() []string
	most   func(*account.Account) int
	// others says, after do, which accounts the change was checked against, and whether what is exported changes.
	others func() (exporters []store.AccountAt, exports bool)
}

// change carries out a change of the record. do gets a copy that it may change as it likes, and what it refuses is not done;
// it is called again when somebody else was faster. An error that it may be called again after says so.
func (s *Service) change(ctx context.Context, p party, c act, do func(*account.Account) error) (account.Account, error) {
	if err := c.check(); err != nil {
		return account.Account{}, err
	}
	once, first, err := s.once(ctx, p, c)
	if first != nil || err != nil {
		return s.answered(ctx, p, c, first, err)
	}
	for range savesAtOnce {
		a, err := s.changed(ctx, p, c, do)
		if err != nil {
			return account.Account{}, err
		}
		entry := s.acted(p, c.op, &a, c.reason)
		entry.Detail = c.detail
		if once != nil {
			once.Answer, err = json.Marshal(changedBefore{a.ID})
			if err != nil {
				return account.Account{}, err
			}
		}
		change := store.AccountChange{Account: a, Entry: entry, Once: once}
		if c.most != nil {
			change.Most = c.most(&a)
		}
		if c.seeds != nil {
			change.Keys, change.DropKeys = c.seeds()
		}
		if c.others != nil {
			change.Exporters, change.Exports = c.others()
		}
		if c.closes != nil {
			change.Close = c.closes(&a)
		}
		if c.lifts != nil {
			for _, id := range c.lifts() {
				change.Lifts = append(change.Lifts, store.Lift{ID: id, At: a.Updated, Actor: p.Actor, Note: c.reason})
			}
		}
		if a.State == account.Deleted { // the seeds of its signing keys are kept no longer
			for _, k := range a.Keys {
				change.DropKeys = append(change.DropKeys, k.Public)
			}
		}
		first, err := s.Store.SaveAccount(ctx, change)
		switch {
		case errors.Is(err, store.ErrChanged):
			continue // where it is the account itself, and the caller named its revision, that is seen then
		case err != nil:
			return account.Account{}, s.accountError(c.op, err)
		case first != nil:
			return s.answered(ctx, p, c, first, nil)
		}
		s.Logger.Info("account changed", "op", c.op, "account", a.Name, "account_id", a.ID, "revision", a.Revision, "state", a.State, "actor", p.Actor, "request_id", p.RequestID)
		s.enforce(ctx, change)
		return a, s.refresh(ctx)
	}
	return account.Account{}, again(http.StatusConflict, api.ReasonChanged, "others change the account all the time: call again")
}

// enforce has the revocations carried out that came with a change. Whoever carries out what is unfinished finds them later too.
func (s *Service) enforce(ctx context.Context, c store.AccountChange) {
	if s.Enforce == nil {
		return
	}
	var ids []string
	if c.Close != nil {
		ids = append(ids, c.Close.ID)
	}
	for _, l := range c.Lifts {
		ids = append(ids, l.ID)
	}
	for _, id := range ids {
		list, _, err := s.Store.Revocations(ctx, store.RevocationFilter{ID: id, Limit: 1})
		if err != nil {
			s.Logger.Error("a revocation could not be read to be carried out at once; it is found later", "revocation", id, "error", err)
		}
		for _, r := range list {
			s.Enforce(r)
		}
	}
}

func (c *act) check() error {
	if len(c.reason) > MaxReason {
		return badRequest("reason has %d bytes, at most %d are kept", len(c.reason), MaxReason)
	}
	return checkRepeat(c.key)
}

// changed reads the account, lets do change it, and returns the record to store.
func (s *Service) changed(ctx context.Context, p party, c act, do func(*account.Account) error) (account.Account, error) {
	a, err := s.lookUp(ctx, c.op, c.account)
	if err == nil && !c.anybody {
		a, err = s.find(ctx, p, c.op, c.account)
	}
	if err != nil {
		return a, err
	}
	if err := s.may(p, c, &a); err != nil {
		return a, err
	}
	if c.revision != 0 && c.revision != a.Revision {
		return a, s.accountError(c.op, store.ErrChanged)
	}
	a.Members, a.Keys, a.Leaving = slices.Clone(a.Members), slices.Clone(a.Keys), slices.Clone(a.Leaving)
	if err := do(&a); err != nil {
		return a, err
	}
	a.Revision++
	a.Updated = s.now()
	return a, nil
}

// entitled refuses who may not make the change, whatever the account is like.
func (c *act) entitled(p party, a *account.Account) error {
	switch {
	case c.anybody, p.admin:
		return nil
	case c.admins:
		return refuse(http.StatusForbidden, api.ReasonForbidden, "%s is for admins: it takes a token for administration and the right %s", c.op, policy.RightAccounts)
	case !p.owns(a):
		return refuse(http.StatusForbidden, api.ReasonForbidden, "%s is for the owners of account %s", c.op, a.Name)
	default:
		return nil
	}
}

// may refuses who may not make the change now.
func (s *Service) may(p party, c act, a *account.Account) error {
	if err := c.entitled(p, a); err != nil {
		return err
	}
	switch {
	case c.anybody, p.admin, c.closed:
		return nil
	case a.State == account.Deleting:
		return refuse(http.StatusConflict, api.ReasonWrongState, "account %s is being deleted: take that back first, with gatehouse account undelete", a.Name)
	}
	if s.suspended(a) {
		return refuse(http.StatusForbidden, string(policy.AccountSuspended), "account %s is suspended: ask an admin", a.Name)
	}
	return nil
}

// suspended reports whether decisions know that the account is suspended, as one that is being deleted is as well.
func (s *Service) suspended(a *account.Account) bool {
	state := s.State()
	if state == nil {
		return false
	}
	r, _, found := state.Revocations.OfAccount(a.ID, s.Now())
	return found && r.ID != ""
}

// once returns what makes a call with an idempotency key happen once, and what it was answered before.
func (s *Service) once(ctx context.Context, p party, c act) (*store.Once, json.RawMessage, error) {
	if c.key == "" {
		return nil, nil, nil
	}
	o, err := onceOnly(c.op, p.key(), c.key, c.request)
	if err != nil {
		return nil, nil, err
	}
	first, err := s.Store.Answer(ctx, o.Key, o.Call)
	if err != nil {
		return nil, nil, s.storeError(c.op, err)
	}
	return o, first, nil
}

// changedBefore is what is kept of a change: the answer is what there is of the account, whose name may be another's by then.
type changedBefore struct {
	Account string `json:"account"` // id
}

// answered returns the account of a call that was made before, to who may make it still.
func (s *Service) answered(ctx context.Context, p party, c act, first json.RawMessage, err error) (account.Account, error) {
	if err != nil || first == nil {
		return account.Account{}, err
	}
	var before changedBefore
	if err := json.Unmarshal(first, &before); err != nil {
		return account.Account{}, err
	}
	return s.still(ctx, p, c, before.Account)
}

// still returns the account with that id to who may make the change of it still, whatever it is like by now.
func (s *Service) still(ctx context.Context, p party, c act, id string) (account.Account, error) {
	a, err := s.find(ctx, p, c.op, id)
	if err == nil {
		err = c.entitled(p, &a)
	}
	if err != nil {
		return account.Account{}, err
	}
	return a, nil
}

// stillMay is [Service.still] for a call that may be sent again.
func (s *Service) stillMay(ctx context.Context, p party, c act) func(about string) error {
	return func(about string) error {
		_, err := s.still(ctx, p, c, about)
		return err
	}
}

// acted returns the audit entry of a change of an account.
func (s *Service) acted(p party, op string, a *account.Account, reason string) store.AuditEntry {
	e := store.AuditEntry{
		ID: newID(), At: s.now(), Kind: store.AdminEntry, Op: op, Actor: p.Actor, Outcome: "done", Reason: reason,
		Account: a.Name, Target: a.ID, Revision: a.Revision, State: string(a.State), ConnType: string(p.Transport), Replica: s.Replica,
	}
	if p.Source.IsValid() {
		e.Source = p.Source.String()
	}
	if p.Identity != nil {
		e.Issuer, e.Subject, e.TokenID = p.Identity.IssuerURL, p.Identity.Subject, p.Identity.TokenID
		if e.Issuer != AdminTokenIssuer {
			e.Name = p.Identity.Name()
		}
	}
	return e
}

// settleWait is how long a call waits for the servers to have what it has changed.
const settleWait = 5 * time.Second

// settle waits a bounded time until every server has the revision of the account, and returns it as it is then.
func (s *Service) settle(ctx context.Context, op string, a account.Account) (account.Account, error) {
	if !a.Lives() || a.State.InUse() {
		return a, nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if state := s.State(); state != nil {
			if e := state.Accounts.ID(a.ID); e != nil && account.State(e.State).InUse() {
				now, err := s.lookUp(context.WithoutCancel(ctx), op, a.ID)
				if err != nil || now.ID == "" {
					return a, err
				}
				return now, nil
			}
		}
		select {
		case <-ctx.Done():
			return a, nil // it is being created, which the caller is told
		case <-tick.C:
		}
	}
}

// opened waits a bounded time until every server has the revision of the account, be it in use already, and decisions follow that;
// it returns the account as it is then. Nothing is waited for where nobody is let in to it.
func (s *Service) opened(ctx context.Context, op string, a account.Account) (account.Account, error) {
	opens := func(a *account.Account) bool { return a.State == account.Creating || a.State.InUse() }
	if !opens(&a) {
		return a, nil
	}
	deadline := time.After(settleWait)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		now, err := s.lookUp(ctx, op, a.ID)
		switch {
		case err != nil || !opens(&now):
			return now, err
		case now.State.InUse() && now.Applied >= a.Revision:
			return now, s.refresh(ctx)
		}
		select {
		case <-ctx.Done():
			return a, nil // it is not open yet, which the caller is told
		case <-deadline:
			return a, nil
		case <-tick.C:
		}
	}
}

// wireAccount returns an account as answers show it.
func (s *Service) wireAccount(a *account.Account) api.Account {
	out := api.Account{
		Name: a.Name, Account: a.ID, State: string(a.State), Plan: a.Plan, Revision: a.Revision, Applied: a.Applied,
		Owner: wirePerson(a.Owner), Description: a.Description, Tags: a.Tags, Roles: []string{}, Members: len(a.Members),
		SigningKeys: []api.AccountKey{}, Created: a.Created, Updated: a.Updated, DeleteAt: a.DeleteAt,
	}
	if plan := s.Accounts.Plans()[a.Plan]; plan != nil {
		out.Roles = append(out.Roles, plan.Roles...)
		if !a.Adopted {
			out.Limits = wireLimits(plan.Limits.With(a.Limits))
		}
	} else if out.PlanGone = true; a.Given != nil {
		out.Limits = wireLimits(a.Given.With(a.Limits))
	}
	if a.Limits != nil {
		changed := wirePatch(*a.Limits)
		out.Changed = &changed
	}
	for _, k := range a.Keys {
		out.SigningKeys = append(out.SigningKeys, api.AccountKey{Key: k.Public, Stage: string(k.Stage), Since: k.Since, Until: k.Until})
	}
	out.Suspended = s.suspended(a)
	return out
}

func wirePerson(p account.Person) api.Person {
	return api.Person{Issuer: p.Issuer, Subject: p.Subject, Name: p.Name}
}

func wireLimits(l account.Limits) api.AccountLimits {
	return wirePatch(account.LimitsPatch{
		Connections: &l.Connections, LeafNodes: &l.LeafNodes, Subscriptions: &l.Subscriptions, Payload: &l.Payload, Data: &l.Data,
		Imports: &l.Imports, Exports: &l.Exports, JetStream: l.JetStream, Tiers: l.Tiers,
	})
}

func wirePatch(p account.LimitsPatch) api.AccountLimits {
	out := api.AccountLimits{
		Connections: p.Connections, LeafNodes: p.LeafNodes, Subscriptions: p.Subscriptions, Payload: p.Payload, Data: p.Data,
		Imports: p.Imports, Exports: p.Exports, JetStream: (*api.JetStreamLimits)(p.JetStream),
	}
	for tier, js := range p.Tiers {
		if out.Tiers == nil {
			out.Tiers = map[string]api.JetStreamLimits{}
		}
		out.Tiers[tier] = api.JetStreamLimits(js)
	}
	return out
}

func patch(l api.LimitsChange) *account.LimitsPatch {
	out := &account.LimitsPatch{
		Connections: l.Connections, LeafNodes: l.LeafNodes, Subscriptions: l.Subscriptions, Payload: l.Payload, Data: l.Data,
		Imports: l.Imports, Exports: l.Exports, JetStream: (*account.JetStream)(l.JetStream),
	}
	for tier, js := range l.Tiers {
		if out.Tiers == nil {
			out.Tiers = map[string]account.JetStream{}
		}
		out.Tiers[tier] = account.JetStream(js)
	}
	return out
}
