package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
)

func (c *cli) membersCommand(f *accountFlags) *cobra.Command {
	var req api.MemberListRequest
	cmd := &cobra.Command{
		Use:   "members NAME",
		Short: "List the members and invitations of an account",
		Args:  exactArgs(1, "the name or the public key of an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Account = args[0]
			page, err := onAccount[api.MembersPage](cmd.Context(), c, f, api.OpMemberList, req)
			if err != nil {
				return err
			}
			return c.printMembers(page)
		},
	}
	cmd.Flags().IntVar(&req.Limit, "limit", 0, "most to list, up to 1000")
	cmd.Flags().StringVar(&req.Cursor, "cursor", "", "go on where a list before has ended")
	return cmd
}

func (c *cli) printMembers(page api.MembersPage) error {
	if c.json {
		for _, m := range page.Members {
			if err := printJSON(c.out, m); err != nil {
				return err
			}
		}
	} else {
		t := newTable(c.out, "WHO", "ROLE", "STATE", "SINCE", "UNTIL", "BY", "ID")
		for _, m := range page.Members {
			t.row(memberText(m), m.Role, m.State, when(m.Accepted), when(m.Until), orDash(m.By), m.ID)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if page.Cursor != "" {
		fmt.Fprintf(c.err, "There are more: go on with --cursor %s\n", page.Cursor)
	}
	return nil
}

// memberText says whom an entry of the members means.
func memberText(m api.Member) string {
	switch {
	case m.Name != "":
		return m.Name
	case m.Subject != "":
		return m.Subject + " of " + m.Issuer
	case len(m.Match) > 0:
		var claims []string
		for _, claim := range slices.Sorted(maps.Keys(m.Match)) {
			for _, v := range m.Match[claim] {
				claims = append(claims, fmt.Sprintf("%s=%v", claim, v))
			}
		}
		return strings.Join(claims, " ") + " of " + m.Issuer
	case m.Email != "":
		return m.Email
	default:
		return "whoever has the secret"
	}
}

func (c *cli) memberAddCommand(f *accountFlags) *cobra.Command {
	var req api.MemberAddRequest
	var match []string
	var ends string
	cmd := &cobra.Command{
		Use:   "add NAME --role ROLE --issuer ISSUER",
		Short: "Give somebody a role in an account",
		Long: `Gives somebody a role in an account: an identity by --subject, somebody by --email where the issuer is
trusted for that, or with --match whoever of the issuer has the claims. Who is named by subject or
e-mail address has to accept, with gatehouse account accept NAME.`,
		Example: `  gatehouse account add orders --role app --issuer corp --email bob@example.com
  gatehouse account add orders --role app --issuer corp --match groups=orders-team`,
		Args: exactArgs(1, "the name or the public key of an account"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Account = args[0]
			if req.Match, err = parseMatch(match); err != nil {
				return err
			}
			if req.Until, err = parseEnd(ends, time.Now()); err != nil {
				return err
			}
			if req.Role == "" || req.Issuer == "" {
				return fmt.Errorf("%w: say with --role and --issuer what somebody becomes, and of which issuer they are", errUsage)
			}
			m, err := onAccount[api.Member](cmd.Context(), c, f, api.OpMemberAdd, req)
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(c.out, m)
			}
			text := "is a member"
			if m.State == "added" {
				text = "has to accept: gatehouse account accept " + args[0]
			}
			_, err = fmt.Fprintf(c.out, "%s, role %s, %s\n", printable(memberText(m)), m.Role, text)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Role, "role", "", "a role of the account's plan, or owner")
	fl.StringVar(&req.Issuer, "issuer", "", "issuer of who is added, by name or URL")
	fl.StringVar(&req.Subject, "subject", "", "the identity's sub claim")
	fl.StringVar(&req.Email, "email", "", "e-mail address, as the issuer has verified it")
	fl.StringArrayVar(&match, "match", nil, "whoever has CLAIM=VALUE; several: all must hold")
	fl.StringVar(&ends, "until", "", "end of the membership: a duration such as 72h, or a time such as 2026-12-31T18:00:00Z")
	return cmd
}

func (c *cli) memberInviteCommand(f *accountFlags) *cobra.Command {
	var req api.MemberInviteRequest
	cmd := &cobra.Command{
		Use:   "invite NAME --role ROLE",
		Short: "Make an invitation, with a secret that is shown once",
		Long: `Makes an invitation to an account. Its secret is printed this once and kept nowhere: whoever has it can
accept, once, within 7 days unless --ttl says otherwise. With --email only who has that address, as an
issuer that is trusted for that says.`,
		Example: `  gatehouse account invite orders --role app > secret
  gatehouse account accept orders --secret-file secret`,
		Args: exactArgs(1, "the name or the public key of an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Account = args[0]; req.Role == "" {
				return fmt.Errorf("%w: say with --role what who accepts becomes", errUsage)
			}
			out, err := onAccount[api.MemberInvitation](cmd.Context(), c, f, api.OpMemberInvite, req)
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(c.out, out)
			}
			fmt.Fprintf(c.err, "Invitation to account %s, role %s, until %s. Whoever has the secret can accept, once:\ngatehouse account accept %s --secret-file FILE\n",
				out.Account, out.Member.Role, when(out.Member.Until), out.Account)
			_, err = fmt.Fprintln(c.out, out.Secret)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&req.Role, "role", "", "a role of the account's plan, or owner")
	fl.StringVar(&req.Email, "email", "", "only who has this e-mail address")
	fl.StringVar(&req.TTL, "ttl", "", "how long it can be accepted, such as 24h, up to 720h (default 168h)")
	return cmd
}

func (c *cli) memberAcceptCommand(f *accountFlags) *cobra.Command {
	var secretFile string
	cmd := &cobra.Command{
		Use:   "accept NAME",
		Short: "Accept an invitation to an account, or the role that an owner gave you",
		Args:  exactArgs(1, "the name or the public key of an account"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.MemberAcceptRequest{Account: args[0]}
			if secretFile != "" {
				data, err := c.read(secretFile)
				if err != nil {
					return err
				}
				if req.Secret = strings.TrimSpace(string(data)); req.Secret == "" {
					return fmt.Errorf("%s is empty: it should hold the secret of an invitation", secretFile)
				}
			}
			token, err := c.bearerFor(cmd.Context(), f, true)
			if err != nil {
				return err
			}
			out, err := accountCall[api.Membership](cmd.Context(), c, f, api.OpMemberAccept, token, req)
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(c.out, out)
			}
			var roles []string
			for _, m := range out.Members {
				roles = append(roles, m.Role)
			}
			_, err = fmt.Fprintf(c.out, "You are a member of account %s (%s), which is %s: %s.\nLog in as user account:%s with your token.\n",
				out.Name, out.Account, out.State, strings.Join(roles, ", "), out.Name)
			return err
		},
	}
	cmd.Flags().StringVar(&secretFile, "secret-file", "", "file with the secret of an invitation; - for standard input")
	return cmd
}

func (c *cli) memberRemoveCommand(f *accountFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME ID",
		Short: "Remove a member or an invitation, and close what it has opened",
		Args:  exactArgs(2, "the name of an account and the id of a member, as gatehouse account members lists them"),
		RunE: func(cmd *cobra.Command, args []string) error {
			out, err := onAccount[api.MemberRemoval](cmd.Context(), c, f, api.OpMemberRemove, api.MemberRemoveRequest{Account: args[0], ID: args[1]})
			if err != nil {
				return err
			}
			if c.json {
				if err := printJSON(c.out, out); err != nil {
					return err
				}
			} else {
				fmt.Fprintf(c.out, "Removed %s, role %s: %s closed, %s revoked.\n", printable(memberText(out.Member)), out.Member.Role, count(out.Closed, "connection"), count(out.Revoked, "key"))
			}
			return unanswered(out.Unanswered, "what is there ends with its credential, or close it with gatehouse kick")
		},
	}
}
