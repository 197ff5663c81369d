package provision

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// left is a member who was removed from an account, or whose membership ends earlier now.
type left struct {
	account        account.Account // as it is since
	member         account.Member
	until          time.Time // the earlier end; zero: removed
	actor, request string
	due            time.Time
}

// maxLeaving bounds those whose connections are looked for again.
const maxLeaving = 10_000

// leaving are the members who were removed a moment ago.
type leaving struct {
	mu   sync.Mutex
	list []left
}

func (v *leaving) add(l left, due time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l.due = due; len(v.list) < maxLeaving {
		v.list = append(v.list, l)
	}
}

// taken returns those that are due.
func (v *leaving) taken(now time.Time) []left {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := slices.IndexFunc(v.list, func(l left) bool { return now.Before(l.due) })
	if i < 0 {
		i = len(v.list)
	}
	due := slices.Clone(v.list[:i])
	v.list = slices.Delete(v.list, 0, i)
	return due
}

// end voids the keys that are in the account by the membership for longer than it lasts, and closes the connections that it has
// opened, now and once more a little later.
func (s *Service) end(ctx context.Context, p party, l left) (revoked, closed int, unanswered []string, err error) {
	l.actor, l.request = p.Actor, p.RequestID
	if revoked, err = s.revokeKeys(ctx, l); err != nil {
		return revoked, 0, nil, err
	}
	s.leaving.add(l, s.Now().Add(leaveAgain))
	closed, unanswered = s.closeMember(ctx, l)
	return revoked, closed, unanswered, nil
}

// closeLeft closes what members had opened while they were being removed.
func (s *Service) closeLeft(ctx context.Context) {
	for _, l := range s.leaving.taken(s.Now()) {
		if closed, silent := s.closeMember(ctx, l); closed > 0 || len(silent) > 0 {
			s.Logger.Info("connections of a removed member were closed later", "account", l.account.Name, "member", l.member.ID, "closed", closed, "unanswered", silent, "request_id", l.request)
		}
	}
}

// closeMember closes the connections that the membership has opened, and returns how many and which servers did not answer.
func (s *Service) closeMember(ctx context.Context, l left) (closed int, unanswered []string) {
	if s.Servers == nil {
		return 0, []string{"any server, since there is no system user"}
	}
	list, silent, err := s.Servers.Connected(ctx, l.account.ID, "")
	if err != nil {
		s.Logger.Error("the connections of a removed member could not be listed; they end with their credentials", "account", l.account.Name, "member", l.member.ID, "error", err)
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
// meant: who still may connect comes back, and is decided on anew.
func (l *left) opened(session *policy.Session) bool {
	if session.Direct() {
		return false // their keys are revoked
	}
	if login := session.Login; login != nil {
		return slices.Contains(login.Bindings, "member:"+l.member.ID) && l.outlived(login.Expires)
	}
	return l.member.Subject == "" || session.Name == l.member.Name
}

// revokeKeys voids the keys of direct users that are in the account by the membership.
func (s *Service) revokeKeys(ctx context.Context, l left) (int, error) {
	n := 0
	f := store.UserKeyFilter{Principal: l.member.Principal, AccountID: l.account.ID, ValidAt: s.now()}
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
				Reason:     "its owner's membership of the account has ended, or ends earlier", Actor: l.actor,
			}, "", l.request)
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
func (l *left) outlived(end time.Time) bool { return end.IsZero() || end.After(l.until) }

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
			return slices.Contains(signups[i].Bindings, "member:"+l.member.ID), nil
		}
	}
	now := s.now()
	return !slices.ContainsFunc(l.account.Members, func(m account.Member) bool {
		return m.ID != l.member.ID && m.Principal == owner && m.Role != account.OwnerRole && !m.Accepted.IsZero() && (m.Until.IsZero() || now.Before(m.Until))
	}), nil
}
