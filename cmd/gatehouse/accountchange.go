package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gatehouse-nats/gatehouse/api"
)

// accountUpdate is what the flags of update say.
type accountUpdate struct {
	req             api.AccountUpdateRequest
	description     string
	tags            []string
	issuer, subject string
	limits          map[string]*int64
	planLimits      bool
}

// limitFlags are the limits that can be changed by flags, in the order of the help.
var limitFlags = []string{
	"connections", "leaf-nodes", "subscriptions", "payload", "data", "imports", "exports", "js-memory", "js-disk", "js-streams", "js-consumers",
}

func (c *cli) accountUpdateCommand(f *accountFlags) *cobra.Command {
	v := accountUpdate{limits: map[string]*int64{}}
	cmd := &cobra.Command{
		Use:   "update NAME",
		Short: "Change an account: what it says and, for admins, what it may",
		Long: `Changes an account. Owners change the description and the tags; the plan, the limits and the owner
are for admins. Limits stand in place of the plan's until --plan-limits drops all of them; -1 is no limit.

The account is read first, and nothing is changed where somebody else was faster: run the command
again then. --revision names the revision that you have read yourself.`,
		Example: `  gatehouse account update orders --description "all orders" --tag eu,prod
  gatehouse account update orders --connections 200 --js-disk 10737418240 --js-streams 20
  gatehouse account update orders --plan-limits`,
		Args: exactArgs(1, "the name or the public key of an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			v.req.Account = args[0]
			return c.updateAccount(cmd.Context(), f, v, cmd.Flags())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&v.description, "description", "", "what it is for")
	fl.StringSliceVar(&v.tags, "tag", nil, "its tags, in place of those before; several with commas, --tag= for none")
	fl.StringVar(&v.req.Plan, "plan", "", "its plan; for admins, as all that follows")
	fl.StringVar(&v.issuer, "issuer", "", "issuer of its new owner, by name or URL")
	fl.StringVar(&v.subject, "subject", "", "sub of its new owner")
	for _, name := range limitFlags {
		v.limits[name] = fl.Int64(name, 0, "limit in place of the plan's; -1 is none")
	}
	fl.BoolVar(&v.planLimits, "plan-limits", false, "only the plan's limits")
	fl.Int64Var(&v.req.Revision, "revision", 0, "change this revision alone (default: the one that there is)")
	fl.StringVar(&v.req.IdempotencyKey, "idempotency-key", "", "the same call with it happens once; with --revision")
	return cmd
}

func (c *cli) updateAccount(ctx context.Context, f *accountFlags, v accountUpdate, given *pflag.FlagSet) error {
	if (v.issuer == "") != (v.subject == "") {
		return fmt.Errorf("%w: the new owner is named by --issuer and --subject, both", errUsage)
	}
	if v.issuer != "" {
		v.req.Owner = &api.Owner{Issuer: v.issuer, Subject: v.subject}
	}
	if given.Changed("description") {
		v.req.Description = &v.description
	}
	if given.Changed("tag") {
		tags := []string{}
		for _, t := range v.tags {
			if t != "" {
				tags = append(tags, t)
			}
		}
		v.req.Tags = &tags
	}
	token, err := c.bearerFor(ctx, f, false)
	if err != nil {
		return err
	}
	a, err := revisionOf(ctx, c, f, token, v.req.Account)
	if err != nil {
		return err
	}
	if v.req.Revision == 0 {
		v.req.Revision = a.Revision
	}
	v.req.Limits = v.changed(a, given)
	if v.req.Description == nil && v.req.Tags == nil && v.req.Plan == "" && v.req.Owner == nil && v.req.Limits == nil {
		return fmt.Errorf("%w: say what to change, see gatehouse account update --help", errUsage)
	}
	out, err := accountCall[api.Account](ctx, c, f, api.OpAccountUpdate, token, v.req)
	if err != nil {
		return err
	}
	return c.printAccount(out)
}

// changed returns the limits that shall stand in place of the plan's: those that do, with what the flags say; nil when they stay.
func (v *accountUpdate) changed(a api.Account, given *pflag.FlagSet) *api.LimitsChange {
	l, any := api.LimitsChange{}, v.planLimits
	js := api.JetStreamChange{Streams: -1, Consumers: -1}
	if was := a.Limits.JetStream; was != nil {
		js = api.JetStreamChange(*was)
	}
	if was := a.Changed; was != nil && !v.planLimits {
		l = api.LimitsChange{
			Connections: was.Connections, LeafNodes: was.LeafNodes, Subscriptions: was.Subscriptions, Payload: was.Payload, Data: was.Data,
			Imports: was.Imports, Exports: was.Exports, JetStream: (*api.JetStreamChange)(was.JetStream),
		}
		for tier, t := range was.Tiers {
			if l.Tiers == nil {
				l.Tiers = map[string]api.JetStreamChange{}
			}
			l.Tiers[tier] = api.JetStreamChange(t)
		}
	}
	for name, to := range map[string]**int64{
		"connections": &l.Connections, "leaf-nodes": &l.LeafNodes, "subscriptions": &l.Subscriptions, "payload": &l.Payload, "data": &l.Data,
		"imports": &l.Imports, "exports": &l.Exports,
	} {
		if given.Changed(name) {
			*to, any = v.limits[name], true
		}
	}
	for name, to := range map[string]*int64{"js-memory": &js.Memory, "js-disk": &js.Disk, "js-streams": &js.Streams, "js-consumers": &js.Consumers} {
		if given.Changed(name) {
			*to, any, l.JetStream, l.Tiers = *v.limits[name], true, &js, nil
		}
	}
	if !any {
		return nil
	}
	return &l
}

func (c *cli) accountRenameCommand(f *accountFlags) *cobra.Command {
	var req api.AccountRenameRequest
	cmd := &cobra.Command{
		Use:   "rename NAME NEW",
		Short: "Give an account another name",
		Long: `Gives an account another name. Its id stays, and so do connections; clients that name the account when
they connect (user account:NAME) have to be told.`,
		Args: exactArgs(2, "the name of an account and a new one"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Account, req.Name = args[0], args[1]
			token, err := c.bearerFor(cmd.Context(), f, false)
			if err != nil {
				return err
			}
			if req.Revision == 0 {
				a, err := revisionOf(cmd.Context(), c, f, token, req.Account)
				if err != nil {
					return err
				}
				req.Revision = a.Revision
			}
			out, err := accountCall[api.Account](cmd.Context(), c, f, api.OpAccountRename, token, req)
			if err != nil {
				return err
			}
			return c.printDone(out, "is named so now")
		},
	}
	cmd.Flags().Int64Var(&req.Revision, "revision", 0, "rename this revision alone (default: the one that there is)")
	return cmd
}

// printDone says in one line what became of an account.
func (c *cli) printDone(a api.Account, what string) error {
	if c.json {
		return printJSON(c.out, a)
	}
	_, err := fmt.Fprintf(c.out, "Account %s (%s) %s.\n", a.Name, a.Account, what)
	return err
}

// actCommand is a command of an admin or an owner that names an account and gives a reason.
func (c *cli) actCommand(f *accountFlags, use, short, op string, needsReason bool, done func(api.Account) string) *cobra.Command {
	var req api.AccountActRequest
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: exactArgs(1, "the name or the public key of an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Account = args[0]; needsReason && req.Reason == "" {
				return fmt.Errorf("%w: say why with --reason, for the audit trail", errUsage)
			}
			a, err := onAccount[api.Account](cmd.Context(), c, f, op, req)
			if err != nil {
				return err
			}
			return c.printDone(a, done(a))
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the audit trail")
	return cmd
}

func is(a api.Account) string { return "is " + a.State }

func (c *cli) accountApproveCommand(f *accountFlags) *cobra.Command {
	return c.actCommand(f, "approve NAME", "Have an account made that was requested", api.OpAccountApprove, false, is)
}

func (c *cli) accountRejectCommand(f *accountFlags) *cobra.Command {
	return c.actCommand(f, "reject NAME --reason WHY", "Reject an account that was requested", api.OpAccountReject, true, func(api.Account) string { return "is rejected" })
}

func (c *cli) accountResumeCommand(f *accountFlags) *cobra.Command {
	return c.actCommand(f, "resume NAME --reason WHY", "End the suspension of an account", api.OpAccountResume, true, func(a api.Account) string {
		if a.Suspended {
			return "is still closed: it is being deleted"
		}
		return "is suspended no more"
	})
}

func (c *cli) accountUndeleteCommand(f *accountFlags) *cobra.Command {
	return c.actCommand(f, "undelete NAME", "Have an account back that is being deleted", api.OpAccountUndelete, false, is)
}

func (c *cli) accountSuspendCommand(f *accountFlags) *cobra.Command {
	var req api.AccountSuspendRequest
	var ends string
	cmd := &cobra.Command{
		Use:   "suspend NAME --reason WHY",
		Short: "Close an account to everybody",
		Long: `Closes an account to everybody, as gatehouse revoke --account NAME --suspend does, which can also wait
until it is proved that no connection is left.`,
		Args: exactArgs(1, "the name or the public key of an account"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Account = args[0]; req.Reason == "" {
				return fmt.Errorf("%w: say why with --reason, for the audit trail", errUsage)
			}
			if req.Until, err = parseEnd(ends, time.Now()); err != nil {
				return err
			}
			a, err := onAccount[api.Account](cmd.Context(), c, f, api.OpAccountSuspend, req)
			if err != nil {
				return err
			}
			return c.printDone(a, "is suspended")
		},
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the audit trail")
	cmd.Flags().StringVar(&ends, "until", "", "end by itself: a duration such as 72h, or a time such as 2026-12-31T18:00:00Z")
	return cmd
}

func (c *cli) accountDeleteCommand(f *accountFlags) *cobra.Command {
	var req api.AccountDeleteRequest
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete an account, with a grace in which it can be had back",
		Long: `Deletes an account: it is closed at once, and gone when its grace of 7 days ends. Until then gatehouse
account undelete gives it back. You see what it stores and are asked, unless --yes is given; an
account with streams is only deleted with --with-data.`,
		Args: exactArgs(1, "the name or the public key of an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Account = args[0]
			return c.deleteAccount(cmd.Context(), f, req, yes)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Reason, "reason", "", "why, for the audit trail")
	fl.BoolVar(&req.WithData, "with-data", false, "its streams shall go with it")
	fl.StringVar(&req.Grace, "grace", "", "how long it can be had back, such as 24h or 0s; for admins (default 168h)")
	fl.BoolVar(&req.DryRun, "dry-run", false, "change nothing, show what would go")
	fl.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (c *cli) deleteAccount(ctx context.Context, f *accountFlags, req api.AccountDeleteRequest, yes bool) error {
	token, err := c.bearerFor(ctx, f, false)
	if err != nil {
		return err
	}
	if !req.DryRun && !yes {
		look := req
		look.DryRun = true
		would, err := accountCall[api.AccountDeletion](ctx, c, f, api.OpAccountDelete, token, look)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.err, deletionText(would)+".")
		if req.WithData || would.Streams == 0 && len(would.Unanswered) == 0 { // otherwise it is refused
			if err := c.agree(false, "Delete it?"); err != nil {
				return err
			}
		}
	}
	out, err := accountCall[api.AccountDeletion](ctx, c, f, api.OpAccountDelete, token, req)
	switch {
	case err != nil:
		return err
	case c.json:
		return printJSON(c.out, out)
	case req.DryRun:
		_, err = fmt.Fprintln(c.out, deletionText(out)+"; nothing was done.")
	case out.Account.State == "deleted":
		_, err = fmt.Fprintf(c.out, "Account %s (%s) is deleted.\n", out.Account.Name, out.Account.Account)
	default:
		_, err = fmt.Fprintf(c.out, "%s.\nIt is closed, and gone %s; until then: gatehouse account undelete %s\n", deletionText(out), when(out.Account.DeleteAt), out.Account.Name)
	}
	return err
}

// deletionText says what goes with an account.
func deletionText(d api.AccountDeletion) string {
	text := fmt.Sprintf("Account %s (%s) has %s with %d bytes", d.Account.Name, d.Account.Account, count(d.Streams, "stream"), d.Bytes)
	if len(d.Unanswered) > 0 {
		text += ", and may have more on " + printable(strings.Join(d.Unanswered, ", ")) + ", from where no answer came"
	}
	return text
}
