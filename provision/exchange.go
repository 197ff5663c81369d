package provision

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store"
)

// AccountExchange shows what an account exports and imports, to its members and to admins; to admins also what one of the
// configuration exports.
func (s *Service) AccountExchange(ctx context.Context, c Caller, req api.AccountRequest) (api.AccountExchange, error) {
	return asParty(ctx, s, api.OpAccountExchange, c, req, func(ctx context.Context, p party, req api.AccountRequest) (api.AccountExchange, error) {
		a, err := s.find(ctx, p, api.OpAccountExchange, req.Account)
		if err != nil && p.admin {
			return s.configuredExchange(ctx, req.Account, err)
		}
		if err != nil {
			return api.AccountExchange{}, err
		}
		return s.exchanged(ctx, &a, outcome{})
	})
}

// configuredExchange returns what an account of the configuration exports, by what servers have; the error none when it is not one.
func (s *Service) configuredExchange(ctx context.Context, ref string, none error) (api.AccountExchange, error) {
	id := cmp.Or(s.accounts()[ref], ref)
	name := s.accountName(id)
	if name == "" {
		return api.AccountExchange{}, none
	}
	a, err := s.trader(ctx, id, "*") // an export that wants the importer's id in a token is shown as it is
	if err != nil {
		return api.AccountExchange{}, err
	}
	if a == nil {
		return api.AccountExchange{}, none
	}
	return s.exchanged(ctx, &account.Account{ID: id, Name: name, Exports: a.Exports}, outcome{})
}

// ExchangeSet replaces what an account exports and imports.
func (s *Service) ExchangeSet(ctx context.Context, c Caller, req api.ExchangeSetRequest) (api.AccountExchange, error) {
	return asParty(ctx, s, api.OpAccountExchangeSet, c, req, func(ctx context.Context, p party, req api.ExchangeSetRequest) (api.AccountExchange, error) {
		t := trade{
			act: act{op: api.OpAccountExchangeSet, account: req.Account, revision: req.Revision, key: req.IdempotencyKey, request: req, reason: "exports and imports set"},
			cut: req.Cut, dryRun: req.DryRun,
		}
		return s.trade(ctx, p, t, func(a *account.Account) error {
			a.Exports = nil
			for _, e := range req.Exports {
				a.Exports = append(a.Exports, export(e))
			}
			before := a.Imports
			a.Imports = nil
			for _, i := range req.Imports {
				imported, err := s.imported(ctx, i, before)
				if err != nil {
					return err
				}
				a.Imports = append(a.Imports, imported)
			}
			return nil
		})
	})
}

// ExportAdd adds an export to an account, or replaces that of the same name.
func (s *Service) ExportAdd(ctx context.Context, c Caller, req api.ExportAddRequest) (api.AccountExchange, error) {
	return asParty(ctx, s, api.OpAccountExportAdd, c, req, func(ctx context.Context, p party, req api.ExportAddRequest) (api.AccountExchange, error) {
		t := trade{
			act: act{op: api.OpAccountExportAdd, account: req.Account, key: req.IdempotencyKey, request: req, reason: "export " + clipped(req.Export.Name)},
			cut: req.Cut, dryRun: req.DryRun,
		}
		return s.trade(ctx, p, t, func(a *account.Account) error {
			e := export(req.Export)
			if i := slices.IndexFunc(a.Exports, func(o account.Export) bool { return o.Name == e.Name }); i >= 0 {
				a.Exports[i] = e
			} else {
				a.Exports = append(a.Exports, e)
			}
			return nil
		})
	})
}

// ExportRemove removes an export of an account.
func (s *Service) ExportRemove(ctx context.Context, c Caller, req api.ExchangeRemoveRequest) (api.AccountExchange, error) {
	return asParty(ctx, s, api.OpAccountExportRemove, c, req, func(ctx context.Context, p party, req api.ExchangeRemoveRequest) (api.AccountExchange, error) {
		return s.trade(ctx, p, removal(api.OpAccountExportRemove, req), func(a *account.Account) error {
			n := len(a.Exports)
			a.Exports = slices.DeleteFunc(a.Exports, func(e account.Export) bool { return e.Name == req.Name })
			return found(n > len(a.Exports), a, "export", req.Name)
		})
	})
}

// ImportAdd adds an import to an account, or replaces that of the same name.
func (s *Service) ImportAdd(ctx context.Context, c Caller, req api.ImportAddRequest) (api.AccountExchange, error) {
	return asParty(ctx, s, api.OpAccountImportAdd, c, req, func(ctx context.Context, p party, req api.ImportAddRequest) (api.AccountExchange, error) {
		t := trade{
			act:    act{op: api.OpAccountImportAdd, account: req.Account, key: req.IdempotencyKey, request: req, reason: "import " + clipped(req.Import.Name)},
			dryRun: req.DryRun,
		}
		return s.trade(ctx, p, t, func(a *account.Account) error {
			imported, err := s.imported(ctx, req.Import, a.Imports)
			if err != nil {
				return err
			}
			if i := slices.IndexFunc(a.Imports, func(o account.Import) bool { return o.Name == imported.Name }); i >= 0 {
				a.Imports[i] = imported
			} else {
				a.Imports = append(a.Imports, imported)
			}
			return nil
		})
	})
}

// ImportRemove removes an import of an account.
func (s *Service) ImportRemove(ctx context.Context, c Caller, req api.ExchangeRemoveRequest) (api.AccountExchange, error) {
	return asParty(ctx, s, api.OpAccountImportRemove, c, req, func(ctx context.Context, p party, req api.ExchangeRemoveRequest) (api.AccountExchange, error) {
		return s.trade(ctx, p, removal(api.OpAccountImportRemove, req), func(a *account.Account) error {
			n := len(a.Imports)
			a.Imports = slices.DeleteFunc(a.Imports, func(i account.Import) bool { return i.Name == req.Name })
			return found(n > len(a.Imports), a, "import", req.Name)
		})
	})
}

func removal(op string, req api.ExchangeRemoveRequest) trade {
	return trade{
		act: act{op: op, account: req.Account, key: req.IdempotencyKey, request: req, reason: "removed " + clipped(req.Name)},
		cut: req.Cut, dryRun: req.DryRun,
	}
}

func found(is bool, a *account.Account, what, name string) error {
	if is {
		return nil
	}
	return refuse(http.StatusNotFound, api.ReasonNotFound, "account %s has no %s %.80q: gatehouse account %ss list shows them", a.Name, what, name, what)
}

// trade is a change of exports and imports.
type trade struct {
	act
	cut    bool // imports of others may end
	dryRun bool
}

// outcome is what is to be said of one beside what there is.
type outcome struct {
	warnings []string
	cuts     []account.Cut
}

// trade carries out a change of exports and imports, once it is checked against those of other accounts.
func (s *Service) trade(ctx context.Context, p party, t trade, edit func(*account.Account) error) (api.AccountExchange, error) {
	var out outcome
	var exporters []store.AccountAt
	exports := false
	t.others = func() ([]store.AccountAt, bool) { return exporters, exports }
	do := func(a *account.Account) error {
		if a.State == account.Deleting || a.State == account.Deleted {
			return wrongState(a, "an account that is deleted is changed no more")
		}
		if err := theirs(a, "exports and imports"); err != nil {
			return err
		}
		before := *a
		a.Exports, a.Imports = slices.Clone(a.Exports), slices.Clone(a.Imports)
		if err := edit(a); err != nil {
			return err
		}
		k := s.traders(ctx, a.ID)
		if err := s.tokens(ctx, p, k, a, t.dryRun); err != nil {
			return err
		}
		var err error
		out, err = s.checkTrade(ctx, k, &before, a, t.cut || t.dryRun)
		if exporters = nil; !slices.Equal(before.Imports, a.Imports) {
			exporters = k.checked()
		}
		exports = !slices.Equal(before.Exports, a.Exports)
		return err
	}
	change := func() (account.Account, error) { return s.change(ctx, p, t.act, do) }
	if t.dryRun {
		change = func() (account.Account, error) { return s.changed(ctx, p, t.act, do) }
	}
	a, err := change()
	if err != nil {
		return api.AccountExchange{}, err
	}
	if t.dryRun {
		a.Revision-- // nothing was changed
	}
	return s.exchanged(ctx, &a, out)
}

// maxProblems bounds those that an answer tells.
const maxProblems = 20

// checkTrade refuses what servers would not do as it says, and what ends imports of others unless that is meant.
func (s *Service) checkTrade(ctx context.Context, k *traders, before, after *account.Account, cut bool) (outcome, error) {
	var out outcome
	limits := account.Limits{Imports: account.NoLimit, Exports: account.NoLimit} // the plan was removed, and asks nothing
	if plan := s.Accounts.Plans()[after.Plan]; plan != nil {
		limits = plan.Limits
	}
	limits, now := limits.With(after.Limits), s.Now()
	was := account.CheckExchange(before, k.find, limits, now)
	problems := account.CheckExchange(after, k.find, limits, now)
	if k.err != nil {
		return out, k.err
	}
	var errs []string
	for _, f := range account.Fresh(was, problems) {
		if !f.Warning {
			errs = append(errs, f.String())
		}
	}
	if more := len(errs) - maxProblems; more > 0 {
		errs = append(errs[:maxProblems], fmt.Sprintf("and %d more", more))
	}
	if len(errs) > 0 {
		return out, refuse(http.StatusConflict, api.ReasonExchangeInvalid, "account %s: nothing was changed:\n%s", after.Name, strings.Join(errs, "\n"))
	}
	for _, f := range problems {
		if f.Warning {
			out.warnings = append(out.warnings, f.String())
		}
	}
	if slices.Equal(before.Exports, after.Exports) {
		return out, nil
	}
	importers, err := s.importers(ctx, after.ID)
	if err != nil {
		return out, err
	}
	if out.cuts = account.Cuts(before, after, importers, now); len(out.cuts) > 0 && !cut {
		return out, cutsImports(after, out.cuts)
	}
	return out, nil
}

func cutsImports(a *account.Account, cuts []account.Cut) error {
	var lines []string
	for _, c := range cuts[:min(len(cuts), maxProblems)] {
		lines = append(lines, fmt.Sprintf("import %q of account %s: %s", c.Import.Name, c.Account.Name, c.Why))
	}
	if more := len(cuts) - maxProblems; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return refuse(http.StatusConflict, api.ReasonCutsImports, "account %s: imports of others would end; set cut if that is meant:\n%s", a.Name, strings.Join(lines, "\n"))
}

// importers returns the accounts that import from the account.
func (s *Service) importers(ctx context.Context, id string) ([]*account.Account, error) {
	var all []*account.Account
	// Any owner can have them looked for, again and again: reading all accounts would cost 0.3 s of 20,000.
	err := s.eachAccount(ctx, store.AccountFilter{Mentions: id}, func(a *account.Account) {
		if slices.ContainsFunc(a.Imports, func(i account.Import) bool { return i.Account == id }) {
			all = append(all, a)
		}
	})
	return all, err
}

// eachAccount calls f with every account that is chosen.
func (s *Service) eachAccount(ctx context.Context, filter store.AccountFilter, f func(*account.Account)) error {
	for filter.Limit = store.MaxPage; ; {
		list, next, err := s.Store.Accounts(ctx, filter)
		if err != nil {
			return s.accountError(api.OpAccountExchange, err)
		}
		for i := range list {
			f(&list[i])
		}
		if filter.Cursor = next; next == "" {
			return nil
		}
	}
}

// traders finds accounts that others import from, those of the configuration too, as one importer sees them.
type traders struct {
	s        *Service
	ctx      context.Context
	importer string
	known    map[string]*account.Account
	err      error // of the first that could not be asked for
}

func (s *Service) traders(ctx context.Context, importer string) *traders {
	return &traders{s: s, ctx: ctx, importer: importer, known: map[string]*account.Account{}}
}

// find returns the account with that id; false when there is none, or when that could not be found out.
func (k *traders) find(id string) (*account.Account, bool) {
	if a, asked := k.known[id]; asked || k.err != nil {
		return a, a != nil
	}
	a, err := k.s.trader(k.ctx, id, k.importer)
	if err != nil {
		k.err = err
		return nil, false
	}
	k.known[id] = a
	return a, a != nil
}

// checked returns the accounts of sign-up that were found, at the revisions that they were found at.
func (k *traders) checked() (list []store.AccountAt) {
	for id, a := range k.known {
		if a != nil && a.Revision > 0 && id != k.importer {
			list = append(list, store.AccountAt{ID: id, Revision: a.Revision})
		}
	}
	return list
}

// forget has the account read anew when it is asked for next.
func (k *traders) forget(id string) { delete(k.known, id) }

// trader returns an account by its id; nil when there is none. Of one that others made, what servers have counts.
func (s *Service) trader(ctx context.Context, id, importer string) (*account.Account, error) {
	if !nkeys.IsValidPublicAccountKey(id) {
		return nil, nil
	}
	if slices.Contains(s.Closed, id) {
		return s.teller(ctx, id, importer)
	}
	list, _, err := s.Store.Accounts(ctx, store.AccountFilter{IDs: []string{id}, Deleted: true, Limit: 1})
	name := s.accountName(id)
	switch {
	case err != nil:
		return nil, s.accountError(api.OpAccountExchange, err)
	case len(list) == 1 && !list[0].Adopted:
		return &list[0], nil
	case len(list) == 0 && name == "":
		return nil, nil
	}
	claims, err := s.publishedClaims(ctx, id)
	if err != nil {
		return nil, err
	}
	switch {
	case claims != nil && len(list) == 1:
		a := account.FromClaims(claims, importer)
		a.Name, a.State = list[0].Name, list[0].State
		return a, nil
	case claims != nil:
		a := account.FromClaims(claims, importer)
		a.Name = name
		return a, nil
	case len(list) == 1:
		return &list[0], nil
	default:
		return nil, nil
	}
}

// teller returns of an account of Gatehouse's own what accounts may import, as far as they bring an activation token: events of
// accounts. There is none when it does not export them. Nobody is given such a token by an operation: it has no record.
func (s *Service) teller(ctx context.Context, id, importer string) (*account.Account, error) {
	claims, err := s.publishedClaims(ctx, id)
	if claims == nil || err != nil {
		return nil, err
	}
	a := account.FromClaims(claims, importer)
	a.Imports = nil
	a.Exports = slices.DeleteFunc(a.Exports, func(e account.Export) bool {
		return !e.Private || e.Type != account.StreamType || e.Subject != api.EventSubjects
	})
	if len(a.Exports) == 0 {
		return nil, nil
	}
	return a, nil
}

// publishedClaims returns the claims that servers have of an account; nil when they have none.
func (s *Service) publishedClaims(ctx context.Context, id string) (*jwt.AccountClaims, error) {
	claims, err := s.Accounts.Claims(ctx, id)
	if err != nil {
		s.Logger.Error("the servers could not be asked for the claims of an account", "account_id", id, "error", err)
		return nil, again(http.StatusServiceUnavailable, api.ReasonUnavailable, "the servers could not be asked what account %s exports: call again", id)
	}
	return claims, nil
}

// traderID returns the id of an account that is named by its id or its name, of the configuration too.
func (s *Service) traderID(ctx context.Context, ref string) (string, error) {
	if nkeys.IsValidPublicAccountKey(ref) {
		return ref, nil
	}
	if id := s.accounts()[ref]; id != "" {
		return id, nil
	}
	a, err := s.lookUp(ctx, api.OpAccountExchange, ref)
	if err == nil && a.ID == "" {
		err = refuse(http.StatusNotFound, api.ReasonNotFound, "there is no account %.80q to import from: give its name, or its public key (A…)", ref)
	}
	return a.ID, err
}

func export(e api.Export) account.Export {
	return account.Export{
		Name: e.Name, Subject: e.Subject, Type: account.ExportType(e.Type), Private: e.Private, Response: e.Response, Description: e.Description,
	}
}

// imported returns an import that a request names. Without a token it keeps that of an import before it of the same.
func (s *Service) imported(ctx context.Context, i api.Import, before []account.Import) (account.Import, error) {
	id, err := s.traderID(ctx, i.Account)
	if err != nil {
		return account.Import{}, err
	}
	out := account.Import{
		Name: i.Name, Account: id, Subject: i.Subject, Local: i.Local, Type: account.ExportType(i.Type), Share: i.Share, Token: i.Token,
	}
	for _, o := range before {
		if out.Token == "" && o.Account == out.Account && o.Type == out.Type && o.Subject == out.Subject {
			out.Token = o.Token
		}
	}
	return out, nil
}

// exchanged returns what there is of an account's exports and imports as answers show it.
func (s *Service) exchanged(ctx context.Context, a *account.Account, o outcome) (api.AccountExchange, error) {
	out := api.AccountExchange{
		Name: a.Name, Account: a.ID, Revision: a.Revision, Exports: []api.AccountExport{}, Imports: []api.AccountImport{}, Warnings: o.warnings,
	}
	names, err := s.tradeNames(ctx, a)
	if err != nil {
		return out, err
	}
	for _, e := range a.Exports {
		out.Exports = append(out.Exports, api.AccountExport{Name: e.Name, Subject: e.Subject, Type: string(e.Type), Private: e.Private, Response: e.Response, Description: e.Description})
	}
	for _, i := range a.Imports {
		imported := api.AccountImport{
			Name: i.Name, Account: names[i.Account], AccountID: i.Account, Subject: i.Subject, Local: i.Local, Type: string(i.Type), Share: i.Share, Private: i.Token != "",
		}
		if t, err := jwt.DecodeActivationClaims(i.Token); err == nil && t.Expires != 0 {
			imported.Until = time.Unix(t.Expires, 0).UTC()
		}
		out.Imports = append(out.Imports, imported)
	}
	for _, v := range a.Activations {
		if v.Until.IsZero() || s.Now().Before(v.Until) {
			out.Activations = append(out.Activations, api.AccountActivation{Export: exportName(a, v), Account: names[v.Importer], At: v.At, By: v.By, Until: v.Until})
		}
	}
	for _, c := range o.cuts {
		out.Cut = append(out.Cut, api.ExchangeCut{Account: c.Account.Name, Import: c.Import.Name, Why: c.Why})
	}
	return out, nil
}

// exportName returns the name of the export that an activation is of; its subject when that is gone.
func exportName(a *account.Account, v account.Activation) string {
	i := slices.IndexFunc(a.Exports, func(e account.Export) bool { return e.Subject == v.Subject && e.Type == v.Type })
	if i < 0 {
		return v.Subject
	}
	return a.Exports[i].Name
}

// tradeNames returns the names of the accounts that the account has to do with, by id; the id of those without one.
func (s *Service) tradeNames(ctx context.Context, a *account.Account) (map[string]string, error) {
	names := map[string]string{}
	for _, i := range a.Imports {
		names[i.Account] = i.Account
	}
	for _, v := range a.Activations {
		names[v.Importer] = v.Importer
	}
	var ids []string
	for id := range names {
		if name := s.accountName(id); name != "" {
			names[id] = name
		} else {
			ids = append(ids, id)
		}
	}
	for part := range slices.Chunk(ids, store.MaxPage) {
		list, _, err := s.Store.Accounts(ctx, store.AccountFilter{IDs: part, Limit: len(part)})
		if err != nil {
			return nil, s.accountError(api.OpAccountExchange, err)
		}
		for _, other := range list {
			names[other.ID] = other.Name
		}
	}
	return names, nil
}
