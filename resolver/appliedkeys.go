package resolver

import (
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/account"
)

const (
	// mostSeen bounds the accounts of which it is kept what servers have applied; half of them when the rest is dropped.
	mostSeen = 1 << 16
	// seenLife is for how long a server is taken to have what it was seen to have, though nothing says otherwise;
	// missingLife for how long it is taken to lack what it lacked.
	seenLife    = 10 * time.Minute
	missingLife = time.Second
)

// appliedKeys keeps which servers were seen to have applied which accounts, of the accounts that no configuration names.
type appliedKeys struct {
	mu         sync.Mutex
	young, old map[string]map[string]seen // by account, by server
	voided     map[string]uint64          // by account, when it was forgotten last
	cleared    uint64                     // when all were
	now        uint64                     // counts what was forgotten
}

// seen is what a server was seen to have applied of one account.
type seen struct {
	state AccountState // its claims hold the signing keys and the end alone
	until time.Time
}

// get returns what the server was seen to have applied of the account.
func (a *appliedKeys) get(server, account string, now time.Time) (AccountState, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list, there := a.young[account]
	if !there {
		if list, there = a.old[account]; there {
			a.add(account, list)
		}
	}
	s, there := list[server]
	return s.state, there && now.Before(s.until)
}

// put notes what the server was seen to have applied of the account.
func (a *appliedKeys) put(server, account string, state AccountState, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.note(server, account, state, now)
}

// note is put; a.mu is held.
func (a *appliedKeys) note(server, account string, state AccountState, now time.Time) {
	life := missingLife
	if state.Applied {
		life = seenLife
	}
	list := a.young[account]
	if list == nil {
		if list = a.old[account]; list == nil {
			list = map[string]seen{}
		}
		a.add(account, list)
	}
	for id, s := range list {
		if !now.Before(s.until) {
			delete(list, id) // also of servers that are no more
		}
	}
	list[server] = seen{state, now.Add(life)}
}

// add notes the account as one that was asked for lately; a.mu is held.
func (a *appliedKeys) add(account string, list map[string]seen) {
	if a.young == nil || len(a.young) >= mostSeen/2 {
		a.old, a.young = a.young, map[string]map[string]seen{}
	}
	a.young[account] = list
}

// era returns the moment for [appliedKeys.putSince].
func (a *appliedKeys) era() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

// putSince is put of what was asked for at that moment, unless the account was forgotten since.
func (a *appliedKeys) putSince(era uint64, server, account string, state AccountState, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.voided[account] <= era && a.cleared <= era {
		a.note(server, account, state, now)
	}
}

// forget drops what is known of an account whose claims may have changed.
func (a *appliedKeys) forget(account string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now++
	if a.voided == nil || len(a.voided) >= mostSeen {
		// What is being read is read again.
		a.voided, a.cleared = map[string]uint64{}, a.now
	}
	a.voided[account] = a.now
	delete(a.young, account)
	delete(a.old, account)
}

// clear drops all.
func (a *appliedKeys) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now++
	a.young, a.old, a.voided, a.cleared = nil, nil, nil, a.now
}

// learn notes what servers were seen to have applied by who pushed it: that JWT, made from that record.
func (a *appliedKeys) learn(applied map[string]string, token string, record *account.Account) {
	claims := &jwt.AccountClaims{}
	claims.Subject = record.ID
	claims.SigningKeys = jwt.SigningKeys{}
	for _, k := range record.Keys {
		claims.SigningKeys.Add(k.Public)
	}
	now := time.Now()
	for server, has := range applied {
		if has == token {
			a.put(server, record.ID, AccountState{Applied: true, Claims: claims}, now)
		}
	}
}

// slim returns the state with what signing needs of its claims.
func (s AccountState) slim() AccountState {
	if s.Claims != nil {
		claims := &jwt.AccountClaims{}
		claims.Subject, claims.Expires, claims.SigningKeys = s.Claims.Subject, s.Claims.Expires, s.Claims.SigningKeys
		s.Claims = claims
	}
	s.Token = ""
	return s
}
