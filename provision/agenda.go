package provision

import (
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
)

// agenda is when something is due to be done to accounts, by account id.
type agenda struct {
	mu  sync.Mutex
	due map[string]time.Time
}

// follow notes when it is due for the accounts that have changed, all of them after a load; when reports false where it never is.
func (v *agenda) follow(changed []account.Account, all bool, when func(*account.Account) (at time.Time, waits bool)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if all || v.due == nil {
		v.due = map[string]time.Time{}
	}
	for i := range changed {
		if at, waits := when(&changed[i]); waits {
			v.due[changed[i].ID] = at
		} else {
			delete(v.due, changed[i].ID)
		}
	}
}

// at returns the ids of the accounts for which it is due.
func (v *agenda) at(now time.Time) (ids []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, at := range v.due {
		if !now.Before(at) {
			ids = append(ids, id)
		}
	}
	return ids
}

// postpone has what is due for the account wait until then.
func (v *agenda) postpone(id string, now, until time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at, waits := v.due[id]; waits && !now.Before(at) {
		v.due[id] = until
	}
}
