package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
)

func (c *cli) rotateCommand() *cobra.Command {
	var req api.RotateRequest
	cmd := &cobra.Command{
		Use:   "rotate ACCOUNT",
		Short: "Give a self-service account another signing key",
		Long: `Gives a self-service account another signing key. The old one signs until every server has the
new one, and goes when the last credential that it signed has ended: nobody is cut. The running
service sees to that; gatehouse keys list ACCOUNT shows how far it is.

--now is for a key that leaked: it is taken away at once, with everybody whose credential it
signed. --dry-run changes nothing, and says who that would be.`,
		Example: "  gatehouse keys rotate orders\n  gatehouse keys rotate orders --now --dry-run\n  gatehouse keys rotate orders --now --reason \"the host was broken into\"",
		Args:    exactArgs(1, "the name of an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Account = args[0]
			return c.rotate(cmd.Context(), req)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&req.Now, "now", false, "take the keys away at once that are current, for they leaked")
	f.StringVar(&req.Key, "key", "", "with --now: take this key away and no other")
	f.BoolVar(&req.DryRun, "dry-run", false, "change nothing, and say who would be cut by --now")
	f.StringVar(&req.Reason, "reason", "", "why, for the audit trail; needed with --now")
	return cmd
}

func (c *cli) rotate(ctx context.Context, req api.RotateRequest) error {
	out, err := local[api.RotateRequest, api.Rotation](ctx, c, api.OpAccountRotate, req, nil)
	if err != nil {
		return err
	}
	if c.json {
		return printJSON(c.out, out)
	}
	if a := out.Affected; a != nil {
		fmt.Fprintf(c.out, "With --now %s and %s of direct users would be cut.\n", count(a.Connections, "connection"), count(a.KeysFound, "key"))
		if len(a.Sessions) > 0 {
			if err := c.tableOfSessions(a.Sessions); err != nil {
				return err
			}
		}
		for _, k := range a.Keys {
			fmt.Fprintf(c.out, "%s of %s at %s, until %s\n", k.Key, printable(k.Subject), printable(k.Issuer), when(k.Expires))
		}
		return unanswered(a.Unanswered, "who is connected there is not known")
	}
	for _, id := range out.Revoked {
		fmt.Fprintln(c.out, "revocation", id)
	}
	t := newTable(c.out, "KEY", "STAGE", "SINCE", "UNTIL")
	for _, k := range out.Account.SigningKeys {
		t.row(k.Key, k.Stage, when(k.Since), when(k.Until))
	}
	return t.flush()
}
