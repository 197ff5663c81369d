package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/nscstore"
)

// adoption is what the flags of account adopt say.
type adoption struct {
	req         api.AccountAdoptRequest
	folder      string
	operator    string // name in the folder
	operatorJWT string // file
	all         bool
	owner       api.Owner
}

func (c *cli) adoptCommand() *cobra.Command {
	var v adoption
	cmd := &cobra.Command{
		Use:   "adopt NAME|ID...",
		Short: "Take accounts over that nsc or nats auth made",
		Long: `Takes accounts over that others made, from what the servers hold or, with --store, from a
folder of nsc or nats auth. Their claims stay as they are, but that a signing key is added
where the folder has the seed of none; whoever changes them with nsc or nats auth later is
not undone. Seeds of signing keys in the folder are sealed and kept; identity keys are never
read. Members then log in to the account as in every account of sign-up.

Accounts of the configuration, and those that Gatehouse itself is in, are refused.`,
		Example: `  gatehouse account adopt ORDERS --plan team --owner-issuer corp --owner-subject 7f3a --dry-run
  gatehouse account adopt --all --store ~/.local/share/nats/nsc --plan team`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if v.owner != (api.Owner{}) {
				v.req.Owner = &v.owner
			}
			switch {
			case v.all && v.folder == "":
				return fmt.Errorf("%w: --all is for the accounts of a folder: name it with --store; gatehouse status lists those that only the servers know", errUsage)
			case v.all == (len(args) > 0):
				return fmt.Errorf("%w: name the accounts, or all of a folder with --all --store DIR", errUsage)
			case v.req.Name != "" && len(args) != 1:
				return fmt.Errorf("%w: --as is the name of one account", errUsage)
			}
			return c.adopt(cmd.Context(), v, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&v.folder, "store", "", "folder of nsc or nats auth (default: what the servers hold)")
	f.StringVar(&v.operator, "operator", "", "name of the operator in the folder, where it has several")
	f.StringVar(&v.operatorJWT, "operator-jwt", "", "file of the operator's JWT, where keys sign accounts that Gatehouse does not know")
	f.BoolVar(&v.all, "all", false, "all accounts of the folder that can be taken over")
	f.StringVar(&v.req.Plan, "plan", "", "plan that says which roles members may have; needed where there are several")
	f.StringVar(&v.req.Name, "as", "", "name by which Gatehouse has the account (default: the one in its claims)")
	f.StringVar(&v.owner.Issuer, "owner-issuer", "", "name or URL of the owner's issuer (default: no owner)")
	f.StringVar(&v.owner.Subject, "owner-subject", "", "the owner's sub claim")
	f.BoolVar(&v.req.DryRun, "dry-run", false, "change nothing, say what would become of each")
	return cmd
}

// adopt takes the accounts over one by one. One that is refused does not keep the others.
func (c *cli) adopt(ctx context.Context, v adoption, refs []string) error {
	if v.operatorJWT != "" {
		token, err := os.ReadFile(v.operatorJWT)
		if err != nil {
			return err
		}
		v.req.Operator = string(token)
	}
	var folder *nscstore.Folder
	if v.folder != "" {
		var err error
		if folder, err = nscstore.Open(v.folder, v.operator); err != nil {
			return err
		}
		defer folder.Close()
		if v.req.Operator == "" {
			if v.req.Operator, _, err = folder.Operator(); err != nil {
				return err
			}
		}
		if v.all {
			if refs, err = folder.Accounts(); err != nil {
				return err
			}
		}
	}
	var failed []error
	for _, ref := range refs {
		if err := c.adoptOne(ctx, v, folder, ref); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", printable(ref), err))
		}
	}
	if len(failed) > 0 && len(failed) < len(refs) {
		return fmt.Errorf("%w: %d of %d accounts were left:\n%w", errPartial, len(failed), len(refs), errors.Join(failed...))
	}
	return errors.Join(failed...)
}

func (c *cli) adoptOne(ctx context.Context, v adoption, folder *nscstore.Folder, ref string) error {
	req := v.req
	req.Account = ref
	if folder != nil {
		if err := c.fromFolder(folder, &req); err != nil {
			return err
		}
	}
	out, err := local[api.AccountAdoptRequest, api.AccountAdoption](ctx, c, api.OpAccountAdopt, req, nil)
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(c.out, out)
	}
	did := "taken over, " + out.State
	if req.DryRun {
		did = "can be taken over"
	}
	fmt.Fprintf(c.out, "%s %s: %s, plan %s\n", printable(out.Name), out.Account, did, printable(out.Plan))
	if len(out.Sealed) > 0 {
		fmt.Fprintln(c.out, "  signing keys that Gatehouse keeps, sealed:", strings.Join(out.Sealed, ", "))
	} else {
		fmt.Fprintln(c.out, "  signing key that is made and added to its claims:", orDash(out.Made))
	}
	if len(out.Elsewhere) > 0 {
		fmt.Fprintln(c.out, "  signing keys that stay where they are:", strings.Join(out.Elsewhere, ", "))
	}
	return nil
}

// fromFolder fills in what the folder has of the account: its JWT, and the seeds of its signing keys. Those that it lacks are
// told; its identity key is not looked at.
func (c *cli) fromFolder(folder *nscstore.Folder, req *api.AccountAdoptRequest) error {
	found, err := folder.Find(req.Account)
	if err != nil {
		return err
	}
	req.Account, req.Token = found.Claims.Subject, found.Token
	for _, public := range found.Claims.SigningKeys.Keys() {
		if scope, _ := found.Claims.SigningKeys.GetScope(public); scope != nil {
			continue // it signs what its template says, and nothing that a plan says
		}
		seed, err := folder.Seed(public, "signing key of account "+found.Claims.Name)
		if errors.Is(err, nscstore.ErrMissing) {
			fmt.Fprintln(c.err, "note:", err)
			continue
		}
		if err != nil {
			return err
		}
		req.Seeds = append(req.Seeds, string(seed))
	}
	return nil
}
