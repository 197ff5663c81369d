package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

// AccountSignup makes an account under a plan, whose owner and member the caller becomes. The same call again is answered with
// the account that there is.
func (s *Service) AccountSignup(ctx context.Context, c Caller, req api.AccountSignupRequest) (api.AccountSignup, error) {
	return asParty(ctx, s, api.OpAccountSignup, c, req, s.signUpAccount)
}

func (s *Service) signUpAccount(ctx context.Context, p party, req api.AccountSignupRequest) (api.AccountSignup, error) {
	owner, offered, err := s.applicant(p, req.Owner)
	if err != nil {
		return api.AccountSignup{}, err
	}
	plan, err := s.plan(offered, req.Plan)
	if err != nil {
		return api.AccountSignup{}, err
	}
	if err := s.nameable(req.Name, plan); err != nil {
		return api.AccountSignup{}, err
	}
	if err := account.CheckTexts(req.Description, req.Tags); err != nil {
		return api.AccountSignup{}, badRequest("%v", err)
	}
	if err := s.checkKey(p, req); err != nil {
		return api.AccountSignup{}, err
	}
	a, err := s.existing(ctx, req, owner, plan)
	if err == nil && a.ID == "" {
		a, err = s.create(ctx, p, req, owner, plan)
	}
	if err == nil {
		a, err = s.settle(ctx, api.OpAccountSignup, a)
	}
	return api.AccountSignup{Name: a.Name, Account: a.ID, State: string(a.State)}, err
}

// applicant returns who becomes the owner, and the plans that are offered to them.
func (s *Service) applicant(p party, owner *api.Owner) (account.Person, []string, error) {
	if p.admin {
		if owner == nil {
			return account.Person{}, nil, badRequest("owner is not given: say for whom the account is, or sign up with a token of their own")
		}
		person, err := s.person(*owner)
		return person, slices.Sorted(maps.Keys(s.Accounts.Plans())), err
	}
	if owner != nil {
		return account.Person{}, nil, refuse(http.StatusForbidden, api.ReasonForbidden, "owner is for admins: everybody else signs up for themselves")
	}
	state := s.State()
	if state == nil {
		return account.Person{}, nil, errNoState
	}
	if p.represented {
		// Whoever may name anybody can name people who are not: what the plan lets each have bounds nothing then.
		if wait := s.founded.take(p.backend, s.Now()); wait > 0 {
			return account.Person{}, nil, tooMany(wait)
		}
		return account.Person{Principal: p.principal(), Name: p.Identity.Name()}, p.plans, nil
	}
	plans, r := policy.SignUps(state, p.Identity, p.Source, s.Now(), nil)
	if r != nil {
		return account.Person{}, nil, refusedIdentity(r)
	}
	return account.Person{Principal: p.principal(), Name: p.Identity.Name()}, plans, nil
}

// person returns the identity that a request names.
func (s *Service) person(who api.Owner) (account.Person, error) {
	url, err := s.memberIssuer(who.Issuer)
	if err != nil {
		return account.Person{}, err
	}
	t := policy.Target{Principal: policy.Principal{Issuer: url, Subject: who.Subject}}
	if who.Subject == "" {
		return account.Person{}, badRequest("subject is empty: give the sub of the identity, as gatehouse audit shows it")
	}
	return account.Person{Principal: t.Principal, Name: s.principalName(t.Principal)}, handles(t)
}

// plan returns the plan that is asked for, the only one where none is.
func (s *Service) plan(offered []string, name string) (*account.Plan, error) {
	if name == "" && len(offered) == 1 {
		name = offered[0]
	}
	if name == "" {
		return nil, refuse(http.StatusBadRequest, api.ReasonPlanUnknown, "plan is not given, and several are offered to you: say which of %s", strings.Join(offered, ", "))
	}
	plan := s.Accounts.Plans()[name]
	if plan == nil || !slices.Contains(offered, name) {
		return nil, refuse(http.StatusBadRequest, api.ReasonPlanUnknown, "plan %.80q is not offered to you: say which of %s", name, strings.Join(offered, ", "))
	}
	return plan, nil
}

// nameable refuses names that accounts of the plan cannot have, whether or not they are taken.
func (s *Service) nameable(name string, plan *account.Plan) error {
	switch err := account.CheckName(name); {
	case errors.Is(err, account.ErrReserved):
		return refuse(http.StatusBadRequest, api.ReasonNameReserved, "%v", err)
	case err != nil:
		return refuse(http.StatusBadRequest, api.ReasonNameInvalid, "%v", err)
	case !account.Fits(name, plan.Pattern):
		return refuse(http.StatusBadRequest, api.ReasonNameInvalid, "names of accounts of plan %s look like %s", plan.Name, plan.Pattern)
	}
	for configured := range s.accounts() {
		if account.Key(configured) == account.Key(name) {
			return refuse(http.StatusBadRequest, api.ReasonNameReserved, "an account of the configuration is named %s: choose another one", configured)
		}
	}
	return nil
}

// checkKey refuses a key that is no account's, or is not proved to be the caller's.
func (s *Service) checkKey(p party, req api.AccountSignupRequest) error {
	switch {
	case req.Key == "" && req.Proof != nil:
		return badRequest("proof is of a key, and key is not given")
	case req.Key == "":
		return nil
	case !nkeys.IsValidPublicAccountKey(req.Key):
		return refuse(http.StatusBadRequest, api.ReasonKeyInvalid, "key is not the public key of an account: give one (A…), 56 characters; never a seed (SA…)")
	case req.Proof == nil:
		return refuse(http.StatusForbidden, string(policy.SignUpProofInvalid), "key comes without a proof that it is yours: docs/protocol.md says how to make one")
	case req.Proof.Audience != s.Accounts.Audience:
		return refuse(http.StatusForbidden, string(policy.SignUpProofInvalid),
			"the proof is for %.200q, and this service is %s: call it by that address, or have http.url say the right one", req.Proof.Audience, s.Accounts.Audience)
	}
	public, err := nkeys.Decode(nkeys.PrefixByteAccount, []byte(req.Key))
	if err != nil {
		return refuse(http.StatusBadRequest, api.ReasonKeyInvalid, "key is not the public key of an account (A…)")
	}
	proof := policy.SignUp{
		Key: req.Key, Statement: api.AccountStatement(req, p.Token), Signature: req.Proof.Signature, At: time.UnixMilli(req.Proof.Time),
	}
	if r := proof.Signed(public, s.Now()); r != nil {
		return refusedIdentity(r)
	}
	return nil
}

// existing returns the account when the owner has signed up for it already; the zero one when nobody has.
func (s *Service) existing(ctx context.Context, req api.AccountSignupRequest, owner account.Person, plan *account.Plan) (account.Account, error) {
	a, err := s.lookUp(ctx, api.OpAccountSignup, req.Name)
	switch {
	case err != nil || a.ID == "":
		return a, err
	case a.Owner.Principal == owner.Principal && a.Plan == plan.Name && (req.Key == "" || req.Key == a.ID) && a.State != account.Deleting:
		return a, nil
	default:
		return account.Account{}, s.accountError(api.OpAccountSignup, store.ErrTaken)
	}
}

// create stores a new account.
func (s *Service) create(ctx context.Context, p party, req api.AccountSignupRequest, owner account.Person, plan *account.Plan) (account.Account, error) {
	ring, err := s.sealing()
	if err != nil {
		return account.Account{}, err
	}
	if err := s.unused(ctx, p, req); err != nil {
		return account.Account{}, err
	}
	a := newAccount(req.Name, plan, s.now())
	a.ID, a.Owner, a.Description, a.Tags = req.Key, owner, req.Description, req.Tags
	a.Members = founders(owner, firstRole(plan), p.Actor, a.Created)
	if plan.Approval && !p.admin {
		a.State = account.Requested
	}
	key, err := identify(&a, ring)
	if err != nil {
		return a, err
	}
	change := store.AccountChange{Account: a, Entry: s.acted(p, api.OpAccountSignup, &a, "signed up"), Keys: []store.SealedKey{key}, Most: plan.PerSubject}
	if p.admin {
		change.Most = 0
	}
	if _, err := s.Store.SaveAccount(ctx, change); err != nil {
		return s.lost(ctx, req, owner, plan, err)
	}
	s.Logger.Info("account signed up", "account", a.Name, "account_id", a.ID, "plan", a.Plan, "state", a.State, "owner", owner.Name, "actor", p.Actor, "request_id", p.RequestID)
	return a, s.refresh(ctx)
}

// lost returns what became of an account that could not be stored: the same call may have been made at the same time.
func (s *Service) lost(ctx context.Context, req api.AccountSignupRequest, owner account.Person, plan *account.Plan, err error) (account.Account, error) {
	if !errors.Is(err, store.ErrTaken) && !errors.Is(err, store.ErrTooMany) {
		return account.Account{}, s.accountError(api.OpAccountSignup, err)
	}
	switch a, other := s.existing(ctx, req, owner, plan); {
	case other != nil:
		return a, other
	case a.ID != "":
		return a, nil
	case errors.Is(err, store.ErrTaken):
		return a, errKeyTaken
	default:
		return a, s.accountError(api.OpAccountSignup, err)
	}
}

var errKeyTaken = refuse(http.StatusConflict, api.ReasonKeyTaken, "an account with that key is there, or was: make another key")

// sealing returns what seals seeds, or says what to configure.
func (s *Service) sealing() (*seal.Ring, error) {
	if s.Unmanaged != nil {
		if reason, why := s.Unmanaged(); reason != "" {
			return nil, refuse(http.StatusConflict, reason, "accounts are made of claims, which Gatehouse cannot write: %s", why)
		}
	}
	if ring := s.Accounts.Seal(); ring != nil {
		return ring, nil
	}
	return nil, refuse(http.StatusConflict, api.ReasonSealMissing, "the seed of an account's signing key could not be kept safely: configure seal.key, a file with 32 random bytes in base64")
}

// unused refuses a key of the requester's own that is another account's already, and a proof that was used before.
func (s *Service) unused(ctx context.Context, p party, req api.AccountSignupRequest) error {
	if req.Key == "" {
		return nil
	}
	if slices.Contains(s.Closed, req.Key) || s.accountName(req.Key) != "" {
		return errKeyTaken
	}
	known, err := s.Accounts.Known(ctx, req.Key)
	if err != nil {
		s.Logger.Error("the servers could not be asked for an account", "account_id", req.Key, "error", err)
		return again(http.StatusServiceUnavailable, api.ReasonUnavailable, "the servers could not be asked whether the key is an account's already: call again, or leave key out")
	}
	if known {
		return errKeyTaken
	}
	if r := s.proofs.first(api.AccountStatement(req, p.Token), s.Now()); r != nil {
		return refusedIdentity(r)
	}
	return nil
}

// newAccount returns an account that is nobody's yet.
func newAccount(name string, plan *account.Plan, now time.Time) account.Account {
	return account.Account{Name: name, State: account.Creating, Plan: plan.Name, Revision: 1, Created: now, Updated: now}
}

// identify gives an account an identity, unless it has one, and its first signing key.
func identify(a *account.Account, ring *seal.Ring) (store.SealedKey, error) {
	var err error
	if a.ID == "" {
		if a.ID, err = newIdentityKey(); err != nil {
			return store.SealedKey{}, err
		}
	}
	key, err := newSigningKey(ring, a.ID)
	if err == nil {
		a.Keys = []account.SigningKey{{Public: key.Public, Stage: account.Current, Since: a.Created}}
	}
	return key, err
}

// founders are the memberships of who an account is made for: the one that manages it, and one that logs in, with that role.
func founders(owner account.Person, role, actor string, now time.Time) []account.Member {
	members := []account.Member{{ID: newID(), Role: account.OwnerRole, Person: owner, Accepted: now, By: actor}}
	if role != account.OwnerRole {
		members = append(members, account.Member{ID: newID(), Role: role, Person: owner, Accepted: now, By: actor})
	}
	return members
}

// firstRole is that of who signs up: the first one of the plan, unless owners log in as such.
func firstRole(plan *account.Plan) string {
	if len(plan.Roles) == 0 || slices.Contains(plan.Roles, account.OwnerRole) {
		return account.OwnerRole
	}
	return plan.Roles[0]
}

// newIdentityKey returns the public key of an account whose seed nobody has.
func newIdentityKey() (string, error) {
	pair, err := nkeys.CreateAccount()
	if err != nil {
		return "", fmt.Errorf("make an identity key: %w", err)
	}
	defer pair.Wipe()
	return pair.PublicKey()
}

// newSigningKey returns a new signing key of the account, its seed sealed.
func newSigningKey(ring *seal.Ring, id string) (store.SealedKey, error) {
	pair, err := nkeys.CreateAccount()
	if err != nil {
		return store.SealedKey{}, fmt.Errorf("make a signing key: %w", err)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return store.SealedKey{}, err
	}
	seed, err := pair.Seed()
	if err != nil {
		return store.SealedKey{}, err
	}
	defer clear(seed)
	key := store.SealedKey{Public: public, Account: id}
	key.Box = ring.Seal(seed, key.Row())
	return key, nil
}
