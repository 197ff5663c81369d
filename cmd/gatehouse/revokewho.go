package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
		return fmt.Errorf("nobody who is known by %q has logged in: to revoke all the same, give --issuer and --subject; "+
			"display of the issuer says by which claims people are known", printable(who))
	}
	if !c.json {
		if err := c.printIdentities(ctx, found); err != nil {
			return err
		}
	}
	if !v.req.DryRun {
		if err := c.agree(v.yes, "Revoke "+count(len(found), "identity")+"?"); err != nil {
			return err
		}
	}
	var errs []error
	for i, id := range found {
		one := v
		one.req.Issuer, one.req.Subject = id.Issuer, id.Subject
		if i > 0 {
			one.req.IdempotencyKey = uuid.NewSHA1(uuid.NameSpaceOID, []byte(v.req.IdempotencyKey+id.Issuer+"\x00"+id.Subject)).String()
		}
		// All are stored before the first is waited for.
		errs = append(errs, c.revoke(ctx, one))
	}
	return errors.Join(errs...)
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

func (c *cli) printIdentities(ctx context.Context, found []api.KnownIdentity) error {
	t := newTable(c.out, "SUBJECT", "ISSUER", "KNOWN BY", "LAST SEEN")
	for _, id := range found {
		var known []string
		for _, claim := range slices.Sorted(maps.Keys(id.Display)) {
			known = append(known, id.Display[claim])
		}
		t.row(id.Subject, id.Issuer, strings.Join(known, " "), when(id.LastSeen))
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
