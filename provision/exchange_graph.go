package provision

import (
	"context"
	"slices"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store"
)

// AccountGraph says who imports what from whom: to admins of all accounts, to everybody else of those whose member they are or to which a binding leads them.
func (s *Service) AccountGraph(ctx context.Context, c Caller, req api.AccountGraphRequest) (api.AccountGraph, error) {
	return asParty(ctx, s, api.OpAccountGraph, c, req, func(ctx context.Context, p party, _ api.AccountGraphRequest) (api.AccountGraph, error) {
		out := api.AccountGraph{Accounts: []api.GraphAccount{}, Links: []api.GraphLink{}}
		seen, err := s.seen(ctx, p)
		if err != nil {
			return out, err
		}
		configured := map[string]string{}
		for name, id := range s.accounts() {
			configured[id] = name
		}
		g := account.GraphOf(seen, func(id string) (*account.Account, bool) {
			name := configured[id]
			if state := s.State(); name == "" && state != nil {
				if e := state.Accounts.ID(id); e != nil {
					name = e.Account.Name
				}
			}
			return &account.Account{ID: id, Name: name}, name != ""
		})
		for _, n := range g.Nodes {
			out.Accounts = append(out.Accounts, api.GraphAccount(n))
		}
		for _, l := range g.Links {
			out.Links = append(out.Links, api.GraphLink(l))
		}
		return out, nil
	})
}

// seen returns the accounts that the caller may know of: of who is no admin those that memory says are theirs, since anybody may call.
func (s *Service) seen(ctx context.Context, p party) (all []*account.Account, err error) {
	now := s.Now()
	add := func(a *account.Account) {
		if p.sees(a, now) {
			all = append(all, a)
		}
	}
	if p.admin {
		err = s.eachAccount(ctx, store.AccountFilter{}, add)
		return all, err
	}
	state := s.State()
	if state == nil {
		return nil, errNoState
	}
	var ids []string
	for _, e := range p.accounts(state, now) {
		ids = append(ids, e.Account.ID)
	}
	for part := range slices.Chunk(ids, store.MaxPage) {
		if err := s.eachAccount(ctx, store.AccountFilter{IDs: part}, add); err != nil {
			return nil, err
		}
	}
	return all, nil
}
