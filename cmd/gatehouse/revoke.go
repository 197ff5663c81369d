package main

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

func (c *cli) revokeCommand() *cobra.Command {
	var req api.RevokeRequest
	var logout bool
	var until string
	cmd := &cobra.Command{
		Use:   "revoke --issuer NAME --subject SUB --reason WHY",
		Short: "Block an identity, or log it out",
		Long: `Blocks an identity: no replica admits it any more, until the block is lifted or its
end comes. With --logout the identity may log in again, but every token that was issued
until now is void.

The issuer is the configured name or the exact URL, the subject the raw sub claim: both
are in gatehouse audit. Connections that exist stay until their credential ends.`,
		Example: `  gatehouse revoke --issuer corp --subject 7f3a --reason "left the company"
  gatehouse revoke --issuer corp --subject 7f3a --reason "laptop stolen" --logout
  gatehouse revoke --issuer corp --subject 7f3a --reason "on leave" --until 72h`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if logout {
				req.Kind = "logout"
			}
			end, err := parseEnd(until, time.Now())
			if err != nil {
				return err
			}
			req.Until = end
			if req.IdempotencyKey == "" {
				req.IdempotencyKey = uuid.NewString()
			}
			result, err := local(cmd.Context(), c, api.OpRevoke, req,
				func(s *provision.Service) func(context.Context, provision.Caller, api.RevokeRequest) (api.RevokeResult, error) {
					return s.Revoke
				})
			if err != nil {
				return err
			}
			return c.printRevocation(result)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Issuer, "issuer", "", "name or URL of the identity's issuer")
	f.StringVar(&req.Subject, "subject", "", "the identity's sub claim")
	f.StringVar(&req.Reason, "reason", "", "why, for the audit trail")
	f.BoolVar(&logout, "logout", false, "void the tokens issued until now instead of blocking")
	f.StringVar(&until, "until", "", "end of the block: a duration such as 72h, or a time such as 2026-12-31T18:00:00Z")
	f.StringVar(&req.IdempotencyKey, "idempotency-key", "", "gives the first answer again when the same call is repeated")
	cmd.AddCommand(c.liftCommand())
	return cmd
}

// parseEnd reads a duration from now, or a time with its zone.
func parseEnd(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %q is neither a duration such as 72h nor a time such as 2026-12-31T18:00:00Z", errUsage, s)
	}
	return t, nil
}

func (c *cli) printRevocation(result api.RevokeResult) error {
	if c.json {
		return printJSON(c.out, result)
	}
	r := result.Revocation
	who := printable(r.Subject) + " of " + r.Issuer
	switch {
	case result.Existing:
		fmt.Fprintf(c.out, "%s is blocked already, by %s since %s: nothing changed.\n", who, r.ID, when(r.At))
	case r.Kind == "logout":
		fmt.Fprintf(c.out, "%s is logged out: tokens issued until %s are void (%s).\n", who, when(r.At), r.ID)
	case r.Until.IsZero():
		fmt.Fprintf(c.out, "%s is blocked until it is lifted: gatehouse revoke lift %s --reason WHY\n", who, r.ID)
	default:
		fmt.Fprintf(c.out, "%s is blocked until %s, or until it is lifted: gatehouse revoke lift %s --reason WHY\n", who, when(r.Until), r.ID)
	}
	if result.Unseen {
		fmt.Fprintln(c.err, "note: no login of this subject is recorded; if that is unexpected, check its spelling")
	}
	return nil
}

func (c *cli) liftCommand() *cobra.Command {
	var req api.LiftRequest
	cmd := &cobra.Command{
		Use:   "lift [ID]",
		Short: "End a revocation before its time",
		Example: `  gatehouse revoke lift 0197b3c0-8a55-7c3e-9f0e-2f1d7c1f4b11 --reason "came back"
  gatehouse revoke lift --issuer corp --subject 7f3a --reason "came back"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%w: lift takes one id", errUsage)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				req.ID = args[0]
			}
			result, err := local(cmd.Context(), c, api.OpRevokeLift, req,
				func(s *provision.Service) func(context.Context, provision.Caller, api.LiftRequest) (api.LiftResult, error) {
					return s.Lift
				})
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(c.out, result)
			}
			for _, r := range result.Lifted {
				fmt.Fprintf(c.out, "%s of %s of %s is lifted (%s).\n", r.Kind, printable(r.Subject), r.Issuer, r.ID)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Issuer, "issuer", "", "name or URL of the issuer, to lift every block of an identity")
	f.StringVar(&req.Subject, "subject", "", "the identity's sub claim")
	f.StringVar(&req.Reason, "reason", "", "why, for the audit trail")
	return cmd
}

func (c *cli) revocationsCommand() *cobra.Command {
	var req api.RevocationsRequest
	cmd := &cobra.Command{
		Use:   "revocations",
		Short: "List blocks and logouts, newest first",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			page, err := local(cmd.Context(), c, api.OpRevocations, req,
				func(s *provision.Service) func(context.Context, provision.Caller, api.RevocationsRequest) (api.RevocationsPage, error) {
					return s.Revocations
				})
			if err != nil {
				return err
			}
			return c.printRevocations(page)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Issuer, "issuer", "", "only of this issuer, by name or URL")
	f.StringVar(&req.Subject, "subject", "", "only of this sub")
	f.BoolVar(&req.All, "all", false, "also those that were lifted or have ended")
	f.IntVar(&req.Limit, "limit", 100, "most to list, up to 1000")
	f.StringVar(&req.Cursor, "cursor", "", "go on after a page")
	return cmd
}

func (c *cli) printRevocations(page api.RevocationsPage) error {
	if c.json {
		for _, r := range page.Revocations {
			if err := printJSON(c.out, r); err != nil {
				return err
			}
		}
		c.more(page.Cursor)
		return nil
	}
	t := newTable(c.out, "SINCE", "KIND", "SUBJECT", "ISSUER", "UNTIL", "STATE", "BY", "REASON", "ID")
	for _, r := range page.Revocations {
		state := "in force"
		switch {
		case !r.LiftedAt.IsZero():
			state = "lifted by " + r.LiftedBy
		case !r.InForce:
			state = "ended"
		}
		t.row(when(r.At), r.Kind, r.Subject, r.Issuer, when(r.Until), state, r.Actor, r.Reason, r.ID)
	}
	return c.endPage(t, page.Cursor)
}

// endPage writes the table and how to get the next page.
func (c *cli) endPage(t *table, cursor string) error {
	if err := t.flush(); err != nil {
		return err
	}
	c.more(cursor)
	return nil
}

// more says how to get the next page, apart from what a program reads.
func (c *cli) more(cursor string) {
	if cursor != "" {
		fmt.Fprintln(c.err, "There is more: --cursor", cursor)
	}
}
