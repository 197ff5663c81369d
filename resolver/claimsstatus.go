package resolver

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

// accountStatus is how an account stands; guarded by Claims.mu.
type accountStatus struct {
	asked   overlay // by the last pass
	busy    bool    // has a worker
	settled bool    // every server that is known has applied what it is to have
	calm    calm
	heard   int // counts what was heard of it
	taken   int // heard, when its worker began
	problem error
	retry   time.Duration
	next    time.Time // when to look again
	pushed  time.Time // when it last was
	refused *attempt  // the last push, when servers did not all take it
}

// attempt is a push to certain servers.
type attempt struct {
	want    *document
	servers string
	next    time.Time // when to make the same again
}

// distrust is a key and servers, such as those that do not trust it: nothing is pushed with it before either changes.
type distrust struct {
	key     string
	servers string
}

// begin notes what is asked of an account and returns its status for a worker; nil when it has one, which sees
// that something else is asked.
func (c *Claims) begin(account string, o overlay) *accountStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.accounts[account]
	if a == nil {
		a = &accountStatus{}
		c.accounts[account] = a
	}
	a.asked = o
	if a.busy {
		return nil
	}
	a.busy, a.taken, a.calm = true, a.heard, calm{}
	return a
}

// errOvertaken says that something else is asked of an account than what is being done.
var errOvertaken = errors.New("something else is asked of it by now")

// errNotYet says that servers did not take the same just now.
var errNotYet = errors.New("servers did not take the same just now")

// overtaken returns [errOvertaken] when the last pass asks something else than o.
func (c *Claims) overtaken(a *accountStatus, o overlay) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if maps.Equal(a.asked, o) {
		return nil
	}
	return errOvertaken
}

// forget drops the status of accounts that are nobody's business any more.
func (c *Claims) forget(known map[string]store.AccountClaims) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.accounts, func(account string, _ *accountStatus) bool {
		_, ok := known[account]
		return !ok
	})
}

// note keeps the outcome of an attempt and when to make the next, and reports whether that is now.
func (c *Claims) note(ctx context.Context, account string, a *accountStatus, err error) (now bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.busy = false
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, errOvertaken):
		a.settled = false
		return true
	case errors.Is(err, errNotYet):
		return false
	case err == nil:
		a.settled, a.problem, a.retry, a.next = true, nil, 0, time.Time{}
		return false
	}
	if a.problem == nil || a.problem.Error() != err.Error() {
		c.log.Error("an account's claims are not as they are to be", "account", account, "error", err)
	}
	a.settled, a.problem = false, err
	a.retry = min(max(2*a.retry, firstRetry), mostRetry)
	a.next = time.Now().Add(a.retry)
	return false
}

// ClaimsStatus is how the claims stand, as one replica sees it.
type ClaimsStatus struct {
	Holder   bool     // whether this replica writes
	Accounts int      // whose claims are kept; 0 where another replica writes
	Settled  int      // of those, as they are to be on every server
	Problems []string // sorted
	// SelfService are the accounts of sign-up that Gatehouse made; Waiting of those are not as they are to be yet.
	SelfService, Waiting int
	// Unknown are accounts that servers store and that are neither configured nor stored, Gone those that are deleted.
	Unknown, Gone []string
}

// Status returns how the claims stand.
func (c *Claims) Status() ClaimsStatus {
	s := c.status()
	if s.Holder {
		c.roster.status(&s)
		slices.Sort(s.Problems)
	}
	return s
}

// Problem says why not every server has what the account is to have; "" when they have, or another replica writes.
func (c *Claims) Problem(id string) string {
	if why := c.roster.problem(id); why != nil {
		return why.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.accounts[id]; c.holds && a != nil && !a.settled && a.problem != nil {
		return a.problem.Error()
	}
	return ""
}

// status is [Claims.Status] without the self-service accounts, which another lock guards: neither is taken under the other.
func (c *Claims) status() ClaimsStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ClaimsStatus{Holder: c.holds}
	if !c.holds {
		return s
	}
	if c.lastErr != nil {
		s.Problems = append(s.Problems, c.lastErr.Error())
	}
	s.Accounts = len(c.accounts)
	for id, a := range c.accounts {
		switch {
		case a.settled:
			s.Settled++
		case a.problem != nil:
			s.Problems = append(s.Problems, "account "+id+": "+a.problem.Error())
		}
	}
	return s
}
