package resolver

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-nats/gatehouse/store"
)

// mostSigned bounds the accounts of one key that are told by their names.
const mostSigned = 20

// SignedBy is an operator key, and the accounts whose claims it has signed.
type SignedBy struct {
	Key      string
	Accounts int
	Some     []string // their names, or ids where no name is known; at most 20
}

// Signing returns which operator keys have signed the claims that servers hold, by key: of the accounts that the configuration
// names, of those that Gatehouse is in, and of all whose claims it keeps. Of self-service accounts that is what was read back
// last, of the others it is read now, of what servers apply and of what they store. An account is counted under each key that
// signed what a server has of it. The error names servers that did not answer.
func (c *Claims) Signing(ctx context.Context) ([]SignedBy, error) {
	tally := tally{}
	others, err := c.signedRecords(ctx, tally)
	if err != nil {
		return nil, err
	}
	kept, err := c.Store.AccountClaims(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range kept {
		others[k.Account] = cmp.Or(others[k.Account], k.Account)
	}
	for id := range c.Closed() {
		others[id] = "the system account" // the others have the names that follow
	}
	c.r.mu.RLock()
	for id, need := range c.r.accounts {
		others[id] = need.Name
	}
	c.r.mu.RUnlock()
	delete(others, "")
	errs := make([]error, 0, len(others))
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(parallelAccounts)
	for id, name := range others {
		g.Go(func() error {
			keys, err := c.r.signersOf(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			for _, key := range keys {
				tally.add(key, name)
			}
			errs = append(errs, err)
			return nil
		})
	}
	_ = g.Wait() // what failed is in errs
	return tally.list(), errors.Join(errs...)
}

// signedRecords counts the self-service accounts that Gatehouse made, and returns the names of those that it took over, by id.
func (c *Claims) signedRecords(ctx context.Context, tally tally) (adopted map[string]string, err error) {
	adopted = map[string]string{}
	if c.Records == nil {
		return adopted, nil
	}
	for f := (store.AccountFilter{Limit: store.MaxPage}); ; {
		page, next, err := c.Records.Accounts(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range page {
			switch a := &page[i]; {
			case a.Adopted:
				adopted[a.ID] = a.Name
			case a.Signer != "" && a.Lives():
				tally.add(a.Signer, a.Name)
			}
		}
		if f.Cursor = next; next == "" {
			return adopted, nil
		}
	}
}

// signersOf returns the keys that signed what servers apply and store of an account, each once.
func (r *Resolver) signersOf(ctx context.Context, id string) ([]string, error) {
	held, err := r.appliedEverywhere(ctx, id)
	keys := map[string]bool{}
	for _, h := range held {
		if h.found != nil {
			keys[h.found.issuer()] = true
		}
	}
	tokens, failed := r.lookup(ctx, id)
	for _, token := range tokens {
		if d, err := parseDocument(token); err == nil {
			keys[d.issuer()] = true
		}
	}
	return slices.Collect(maps.Keys(keys)), errors.Join(err, failed)
}

// tally counts accounts by the key that signed their claims.
type tally map[string]*SignedBy

func (t tally) add(key, account string) {
	by := t[key]
	if by == nil {
		by = &SignedBy{Key: key}
		t[key] = by
	}
	if by.Accounts++; len(by.Some) < mostSigned {
		by.Some = append(by.Some, account)
	}
}

func (t tally) list() (list []SignedBy) {
	for _, key := range slices.Sorted(maps.Keys(t)) {
		slices.Sort(t[key].Some)
		list = append(list, *t[key])
	}
	return list
}
