package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// revocation is what the flags of revoke say.
type revocation struct {
	req                                     api.RevokeRequest
	logout, suspend                         bool
	userKey, signingKey, importer, at, ends string
	match                                   []string
	yes, wait                               bool
	timeout                                 time.Duration
}

func (c *cli) revokeCommand() *cobra.Command {
	var v revocation
	cmd := &cobra.Command{
		Use:   "revoke [WHO] --reason WHY",
		Short: "Take access back: block, log out, suspend, revoke a key",
		Long: `Blocks an identity: no replica admits it any more, every connection of it is closed,
and later ones are, until the block is lifted or its end comes. With --logout the
identity may log in again, but every token that was issued until now is void.

WHO is what people are known by, such as an e-mail address: those who have logged in
under it are shown with their connections, and you are asked. Programs name an
identity exactly, by --issuer and --subject. Instead of an identity: --match CLAIM=VALUE,
--sid, --jti or --all of an issuer; --account with --logout, --suspend, --user-key,
--signing-key, or --export and --importer.

With --wait the command ends once it is proved: every replica denies, and every server
has shown after that that no connection is left. Exit code 4 says that it is not yet.`,
		Example: `  gatehouse revoke alice@example.com --reason "left the company" --wait
  gatehouse revoke --issuer corp --subject 7f3a --reason "laptop stolen" --logout --wait
  gatehouse revoke --issuer corp --match groups=contractors --reason "contract ended" --dry-run
  gatehouse revoke --account APP --logout --reason "leaked configuration" --wait
  gatehouse revoke --account APP --suspend --reason "unpaid" --until 72h`,
		Args: atMostWho,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := v.complete(time.Now()); err != nil {
				return err
			}
			switch {
			case len(args) == 1:
				return c.revokePeople(cmd.Context(), v, args[0])
			case v.req.Issuer == "" && v.req.Account == "":
				return fmt.Errorf("%w: say whom: WHO, or --issuer with --subject, --match, --sid, --jti or --all, or --account; see gatehouse revoke --help", errUsage)
			default:
				return c.revoke(cmd.Context(), v)
			}
		},
	}
	v.flags(cmd.Flags())
	cmd.AddCommand(c.liftCommand(), c.waitCommand())
	return cmd
}

func (v *revocation) flags(f *pflag.FlagSet) {
	f.StringVar(&v.req.Issuer, "issuer", "", "name or URL of the issuer")
	f.StringVar(&v.req.Subject, "subject", "", "the identity's sub claim")
	f.StringVar(&v.req.Session, "sid", "", "log out a login session of the issuer, by its sid")
	f.StringVar(&v.req.Token, "jti", "", "log out one token of the issuer, by its jti")
	f.StringArrayVar(&v.match, "match", nil, "block the identities of the issuer with CLAIM=VALUE; several: all must hold")
	f.BoolVar(&v.req.All, "all", false, "everybody of the issuer")
	f.StringVar(&v.req.Account, "account", "", "name or public key of an account")
	f.BoolVar(&v.logout, "logout", false, "void the tokens issued until now instead of blocking; with --account alone, of all its users")
	f.BoolVar(&v.suspend, "suspend", false, "close the account to everybody")
	f.StringVar(&v.userKey, "user-key", "", "void the user JWTs of this public key (U…) in the account")
	f.StringVar(&v.signingKey, "signing-key", "", "take this signing key (A…) from the account, with all that it signed")
	f.StringVar(&v.req.Export, "export", "", "void the activation tokens for this export of the account, with --importer")
	f.StringVar(&v.importer, "importer", "", "public key (A…) of the account that imports")
	f.BoolVar(&v.req.Programs, "programs", false, "the identity's programs too")
	f.StringVar(&v.req.Reason, "reason", "", "why, for the audit trail")
	f.StringVar(&v.at, "at", "", "time until which a logout voids tokens, instead of now: 2h ago as 2h, or a time")
	f.StringVar(&v.ends, "until", "", "end by itself: a duration such as 72h, or a time such as 2026-12-31T18:00:00Z")
	f.BoolVar(&v.req.Force, "force", false, "revoke oneself")
	f.BoolVar(&v.req.DryRun, "dry-run", false, "change nothing, show whom it would concern")
	f.BoolVarP(&v.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&v.wait, "wait", false, "end once it is proved that nothing is left")
	f.DurationVar(&v.timeout, "timeout", time.Minute, "longest time to wait")
	f.StringVar(&v.req.IdempotencyKey, "idempotency-key", "", "gives the first answer again when the same call is repeated")
}

// complete makes the request that the flags stand for.
func (v *revocation) complete(now time.Time) error {
	kinds := map[string]bool{
		"logout": v.logout || v.req.Session != "" || v.req.Token != "", "suspension": v.suspend, "user_key": v.userKey != "", "signing_key": v.signingKey != "",
		"activation": v.req.Export != "" || v.importer != "",
	}
	for kind, is := range kinds {
		if !is {
			continue
		}
		if v.req.Kind != "" {
			return fmt.Errorf("%w: --logout, --suspend, --user-key, --signing-key and --export exclude each other", errUsage)
		}
		v.req.Kind = kind
	}
	v.req.Key = cmp.Or(v.userKey, v.signingKey, v.importer)
	var err error
	if v.req.Match, err = parseMatch(v.match); err != nil {
		return err
	}
	if v.req.Until, err = parseEnd(v.ends, now); err != nil {
		return err
	}
	if v.req.At, err = parsePast(v.at, now); err != nil {
		return err
	}
	if v.req.IdempotencyKey == "" {
		v.req.IdempotencyKey = uuid.NewString()
	}
	return nil
}

// parseMatch reads CLAIM=VALUE; several values of one claim are alternatives. A value that is true, false
// or a number is one; in double quotes it is a text.
func parseMatch(list []string) (map[string][]any, error) {
	var match map[string][]any
	for _, s := range list {
		claim, text, ok := strings.Cut(s, "=")
		if !ok || claim == "" || text == "" {
			return nil, fmt.Errorf("%w: --match %q is not CLAIM=VALUE, such as groups=contractors", errUsage, s)
		}
		if match == nil {
			match = map[string][]any{}
		}
		match[claim] = append(match[claim], matchValue(text))
	}
	return match, nil
}

func matchValue(text string) any {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil || dec.More() {
		return text
	}
	switch v.(type) {
	case bool, json.Number, string:
		return v
	default:
		return text
	}
}

// revoke carries out one revocation and waits for its end where that is asked for. Of what may concern many
// somebody at a terminal is shown first whom it does.
func (c *cli) revoke(ctx context.Context, v revocation) error {
	if wide := len(v.req.Match) > 0 || v.req.All || v.suspend || v.req.Kind == "logout" && v.req.Account != ""; wide && !v.req.DryRun && !v.yes && terminal(c.err) {
		plan := v.req
		plan.DryRun = true
		result, err := c.ask(ctx, plan)
		if err == nil {
			err = c.printPlan(result)
		}
		if err != nil && !errors.Is(err, errPartial) {
			return err
		}
		if err := c.agree(false, "Do it?"); err != nil {
			return err
		}
	}
	result, err := c.ask(ctx, v.req)
	if err != nil {
		return err
	}
	return c.conclude(ctx, v, result)
}

// ask has a revocation carried out, or planned. Where nothing serves it says who closes the connections.
func (c *cli) ask(ctx context.Context, req api.RevokeRequest) (api.RevokeResult, error) {
	direct := false
	result, err := local(ctx, c, api.OpRevoke, req,
		func(s *provision.Service) func(context.Context, provision.Caller, api.RevokeRequest) (api.RevokeResult, error) {
			direct = true
			return s.Revoke
		})
	if direct && err == nil && !req.DryRun {
		fmt.Fprintln(c.err, "note: nothing serves here, so it is in the store alone: connections are closed by the other replicas, or once one runs")
	}
	return result, err
}

// conclude says what was stored, or planned, and waits for its end where that is asked for.
func (c *cli) conclude(ctx context.Context, v revocation, result api.RevokeResult) error {
	if v.req.DryRun {
		err := c.printPlan(result)
		if !c.json {
			fmt.Fprintln(c.out, "Nothing was changed.")
		}
		return err
	}
	if v.wait {
		return c.awaitRevocation(ctx, result, v.timeout)
	}
	return c.printRevocation(result)
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

// concerns names whom a revocation concerns, for people.
func concerns(r api.Revocation) string {
	account := cmp.Or(r.AccountName, r.Account)
	switch {
	case r.Export != "":
		return fmt.Sprintf("the import of %s of %s by %s", r.Export, account, r.Key)
	case r.Key != "":
		return fmt.Sprintf("key %s of %s", r.Key, account)
	case r.Session != "":
		return fmt.Sprintf("session %s of %s", r.Session, r.Issuer)
	case r.Token != "":
		return fmt.Sprintf("token %s of %s", r.Token, r.Issuer)
	case len(r.Match) > 0 && account != "":
		return fmt.Sprintf("whoever of %s has %s, in %s,", r.Issuer, matchText(r.Match), account)
	case len(r.Match) > 0:
		return fmt.Sprintf("whoever of %s has %s", r.Issuer, matchText(r.Match))
	case r.Subject != "":
		return r.Subject + " of " + r.Issuer
	case r.Issuer != "":
		return "everybody of " + r.Issuer
	default:
		return "account " + account
	}
}

// matchText shows a match as its flags are written.
func matchText(match map[string][]any) string {
	var all []string
	for _, claim := range slices.Sorted(maps.Keys(match)) {
		var values []string
		for _, v := range match[claim] {
			values = append(values, fmt.Sprint(v))
		}
		all = append(all, claim+"="+strings.Join(values, " or "))
	}
	return strings.Join(all, " and ")
}

// effect says what a revocation does, for people.
func effect(r api.Revocation) string {
	switch r.Kind {
	case "block":
		return "blocked"
	case "logout":
		if r.Session != "" || r.Token != "" {
			return "logged out"
		}
		return "logged out: tokens issued until " + when(r.At) + " are void"
	case "suspension":
		return "suspended"
	default:
		return "revoked"
	}
}

func (c *cli) printRevocation(result api.RevokeResult) error {
	if c.json {
		return printJSON(c.out, result)
	}
	r := result.Revocation
	who := printable(concerns(r))
	switch {
	case result.Existing:
		fmt.Fprintf(c.out, "%s is %s already, by %s since %s: nothing changed.\n", who, strings.SplitN(effect(r), ":", 2)[0], r.ID, when(r.At))
	case r.Kind == "logout":
		fmt.Fprintf(c.out, "%s is %s (%s).\n", who, effect(r), r.ID)
	case r.Until.IsZero():
		fmt.Fprintf(c.out, "%s is %s until it is lifted: gatehouse revoke lift %s --reason WHY\n", who, effect(r), r.ID)
	default:
		fmt.Fprintf(c.out, "%s is %s until %s, or until it is lifted: gatehouse revoke lift %s --reason WHY\n", who, effect(r), when(r.Until), r.ID)
	}
	c.noteUnseen(result)
	return nil
}

func (c *cli) noteUnseen(result api.RevokeResult) {
	if result.Unseen && result.Revocation.Issuer != provision.AdminTokenIssuer {
		fmt.Fprintln(c.err, "note: no login of this subject is recorded; if that is unexpected, check its spelling")
	}
}

// printPlan says what a revocation would do.
func (c *cli) printPlan(result api.RevokeResult) error {
	if c.json {
		return printJSON(c.out, result)
	}
	fmt.Fprintf(c.out, "%s would be %s.\n", printable(concerns(result.Revocation)), effect(result.Revocation))
	c.noteUnseen(result)
	a := result.Affected
	if a == nil {
		return nil
	}
	if len(a.Sessions) > 0 {
		if err := c.tableOfSessions(a.Sessions); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.out, "%s would be closed.%s\n", count(a.Connections, "live connection"), keysNote(a, result.Revocation))
	if a.Incomplete {
		return unanswered(append(a.Unanswered, "what could not be asked"), "there may be more")
	}
	return nil
}

// keysNote says what becomes of the keys of direct users. Programs stay where one identity is revoked without them;
// what concerns many spares none.
func keysNote(a *api.Affected, r api.Revocation) string {
	own, others := 0, 0
	for _, k := range a.Keys {
		if k.Program == "" || r.Programs || r.Subject == "" {
			own++
		} else {
			others++
		}
	}
	text := ""
	if own > 0 {
		text += " " + count(own, "key") + " of direct users would be void."
	}
	if others > 0 {
		text += " " + count(others, "key") + " of programs would stay: --programs includes them."
	}
	return text
}

func (c *cli) liftCommand() *cobra.Command {
	var req api.LiftRequest
	cmd := &cobra.Command{
		Use:   "lift [ID|WHO] --reason WHY",
		Short: "End a revocation before its time",
		Long: `Ends one revocation by its id, which gatehouse revocations shows, or every block of an
identity: of WHO, what one person is known by, or by --issuer and --subject. A logout is
lifted by its id only, since tokens from before it are good again then.`,
		Example: `  gatehouse revoke lift 0197b3c0-8a55-7c3e-9f0e-2f1d7c1f4b11 --reason "came back"
  gatehouse revoke lift alice@example.com --reason "came back"
  gatehouse revoke lift --issuer corp --subject 7f3a --reason "came back"`,
		Args: atMostWho,
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Reason == "" {
				return fmt.Errorf("%w: say why with --reason, for the audit trail", errUsage)
			}
			if len(args) == 1 {
				if err := c.liftWho(cmd.Context(), &req, args[0]); err != nil {
					return err
				}
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
				fmt.Fprintf(c.out, "%s of %s is lifted (%s).\n", r.Kind, printable(concerns(r)), r.ID)
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

// liftWho completes what to lift: by an id, or by what one identity is known by. Of several nobody is chosen, since a
// mistake admits somebody.
func (c *cli) liftWho(ctx context.Context, req *api.LiftRequest, who string) error {
	if uuid.Validate(who) == nil {
		req.ID = who
		return nil
	}
	if req.Subject != "" {
		return fmt.Errorf("%w: give either an id or WHO, or --issuer and --subject", errUsage)
	}
	found, err := c.identities(ctx, who, req.Issuer)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return fmt.Errorf("nobody who is known by %q has logged in: lift by an id that gatehouse revocations shows, or by --issuer and --subject", printable(who))
	case len(found) > 1:
		var all []string
		for _, id := range found {
			all = append(all, printable(id.Subject)+" of "+id.Issuer)
		}
		return fmt.Errorf("several are known by %q: lift by --issuer and --subject, or by an id that gatehouse revocations shows: %s", printable(who), strings.Join(all, ", "))
	}
	req.Issuer, req.Subject = found[0].Issuer, found[0].Subject
	return nil
}

func (c *cli) revocationsCommand() *cobra.Command {
	var req api.RevocationsRequest
	cmd := &cobra.Command{
		Use:   "revocations",
		Short: "List blocks, logouts and their like, newest first",
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
	f.StringVar(&req.Kind, "kind", "", "only block, logout, user_key, signing_key, activation or suspension")
	f.StringVar(&req.Account, "account", "", "only of this account, by name or public key")
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
	t := newTable(c.out, "SINCE", "KIND", "OF", "UNTIL", "STATE", "BY", "REASON", "ID")
	for _, r := range page.Revocations {
		state := "in force"
		switch {
		case r.LiftedAt.IsZero() && r.InForce && r.DoneAt.IsZero():
			state = "in force, under way"
		case !r.LiftedAt.IsZero():
			state = "lifted by " + r.LiftedBy
		case !r.InForce:
			state = "ended"
		}
		t.row(when(r.At), r.Kind, concerns(r), when(r.Until), state, r.Actor, r.Reason, r.ID)
	}
	c.noneOf(len(page.Revocations), "revocation")
	return c.endPage(t, page.Cursor)
}

// noneOf says to people that a list is empty.
func (c *cli) noneOf(n int, what string) {
	if n == 0 {
		fmt.Fprintf(c.err, "No %s matches.\n", what)
	}
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
