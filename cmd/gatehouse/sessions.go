package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gatehouse-nats/gatehouse/api"
)

// sessionFlags are the filters of sessions and kick.
func sessionFlags(f *pflag.FlagSet, req *api.SessionsRequest) {
	f.StringVar(&req.Issuer, "issuer", "", "only identities of this issuer, by name or URL")
	f.StringVar(&req.Subject, "subject", "", "only this sub")
	f.StringVar(&req.Name, "name", "", "only this name, as servers show it: a principal name, or a public key")
	f.StringVar(&req.Account, "account", "", "only in this account, by name or public key")
	f.StringVar(&req.Source, "source", "", "only from this address or network")
	f.StringVar(&req.Binding, "binding", "", "only by this binding")
	f.StringVar(&req.Kind, "kind", "", "only callout or direct users")
	f.StringVar(&req.Server, "server", "", "only on this server, by name or id")
	f.Uint64Var(&req.CID, "cid", 0, "only this connection of the server")
}

// atMostWho takes the one argument of a command that may be left out: what people are known by. An empty one, as
// of a variable that is not set, would stand for everybody.
func atMostWho(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 1:
		return fmt.Errorf("%w: %s takes one WHO, got %q", errUsage, cmd.CommandPath(), args)
	case len(args) == 1 && strings.TrimSpace(args[0]) == "":
		return fmt.Errorf("%w: WHO is empty: give what somebody is known by, such as an e-mail address", errUsage)
	default:
		return nil
	}
}

// known takes WHO as a filter.
func known(req *api.SessionsRequest) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := atMostWho(cmd, args); err != nil {
			return err
		}
		if len(args) == 1 {
			req.Display = args[0]
		}
		return nil
	}
}

func (c *cli) sessionsCommand() *cobra.Command {
	var req api.SessionsRequest
	var watch bool
	cmd := &cobra.Command{
		Use:   "sessions [WHO]",
		Short: "List who is connected, on all servers",
		Long: `Lists the live connections of users on all servers, the oldest first: who, into which
account, from where, since when, by which binding and until when. WHO is what people are
known by, such as an e-mail address, or else a subject. Servers that do not answer are
named, and the exit code is 4 then. With --watch it goes on, and shows who comes (+) and
who goes (-).`,
		Example: `  gatehouse sessions alice@example.com
  gatehouse sessions --account APP --source 10.1.0.0/16
  gatehouse sessions --kind direct --json
  gatehouse sessions --watch`,
		Args: known(&req),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return c.watchSessions(cmd.Context(), req)
			}
			page, err := c.sessions(cmd.Context(), req)
			if err != nil {
				return err
			}
			return c.printSessions(page)
		},
	}
	sessionFlags(cmd.Flags(), &req)
	cmd.Flags().IntVar(&req.Limit, "limit", 0, "most to list, up to 10000")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and show who comes and who goes")
	return cmd
}

func (c *cli) sessions(ctx context.Context, req api.SessionsRequest) (api.SessionsPage, error) {
	return local[api.SessionsRequest, api.SessionsPage](ctx, c, api.OpSessions, req, nil)
}

// printSessions writes the sessions; servers that did not answer are an error.
func (c *cli) printSessions(page api.SessionsPage) error {
	if c.json {
		for _, s := range page.Sessions {
			if err := printJSON(c.out, s); err != nil {
				return err
			}
		}
	} else if err := c.tableOfSessions(page.Sessions); err != nil {
		return err
	}
	switch n := page.Total - len(page.Sessions); {
	case n > 0:
		fmt.Fprintf(c.err, "There are %d more: narrow it down, or raise --limit.\n", n)
	case page.Total == 0 && len(page.Unanswered) == 0 && !c.json:
		fmt.Fprintln(c.err, "No live connection matches.")
	}
	return unanswered(page.Unanswered, "who is connected there is not known")
}

func (c *cli) tableOfSessions(list []api.Session) error {
	t := newTable(c.out, "SINCE", "WHO", "NAME", "ACCOUNT", "SERVER", "CID", "SOURCE", "BY", "UNTIL")
	for _, s := range list {
		t.row(sessionCells(s)...)
	}
	return t.flush()
}

func sessionCells(s api.Session) []string {
	return []string{
		when(s.Since), orDash(shownAs(s.Display, s.Subject)), s.Name, s.Account, s.Server, fmt.Sprint(s.CID), orDash(s.Source), orDash(by(s)), when(s.Expires),
	}
}

// shownAs returns what somebody is known by.
func shownAs(display map[string]string, subject string) string {
	var known []string
	for _, claim := range slices.Sorted(maps.Keys(display)) {
		known = append(known, display[claim])
	}
	if len(known) == 0 {
		return subject
	}
	return strings.Join(known, " ")
}

// by says how a session got in.
func by(s api.Session) string {
	switch {
	case s.Program != "":
		return "program " + s.Program
	case s.Kind == "direct":
		return "own key"
	default:
		return s.Binding
	}
}

// unanswered returns an error that names servers, nil when there are none.
func unanswered(servers []string, meaning string) error {
	if len(servers) == 0 {
		return nil
	}
	return fmt.Errorf("%w: no answer from %s: %s; gatehouse status says what is known of the servers", errPartial, printable(strings.Join(servers, ", ")), meaning)
}

// askEvery is how often sessions are asked for anew.
const askEvery = time.Second

// change is somebody who has come or gone, for programs.
type change struct {
	Change string `json:"change"` // connected or gone
	api.Session
}

// watchSessions shows who is connected, and then who comes and who goes, until ctx ends.
func (c *cli) watchSessions(ctx context.Context, req api.SessionsRequest) error {
	type place struct {
		server string
		cid    uint64
	}
	before := map[place]api.Session{}
	silent := ""
	for first := true; ; first = false {
		page, err := c.sessions(ctx, req)
		if err != nil && (first || !errors.Is(err, context.Canceled) && ctx.Err() == nil && !temporary(err)) {
			return err
		}
		if err == nil {
			if now := strings.Join(page.Unanswered, ", "); now != silent {
				silent = now
				fmt.Fprintln(c.err, "no answer from:", printable(orDash(now)))
			}
			now := map[place]api.Session{}
			for _, s := range page.Sessions {
				at := place{s.ServerID, s.CID}
				now[at] = s
				if _, was := before[at]; !was {
					c.printChange("+", "connected", s)
				}
			}
			for at, s := range before {
				// What is on a server that did not answer has not gone for that.
				if _, is := now[at]; !is && !slices.Contains(page.Unanswered, s.Server) {
					c.printChange("-", "gone", s)
				} else if !is {
					now[at] = s
				}
			}
			before = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(askEvery):
		}
	}
}

// temporary reports whether an operation may succeed when it is tried again.
func temporary(err error) bool {
	refused, ok := errors.AsType[*api.Error](err)
	return ok && refused.RetryAfter > 0
}

func (c *cli) printChange(sign, what string, s api.Session) {
	if c.json {
		_ = printJSON(c.out, change{what, s})
		return
	}
	cells := sessionCells(s)
	for i := range cells {
		cells[i] = printable(cells[i])
	}
	fmt.Fprintln(c.out, sign, strings.Join(cells, "  "))
}

func (c *cli) kickCommand() *cobra.Command {
	var req api.KickRequest
	var yes bool
	cmd := &cobra.Command{
		Use:   "kick [WHO] --reason WHY",
		Short: "Close connections, without revoking anything",
		Long: `Closes live connections. Whoever may connect comes back at once, and is decided on anew;
to keep somebody out, use gatehouse revoke. You see whose connections it is and are asked,
unless --yes is given. Exit code 4 says that a server did not answer.`,
		Example: `  gatehouse kick alice@example.com --reason "new permissions"
  gatehouse kick --binding developers --reason "the role was reduced" --yes
  gatehouse kick --server n1 --cid 42 --reason "stuck" --yes`,
		Args: known(&req.SessionsRequest),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.kick(cmd.Context(), req, yes) },
	}
	f := cmd.Flags()
	sessionFlags(f, &req.SessionsRequest)
	f.BoolVar(&req.All, "all", false, "every connection of a user, on all servers")
	f.StringVar(&req.Reason, "reason", "", "why, for the audit trail")
	f.BoolVar(&req.DryRun, "dry-run", false, "close nothing, show what would be closed")
	f.StringVar(&req.IdempotencyKey, "idempotency-key", "", "gives the first answer again when the same call is repeated")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (c *cli) kick(ctx context.Context, req api.KickRequest, yes bool) error {
	switch { // before somebody is shown connections and asked
	case req.Reason == "" && !req.DryRun:
		return fmt.Errorf("%w: say why with --reason, for the audit trail", errUsage)
	case req.SessionsRequest == (api.SessionsRequest{}) && !req.All:
		return fmt.Errorf("%w: say whose connections: WHO or a filter, see gatehouse kick --help; --all for every one", errUsage)
	}
	if !c.json && !yes || req.DryRun && !c.json {
		page, err := c.sessions(ctx, req.SessionsRequest)
		if err != nil {
			return err
		}
		if err := c.printSessions(page); err != nil && !errors.Is(err, errPartial) {
			return err
		}
	}
	if !req.DryRun {
		if err := c.agree(yes, "Close these connections?"); err != nil {
			return err
		}
	}
	result, err := local[api.KickRequest, api.KickResult](ctx, c, api.OpKick, req, nil)
	if err != nil {
		return err
	}
	switch {
	case c.json:
		if err := printJSON(c.out, result); err != nil {
			return err
		}
	case req.DryRun:
		fmt.Fprintf(c.out, "%s would be closed; nothing was done.\n", count(result.Found, "connection"))
	case result.Found == 0:
		fmt.Fprintln(c.out, "No such connection was found, so nothing was closed.")
	default:
		fmt.Fprintf(c.out, "%s closed of %d found.\n", count(result.Closed, "connection"), result.Found)
	}
	return unanswered(result.Unanswered, "what is there was not closed; run the command again")
}
