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

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// apply is one run of gatehouse apply.
type apply struct {
	*cli
	flags              accountFlags
	path               string
	dryRun, prune, cut bool

	issuers map[string]string // URLs by the names that principals show
	plans   []*wanted
	gone    []api.Account // that no manifest names
}

// wanted is what becomes of an account.
type wanted struct {
	want    account.Manifest
	is      *account.Manifest // nil: it is not there
	now     api.Account
	members map[string]string // ids by what they are
	changes []account.ManifestChange
	failed  error
}

func (c *cli) applyCommand() *cobra.Command {
	a := &apply{cli: c}
	cmd := &cobra.Command{
		Use:   "apply -f DIR|FILE",
		Short: "Make the accounts what files say",
		Long: `Reads accounts from a YAML file, or from all YAML files of a folder, checks them whole, shows what has to
change, and does it: new accounts first, then what they are, then exports before the imports of them.
What is as it should be is left alone, so that the same command again changes nothing, and one that
was broken off goes on where it ended. It takes the right accounts, or the host of the service.

Accounts that no file names stay, unless --prune is given; those with streams stay even then. The exit
code is 4 when some accounts could not be made what they should be.`,
		Example: `  gatehouse apply -f accounts/ --dry-run
  gatehouse apply -f accounts/ --url https://gatehouse.example.com --token-file admin.jwt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.path == "" {
				return fmt.Errorf("%w: name a file or a folder with -f; see gatehouse apply --help", errUsage)
			}
			return a.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&a.path, "file", "f", "", "file, or folder with .yaml and .yml files")
	f.BoolVar(&a.dryRun, "dry-run", false, "only check, and show what has to change")
	f.BoolVar(&a.prune, "prune", false, "delete accounts that no file names; never those with data")
	f.BoolVar(&a.cut, "cut", false, "imports of accounts that no file names may end by it")
	f.StringVar(&c.remote.url, "url", "", "address of the service, such as https://gatehouse.example.com (default: the one on this host)")
	f.StringVar(&c.remote.tokenFile, "token-file", "", "file with a token for administration; - for standard input (default: $GATEHOUSE_TOKEN)")
	a.flags.admin = true
	return cmd
}

func (a *apply) run(ctx context.Context) error {
	wants, places, err := config.ReadManifests(a.path)
	if err != nil {
		return err
	}
	if err := a.plan(ctx, wants); err != nil {
		return err
	}
	if err := a.checkExporters(ctx, places); err != nil {
		return err
	}
	changed := a.show()
	if a.dryRun {
		return nil
	}
	for _, step := range []func(context.Context, *wanted) error{a.create, a.update, a.setMembers, a.offer, a.trade} {
		for _, p := range a.plans {
			if p.failed == nil && len(p.changes) > 0 {
				p.failed = step(ctx, p)
			}
		}
	}
	var failed []error
	for _, p := range a.plans {
		if p.failed != nil {
			failed = append(failed, fmt.Errorf("account %s: %w", p.want.Name, p.failed))
		}
	}
	if a.prune {
		failed = append(failed, a.deleteOthers(ctx)...)
	}
	if len(failed) > 0 {
		return fmt.Errorf("%w: once that is put right, the same command again goes on:\n%w", errPartial, errors.Join(failed...))
	}
	if changed+len(a.gone) > 0 {
		fmt.Fprintf(a.out, "Done: %s changed, %d deleted.\n", count(changed, "account"), len(a.gone))
	}
	return nil
}

// patience bounds how often a call is sent again that the service says to send again.
const patience = 10

// patient is [onAccount] for one of many calls in a row: those that come too fast are sent again when the service says.
func patient[Resp any](ctx context.Context, c *cli, f *accountFlags, op string, req any) (Resp, error) {
	for attempt := 0; ; attempt++ {
		resp, err := onAccount[Resp](ctx, c, f, op, req)
		refused, ok := errors.AsType[*api.Error](err)
		if !ok || refused.Reason != api.ReasonRateLimited || attempt == patience {
			return resp, err
		}
		select {
		case <-ctx.Done():
			return resp, err
		case <-time.After(time.Duration(max(refused.RetryAfter, 1)) * time.Second):
		}
	}
}

// plan finds out what there is and what has to change.
func (a *apply) plan(ctx context.Context, wants []account.Manifest) error {
	a.issuers = map[string]string{}
	names := map[string]bool{}
	for _, want := range wants {
		names[account.Key(want.Name)] = true
		p := &wanted{want: want}
		if err := a.read(ctx, p); err != nil {
			return err
		}
		a.plans = append(a.plans, p)
	}
	for _, p := range a.plans {
		a.resolve(&p.want)
		is := p.is
		if is == nil {
			is = &account.Manifest{}
		}
		p.changes = is.Changes(&p.want)
	}
	if !a.prune {
		return nil
	}
	for req := (api.AccountListRequest{}); ; {
		page, err := patient[api.AccountsPage](ctx, a.cli, &a.flags, api.OpAccountList, req)
		if err != nil {
			return err
		}
		for _, other := range page.Accounts {
			if !names[account.Key(other.Name)] && other.State != string(account.Deleting) {
				a.gone = append(a.gone, other)
			}
		}
		if req.Cursor = page.Cursor; req.Cursor == "" {
			return nil
		}
	}
}

// checkExporters asks for the accounts that what has to change imports from and that no file names: what one lacks must not come
// out when others are changed already.
func (a *apply) checkExporters(ctx context.Context, places config.ManifestPlaces) error {
	written, there := map[string]bool{}, map[string]bool{}
	for _, p := range a.plans {
		written[account.Key(p.want.Name)] = true
	}
	var missing config.Errors
	for n, p := range a.plans {
		if !p.changing("import ") {
			continue
		}
		for i, imported := range p.want.Imports {
			from := imported.Account
			known, asked := there[from]
			switch {
			case written[account.Key(from)]:
				continue
			case !asked:
				_, err := patient[api.AccountExchange](ctx, a.cli, &a.flags, api.OpAccountExchange, api.AccountRequest{Account: from})
				refused, ok := errors.AsType[*api.Error](err)
				if known = err == nil; !known && !(ok && refused.Reason == api.ReasonNotFound) {
					return err
				}
				there[from] = known
			}
			if !known {
				missing = append(missing, places.From(n, i, "there is no account %.80q to import from: write it in a file too, or give the name or the public key (A…) of one that there is", from))
			}
		}
	}
	if missing != nil {
		return missing
	}
	return nil
}

// read fills in what there is of an account.
func (a *apply) read(ctx context.Context, p *wanted) error {
	m, now, members, err := a.manifestOf(ctx, &a.flags, p.want.Name)
	if refused, ok := errors.AsType[*api.Error](err); ok && refused.Reason == api.ReasonNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	p.is, p.now, p.members = &m, now, members
	if name, _, ok := strings.Cut(now.Owner.Name, "-"); ok {
		a.issuers[name] = now.Owner.Issuer
	}
	return nil
}

// resolve puts URLs in place of the names of issuers, as answers have them.
func (a *apply) resolve(m *account.Manifest) {
	put := func(issuer *string) {
		if url := a.issuers[*issuer]; url != "" {
			*issuer = url
		}
	}
	put(&m.Owner.Issuer)
	for i := range m.Members {
		put(&m.Members[i].Issuer)
	}
}

// manifestOf returns the manifest of an account as it is, and the ids of its members by what the manifest has of them.
func (c *cli) manifestOf(ctx context.Context, f *accountFlags, name string) (m account.Manifest, now api.Account, ids map[string]string, err error) {
	if now, err = patient[api.Account](ctx, c, f, api.OpAccountGet, api.AccountRequest{Account: name}); err != nil {
		return m, now, nil, err
	}
	x, err := patient[api.AccountExchange](ctx, c, f, api.OpAccountExchange, api.AccountRequest{Account: now.Account})
	if err != nil {
		return m, now, nil, err
	}
	m = account.Manifest{
		Name: now.Name, Plan: now.Plan, Owner: account.ManifestPerson{Issuer: now.Owner.Issuer, Subject: now.Owner.Subject},
		Description: now.Description, Tags: now.Tags, Limits: limitsOf(now.Changed),
	}
	for _, e := range x.Exports {
		m.Exports = append(m.Exports, account.Export{Name: e.Name, Subject: e.Subject, Type: account.ExportType(e.Type), Private: e.Private, Response: e.Response, Description: e.Description})
	}
	for _, i := range x.Imports {
		m.Imports = append(m.Imports, account.Import{Name: i.Name, Account: i.Account, Subject: i.Subject, Local: i.Local, Type: account.ExportType(i.Type), Share: i.Share})
	}
	ids = map[string]string{}
	for req := (api.MemberListRequest{Account: now.Account}); ; {
		page, err := patient[api.MembersPage](ctx, c, f, api.OpMemberList, req)
		if err != nil {
			return m, now, nil, err
		}
		for _, who := range page.Members {
			owner := who.Role == account.OwnerRole && who.Issuer == now.Owner.Issuer && who.Subject == now.Owner.Subject
			if owner || who.State == "invited" || who.Email != "" || !who.Until.IsZero() {
				continue // whoever was invited, and what ends by itself, is not for files
			}
			member := account.ManifestMember{Role: who.Role, ManifestPerson: account.ManifestPerson{Issuer: who.Issuer, Subject: who.Subject}}
			if len(who.Match) > 0 {
				if member.Match, err = policy.FormatMatch(who.Match); err != nil {
					return m, now, nil, err
				}
				member.Subject = ""
			}
			m.Members, ids[member.String()] = append(m.Members, member), who.ID
		}
		if req.Cursor = page.Cursor; req.Cursor == "" {
			return m, now, ids, nil
		}
	}
}

// printManifest writes the file by which gatehouse apply leaves the account as it is.
func (c *cli) printManifest(ctx context.Context, f *accountFlags, name string) error {
	m, _, _, err := c.manifestOf(ctx, f, name)
	if err != nil {
		return err
	}
	data, err := config.WriteManifest(m)
	if err != nil {
		return err
	}
	_, err = c.out.Write(data)
	return err
}

func limitsOf(l *api.AccountLimits) *account.LimitsPatch {
	if l == nil {
		return nil
	}
	out := &account.LimitsPatch{
		Connections: l.Connections, LeafNodes: l.LeafNodes, Subscriptions: l.Subscriptions, Payload: l.Payload, Data: l.Data,
		Imports: l.Imports, Exports: l.Exports, JetStream: (*account.JetStream)(l.JetStream),
	}
	for tier, js := range l.Tiers {
		if out.Tiers == nil {
			out.Tiers = map[string]account.JetStream{}
		}
		out.Tiers[tier] = account.JetStream(js)
	}
	return out
}

// show prints what has to change, and returns how many accounts do, without those to delete.
func (a *apply) show() (changed int) {
	for _, p := range a.plans {
		if len(p.changes) == 0 {
			continue
		}
		changed++
		verb := "change"
		if p.is == nil {
			verb = "create"
		}
		fmt.Fprintf(a.out, "%s account %s\n", verb, printable(p.want.Name))
		for _, c := range p.changes {
			fmt.Fprintf(a.out, "  %s\n", printable(c.String()))
		}
	}
	for _, other := range a.gone {
		fmt.Fprintf(a.out, "delete account %s\n", printable(other.Name))
	}
	if changed == 0 && len(a.gone) == 0 {
		fmt.Fprintf(a.out, "%s as they should be.\n", count(len(a.plans), "account"))
		return 0
	}
	fmt.Fprintf(a.out, "%s to change, %d as they should be, %d to delete.\n", count(changed, "account"), len(a.plans)-changed, len(a.gone))
	return changed
}

// changing reports whether anything with such a field has to change.
func (p *wanted) changing(fields ...string) bool {
	return slices.ContainsFunc(p.changes, func(c account.ManifestChange) bool {
		return slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(c.Field, f) })
	})
}

func (a *apply) create(ctx context.Context, p *wanted) error {
	if p.is != nil {
		return nil
	}
	m := &p.want
	if _, err := patient[api.AccountSignup](ctx, a.cli, &a.flags, api.OpAccountSignup, api.AccountSignupRequest{
		Name: m.Name, Plan: m.Plan, Description: m.Description, Tags: m.Tags, Owner: &api.Owner{Issuer: m.Owner.Issuer, Subject: m.Owner.Subject},
	}); err != nil {
		return err
	}
	if err := a.read(ctx, p); err != nil {
		return err
	}
	a.resolve(m)
	p.changes = p.is.Changes(m)
	return nil
}

func (a *apply) update(ctx context.Context, p *wanted) error {
	if !p.changing("plan", "owner", "description", "tags", "limit ") {
		return nil
	}
	m := &p.want
	req := api.AccountUpdateRequest{Account: p.now.Account, Revision: p.now.Revision, Description: &m.Description, Tags: &m.Tags}
	if m.Tags == nil {
		req.Tags = &[]string{}
	}
	if p.changing("plan") {
		req.Plan = m.Plan
	}
	if p.changing("owner") {
		req.Owner = &api.Owner{Issuer: m.Owner.Issuer, Subject: m.Owner.Subject}
	}
	if p.changing("limit ") {
		req.Limits = limitsChange(m.Limits)
	}
	_, err := patient[api.Account](ctx, a.cli, &a.flags, api.OpAccountUpdate, req)
	return err
}

func limitsChange(l *account.LimitsPatch) *api.LimitsChange {
	if l == nil {
		return &api.LimitsChange{}
	}
	out := &api.LimitsChange{
		Connections: l.Connections, LeafNodes: l.LeafNodes, Subscriptions: l.Subscriptions, Payload: l.Payload, Data: l.Data,
		Imports: l.Imports, Exports: l.Exports, JetStream: (*api.JetStreamChange)(l.JetStream),
	}
	for tier, js := range l.Tiers {
		if out.Tiers == nil {
			out.Tiers = map[string]api.JetStreamChange{}
		}
		out.Tiers[tier] = api.JetStreamChange(js)
	}
	return out
}

// setMembers adds those who are missing before it removes others.
func (a *apply) setMembers(ctx context.Context, p *wanted) error {
	if p.want.Members == nil {
		return nil
	}
	left := maps.Clone(p.members)
	for _, m := range p.want.Members {
		if _, is := left[m.String()]; is {
			delete(left, m.String())
			continue
		}
		req := api.MemberAddRequest{Account: p.now.Account, Role: m.Role, Issuer: m.Issuer, Subject: m.Subject, Match: policy.MatchClaims(m.Match)}
		if _, err := patient[api.Member](ctx, a.cli, &a.flags, api.OpMemberAdd, req); err != nil {
			return err
		}
	}
	for _, who := range slices.Sorted(maps.Keys(left)) {
		if _, err := patient[api.MemberRemoval](ctx, a.cli, &a.flags, api.OpMemberRemove, api.MemberRemoveRequest{Account: p.now.Account, ID: left[who]}); err != nil {
			return err
		}
	}
	return nil
}

// offer sets the exports that are to be, beside those that others still import, so that imports find them.
func (a *apply) offer(ctx context.Context, p *wanted) error {
	if !p.changing("export ") {
		return nil
	}
	err := a.set(ctx, p, p.want.Exports, p.is.Imports, false)
	if refused, ok := errors.AsType[*api.Error](err); ok && refused.Reason == api.ReasonCutsImports {
		exports := slices.Clone(p.want.Exports)
		for _, e := range p.is.Exports {
			if !slices.ContainsFunc(exports, func(o account.Export) bool { return o.Name == e.Name || o.Subject == e.Subject && o.Type == e.Type }) {
				exports = append(exports, e)
			}
		}
		return a.set(ctx, p, exports, p.is.Imports, a.cut)
	}
	return err
}

// trade sets imports and exports as they are to be, once all exports are there.
func (a *apply) trade(ctx context.Context, p *wanted) error {
	if !p.changing("export ", "import ") {
		return nil
	}
	return a.set(ctx, p, p.want.Exports, p.want.Imports, a.cut)
}

func (a *apply) set(ctx context.Context, p *wanted, exports []account.Export, imports []account.Import, cut bool) error {
	req := api.ExchangeSetRequest{Account: p.now.Account, Exports: []api.Export{}, Imports: []api.Import{}, Cut: cut}
	for _, e := range exports {
		req.Exports = append(req.Exports, api.Export{Name: e.Name, Subject: e.Subject, Type: string(e.Type), Private: e.Private, Response: e.Response, Description: e.Description})
	}
	for _, i := range imports {
		req.Imports = append(req.Imports, api.Import{Name: i.Name, Account: i.Account, Subject: i.Subject, Local: i.Local, Type: string(i.Type), Share: i.Share})
	}
	_, err := patient[api.AccountExchange](ctx, a.cli, &a.flags, api.OpAccountExchangeSet, req)
	return err
}

// deleteOthers deletes accounts that no file names; those with data are left.
func (a *apply) deleteOthers(ctx context.Context) (failed []error) {
	for _, other := range a.gone {
		req := api.AccountDeleteRequest{Account: other.Account, Reason: "in no file of gatehouse apply"}
		if _, err := patient[api.AccountDeletion](ctx, a.cli, &a.flags, api.OpAccountDelete, req); err != nil {
			failed = append(failed, fmt.Errorf("account %s: %w", other.Name, err))
		}
	}
	return failed
}
