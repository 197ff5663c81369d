package resolver

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-nats/gatehouse/store"
)

// Converged reports whether every server that is known has applied what the revocation asks of claims, and would
// come up with it again; why says what is missing. It reads the servers, so that it is true on any replica, and
// wakes the writer when something is missing.
func (c *Claims) Converged(ctx context.Context, r store.Revocation) (done bool, why string, err error) {
	keys, err := c.userKeys(ctx)
	if err != nil {
		return false, "", err
	}
	wanted := asks([]store.Revocation{r}, keys, c.Closed(), c.Leeway, c.r.now())
	if len(wanted) == 0 || c.Absent {
		return true, "", nil
	}
	if c.r.blind {
		return false, "", ErrNoSystemUser
	}
	deleted, err := c.deletedOf(ctx, slices.Collect(maps.Keys(wanted)))
	if err != nil {
		return false, "", err
	}
	for _, account := range slices.Sorted(maps.Keys(wanted)) {
		missing, err := c.lacking(ctx, account, wanted[account], deleted[account])
		if err != nil {
			return false, "", err
		}
		if missing != "" {
			c.disturb(account)
			c.Wake()
			return false, "account " + account + ": " + missing, nil
		}
	}
	return true, "", nil
}

// lacking says where an account's claims do not do what is asked; "" when they do everywhere. Of a deleted account servers may have none.
func (c *Claims) lacking(ctx context.Context, account string, o overlay, deleted bool) (string, error) {
	if c.Signer() == nil {
		return ErrNotManaged.Error(), nil
	}
	held, err := c.r.appliedEverywhere(ctx, account)
	if errors.Is(err, errDisconnected) {
		return "", err
	}
	var missing []string
	if err != nil {
		missing = append(missing, err.Error())
	}
	for _, h := range held {
		if h.found == nil && !deleted || h.found != nil && !o.holds(h.found) {
			missing = append(missing, "not applied on "+h.server.Name)
		}
	}
	if len(missing) == 0 {
		tokens, err := c.r.lookup(ctx, account)
		if err != nil {
			return "", err
		}
		for _, token := range tokens {
			if token == "" && deleted {
				continue
			}
			if d, err := parseDocument(token); err != nil || !o.holds(d) {
				missing = append(missing, "a server stores others than it has applied")
			}
		}
	}
	if len(missing) == 0 {
		return "", nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.accounts[account]; a != nil && a.problem != nil {
		missing = append(missing, a.problem.Error())
	}
	return strings.Join(missing, "; "), nil
}
