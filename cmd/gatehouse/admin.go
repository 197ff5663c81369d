package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/sqlite"
)

func (c *cli) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the running service read its configuration anew",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := local[struct{}, api.Reloaded](cmd.Context(), c, api.OpReload, struct{}{}, nil)
			if refused, ok := errors.AsType[*api.Error](err); ok && refused.Reason == api.ReasonBadRequest {
				return errors.New(refused.Message) // wrong is the file, as in check, and not the call
			}
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(c.out, out)
			}
			state := "unchanged"
			if out.Changed {
				state = "in force"
			}
			fmt.Fprintf(c.out, "The configuration is valid; rules %s are %s.\n", out.Version, state)
			for _, key := range out.NeedRestart {
				fmt.Fprintf(c.out, "%s was changed too, which takes effect at the next start only.\n", key)
			}
			for _, w := range out.Warnings {
				fmt.Fprintln(c.err, "warning:", w)
			}
			return nil
		},
	}
}

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say how the running service is: servers, issuers, and what is not ready",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, err := local[struct{}, api.Status](cmd.Context(), c, api.OpStatus, struct{}{}, nil)
			if err != nil {
				return err
			}
			if err := c.printStatus(out); err != nil {
				return err
			}
			if !out.Ready {
				return fmt.Errorf("the service is not ready")
			}
			return nil
		},
	}
}

func (c *cli) printStatus(s api.Status) error {
	if c.json {
		return printJSON(c.out, s)
	}
	fmt.Fprintf(c.out, "replica %s, version %s, rules %s\n", s.Replica, s.Version, s.Rules)
	if s.Ready {
		fmt.Fprintln(c.out, "ready")
	}
	for _, line := range s.NotReady {
		fmt.Fprintln(c.out, "not ready:", printable(line))
	}
	for _, line := range s.Warnings {
		fmt.Fprintln(c.out, "warning:", printable(line))
	}
	if a := s.AuditStream; a != nil {
		fmt.Fprintln(c.out, "audit stream:", printable(auditStream(a)))
	}
	switch {
	case s.Claims.Unmanaged != "":
		fmt.Fprintln(c.out, "account claims are left alone:", printable(s.Claims.Unmanaged))
	case s.Claims.Writer:
		fmt.Fprintf(c.out, "account claims are written by this replica: %s kept, %d as they are to be on every server\n", count(s.Claims.Accounts, "account"), s.Claims.Settled)
	default:
		fmt.Fprintln(c.out, "account claims are written by another replica")
	}
	printAccounts(c.out, s.Claims)
	fmt.Fprintln(c.out)
	t := newTable(c.out, "SERVER", "VERSION", "CLOCK", "ID")
	for _, v := range s.Servers {
		t.row(v.Name, v.Version, v.ClockOffset, v.ID)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(s.Replicas) > 0 {
		fmt.Fprintln(c.out)
		t = newTable(c.out, "REPLICA", "LOGINS", "HEARD", "STATE")
		for _, v := range s.Replicas {
			logins, state := "not answering", "behind"
			if v.Serving {
				logins = "answering"
			}
			if v.Current {
				state = "current"
			}
			t.row(v.Name, logins, v.Silent+" ago", state)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	fmt.Fprintln(c.out)
	t = newTable(c.out, "ISSUER", "KEYS", "URL", "ERROR")
	for _, v := range s.Issuers {
		keys := "not loaded"
		if v.KeysLoaded {
			keys = "loaded " + when(v.LoadedAt)
		}
		t.row(v.Name, keys, v.URL, orDash(v.Error))
	}
	return t.flush()
}

// auditStream says how the copy of the audit trail stands.
func auditStream(a *api.AuditStreamStatus) string {
	switch {
	case a.Error != "":
		return fmt.Sprintf("nothing is copied to %s, entries wait in the store: %s", a.Stream, a.Error)
	case !a.Copying:
		return "another replica copies to " + a.Stream
	default:
		return fmt.Sprintf("copied to %s up to %s, %d since this replica started", a.Stream, when(a.Current), a.Copied)
	}
}

func (c *cli) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the store's schema up to this release",
		Long: `Brings the store's schema up to this release. gatehouse serve does so too when it
starts; run this before, where the service's own database user may not change the schema.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			if err := migrate(cmd.Context(), cfg); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "The schema of %s is up to date.\n", cfg.Store)
			return nil
		},
	}
}

func migrate(ctx context.Context, cfg *config.Config) error {
	if cfg.Store.Driver() == config.SQLite {
		return sqlite.Migrate(ctx, cfg.Store.Source())
	}
	return postgres.Migrate(ctx, cfg.Store.Source())
}

func (c *cli) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and every file that it names, offline",
		Long: `Checks the configuration and every file that it names, without the network. All errors
are reported at once, each with its place and what to do. Where the service runs on this host, or
its database is a file that is here, it also says which accounts are of a plan that the configuration has not.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load()
			if err != nil {
				return err
			}
			return c.printCheck(cfg, c.planlessHere(cmd.Context(), cfg))
		},
	}
}

// checked is what gatehouse check prints for programs.
type checked struct {
	Config   string   `json:"config"`
	Rules    string   `json:"rules"`
	Managed  bool     `json:"managed"` // whether account claims can be changed
	Warnings []string `json:"warnings"`
}

// printWarnings prints what the configuration allows and is seldom meant, for people.
func (c *cli) printWarnings(cfg *config.Config) {
	for _, w := range cfg.Warnings {
		fmt.Fprintln(c.err, "warning:", w)
	}
}

func (c *cli) printCheck(cfg *config.Config, lost []planless) error {
	rules := cfg.Rules()
	out := checked{Config: cfg.Path(), Rules: rules.Version, Managed: cfg.Unmanaged() == "", Warnings: []string{}}
	for _, w := range cfg.Warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	for _, p := range lost {
		out.Warnings = append(out.Warnings, p.String())
	}
	if c.json {
		return printJSON(c.out, out)
	}
	for _, w := range out.Warnings {
		fmt.Fprintln(c.err, "warning:", w)
	}
	needKey := []string{}
	for _, list := range rules.Bindings {
		for _, b := range list {
			if b.RequireKey {
				needKey = append(needKey, b.Name)
			}
		}
	}
	fmt.Fprintf(c.out, "%s is valid: %s, %s, %s, %s (rules %s).\n", cfg.Path(), count(len(cfg.Issuers), "issuer"),
		count(len(rules.Accounts), "account"), count(len(cfg.Roles), "role"), count(len(cfg.Bindings), "binding"), rules.Version)
	xkey := "no xkey: requests come unsealed"
	if cfg.NATS.Callout.XKey.Given() {
		xkey = "xkey " + cfg.NATS.Callout.XKey.Public()
	}
	fmt.Fprintf(c.out, "callout account %s\n  signing key %s\n  %s\n", cfg.CalloutAccount(), cfg.NATS.Callout.SigningKey.Public(), xkey)
	switch why := cfg.Unmanaged(); {
	case why == "":
		fmt.Fprintf(c.out, "account claims are signed by %s\n", cfg.Operator.SigningKey.Public())
	case cfg.NATS.Callout.Mode == config.ConfigMode:
		fmt.Fprintf(c.out, "account claims are left alone: %s\n  logins work; direct users, suspensions, signing keys and activations are out of reach\n", why)
	default:
		fmt.Fprintf(c.out, "account claims are left alone, unless the store has an operator signing key (gatehouse keys operator): %s\n  without one logins work; direct users, suspensions, signing keys and activations are out of reach\n", why)
	}
	if is, ok := forgetful[cfg.NATS.Resolver.Type]; ok {
		fmt.Fprintln(c.out, is)
	}
	if len(needKey) > 0 {
		slices.Sort(needKey)
		fmt.Fprintf(c.out, "require_key in %s: tokens that were renewed, or obtained by device code, are seldom bound to a key and get nothing there\n", strings.Join(needKey, ", "))
	}
	return nil
}
