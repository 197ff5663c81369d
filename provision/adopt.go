package provision

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store"
)

// maxSeeds bounds the seeds that come with an account.
const maxSeeds = 64

// Others is what taking accounts over needs to know of those that others made.
type Others struct {
	// Claims returns the newest JWT that servers have of an account, by its id or by the name in it; "" when none has any. A name that
	// several accounts have is an error.
	Claims func(ctx context.Context, ref string) (string, error)
	// Signers returns the keys that have signed what servers apply of these accounts.
	Signers func(ctx context.Context, ids []string) ([]string, error)
	// Keep notes what others made of an account, but for the signing keys that are Gatehouse's from now on. Servers that have no
	// claims of it, or older ones, get these.
	Keep func(ctx context.Context, token string, owned []string) error
	// OperatorKey is the public operator signing key.
	OperatorKey func() string
	Lobby       string // id; "" without
}

// AccountAdopt takes an account over that others made. What Gatehouse does not own of its claims stays theirs to change, and
// its identity key is never needed. Admins on the host only: seeds may come along.
func (s *Service) AccountAdopt(ctx context.Context, c Caller, req api.AccountAdoptRequest) (api.AccountAdoption, error) {
	return asParty(ctx, s, api.OpAccountAdopt, c, req, func(ctx context.Context, p party, req api.AccountAdoptRequest) (api.AccountAdoption, error) {
		if err := checkRepeat(req.IdempotencyKey); err != nil {
			return api.AccountAdoption{}, err
		}
		if req.DryRun {
			return s.adopt(ctx, p, req)
		}
		r := keyed[api.AccountAdoption](p, api.OpAccountAdopt, req.IdempotencyKey, req)
		return once(ctx, s, r, func() (api.AccountAdoption, error) { return s.adopt(ctx, p, req) })
	})
}

func (s *Service) adopt(ctx context.Context, p party, req api.AccountAdoptRequest) (api.AccountAdoption, error) {
	if s.Accounts.Others == nil {
		return api.AccountAdoption{}, refuse(http.StatusConflict, api.ReasonNotManaged, "accounts are taken over through a user of the system account: configure nats.system")
	}
	ring, err := s.sealing()
	if err != nil {
		return api.AccountAdoption{}, err
	}
	token, claims, err := s.foreign(ctx, req)
	if err != nil {
		return api.AccountAdoption{}, err
	}
	plan, err := s.adoptable(ctx, req, claims)
	if err != nil {
		return api.AccountAdoption{}, err
	}
	out := api.AccountAdoption{Name: cmp.Or(req.Name, claims.Name), Account: claims.Subject, Plan: plan.Name, Issuer: claims.Issuer}
	keys, err := adoptedKeys(claims, req.Seeds, &out)
	if err != nil {
		return out, err
	}
	defer keys.wipe()
	now := s.now()
	a := account.Account{
		ID: claims.Subject, Name: out.Name, State: account.Creating, Plan: plan.Name, Revision: 1, Adopted: true, Created: now, Updated: now,
	}
	if req.Owner != nil {
		if a.Owner, err = s.person(*req.Owner); err != nil {
			return out, err
		}
		a.Members = founders(a.Owner, firstRole(plan), p.Actor, now)
	}
	if req.DryRun {
		return out, nil
	}
	change := store.AccountChange{Entry: s.acted(p, api.OpAccountAdopt, &a, "adopted")}
	for _, k := range keys {
		a.Keys = append(a.Keys, account.SigningKey{Public: k.public, Stage: account.Current, Since: now})
		change.Keys = append(change.Keys, store.SealedKey{Public: k.public, Account: a.ID, Box: ring.Seal(k.seed, "signing key "+k.public)})
	}
	if len(keys) == 0 {
		key, err := newSigningKey(ring, a.ID)
		if err != nil {
			return out, err
		}
		a.Keys = []account.SigningKey{{Public: key.Public, Stage: account.Current, Since: now}}
		change.Keys, out.Made = []store.SealedKey{key}, key.Public
	}
	change.Account = a
	if err := s.Accounts.Others.Keep(ctx, token, out.Sealed); err != nil {
		return out, s.storeError(api.OpAccountAdopt, err)
	}
	if _, err := s.Store.SaveAccount(ctx, change); err != nil {
		return out, s.accountError(api.OpAccountAdopt, err)
	}
	s.Logger.Info("account adopted", "account", a.Name, "account_id", a.ID, "plan", a.Plan, "sealed", out.Sealed, "made", out.Made, "actor", p.Actor, "request_id", p.RequestID)
	if err := s.refresh(ctx); err != nil {
		return out, err
	}
	a, err = s.settle(ctx, api.OpAccountAdopt, a)
	out.State = string(a.State)
	return out, err
}

// foreign returns the JWT of the account that is meant, with its claims. Its signature has verified.
func (s *Service) foreign(ctx context.Context, req api.AccountAdoptRequest) (string, *jwt.AccountClaims, error) {
	token := strings.TrimSpace(req.Token)
	if token == "" {
		if req.Account == "" || len(req.Account) > maxAccountName {
			return "", nil, badRequest("account is neither a name nor a public key: give one")
		}
		var err error
		if token, err = s.Accounts.Others.Claims(ctx, req.Account); err != nil {
			return "", nil, refuse(http.StatusConflict, api.ReasonUnavailable, "the servers could not say which account %.80q is: %v", req.Account, err)
		}
		if token == "" {
			return "", nil, refuse(http.StatusNotFound, api.ReasonNotFound, "no server has claims of an account %.80q: push them first, or give the folder that has them with --store", req.Account)
		}
	}
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return "", nil, badRequest("the JWT of account %.80q is none: %v", req.Account, err)
	}
	if req.Account != "" && req.Account != claims.Subject && req.Account != claims.Name {
		return "", nil, badRequest("the JWT is of account %.80q, and not of %.80q", claims.Name, req.Account)
	}
	return token, claims, nil
}

// adoptable refuses accounts that Gatehouse cannot take over, and returns the plan that this one gets.
func (s *Service) adoptable(ctx context.Context, req api.AccountAdoptRequest, claims *jwt.AccountClaims) (*account.Plan, error) {
	id, conflict := claims.Subject, func(format string, args ...any) error {
		return refuse(http.StatusConflict, api.ReasonWrongState, "account %.80q: "+format, append([]any{claims.Name}, args...)...)
	}
	switch {
	case slices.Contains(s.Closed, id):
		return nil, conflict("Gatehouse itself is in it, or it is the system account: it stays as init made it")
	case id == s.Accounts.Others.Lobby:
		return nil, conflict("it is the lobby account of Gatehouse: it stays as init made it")
	case s.accountName(id) != "":
		return nil, conflict("it is account %s of the configuration, which says who is placed in it: remove it there first, and its bindings", s.accountName(id))
	case claims.HasExternalAuthorization():
		return nil, conflict("it is the account of an auth callout, where nobody is placed")
	case claims.Expires != 0 && claims.Expires <= s.Now().Unix():
		return nil, conflict("its claims ended at %s: renew and push them first", time.Unix(claims.Expires, 0).UTC().Format(time.RFC3339))
	}
	if err := s.signedByOperator(ctx, req, claims); err != nil {
		return nil, err
	}
	there, err := s.lookUp(ctx, api.OpAccountAdopt, id)
	switch {
	case err != nil:
		return nil, err
	case there.State == account.Deleted:
		return nil, conflict("it was an account of Gatehouse that is deleted, and its id is never used again")
	case there.ID != "":
		return nil, conflict("Gatehouse has it already, as %s", there.Name)
	}
	plan, err := s.plan(slices.Sorted(maps.Keys(s.Accounts.Plans())), req.Plan)
	if err != nil {
		return nil, err
	}
	anyName := *plan
	anyName.Pattern = "" // of names that people choose; this one is there
	return plan, s.nameable(cmp.Or(req.Name, claims.Name), &anyName)
}

// signedByOperator refuses claims that another operator signed. Ours are the operator signing key, those of the operator's JWT
// where one is given that lists it, and whoever signed what servers apply of Gatehouse's own accounts.
func (s *Service) signedByOperator(ctx context.Context, req api.AccountAdoptRequest, claims *jwt.AccountClaims) error {
	own := s.Accounts.Others.OperatorKey()
	known := []string{own}
	if req.Operator != "" {
		operator, err := jwt.DecodeOperatorClaims(strings.TrimSpace(req.Operator))
		if err != nil {
			return badRequest("the JWT of the operator is none: %v", err)
		}
		keys := append([]string{operator.Subject}, operator.SigningKeys...)
		if !slices.Contains(keys, own) {
			return refuse(http.StatusConflict, api.ReasonWrongState, "operator %.80q is another one: the operator signing key (%s) is none of its keys", operator.Name, own)
		}
		known = append(known, keys...)
	}
	if slices.Contains(known, claims.Issuer) {
		return nil
	}
	ids := slices.Clone(s.Closed)
	for _, id := range s.accounts() {
		ids = append(ids, id)
	}
	more, err := s.Accounts.Others.Signers(ctx, ids)
	if slices.Contains(more, claims.Issuer) {
		return nil
	}
	if err != nil {
		return again(http.StatusServiceUnavailable, api.ReasonUnavailable, "the servers could not say who signs their accounts: %v", err)
	}
	return refuse(http.StatusConflict, api.ReasonWrongState,
		"account %.80q is signed by %s, which is no key of the operator as far as Gatehouse knows: if it is one, give the operator's JWT, which lists it, with --operator-jwt", claims.Name, claims.Issuer)
}

// theirs refuses to change what stays others' of an account that was taken over.
func theirs(a *account.Account, what string) error {
	if !a.Adopted {
		return nil
	}
	return refuse(http.StatusConflict, api.ReasonWrongState,
		"account %s was taken over, and its %s stay with whoever made it: change them with nsc or nats auth, and push; that stays", a.Name, what)
}

// seedOf is a signing key with its seed.
type seedOf struct {
	public string
	seed   []byte
}

type seedsOf []seedOf

func (l seedsOf) wipe() {
	for _, k := range l {
		clear(k.seed)
	}
}

// adoptedKeys returns the signing keys that users can be signed with, of those whose seeds are given, and notes what
// becomes of each key of the account. No error holds a seed.
func adoptedKeys(claims *jwt.AccountClaims, seeds []string, out *api.AccountAdoption) (seedsOf, error) {
	if len(seeds) > maxSeeds {
		return nil, badRequest("%d seeds come along, at most %d are kept", len(seeds), maxSeeds)
	}
	var keys seedsOf
	for i, seed := range seeds {
		kp, err := nkeys.FromSeed([]byte(seed))
		if err != nil {
			return keys, badRequest("seed %d is none", i+1)
		}
		public, err := kp.PublicKey()
		if err != nil {
			return keys, fmt.Errorf("seed %d: %w", i+1, err)
		}
		scope, signs := claims.SigningKeys[public]
		switch {
		case public == claims.Subject:
			return keys, badRequest("seed %d is of the identity key of account %.80q, which is never kept: leave it where it is", i+1, claims.Name)
		case !signs:
			return keys, badRequest("seed %d is of %s, which is no signing key of account %.80q", i+1, public, claims.Name)
		case scope == nil && !slices.ContainsFunc(keys, func(k seedOf) bool { return k.public == public }):
			keys = append(keys, seedOf{public, []byte(seed)})
			out.Sealed = append(out.Sealed, public)
		}
	}
	for _, public := range slices.Sorted(maps.Keys(claims.SigningKeys)) {
		if !slices.Contains(out.Sealed, public) {
			out.Elsewhere = append(out.Elsewhere, public)
		}
	}
	slices.Sort(out.Sealed)
	return keys, nil
}
