package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/nscstore"
)

// export is what the flags of account export say.
type export struct {
	out, operatorJWT, reason string
	keys                     bool
}

func (c *cli) exportCommand() *cobra.Command {
	var v export
	cmd := &cobra.Command{
		Use:   "export [NAME|ID...]",
		Short: "Write accounts into a folder that nsc and nats auth take",
		Long: `Writes accounts, all without names, as the servers hold them into a new folder in the layout of
nsc and nats auth, so that leaving is possible. With --keys the seeds of their signing keys
go along, unsealed: whoever has them makes users of these accounts without Gatehouse. The
audit trail and the log tell of it.

The folder is of the operator whose JWT is given; its keys are not written: copy them to
keys/keys there, or give them to nsc and nats auth as they ask.`,
		Example: `  gatehouse account export --out nsc --operator-jwt prod/offline/operator.jwt
  gatehouse account export orders --out nsc --operator-jwt operator.jwt --keys --reason "moving to nats auth"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case v.out == "" || v.operatorJWT == "":
				return fmt.Errorf("%w: say where to with --out DIR, and of which operator with --operator-jwt FILE; see gatehouse account export --help", errUsage)
			case v.keys && v.reason == "":
				return fmt.Errorf("%w: say why the keys go out, with --reason", errUsage)
			}
			return c.export(cmd.Context(), v, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&v.out, "out", "", "folder to make")
	f.StringVar(&v.operatorJWT, "operator-jwt", "", "file of the operator's JWT: init wrote it to offline/operator.jwt")
	f.BoolVar(&v.keys, "keys", false, "the seeds of the signing keys too, unsealed")
	f.StringVar(&v.reason, "reason", "", "why, for the audit trail; needed with --keys")
	return cmd
}

// export asks for all accounts before anything is written.
func (c *cli) export(ctx context.Context, v export, refs []string) error {
	operator, err := os.ReadFile(v.operatorJWT)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(v.out, "stores")); err == nil {
		return fmt.Errorf("%s: %w: choose another folder", filepath.Join(v.out, "stores"), nscstore.ErrExists)
	}
	if len(refs) == 0 {
		if refs, err = c.everyAccount(ctx); err != nil {
			return err
		}
	}
	var accounts []api.AccountHandover
	for _, ref := range refs {
		a, err := local[api.AccountHandoverRequest, api.AccountHandover](ctx, c, api.OpAccountHandover, api.AccountHandoverRequest{Account: ref, Keys: v.keys, Reason: v.reason}, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", printable(ref), err)
		}
		accounts = append(accounts, a)
	}
	folder, err := nscstore.Create(v.out, strings.TrimSpace(string(operator)))
	if err != nil {
		return err
	}
	defer folder.Close()
	seeds := 0
	for _, a := range accounts {
		if err := folder.AddAccount(a.JWT); err != nil {
			return err
		}
		for _, seed := range a.Seeds {
			if err := folder.AddSeed([]byte(seed)); err != nil {
				return err
			}
			seeds++
		}
	}
	if c.json {
		return printJSON(c.out, struct {
			Folder   string `json:"folder"`
			Accounts int    `json:"accounts"`
			Seeds    int    `json:"seeds"`
		}{v.out, len(accounts), seeds})
	}
	fmt.Fprintf(c.out, "%s: %s, %s\n", v.out, count(len(accounts), "account"), count(seeds, "seed"))
	return nil
}

// everyAccount returns the ids of all accounts that servers hold.
func (c *cli) everyAccount(ctx context.Context) (ids []string, err error) {
	req := api.AccountListRequest{}
	for {
		page, err := local[api.AccountListRequest, api.AccountsPage](ctx, c, api.OpAccountList, req, nil)
		if err != nil {
			return nil, err
		}
		for _, a := range page.Accounts {
			if a.State != "requested" {
				ids = append(ids, a.Account)
			}
		}
		if req.Cursor = page.Cursor; req.Cursor == "" {
			return ids, nil
		}
	}
}
