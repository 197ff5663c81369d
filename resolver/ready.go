package resolver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// SigningKey returns the first of the account's signing keys that the server has applied in its
// claims, or the scoped one when scoped is not empty, if the server has applied that with a
// template. Otherwise it says why a login must wait or be refused: [policy.AccountUnready] or
// [policy.AccountExpired].
func (r *Resolver) SigningKey(server string, account *policy.Account, scoped string, now time.Time) (string, *policy.Refusal) {
	if r.blind {
		return account.SigningKeys[0], nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	s, ok := r.servers[server]
	if !ok {
		return "", policy.Refuse(policy.AccountUnready, "server %s is not known any more", server)
	}
	// Ours may be the one that is off: the replica leaves the queue group then.
	if off := r.offset(s); off.Abs() > MaxOffset && (off-r.skew()).Abs() > MaxOffset {
		return "", policy.Refuse(policy.AccountUnready, "the clock of server %s is %s off the others'", s.Name, (off - r.skew()).Round(time.Millisecond))
	}
	state, ok := s.accounts[account.ID]
	if !ok {
		state, ok = r.keys.get(server, account.ID, time.Now())
	}
	if !ok {
		return "", policy.Refuse(policy.AccountUnready, "account %s has not been read back from server %s yet", account.Name, s.Name)
	}
	return state.signingKey(account, scoped, s.Name, now.Add(r.offset(s)))
}

// Ready returns nil when every known server has applied what Gatehouse needs, or an error
// that names what is missing where.
func (r *Resolver) Ready() error {
	if r.blind {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	var errs []error
	if r.lastErr != nil {
		errs = append(errs, fmt.Errorf("the system account does not answer: %w", r.lastErr))
	}
	if len(r.servers) == 0 {
		return errors.Join(append(errs, errors.New("no server is known"))...)
	}
	if n := r.unknown(); n > 0 {
		errs = append(errs, fmt.Errorf("%d of %d servers have answered", len(r.servers), len(r.servers)+n))
	}
	for _, s := range r.servers {
		if off := r.offset(s) - r.skew(); off.Abs() > MaxOffset {
			errs = append(errs, fmt.Errorf("server %s: its clock is %s off the others': set it right; its logins stay unanswered meanwhile", s.Name, off.Round(time.Millisecond)))
		}
		for id, need := range r.accounts {
			state, ok := s.accounts[id]
			if !ok {
				errs = append(errs, fmt.Errorf("server %s: account %s has not been read back yet", s.Name, need.Name))
				continue
			}
			if err := state.lacks(need, r.now().Add(r.offset(s))); err != nil {
				errs = append(errs, fmt.Errorf("server %s: account %s: %w", s.Name, need.Name, err))
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// Connected reports whether a server can be asked now.
func (r *Resolver) Connected() bool { return !r.blind && r.nc.IsConnected() }
