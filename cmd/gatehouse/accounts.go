package main

import (
	"context"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/seal"
)

// accounts returns what the operations of self-service accounts need.
func (d *daemon) accounts(cfg *config.Config) *provision.Accounts {
	return &provision.Accounts{
		Audience: cfg.HTTP.Address(),
		Plans:    func() map[string]*account.Plan { return d.cfg.Load().Plans() },
		Seal:     func() *seal.Ring { return d.cfg.Load().Seal() },
		TrustsEmail: func(issuer string) bool {
			for _, i := range d.cfg.Load().Issuers {
				if i.URL == issuer {
					return i.TrustEmail
				}
			}
			return false
		},
		Known:  d.resolver.HasAccount,
		Claims: d.resolver.Published,
		Keys:   d.keyring.Load,
		Stored: func(ctx context.Context, id string) (provision.Stored, error) {
			s, err := d.resolver.Storage(ctx, id)
			return provision.Stored(s), err
		},
	}
}
