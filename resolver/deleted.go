package resolver

import (
	"context"
	"maps"
	"slices"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

// deletedOf returns which of the accounts are deleted, as their records say: servers are to have nothing of those, whatever revocations, such
// as the suspension that closed them, ask still. A deleted account stays so, and is read once.
func (c *Claims) deletedOf(ctx context.Context, ids []string) (map[string]bool, error) {
	deleted := map[string]bool{}
	if c.Records == nil {
		return deleted, nil
	}
	var ask []string
	c.mu.Lock()
	for _, id := range ids {
		if c.deleted[id] {
			deleted[id] = true
		} else {
			ask = append(ask, id)
		}
	}
	c.mu.Unlock()
	ask = slices.DeleteFunc(ask, func(id string) bool { return c.r.needs(id) || c.adopted.has(id) })
	for part := range slices.Chunk(ask, store.MaxPage) {
		page, _, err := c.Records.Accounts(ctx, store.AccountFilter{IDs: part, State: account.Deleted, Deleted: true, Limit: store.MaxPage})
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		for i := range page {
			deleted[page[i].ID], c.deleted[page[i].ID] = true, true
		}
		c.mu.Unlock()
	}
	return deleted, nil
}

// exhume looks whether a server that has come stores one of the deleted accounts, which is to be dropped at once then: what it makes known of
// its store may come minutes later, and until then the account would be open there.
func (c *Claims) exhume(ctx context.Context, deleted map[string]bool) error {
	r := c.roster
	r.mu.Lock()
	come := r.open && r.checks.unburied && c.r.kind.stores()
	r.checks.unburied = r.checks.unburied && !come
	r.mu.Unlock()
	if !come || len(deleted) == 0 {
		return nil
	}
	var found []string
	for part := range slices.Chunk(slices.Sorted(maps.Keys(deleted)), mostAtOnce) {
		batch := make([]*delivery, len(part))
		for i, id := range part {
			batch[i] = &delivery{account: id}
		}
		if err := c.r.lookupAll(ctx, batch); err != nil {
			r.mu.Lock()
			r.checks.unburied = true
			r.mu.Unlock()
			return err
		}
		for _, d := range batch {
			if slices.ContainsFunc(d.stored, func(token string) bool { return token != "" }) {
				found = append(found, d.account)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dig(found...)
	return nil
}

// dig notes deleted accounts that servers may store, to be dropped; r.mu is held.
func (r *roster) dig(ids ...string) {
	before := len(r.checks.gone)
	r.checks.gone = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(r.checks.gone), ids...))))
	if len(r.checks.gone) > before {
		r.stir()
	}
}

// has reports whether the account is one that was taken over and lives.
func (l *adopted) has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records[id] != nil
}
