package resolver

import (
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

// calmLife is for how long a server is believed that said that it stores what it is to store. Servers say so every two minutes unless their
// resolver's interval is another; of one that does not the accounts are looked at one by one.
const calmLife = 5 * time.Minute

// calm is what an account was when it was seen to be as it is to be on every server; the zero value was not seen.
type calm struct {
	print    print  // of the one JWT that all servers stored and had applied
	revision int64  // of what the store has of its claims
	signer   string // operator signing key at that time
}

// rests reports whether nothing is to be read of an account, since it was seen to be as it is to be: the same is asked of it and stored of it,
// nobody was heard to push it, and what each server makes known of its store holds the JWT that it had then.
func (c *Claims) rests(id string, record store.AccountClaims, o overlay) bool {
	if _, waits := c.adopted.unapplied(id, o); waits || !c.r.kind.stores() || !c.r.complete() {
		return false
	}
	c.mu.Lock()
	a := c.accounts[id]
	if a == nil || a.busy || !a.settled || a.calm == (calm{}) || !maps.Equal(a.asked, o) {
		c.mu.Unlock()
		return false
	}
	seen := a.calm
	c.mu.Unlock()
	return seen.revision == record.Revision && c.isOwn(seen.signer) && c.roster.said(id, seen.print, c.r.Servers(), time.Now())
}

// said reports whether every server lately said that it stores what it is to store, that JWT of an account that is not ours among it.
func (r *roster) said(id string, p print, servers []Server, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open || !r.loaded || r.anew.blind || r.checks.stored[id] != p {
		return false
	}
	return len(servers) > 0 && !slices.ContainsFunc(servers, func(s Server) bool {
		last, spoke := r.checks.matched[s.ID]
		return !spoke || now.Sub(last) > calmLife
	})
}

// soothe notes that all servers were seen to store and to have applied one JWT of an account, which is as it is to be, unless something
// was heard of it since it was taken.
func (c *Claims) soothe(a *accountStatus, record store.AccountClaims, held []serverClaims, stored []string) {
	signer := c.Signer()
	if signer == nil || len(stored) == 0 || stored[0] == "" || len(stored) < c.r.count() || len(held) < c.r.count() {
		return
	}
	public, err := signer.PublicKey()
	if err != nil {
		return
	}
	other := func(token string) bool { return token != stored[0] }
	if slices.ContainsFunc(stored, other) || slices.ContainsFunc(held, func(h serverClaims) bool { return other(h.token) }) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a.taken == a.heard {
		a.calm = calm{printOf(stored[0]), record.Revision, public}
	}
}

// disturb has an account looked at in the next pass, with "" all: claims of it were pushed, or servers may have others than they had.
func (c *Claims) disturb(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for of, a := range c.accounts {
		if id == "" || of == id {
			a.calm = calm{}
			a.heard++
		}
	}
}
