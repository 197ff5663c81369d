package resolver

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/account"
)

// Kind is what servers keep account claims in, as resolver says in their files.
type Kind string

// The kinds.
const (
	Full   Kind = "full"   // stores claims, and exchanges them with the other servers
	URL    Kind = "url"    // fetches an account once, when something needs it first
	Memory Kind = "memory" // has what its file preloads
)

// stores reports whether servers store the claims that they are given. The others change only what they have loaded, and
// have lost it when they start anew.
func (k Kind) stores() bool { return k != URL && k != Memory }

// inUse returns the state of an account that all servers have.
func (k Kind) inUse() account.State {
	if k.stores() {
		return account.Active
	}
	return account.Published
}

// census is how many of the servers were seen to store claims; guarded by Resolver.mu.
type census struct {
	taken          bool
	storing, among int
}

// takeCensus asks who stores claims: servers with a full resolver alone answer a LOOKUP.
func (r *Resolver) takeCensus(ctx context.Context) {
	r.mu.RLock()
	servers, of := max(r.active, len(r.servers)), ""
	for id, need := range r.accounts {
		if !need.ByName {
			of = id
		}
	}
	r.mu.RUnlock()
	if r.kind == "" || of == "" || servers == 0 || !r.complete() {
		return
	}
	storing := 0
	err := r.gather(ctx, "$SYS.REQ.ACCOUNT."+of+".CLAIMS.LOOKUP", nil, func([]byte) bool {
		storing++
		return storing >= servers
	})
	if err != nil && !errors.Is(err, nats.ErrNoResponders) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.census = census{true, storing, servers}
}

// mismatch says how the servers are not of the kind that is configured; nil when they are, or that is not known yet. r.mu is
// held.
func (r *Resolver) mismatch() error {
	c := r.census
	switch {
	case !c.taken:
		return nil
	case r.kind.stores() && c.storing == 0:
		return errors.New("nats.resolver.type is full, and no server has a resolver of type full: set it to url or memory, as resolver says in the servers' files; until then nobody gets an account by sign-up")
	case r.kind.stores() && c.storing < c.among:
		return fmt.Errorf("nats.resolver.type is full, and of %d servers only %d have a resolver of type full: give it to all; until then nobody gets an account by sign-up", c.among, c.storing)
	case !r.kind.stores() && c.storing > 0:
		return fmt.Errorf("nats.resolver.type is %s, and of %d servers %d have a resolver of type full, which are not given what they are to store: set it to full once all have", r.kind, c.among, c.storing)
	default:
		return nil
	}
}
