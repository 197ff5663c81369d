package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/seal"
)

// keysOf returns what the operations of keys need of the configuration in force: on servers without an operator, its keys alone.
func keysOf(load func() *config.Config) *provision.Keys {
	keys := &provision.Keys{Configured: func() []api.ConfiguredKey { return configuredKeys(load()) }}
	if load().NATS.Callout.Mode != config.ConfigMode {
		keys.Seal = func() *seal.Ring { return load().Seal() }
		keys.Operator = func() string { return load().Operator.SigningKey.Public() }
	}
	return keys
}

// configuredKeys lists the signing keys that the configuration names, by their places in it.
func configuredKeys(cfg *config.Config) []api.ConfiguredKey {
	list := []api.ConfiguredKey{{Key: cfg.NATS.Callout.SigningKey.Public(), Path: "nats.callout.signing_key", Account: cfg.CalloutAccount()}}
	if cfg.Lobby() != "" {
		list = append(list, api.ConfiguredKey{Key: cfg.NATS.Lobby.SigningKey.Public(), Path: "nats.lobby.signing_key", Account: cfg.Lobby()})
	}
	for name, a := range cfg.Accounts {
		for i := range a.SigningKey {
			list = append(list, api.ConfiguredKey{Key: a.SigningKey[i].Public(), Path: fmt.Sprintf("accounts.%s.signing_key[%d]", name, i), Account: a.ID})
		}
	}
	for name, role := range cfg.Roles {
		if role.ScopedKey.Given() {
			list = append(list, api.ConfiguredKey{Key: role.ScopedKey.Public(), Path: "roles." + name + ".scoped_key", Account: cfg.Accounts[role.Account].ID})
		}
	}
	slices.SortFunc(list, func(a, b api.ConfiguredKey) int { return strings.Compare(a.Path, b.Path) })
	return list
}

func (c *cli) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Signing keys and the keys that seal them: list, rotate, replace, seal anew, make",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, sub := range c.reachable(c.keysListCommand(), c.keysResealCommand(), c.rotateCommand(), c.operatorKeyCommand()) {
		cmd.AddCommand(sub)
	}
	cmd.AddCommand(c.sealKeyCommand())
	return cmd
}

func (c *cli) sealKeyCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "seal-key",
		Short: "Make a key that seals the seeds of accounts in the store",
		Long: `Makes a new key for seal.key and prints it, or writes it into a new file that nobody else can
read. Keep a copy apart from the store: without the key the signing keys of all self-service
accounts are lost, and with it and the store they are anybody's.`,
		Example: "  gatehouse keys seal-key --to keys/seal.key",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			text := seal.NewKey()
			key, err := seal.ParseKey([]byte(text))
			if err != nil {
				return err
			}
			if to == "" {
				fmt.Fprintln(c.out, text)
				return nil
			}
			if err := writeNew(to, text+"\n"); err != nil {
				return err
			}
			if c.json {
				return printJSON(c.out, map[string]string{"file": to, "id": key.ID()})
			}
			fmt.Fprintf(c.out, "The sealing key with id %s is in %s.\n", key.ID(), to)
			return nil
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "file to write it to, which must not be there yet")
	return cmd
}

// writeNew writes a file that only its owner can read, and that was not there.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and may be the only copy of a key in use: name another file", path)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func (c *cli) keysListCommand() *cobra.Command {
	var req api.KeysRequest
	cmd := &cobra.Command{
		Use:   "list [ACCOUNT]",
		Short: "List signing keys, and which key each is sealed with",
		Long: `Lists the public halves of signing keys: the operator's, those that the configuration names,
and those of self-service accounts with their stage and the id of the key that seals them.
It also works while nothing serves, such as when a sealing key is missing. When a key cannot
be used the exit code is 4.`,
		Example: "  gatehouse keys list\n  gatehouse keys list orders --json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%w: %s takes one account, got %q", errUsage, cmd.CommandPath(), args)
			}
			req.Account = strings.Join(args, "")
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return c.listKeys(cmd.Context(), req) },
	}
	return cmd
}

func (c *cli) listKeys(ctx context.Context, req api.KeysRequest) error {
	bad, t := 0, newTable(c.out, "ACCOUNT", "STAGE", "SINCE", "UNTIL", "KEY", "SEALED WITH", "PROBLEM")
	for {
		page, err := local(ctx, c, api.OpKeysList, req, func(s *provision.Service) func(context.Context, provision.Caller, api.KeysRequest) (api.KeysPage, error) {
			return s.KeysList
		})
		if err != nil {
			return err
		}
		for _, k := range page.Keys {
			if k.Problem != "" {
				bad++
			}
			t.row(k.Account, k.Stage, when(k.Since), when(k.Until), k.Key, orDash(k.SealedWith), orDash(k.Problem))
		}
		switch {
		case c.json:
			if err := printJSON(c.out, page); err != nil {
				return err
			}
		case req.Cursor == "" && req.Account == "":
			c.printConfigured(page)
		}
		if req.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	if !c.json {
		if err := t.flush(); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%w: %s of accounts cannot be used", errPartial, count(bad, "signing key"))
	}
	return nil
}

func (c *cli) printConfigured(page api.KeysPage) {
	from := ""
	if page.OperatorFrom != "" {
		from = ", from " + page.OperatorFrom
	}
	fmt.Fprintf(c.out, "operator signing key  %s%s\nsealing key           %s\n", orDash(page.Operator), from, orDash(page.SealingKey))
	for _, id := range page.OpeningKeys {
		if id != page.SealingKey {
			fmt.Fprintf(c.out, "old sealing key       %s\n", id)
		}
	}
	for _, k := range page.Configured {
		fmt.Fprintf(c.out, "%s  %s\n", k.Key, k.Path)
	}
	fmt.Fprintln(c.out)
}

func (c *cli) keysResealCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reseal",
		Short: "Seal the seeds of all accounts anew with seal.key, so that the keys in seal.old can go",
		Long: `Seals the seeds in the store anew with the key in seal.key, while the service runs. It can be
stopped and started again at any time. When it ends with exit code 0, every seed is sealed with
that key, and the others can be taken out of seal.old; with 4, seeds are left, and it says which.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.reseal(cmd.Context()) },
	}
}

// reseal goes over all seeds until nothing is left to be done: another replica may add one behind it.
func (c *cli) reseal(ctx context.Context) error {
	total := api.Resealed{}
	for {
		pass, err := c.resealAll(ctx)
		if err != nil {
			return err
		}
		total.SealingKey, total.Already, total.Left = pass.SealingKey, pass.Already, pass.Left
		if total.Resealed += pass.Resealed; pass.Resealed == 0 {
			break
		}
	}
	if c.json {
		if err := printJSON(c.out, total); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.out, "Sealed anew with the key of id %s: %s. Sealed with it by now: %s.\n", total.SealingKey, count(total.Resealed, "seed"), count(total.Already, "seed"))
	}
	if len(total.Left) == 0 {
		return nil
	}
	for _, s := range total.Left {
		fmt.Fprintf(c.err, "%s of account %s, sealed with %s: %s\n", s.Key, s.AccountID, orDash(s.SealedWith), printable(s.Problem))
	}
	return fmt.Errorf("%w: left as before: %s; keep the keys in seal.old", errPartial, count(len(total.Left), "seed"))
}

// resealAll makes one pass over all seeds.
func (c *cli) resealAll(ctx context.Context) (api.Resealed, error) {
	total, req := api.Resealed{}, api.ResealRequest{}
	for {
		page, err := local(ctx, c, api.OpKeysReseal, req, func(s *provision.Service) func(context.Context, provision.Caller, api.ResealRequest) (api.Resealed, error) {
			return s.KeysReseal
		})
		if refused, ok := errors.AsType[*api.Error](err); ok && refused.Reason == api.ReasonRateLimited {
			select {
			case <-ctx.Done():
				return total, ctx.Err()
			case <-time.After(time.Duration(max(refused.RetryAfter, 1)) * time.Second):
				continue
			}
		}
		if err != nil {
			return total, err
		}
		total.SealingKey = page.SealingKey
		total.Resealed += page.Resealed
		total.Already += page.Already
		total.Left = append(total.Left, page.Left...)
		if req.Cursor = page.Next; page.Next == "" {
			return total, nil
		}
	}
}
