package provision

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// AccountRotate gives an account another signing key. That it becomes current, and that the old one goes, is seen to by
// [Service.TurnKeys].
func (s *Service) AccountRotate(ctx context.Context, c Caller, req api.RotateRequest) (api.Rotation, error) {
	return asParty(ctx, s, api.OpAccountRotate, c, req, func(ctx context.Context, p party, req api.RotateRequest) (api.Rotation, error) {
		switch {
		case req.Key != "" && !req.Now && !req.DryRun:
			return api.Rotation{}, badRequest("key says which key to take away at once: set now too, or leave it out")
		case req.Now && !req.DryRun && req.Reason == "":
			return api.Rotation{}, errNoReason
		case req.DryRun:
			return s.previewRotation(ctx, p, req)
		case req.Now:
			return s.dropKeys(ctx, p, req)
		default:
			return s.addKey(ctx, p, req)
		}
	})
}

// addKey begins a rotation in which nobody is cut.
func (s *Service) addKey(ctx context.Context, p party, req api.RotateRequest) (api.Rotation, error) {
	made, act, err := s.rotation(req)
	if err != nil {
		return api.Rotation{}, err
	}
	a, err := s.change(ctx, p, act, func(a *account.Account) error {
		if !a.Lives() || a.State == account.Deleting {
			return wrongState(a, "only one that is in use is given another signing key")
		}
		if err := made.make(s, a.ID); err != nil {
			return err
		}
		if err := a.AddKey(made.row.Public, s.now()); err != nil {
			return wrongState(a, err.Error())
		}
		return nil
	})
	return s.rotated(a, err)
}

// rotation returns what every rotation stores beside the record.
func (s *Service) rotation(req api.RotateRequest) (*madeKey, act, error) {
	if _, err := s.sealing(); err != nil {
		return nil, act{}, err
	}
	made := &madeKey{}
	c := act{op: api.OpAccountRotate, account: req.Account, key: req.IdempotencyKey, request: req, reason: reasonOr(req.Reason, "signing key rotated"), seeds: made.seeds}
	return made, c, nil
}

func (s *Service) rotated(a account.Account, err error) (api.Rotation, error) {
	if err != nil {
		return api.Rotation{}, err
	}
	return api.Rotation{Account: s.wireAccount(&a)}, nil
}

// madeKey is a signing key that a change makes, and the keys that it takes out.
type madeKey struct {
	row     store.SealedKey
	dropped []string
}

// make makes the key, anew each time.
func (m *madeKey) make(s *Service, account string) error {
	ring, err := s.sealing()
	if err == nil {
		m.row, err = newSigningKey(ring, account)
	}
	return err
}

func (m *madeKey) seeds() ([]store.SealedKey, []string) {
	if m.row.Public == "" {
		return nil, m.dropped
	}
	return []store.SealedKey{m.row}, m.dropped
}

// previewRotation says who would be cut if the keys were taken away at once.
func (s *Service) previewRotation(ctx context.Context, p party, req api.RotateRequest) (api.Rotation, error) {
	a, keys, err := s.rotating(ctx, p, req)
	if err != nil {
		return api.Rotation{}, err
	}
	all := &api.Affected{Sessions: []api.Session{}, Keys: []api.UserKey{}}
	for _, k := range keys {
		r := store.Revocation{Revocation: policy.Revocation{Kind: policy.SigningKey, Target: policy.Target{Account: a.ID, Key: k.Public}, At: s.now()}}
		one := s.affected(ctx, r)
		all.Connections += one.Connections
		all.Sessions = append(all.Sessions, one.Sessions...)
		all.Incomplete = all.Incomplete || one.Incomplete
		all.Unanswered = one.Unanswered
	}
	all.Sessions = all.Sessions[:min(len(all.Sessions), maxPreview)]
	if err := s.signedUserKeys(ctx, a.ID, keys, func(k store.UserKey) {
		if all.KeysFound++; len(all.Keys) < maxPreview {
			all.Keys = append(all.Keys, api.UserKey{
				Key: k.Key, Account: k.Account, AccountID: k.AccountID, Issuer: k.Issuer, Subject: k.Subject, Program: k.Program, Issued: k.Issued, Expires: k.Expires,
			})
		}
	}); err != nil {
		return api.Rotation{}, err
	}
	return api.Rotation{Account: s.wireAccount(&a), Affected: all}, nil
}

// rotating returns the account as it is, and the keys of it that are to be taken away at once.
func (s *Service) rotating(ctx context.Context, p party, req api.RotateRequest) (account.Account, []account.SigningKey, error) {
	a, err := s.find(ctx, p, api.OpAccountRotate, req.Account)
	if err == nil {
		err = s.may(p, act{op: api.OpAccountRotate, admins: true}, &a)
	}
	if err != nil {
		return a, nil, err
	}
	if !a.Lives() {
		return a, nil, wrongState(&a, "no server has its keys")
	}
	keys := slices.DeleteFunc(slices.Clone(a.Keys), func(k account.SigningKey) bool {
		if req.Key != "" {
			return k.Public != req.Key
		}
		return k.Stage != account.Current
	})
	if req.Key != "" && len(keys) == 0 {
		if !nkeys.IsValidPublicAccountKey(req.Key) {
			return a, nil, badRequest("key is not the public signing key of an account (A…): never send a seed")
		}
		return a, nil, refuse(http.StatusNotFound, api.ReasonNotFound, "account %s has no signing key %s: gatehouse keys list %s shows those that it has", a.Name, req.Key, a.Name)
	}
	return a, keys, nil
}

// signedUserKeys calls f with the keys of direct users whose user JWT has not ended, and may be signed by one of the keys.
func (s *Service) signedUserKeys(ctx context.Context, id string, keys []account.SigningKey, f func(store.UserKey)) error {
	filter := store.UserKeyFilter{AccountID: id, ValidAt: s.now()}
	for {
		page, next, err := s.Store.UserKeys(ctx, filter)
		if err != nil {
			return s.storeError(api.OpAccountRotate, err)
		}
		for _, u := range page {
			if slices.ContainsFunc(keys, func(k account.SigningKey) bool { return k.SignedBy(u.Issued, turnSlack) }) {
				f(u)
			}
		}
		if filter.Cursor = next; next == "" {
			return nil
		}
	}
}

// dropKeys takes keys away at once. They are revoked first: what is interrupted after that lets nobody in with them.
func (s *Service) dropKeys(ctx context.Context, p party, req api.RotateRequest) (api.Rotation, error) {
	made, c, err := s.rotation(req)
	if err != nil {
		return api.Rotation{}, err
	}
	c.admins = true
	if err := c.check(); err != nil {
		return api.Rotation{}, err
	}
	// The same call again must not take away the key that the first one has made.
	if _, first, err := s.once(ctx, p, c); first != nil || err != nil {
		return s.rotated(s.answered(ctx, p, c, first, err))
	}
	a, keys, err := s.rotating(ctx, p, req)
	if err != nil {
		return api.Rotation{}, err
	}
	var revoked []string
	for _, k := range keys {
		made.dropped = append(made.dropped, k.Public)
		r, err := s.revocation(api.RevokeRequest{Kind: string(policy.SigningKey), Target: api.Target{Account: a.ID, Key: k.Public}, Reason: req.Reason}, s.now())
		if err != nil {
			return api.Rotation{}, err
		}
		r.ID, r.Actor = newID(), p.Actor
		stored, _, err := s.revoke(ctx, r, "", p.RequestID)
		if err != nil {
			return api.Rotation{}, err
		}
		revoked = append(revoked, stored.ID)
	}
	c.detail = "taken away at once"
	a, err = s.change(ctx, p, c, func(a *account.Account) error {
		if err := made.make(s, a.ID); err != nil {
			return err
		}
		if !a.DropKeys(made.dropped, made.row.Public, s.now()) {
			made.row = store.SealedKey{}
		}
		return nil
	})
	out, err := s.rotated(a, err)
	out.Revoked = revoked
	return out, err
}

const (
	turnEvery = time.Second
	turnLease = "account keys"
	turnTTL   = 15 * time.Second
	// turnSlack is how long after a key has left another replica may still sign with it, and how far clocks may be apart.
	turnSlack = time.Minute
	// longestLife is of credentials of a plan that is not in the configuration any more: no configuration permits more.
	longestLife = 30 * 24 * time.Hour
)

// FollowKeys is told which accounts have changed, all of them after a load.
func (s *Service) FollowKeys(changed []account.Account, all bool) {
	s.turns.follow(changed, all, (*account.Account).TurnAt)
}

// TurnKeys takes those rotations one step on that are due, on the replica that holds the lease.
func (s *Service) TurnKeys(ctx context.Context) error {
	due := s.turns.at(s.now())
	if len(due) == 0 {
		return nil
	}
	held, _, err := s.Store.Acquire(ctx, turnLease, s.Replica, turnTTL)
	if err != nil || !held {
		return err
	}
	began := s.Now()
	var errs []error
	for _, id := range due {
		if s.Now().Sub(began) > turnTTL/2 {
			break // the lease may end; the rest is due at the next turn
		}
		errs = append(errs, s.turn(ctx, id))
	}
	return errors.Join(errs...)
}

// leaveTurns lets another replica go on at once.
func (s *Service) leaveTurns() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.Store.Release(ctx, turnLease, s.Replica) // it ends by itself
}

var errNoTurn = errors.New("nothing is to be turned any more")

// turn takes one rotation one step on. A key is not taken out while a direct user has a JWT that it may have signed.
func (s *Service) turn(ctx context.Context, id string) error {
	made := &madeKey{}
	by := party{Caller: Caller{Actor: "gatehouse", RequestID: newID()}, admin: true}
	c := act{op: api.OpAccountRotate, account: id, reason: "the next step of the rotation", seeds: made.seeds}
	a, err := s.change(ctx, by, c, func(a *account.Account) error {
		before := *a
		gone, turned := a.Turn(s.now(), s.life(a.Plan))
		if !turned {
			return errNoTurn
		}
		if made.dropped = nil; gone == "" {
			return nil
		}
		made.dropped = []string{gone}
		keys := slices.DeleteFunc(slices.Clone(before.Keys), func(k account.SigningKey) bool { return k.Public != gone })
		outlives := 0
		if err := s.signedUserKeys(ctx, a.ID, keys, func(store.UserKey) { outlives++ }); err != nil {
			return err
		}
		if outlives > 0 {
			return errNoTurn
		}
		return nil
	})
	switch {
	case errors.Is(err, errNoTurn):
		return s.turnLater(ctx, id)
	case err != nil:
		return err
	}
	s.FollowKeys([]account.Account{a}, false)
	return nil
}

// turnLater looks at an account again that was found not to be due.
func (s *Service) turnLater(ctx context.Context, id string) error {
	a, err := s.lookUp(ctx, api.OpAccountRotate, id)
	if err != nil {
		return err
	}
	s.FollowKeys([]account.Account{a}, false)
	s.turns.postpone(id, s.now(), s.now().Add(turnSlack))
	return nil
}

// life returns how long a credential of the plan may live, with what replicas and clocks may be apart.
func (s *Service) life(name string) time.Duration {
	life := longestLife
	if state := s.State(); state != nil {
		if plan := state.Rules.Plans[name]; plan != nil {
			life = plan.TTL
			if plan.Direct != nil {
				life = max(life, plan.Direct.TTL)
			}
		}
	}
	return life + turnSlack
}
