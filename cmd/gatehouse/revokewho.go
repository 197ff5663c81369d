package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// revokePeople revokes the identities that are known by what the caller wrote, once that was shown and agreed to.
func (c *cli) revokePeople(ctx context.Context, v revocation, who string) error {
	if v.req.Subject != "" || len(v.req.Match) > 0 || v.req.Session != "" || v.req.Token != "" || v.req.All || v.req.Key != "" || v.suspend {
		return fmt.Errorf("%w: give either WHO or flags that say whom", errUsage)
	}
	found, err := c.identities(ctx, who, v.req.Issuer)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("%w: nobody who is known by %q has logged in: to revoke all the same, give --issuer and --subject; "+
			"display of the issuer says by which claims people are known", errRefused, printable(who))
	}
	if !c.json {
		if err := c.printIdentities(ctx, v, found); err != nil {
			return err
		}
	}
	if v.req.DryRun && !c.json {
		fmt.Fprintln(c.out, "Nothing was changed.")
		return nil
	}
	if !v.req.DryRun {
		if err := c.agree(v.yes, "Revoke "+these(len(found))+"?"); err != nil {
			return err
		}
	}
	var results []api.RevokeResult
	for i, id := range found { // all are stored before the first is waited for
		one := v.req
		one.Issuer, one.Subject = id.Issuer, id.Subject
		if i > 0 {
			one.IdempotencyKey = uuid.NewSHA1(uuid.NameSpaceOID, []byte(v.req.IdempotencyKey+id.Issuer+"\x00"+id.Subject)).String()
		}
		result, err := c.ask(ctx, one)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", printable(id.Subject), id.Issuer, err)
		}
		results = append(results, result)
	}
	var errs []error
	for _, result := range results {
		errs = append(errs, c.conclude(ctx, v, result))
	}
	return errors.Join(errs...)
}

func these(n int) string {
	if n == 1 {
		return "this identity"
	}
	return fmt.Sprintf("these %d identities", n)
}

// identities returns those who are known by a display value, or else have it as their subject.
func (c *cli) identities(ctx context.Context, who, issuer string) ([]api.KnownIdentity, error) {
	for _, req := range []api.IdentitiesRequest{{Display: who, Issuer: issuer}, {Subject: who, Issuer: issuer}} {
		page, err := local(ctx, c, api.OpIdentities, req,
			func(s *provision.Service) func(context.Context, provision.Caller, api.IdentitiesRequest) (api.IdentitiesPage, error) {
				return s.Identities
			})
		if err != nil || len(page.Identities) > 0 {
			return page.Identities, err
		}
	}
	return nil, nil
}

// printIdentities shows identities with what revoking them would end.
func (c *cli) printIdentities(ctx context.Context, v revocation, found []api.KnownIdentity) error {
	t := newTable(c.out, "SUBJECT", "ISSUER", "KNOWN BY", "LAST SEEN", "CONNECTIONS", "KEYS", "OF PROGRAMS")
	for _, id := range found {
		plan := v.req
		plan.Issuer, plan.Subject, plan.DryRun = id.Issuer, id.Subject, true
		result, err := c.ask(ctx, plan)
		if err != nil {
			return err
		}
		own, programs := 0, 0
		for _, k := range result.Affected.Keys {
			if k.Program == "" {
				own++
			} else {
				programs++
			}
		}
		connections := fmt.Sprint(result.Affected.Connections)
		if result.Affected.Incomplete {
			connections = "at least " + connections
		}
		t.row(id.Subject, id.Issuer, orDash(shownAs(id.Display, "")), when(id.LastSeen), connections, fmt.Sprint(own), fmt.Sprint(programs))
	}
	return t.flush()
}

// agree asks on a terminal; elsewhere only --yes agrees.
func (c *cli) agree(yes bool, question string) error {
	if yes {
		return nil
	}
	if !terminal(c.err) {
		return fmt.Errorf("%w: nobody can be asked here: add --yes, or look first with --dry-run", errUsage)
	}
	fmt.Fprint(c.err, question, " [y/N] ")
	line, err := bufio.NewReader(c.in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err == nil && (answer == "y" || answer == "yes") {
		return nil
	}
	return errors.New("nothing was changed")
}
