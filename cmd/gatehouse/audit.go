package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

func (c *cli) auditCommand() *cobra.Command {
	var req api.AuditRequest
	var since, before string
	var all, follow bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List login decisions and acts of admins, newest first; follow or export them",
		Long: `Lists login decisions and acts of admins, newest first.

With --all or --follow they come in the order in which the store got them, oldest first: those
of a replica that could not reach the store come late. Each comes once, and the cursor that is
written to standard error in the end goes on after the last of them.`,
		Example: `  gatehouse audit --outcome refused --since 1h
  gatehouse audit --display alice@example.com
  gatehouse audit --request 0197b3c0-8a55-7c3e-9f0e-2f1d7c1f4b11 --json
  gatehouse audit --all --json >audit.jsonl
  gatehouse audit --follow --kind admin`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if req.Since, err = parsePast(since, time.Now()); err != nil {
				return err
			}
			if req.Before, err = parsePast(before, time.Now()); err != nil {
				return err
			}
			if !all && !follow {
				page, err := c.auditPage(cmd.Context(), req)
				if err != nil {
					return err
				}
				return c.printAudit(page)
			}
			if cmd.Flags().Changed("limit") {
				return fmt.Errorf("%w: --limit is the length of a list: leave it out with --all and --follow", errUsage)
			}
			req.Order, req.Limit = "arrival", store.MaxPage
			req.Tail = follow && !all && since == "" && req.Cursor == ""
			return c.streamAudit(cmd.Context(), req, follow)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Kind, "kind", "", "login or admin")
	f.StringVar(&req.Outcome, "outcome", "", "allowed, refused, silent or done")
	f.StringVar(&req.Reason, "reason", "", "reason code, such as no_binding")
	f.StringVar(&req.Issuer, "issuer", "", "name or URL of an issuer")
	f.StringVar(&req.Subject, "subject", "", "sub claim")
	f.StringVar(&req.Name, "name", "", "principal name, as connection reports show it")
	f.StringVar(&req.Display, "display", "", "value of a display claim, such as an e-mail address")
	f.StringVar(&req.Session, "session", "", "sid of a login session")
	f.StringVar(&req.Account, "account", "", "account that was granted, or that something was done to: its name or id")
	f.StringVar(&req.Actor, "actor", "", "who acted, such as local:root")
	f.StringVar(&req.Op, "op", "", "what was done, such as revoke")
	f.StringVar(&req.Request, "request", "", "request id")
	f.StringVar(&since, "since", "", "from then on: a duration back from now such as 1h, or a time")
	f.StringVar(&before, "before", "", "until then")
	f.IntVar(&req.Limit, "limit", 50, "most to list, up to 1000")
	f.StringVar(&req.Cursor, "cursor", "", "go on after a page, or after --all and --follow")
	f.BoolVar(&all, "all", false, "all of them, as they arrived")
	f.BoolVar(&follow, "follow", false, "what arrives from now on, or from --since, --cursor or --all on, until interrupted")
	return cmd
}

// parsePast reads a duration back from now, or a time with its zone.
func parsePast(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	if days, err := strconv.ParseUint(strings.TrimSuffix(s, "d"), 10, 16); err == nil && strings.HasSuffix(s, "d") {
		return now.AddDate(0, 0, -int(days)), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %q is neither a duration such as 1h or 30d nor a time such as 2026-12-31T18:00:00Z", errUsage, s)
	}
	return t, nil
}

func (c *cli) auditPage(ctx context.Context, req api.AuditRequest) (api.AuditPage, error) {
	return local(ctx, c, api.OpAudit, req,
		func(s *provision.Service) func(context.Context, provision.Caller, api.AuditRequest) (api.AuditPage, error) {
			return s.Audit
		})
}

// followEvery is how often it is looked for new entries.
const followEvery = time.Second

// streamAudit writes entries as they arrived, to the end or until ctx ends, and then how to go on.
func (c *cli) streamAudit(ctx context.Context, req api.AuditRequest, follow bool) error {
	defer func() {
		if req.Cursor != "" {
			fmt.Fprintln(c.err, "To go on from here: --cursor", req.Cursor)
		}
	}()
	complained := false
	for {
		page, err := c.auditPage(ctx, req)
		switch {
		case ctx.Err() != nil && follow:
			return nil
		case err != nil && !(follow && mayPass(err)):
			return err
		case err != nil && !complained:
			fmt.Fprintf(c.err, "Trying again: %v\n", err)
		}
		complained = err != nil
		if err == nil {
			if err := c.writeAudit(page.Entries); err != nil {
				return err
			}
			req.Cursor, req.Tail = page.Cursor, false
			if page.More {
				continue
			}
			if !follow {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// mayPass reports whether a call that failed may succeed later, such as while the service starts anew.
func mayPass(err error) bool {
	refused, ok := errors.AsType[*api.Error](err)
	return !ok || refused.RetryAfter > 0
}

func (c *cli) printAudit(page api.AuditPage) error {
	if c.json {
		if err := c.writeAudit(page.Entries); err != nil {
			return err
		}
		c.more(page.Cursor)
		return nil
	}
	t := newTable(c.out, "AT", "OUTCOME", "REASON", "WHO", "SUBJECT", "ISSUER", "ACCOUNT", "BINDINGS", "SOURCE", "SERVER", "REQUEST")
	for _, e := range page.Entries {
		t.row(auditCells(e)...)
	}
	return c.endPage(t, page.Cursor)
}

// writeAudit writes an entry a line.
func (c *cli) writeAudit(entries []api.AuditEntry) error {
	for _, e := range entries {
		if c.json {
			if err := printJSON(c.out, e); err != nil {
				return err
			}
			continue
		}
		if _, err := fmt.Fprintln(c.out, printable(strings.Join(auditCells(e), "  "))); err != nil {
			return err
		}
	}
	return nil
}

func auditCells(e api.AuditEntry) []string {
	reason := e.Reason
	if e.Count > 1 {
		reason += fmt.Sprintf(" (%d times)", e.Count)
	}
	return []string{
		when(e.At), e.Outcome, reason, who(e), orDash(e.Subject), orDash(e.Issuer), orDash(e.Account),
		orDash(strings.Join(e.Bindings, ",")), orDash(e.Source), orDash(e.ServerName), e.ID,
	}
}

// who names the person of an entry by what people know them by.
func who(e api.AuditEntry) string {
	if e.Kind == "admin" {
		return e.Actor + " " + e.Op
	}
	if len(e.Display) > 0 {
		var shown []string
		for _, v := range e.Display {
			shown = append(shown, v)
		}
		slices.Sort(shown)
		return strings.Join(shown, " ")
	}
	return orDash(e.Name)
}
