package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

func (c *cli) auditCommand() *cobra.Command {
	var req api.AuditRequest
	var since, before string
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List login decisions and acts of admins, newest first",
		Example: `  gatehouse audit --outcome refused --since 1h
  gatehouse audit --issuer corp --subject 7f3a
  gatehouse audit --request 0197b3c0-8a55-7c3e-9f0e-2f1d7c1f4b11 --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if req.Since, err = parsePast(since, time.Now()); err != nil {
				return err
			}
			if req.Before, err = parsePast(before, time.Now()); err != nil {
				return err
			}
			page, err := local(cmd.Context(), c, api.OpAudit, req,
				func(s *provision.Service) func(context.Context, provision.Caller, api.AuditRequest) (api.AuditPage, error) {
					return s.Audit
				})
			if err != nil {
				return err
			}
			return c.printAudit(page)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Kind, "kind", "", "login or admin")
	f.StringVar(&req.Outcome, "outcome", "", "allowed, refused, silent or done")
	f.StringVar(&req.Reason, "reason", "", "reason code, such as no_binding")
	f.StringVar(&req.Issuer, "issuer", "", "name or URL of an issuer")
	f.StringVar(&req.Subject, "subject", "", "sub claim")
	f.StringVar(&req.Name, "name", "", "principal name, as connection reports show it")
	f.StringVar(&req.Account, "account", "", "account that was granted")
	f.StringVar(&req.Actor, "actor", "", "who acted, such as local:root")
	f.StringVar(&req.Request, "request", "", "request id")
	f.StringVar(&since, "since", "", "from then on: a duration back from now such as 1h, or a time")
	f.StringVar(&before, "before", "", "until then")
	f.IntVar(&req.Limit, "limit", 50, "most to list, up to 1000")
	f.StringVar(&req.Cursor, "cursor", "", "go on after a page")
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

func (c *cli) printAudit(page api.AuditPage) error {
	if c.json {
		for _, e := range page.Entries {
			if err := printJSON(c.out, e); err != nil {
				return err
			}
		}
		c.more(page.Cursor)
		return nil
	}
	t := newTable(c.out, "AT", "OUTCOME", "REASON", "WHO", "SUBJECT", "ISSUER", "ACCOUNT", "BINDINGS", "SOURCE", "SERVER", "REQUEST")
	for _, e := range page.Entries {
		reason := e.Reason
		if e.Count > 1 {
			reason += fmt.Sprintf(" (%d times)", e.Count)
		}
		t.row(when(e.At), e.Outcome, reason, who(e), orDash(e.Subject), orDash(e.Issuer), orDash(e.Account), orDash(strings.Join(e.Bindings, ",")), orDash(e.Source), orDash(e.ServerName), e.ID)
	}
	return c.endPage(t, page.Cursor)
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
