package provision

import (
	"context"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
)

// AccountGraph says who imports what from whom: to admins of all accounts, to everybody else of those whose member they are or to which a binding leads them.
func (s *Service) AccountGraph(ctx context.Context, c Caller, req api.AccountGraphRequest) (api.AccountGraph, error) {
	return asParty(ctx, s, api.OpAccountGraph, c, req, func(ctx context.Context, p party, _ api.AccountGraphRequest) (api.AccountGraph, error) {
		out := api.AccountGraph{Accounts: []api.GraphAccount{}, Links: []api.GraphLink{}}
		var seen []*account.Account
		names := map[string]string{}
		for name, id := range s.accounts() {
			names[id] = name
		}
		now := s.Now()
		err := s.eachAccount(ctx, func(a *account.Account) {
			names[a.ID] = a.Name
			if p.sees(a, now) {
				seen = append(seen, a)
			}
		})
		if err != nil {
			return out, err
		}
		g := account.GraphOf(seen, func(id string) (*account.Account, bool) {
			name, known := names[id]
			return &account.Account{ID: id, Name: name}, known
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
