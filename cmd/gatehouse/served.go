package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/resolver"
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

// servedClaims returns the claims that servers are to have of an account: the newer ones of what the store and the configuration
// have. While the store does not answer, servers get the accounts alone that Gatehouse itself is in, without which they do not start: of
// others what revocations ask could be missing.
func (d *daemon) servedClaims(ctx context.Context, account string) (string, error) {
	cfg := d.cfg.Load()
	own := slices.IndexFunc(cfg.NATS.Resolver.Accounts, func(a config.AccountJWT) bool { return a.Account() == account })
	stored, err := d.store.Served(ctx, account)
	if own < 0 {
		return stored, err
	}
	file := cfg.NATS.Resolver.Accounts[own]
	if err != nil {
		if account == cfg.CalloutAccount() || account == cfg.SystemAccount() || account == cfg.Lobby() {
			return file.Token(), nil
		}
		return "", err
	}
	if claims, err := jwt.DecodeAccountClaims(stored); err == nil && claims.IssuedAt >= file.Issued() {
		return stored, nil
	}
	return file.Token(), nil
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
