package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/cases"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// maxRecorded bounds the recorded logins that are held at once.
const maxRecorded = 200_000

// errDiffers says that two configurations do not do the same.
var errDiffers = errors.New("the configurations decide differently")

// diffInput is what the flags of policy diff say.
type diffInput struct {
	old, new string
	cases    []string
	recorded bool
	since    string
}

func (c *cli) policyDiffCommand() *cobra.Command {
	var in diffInput
	cmd := &cobra.Command{
		Use:   "diff OLD NEW (--cases FILE | --recorded)",
		Short: "Say who gains and who loses what between two configuration files",
		Long: `Decides on logins by both configuration files and says what differs: over the cases in files,
or over the logins that the audit trail holds: of each identity, from wherever it connected, with
the newest of its claims.
Permissions are compared by what they let a user do, not by how they are written. Blocks and
logouts are no part of it. Keys that the two files name are left unread.

Recorded logins come from the running service of the configuration (-c), or from its store.
They hold the claims that were read when they were recorded.

Exit codes: 0 no difference, 1 a difference, 2 wrong usage, or a file that cannot be used; 1 with
a message also when the recorded logins cannot be had.`,
		Example: `  gatehouse policy diff gatehouse.yaml new.yaml --cases policy/cases.yaml
  gatehouse policy diff gatehouse.yaml new.yaml --recorded --since 7d`,
		Args: exactArgs(2, "two configuration files"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.old, in.new = args[0], args[1]
			return c.policyDiff(cmd.Context(), in)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&in.cases, "cases", nil, "file of cases to decide on, as for policy test; may be given again")
	f.BoolVar(&in.recorded, "recorded", false, "decide on the recorded logins")
	f.StringVar(&in.since, "since", "30d", "recorded from then on: a duration back from now such as 1h or 30d, or a time")
	return cmd
}

// labelled is a login and what people know it by.
type labelled struct {
	label string
	login cases.Login
}

func (c *cli) policyDiff(ctx context.Context, in diffInput) error {
	if (len(in.cases) > 0) == in.recorded {
		return fmt.Errorf("%w: give either --cases FILE or --recorded", errUsage)
	}
	before, err := c.loadPolicy(in.old)
	if err != nil {
		return err
	}
	after, err := c.loadPolicy(in.new)
	if err != nil {
		return err
	}
	var logins []labelled
	out := diffed{Old: before.Path(), New: after.Path(), Changes: []changed{}}
	if in.recorded {
		since, err := parsePast(in.since, time.Now())
		if err != nil {
			return err
		}
		if logins, out.Unusable, err = c.recordedLogins(ctx, since); err != nil {
			return err
		}
		out.Unrecorded = unrecorded(before.Rules(), after.Rules())
	} else {
		list, err := readCases(in.cases, before, after)
		if err != nil {
			return err
		}
		for _, one := range list {
			logins = append(logins, labelled{one.Name, one.Login})
		}
	}
	out.compare(before.Rules(), after.Rules(), logins, time.Now())
	if err := c.printDiff(out); err != nil {
		return err
	}
	if len(out.Changes) > 0 {
		return errDiffers
	}
	return nil
}

// diffed is what gatehouse policy diff prints for programs.
type diffed struct {
	Old     string    `json:"old"` // path of the file
	New     string    `json:"new"`
	Logins  int       `json:"logins"` // that were decided on
	Changes []changed `json:"changes"`
	// Unusable counts identities whose claims were too many to be recorded.
	Unusable int `json:"unusable,omitempty"`
	// Unrecorded are claims that only the new rules read, by issuer: recorded logins may lack them.
	Unrecorded map[string][]string `json:"unrecorded,omitempty"`
}

// changed is one change and whom it concerns.
type changed struct {
	cases.Change
	Who []string `json:"who"`
}

// compare decides on the logins by both rules, and gathers those to whom the same happens.
func (d *diffed) compare(before, after *policy.Rules, logins []labelled, now time.Time) {
	d.Logins = len(logins)
	who := map[cases.Change][]string{}
	for _, l := range logins {
		for _, change := range cases.Compare(l.login.Decide(before, now, nil), l.login.Decide(after, now, nil)) {
			who[change] = append(who[change], l.label)
		}
	}
	for change, labels := range who {
		slices.Sort(labels)
		d.Changes = append(d.Changes, changed{change, slices.Compact(labels)})
	}
	slices.SortFunc(d.Changes, func(a, b changed) int {
		if a.Kind != b.Kind {
			return slices.Index(cases.Kinds(), a.Kind) - slices.Index(cases.Kinds(), b.Kind)
		}
		if order := len(b.Who) - len(a.Who); order != 0 {
			return order
		}
		return strings.Compare(a.What, b.What)
	})
}

func (c *cli) printDiff(out diffed) error {
	if c.json {
		return printJSON(c.out, out)
	}
	for issuer, paths := range out.Unrecorded {
		fmt.Fprintf(c.err, "note: of issuer %s only the new rules read %s; recorded logins may lack that and then count as without\n", issuer, strings.Join(paths, ", "))
	}
	if out.Unusable > 0 {
		fmt.Fprintf(c.err, "note: identities left out, since they have more claims than are recorded: %d\n", out.Unusable)
	}
	kind := cases.Kind("")
	for _, change := range out.Changes {
		if change.Kind != kind {
			kind = change.Kind
			fmt.Fprintf(c.out, "%s:\n", kind)
		}
		fmt.Fprintf(c.out, "  %s\n      %s\n", printable(some(change.Who)), printable(change.What))
	}
	if len(out.Changes) == 0 {
		fmt.Fprintf(c.out, "No difference for %d logins.\n", out.Logins)
	}
	return nil
}

// some names the first of a list, and counts the others.
func some(list []string) string {
	const most = 10
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// unrecorded returns the claims that the new rules read and the old ones do not, by issuer.
func unrecorded(before, after *policy.Rules) map[string][]string {
	var found map[string][]string
	for issuer, bindings := range after.Bindings {
		if paths := policy.NewClaimSet(bindings).Beyond(policy.NewClaimSet(before.Bindings[issuer])); len(paths) > 0 {
			if found == nil {
				found = map[string][]string{}
			}
			found[issuer] = paths
		}
	}
	return found
}

// recordedLogins returns a login of each identity from each connection that was recorded, with the
// identity's newest claims, and of how many identities those were too many to be kept.
func (c *cli) recordedLogins(ctx context.Context, since time.Time) (logins []labelled, unusable int, err error) {
	var found recordedSet
	req := api.AuditRequest{Kind: "login", Since: since, Before: time.Now(), Limit: 1000}
	for {
		page, err := local(ctx, c, api.OpAudit, req,
			func(s *provision.Service) func(context.Context, provision.Caller, api.AuditRequest) (api.AuditPage, error) {
				return s.Audit
			})
		if err != nil {
			return nil, 0, err
		}
		for _, e := range page.Entries {
			if err := found.add(e); err != nil {
				return nil, 0, err
			}
		}
		if len(found.logins) > maxRecorded {
			return nil, 0, fmt.Errorf("over %d identities and connections are recorded: look at a shorter time, with --since", maxRecorded)
		}
		if req.Cursor = page.Cursor; req.Cursor == "" {
			return found.logins, found.unusable, nil
		}
	}
}

// recordedSet gathers recorded logins, which come newest first.
type recordedSet struct {
	logins   []labelled
	unusable int
	claims   map[policy.Principal]map[string]any // the newest; nil when they were too many
	seen     map[connection]bool
}

// connection is an identity and from where it connects.
type connection struct {
	policy.Principal
	source, kind, asked string
}

func (s *recordedSet) add(e api.AuditEntry) error {
	if len(e.Claims) == 0 && !e.ClaimsCut {
		return nil
	}
	who := policy.Principal{Issuer: e.Issuer, Subject: e.Subject}
	claims, known := s.claims[who]
	if !known {
		var err error
		if claims, err = recordedClaims(e); err != nil {
			return err
		}
		if claims == nil {
			s.unusable++
		}
		if s.claims == nil {
			s.claims, s.seen = map[policy.Principal]map[string]any{}, map[connection]bool{}
		}
		s.claims[who] = claims
	}
	at := connection{who, e.Source, e.ConnType, e.Asked}
	if claims == nil || s.seen[at] {
		return nil
	}
	s.seen[at] = true
	login := cases.Login{
		IssuerURL: e.Issuer, Subject: e.Subject, Claims: claims,
		Conn: policy.Connection{Type: policy.ConnectionType(e.ConnType), Account: e.Asked, ProofGiven: true},
	}
	login.Conn.Source, _ = netip.ParseAddr(e.Source)
	s.logins = append(s.logins, labelled{label(e), login})
	return nil
}

// recordedClaims returns the claims of an entry; nil when they were too many to be kept.
func recordedClaims(e api.AuditEntry) (claims map[string]any, err error) {
	if e.ClaimsCut {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(e.Claims))
	dec.UseNumber()
	if err := dec.Decode(&claims); err != nil {
		return nil, fmt.Errorf("the claims of login %s cannot be read: %w", e.ID, err)
	}
	return claims, nil
}

// label names the identity of an entry, and what is special about its connection.
func label(e api.AuditEntry) string {
	text := e.Name
	if len(e.Display) > 0 {
		text += " (" + who(e) + ")"
	}
	if e.ConnType != "" && e.ConnType != string(policy.Standard) {
		text += " by " + e.ConnType
	}
	if e.Asked != "" {
		text += " for account " + e.Asked
	}
	return text
}
