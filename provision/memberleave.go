package provision

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// leaveAgain is after how long the connections of who was removed are looked for once more: logins that were decided on before,
	// here or by another replica, have come up by then. After the same time it is tried again where servers do not answer.
	leaveAgain = 5 * time.Second
	// leaveLongest is for how long that is tried.
	leaveLongest = time.Hour
	// leaveSlack is how far the clocks of servers may be apart from ours, with what a login takes.
	leaveSlack = time.Minute
	leaveLease = "members who left"
	leaveTTL   = 15 * time.Second
)

// left is a member who was removed from an account, or whose membership ends earlier now.
type left struct {
	account.Left
	account *account.Account // as it is since
}

// leaving is when the accounts are to be looked at that members have left, by account id.
type leaving struct {
	mu  sync.Mutex
	due map[string]time.Time
}

// FollowLeft is told which accounts have changed, all of them after a load: another replica may have ended before what members had
// open was closed.
func (s *Service) FollowLeft(changed []account.Account, all bool) {
	v := &s.leaving
	v.mu.Lock()
	defer v.mu.Unlock()
	if all || v.due == nil {
		v.due = map[string]time.Time{}
	}
	for i := range changed {
		if at, waits := changed[i].LookAt(leaveAgain); !waits {
			delete(v.due, changed[i].ID)
		} else if _, tried := v.due[changed[i].ID]; !tried {
			v.due[changed[i].ID] = at
		}
	}
}

func (v *leaving) at(now time.Time) (ids []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, at := range v.due {
		if !now.Before(at) {
			ids = append(ids, id)
		}
	}
	return ids
}

// next has the account looked at again when its record says so, but not before.
func (v *leaving) next(a *account.Account, id string, before time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at, waits := a.LookAt(leaveAgain); !waits {
		delete(v.due, id)
	} else if at.Before(before) {
		v.due[id] = before
	} else {
		v.due[id] = at
	}
}

// leave notes in the record of the account that a membership has ended, so that whoever holds the lease closes what it had open,
// even when this replica ends before.
func (s *Service) leave(p party, a *account.Account, m account.Member, until time.Time) account.Left {
	l := account.Left{ID: newID(), Member: m, Until: until, At: s.now(), By: p.Actor, Request: p.RequestID}
	a.Leave(l)
	return l
}

// end voids the keys that are in the account by the membership for longer than it lasts, and closes the connections that it has
// opened. That is done once more a little later, see [Service.CloseLeft].
func (s *Service) end(ctx context.Context, l left) (revoked, closed int, unanswered []string, err error) {
	s.FollowLeft([]account.Account{*l.account}, false)
	if revoked, err = s.revokeKeys(ctx, l); err != nil {
		return revoked, 0, nil, err
	}
	closed, unanswered = s.closeMember(ctx, l)
	return revoked, closed, unanswered, nil
}

// CloseLeft closes what members had opened while they were being removed, on the replica that holds the lease, and forgets them
// once every server has answered.
func (s *Service) CloseLeft(ctx context.Context) error {
	due := s.leaving.at(s.now())
	if len(due) == 0 {
		return nil
	}
	held, _, err := s.Store.Acquire(ctx, leaveLease, s.Replica, leaveTTL)
	if err != nil || !held {
		return err
	}
	began := s.Now()
	var errs []error
	for _, id := range due {
		if s.Now().Sub(began) > leaveTTL/2 {
			break // the lease may end; the rest is due at the next look
		}
		errs = append(errs, s.closeLeft(ctx, id))
	}
	return errors.Join(errs...)
}

// leaveLeft lets another replica go on at once.
func (s *Service) leaveLeft() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.Store.Release(ctx, leaveLease, s.Replica) // it ends by itself
}

// closeLeft closes what those had open who have left one account.
func (s *Service) closeLeft(ctx context.Context, id string) error {
	again := s.now().Add(leaveAgain)
	a, err := s.lookUp(ctx, api.OpMemberRemove, id)
	if err != nil {
		return err
	}
	var settled []string
	var errs []error
	for _, l := range a.Leaving {
		if s.now().Before(l.At.Add(leaveAgain)) {
			continue
		}
		of := left{l, &a}
		_, err := s.revokeKeys(ctx, of)
		closed, silent := s.closeMember(ctx, of)
		if closed > 0 || len(silent) > 0 || err != nil {
			s.Logger.Info("connections of a removed member were closed later", "account", a.Name, "member", l.Member.ID, "closed", closed, "unanswered", silent, "error", err, "request_id", l.Request)
		}
		if over := s.now().Sub(l.At) > leaveLongest; err == nil && (len(silent) == 0 || s.Servers == nil) || over {
			settled = append(settled, l.ID)
		}
		errs = append(errs, err)
	}
	if len(settled) > 0 {
		if err := s.Store.Settle(ctx, a.ID, settled); err != nil {
			return errors.Join(append(errs, s.storeError(api.OpMemberRemove, err))...)
		}
		a.Leaving = slices.DeleteFunc(slices.Clone(a.Leaving), func(l account.Left) bool { return slices.Contains(settled, l.ID) })
	}
	s.leaving.next(&a, id, again)
	return errors.Join(errs...)
}

// closeMember closes the connections that the membership has opened, and returns how many and which servers did not answer.
func (s *Service) closeMember(ctx context.Context, l left) (closed int, unanswered []string) {
	if s.Servers == nil {
		return 0, []string{"any server, since there is no system user"}
	}
	list, silent, err := s.Servers.Connected(ctx, l.account.ID, "")
	if err != nil {
		s.Logger.Error("the connections of a removed member could not be listed; they end with their credentials", "account", l.account.Name, "member", l.Member.ID, "error", err)
		return 0, []string{"any server"}
	}
	list = slices.DeleteFunc(list, func(session policy.Session) bool { return session.Account != l.account.ID || !l.opened(&session) })
	if len(list) == 0 {
		return 0, silent
	}
	closed, also := s.Servers.Close(ctx, list)
	return closed, slices.Compact(slices.Sorted(slices.Values(append(silent, also...))))
}

// opened reports whether the membership may have opened the session. Of whom nothing is recorded is closed too when they could be
// meant, and came about then: who still may connect comes back, and is decided on anew.
func (l *left) opened(session *policy.Session) bool {
	if session.Direct() {
		return false // their keys are revoked
	}
	if login := session.Login; login != nil {
		return slices.Contains(login.Bindings, "member:"+l.Member.ID) && l.outlived(login.Expires)
	}
	return (l.Member.Subject == "" || session.Name == l.Member.Name) && !session.Since.After(l.At.Add(leaveSlack))
}

// revokeKeys voids the keys of direct users that are in the account by the membership.
func (s *Service) revokeKeys(ctx context.Context, l left) (int, error) {
	n := 0
	f := store.UserKeyFilter{Principal: l.Member.Principal, AccountID: l.account.ID, ValidAt: s.now()}
	for {
		keys, next, err := s.Store.UserKeys(ctx, f)
		if err != nil {
			return n, s.storeError("member.remove", err)
		}
		for _, k := range keys {
			if !l.outlived(k.Expires) {
				continue
			}
			switch by, err := s.keyIsBy(ctx, l, k); {
			case err != nil:
				return n, s.storeError("member.remove", err)
			case !by:
				continue
			}
			_, _, err := s.revoke(ctx, store.Revocation{
				Revocation: policy.Revocation{ID: newID(), Kind: policy.UserKey, Target: policy.Target{Account: l.account.ID, Key: k.Key}, At: s.now()},
				Reason:     "its owner's membership of the account has ended, or ends earlier", Actor: l.By,
			}, "", l.Request)
			if err != nil {
				return n, err
			}
			n++
		}
		if f.Cursor = next; next == "" {
			return n, nil
		}
	}
}

// outlived reports whether a credential with that end, zero for none or one that is not known, lasts longer than the membership.
func (l *left) outlived(end time.Time) bool { return end.IsZero() || end.After(l.Until) }

// keyIsBy reports whether the membership has let the key in when its user JWT was last signed. Where that is not recorded, as long
// ago or a moment ago, it has unless its owner is a member by name in another way.
func (s *Service) keyIsBy(ctx context.Context, l left, k store.UserKey) (bool, error) {
	owner := policy.Principal{Issuer: k.Issuer, Subject: k.Subject}
	signups, _, err := s.Store.Audit(ctx, store.AuditFilter{
		Kind: store.LoginEntry, Op: api.OpUserSignup, Outcome: string(policy.OutcomeAllowed), Principal: owner, Limit: store.MaxPage,
	})
	if err != nil {
		return false, err
	}
	for i := range signups { // newest first
		if signups[i].UserKey == k.Key && !signups[i].At.Before(k.Issued.Truncate(time.Second)) {
			return slices.Contains(signups[i].Bindings, "member:"+l.Member.ID), nil
		}
	}
	now := s.now()
	return !slices.ContainsFunc(l.account.Members, func(m account.Member) bool {
		return m.ID != l.Member.ID && m.Principal == owner && m.Role != account.OwnerRole && !m.Accepted.IsZero() && (m.Until.IsZero() || now.Before(m.Until))
	}), nil
}
