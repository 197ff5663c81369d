package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/resolver"
	"github.com/gatehouse-nats/gatehouse/store"
)

// kindOf returns what the servers keep claims in; empty without an operator.
func kindOf(cfg *config.Config) resolver.Kind {
	if cfg.NATS.Callout.Mode == config.ConfigMode {
		return ""
	}
	return resolver.Kind(cfg.NATS.Resolver.Type)
}

// served returns what servers that store no claims are given; nil where they do.
func (d *daemon) served(cfg *config.Config) *provision.Served {
	kind := kindOf(cfg)
	if kind != resolver.URL && kind != resolver.Memory {
		return nil
	}
	return &provision.Served{Claims: d.servedClaims, Fetched: kind == resolver.URL, Others: func() (ids []string) {
		for _, a := range d.cfg.Load().NATS.Resolver.Accounts {
			ids = append(ids, a.Account())
		}
		return ids
	}}
}

// servedClaims returns the claims that servers are to have of an account: what the store has of it, and what the configuration has
// where no revocation ever changed that. A newer file is not served before the writer of claims has laid over it what revocations ask, see
// [daemon.givenClaims]. While the store does not answer, servers get the accounts alone that Gatehouse itself is in, without which they do
// not start: of others what revocations ask could be missing.
func (d *daemon) servedClaims(ctx context.Context, id string) (string, error) {
	cfg := d.cfg.Load()
	stored, err := d.store.Served(ctx, id)
	file := given(cfg, id)
	if file == "" || err == nil && stored != "" && !d.outdated(cfg, id, stored, file) {
		return stored, err
	}
	if ownAccount(cfg, id) {
		return file, nil
	}
	if err != nil {
		return "", err
	}
	deleted, _, err := d.store.Accounts(ctx, store.AccountFilter{IDs: []string{id}, State: account.Deleted, Deleted: true, Limit: 1})
	if err != nil || len(deleted) > 0 {
		return "", err
	}
	return file, nil
}

// given returns the JWT of an account in nats.resolver.accounts; "" when it is not there.
func given(cfg *config.Config, id string) string {
	for _, a := range cfg.NATS.Resolver.Accounts {
		if a.Account() == id {
			return a.Token()
		}
	}
	return ""
}

// ownAccount reports whether Gatehouse is in the account: no server starts, or lets Gatehouse in, without it.
func ownAccount(cfg *config.Config, id string) bool {
	return id == cfg.CalloutAccount() || id == cfg.SystemAccount() || id == cfg.Lobby()
}

// outdated reports whether servers may not take what the store has of an account that Gatehouse is in, and are given the file: none is there
// to say, and neither the operator signing key nor the one that signed the file has signed it.
func (d *daemon) outdated(cfg *config.Config, id, stored, file string) bool {
	if !ownAccount(cfg, id) || d.resolver.Connected() {
		return false
	}
	has, err := jwt.DecodeAccountClaims(stored)
	if err != nil {
		return true
	}
	signed, err := jwt.DecodeAccountClaims(file)
	return err == nil && has.Issuer != signed.Issuer && has.Issuer != d.operatorPublic()
}

// givenClaims returns the JWT of an account that the writer of claims is to take for what others made of it, though no server may have it.
func (d *daemon) givenClaims(id string) string {
	cfg := d.cfg.Load()
	if d.served(cfg) == nil {
		return ""
	}
	return given(cfg, id)
}

func (c *cli) preloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "preload",
		Short: "Print resolver_preload for servers with a memory resolver",
		Long: `Prints the accounts of sign-up, and those of nats.resolver.accounts, as the servers are to
have them: a resolver_preload block for the files of servers with resolver: MEMORY. Such a
server knows no account that is not in there, and starts with what is. Write it anew, and
have the servers read their files anew, for each new account; what changes of accounts
that servers have they are told meanwhile, and again after each start.`,
		Example: `  gatehouse account preload > preload.conf && nats-server --signal reload`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.preload(cmd.Context())
		},
	}
}

// preload asks for all accounts before anything is printed.
func (c *cli) preload(ctx context.Context) error {
	all := []api.PreloadedAccount{}
	req := api.AccountPreloadRequest{}
	for {
		page, err := local[api.AccountPreloadRequest, api.AccountPreload](ctx, c, api.OpAccountPreload, req, nil)
		if err != nil {
			return err
		}
		all = append(all, page.Accounts...)
		if req.Cursor = page.Cursor; req.Cursor == "" {
			break
		}
	}
	if c.json {
		return printJSON(c.out, all)
	}
	var block strings.Builder
	block.WriteString("resolver_preload {\n")
	for _, a := range all {
		name := ""
		if claims, err := jwt.DecodeAccountClaims(a.JWT); err == nil {
			name = claims.Name
		}
		fmt.Fprintf(&block, "  # %s\n  %s: %q\n", printable(name), a.Account, a.JWT)
	}
	block.WriteString("}\n")
	_, err := fmt.Fprint(c.out, block.String())
	return err
}
