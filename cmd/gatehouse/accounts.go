package main

import (
	"context"
	"net/netip"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
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
		Known:   d.resolver.HasAccount,
		Claims:  d.resolver.Published,
		Keys:    d.keyring.Load,
		Problem: d.claims.Problem,
		Stored: func(ctx context.Context, id string) (provision.Stored, error) {
			s, err := d.resolver.Storage(ctx, id)
			return provision.Stored(s), err
		},
		Others: d.others(cfg),
	}
}

// found has the account made that a login leads to.
func (d *daemon) found(id *policy.Identity, source netip.Addr, c *policy.Creation) (<-chan struct{}, func() *policy.Refusal) {
	return d.provision.Found(id, source, c)
}

// others returns what taking accounts over needs; nil where no servers can be asked.
func (d *daemon) others(cfg *config.Config) *provision.Others {
	if d.system == nil {
		return nil
	}
	return &provision.Others{
		Claims: d.resolver.Newest, Signers: d.resolver.Signers, Keep: d.claims.Keep, Lobby: cfg.Lobby(),
		OperatorKey: d.operatorPublic,
	}
}
