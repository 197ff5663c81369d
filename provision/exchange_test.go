package provision_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// newTradeBed is a bed with the accounts orders of alice and shop of bob, by the host's clock. Claims are those that servers have
// of the accounts of the configuration.
func newTradeBed(t testing.TB) (b *accountBed, claims map[string]*jwt.AccountClaims) {
	t.Helper()
	claims = map[string]*jwt.AccountClaims{}
	b = newAccountBed(t, func(o *provision.Options) {
		o.Now, o.Closed = time.Now, []string{accountIDs[1]}
	})
	b.plans["free"].Limits.Imports, b.plans["free"].Limits.Exports = 3, 3
	b.Accounts.Keys = func() *mint.Keyring { return b.keyring(t) }
	b.Accounts.Claims = func(_ context.Context, id string) (*jwt.AccountClaims, error) { return claims[id], nil }
	b.orders(t)
	if _, err := b.AccountSignup(t.Context(), caller("bob"), api.AccountSignupRequest{Name: "shop", Plan: "free"}); err != nil {
		t.Fatal(err)
	}
	return b, claims
}

// keyring opens the seeds that the store has.
func (b *accountBed) keyring(t testing.TB) *mint.Keyring {
	t.Helper()
	rows, _, err := b.Store.SealedKeys(t.Context(), store.SealedKeyFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var keys []*mint.Key
	for _, row := range rows {
		seed, err := b.ring.Open(row.Box, row.Row())
		if err != nil {
			t.Fatal(err)
		}
		key, err := mint.NewKey(seed)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return mint.NewKeyring(keys...)
}

// reason returns the code of a refusal; empty: there was none.
func reason(err error) string {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e.Reason
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// record returns what the store has of an account.
func (b *accountBed) record(t testing.TB, name string) account.Account {
	t.Helper()
	list, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{Name: name, Limit: 1})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	return list[0]
}

var (
	feed    = api.Export{Name: "feed", Subject: "orders.*.>", Type: "stream"}
	private = api.Export{Name: "ask", Subject: "ask.*", Type: "service", Private: true}
)

func TestExchange(t *testing.T) {
	t.Parallel()
	b, _ := newTradeBed(t)
	alice, bob := caller("alice"), caller("bob")
	if _, err := b.ExportAdd(t.Context(), bob, api.ExportAddRequest{Account: "orders", Export: feed}); reason(err) != api.ReasonNotFound {
		t.Errorf("a stranger exports: %v", err)
	}
	if _, err := b.ExportAdd(t.Context(), alice, api.ExportAddRequest{Account: "orders", Export: feed}); err != nil {
		t.Fatal(err)
	}
	imported := api.Import{Name: "orders", Account: "orders", Subject: "orders.eu.>", Local: "in.>", Type: "stream"}
	dry, err := b.ImportAdd(t.Context(), bob, api.ImportAddRequest{Account: "shop", Import: imported, DryRun: true})
	if err != nil || len(dry.Imports) != 1 || len(b.record(t, "shop").Imports) != 0 || dry.Revision != b.record(t, "shop").Revision {
		t.Errorf("a dry run: %+v, %v", dry, err)
	}
	got, err := b.ImportAdd(t.Context(), bob, api.ImportAddRequest{Account: "shop", Import: imported})
	if err != nil || got.Imports[0].Account != "orders" || got.Imports[0].AccountID != b.record(t, "orders").ID {
		t.Fatalf("got %+v, %v", got, err)
	}
	missing := imported
	missing.Name, missing.Subject = "more", "prices.>"
	if _, err := b.ImportAdd(t.Context(), bob, api.ImportAddRequest{Account: "shop", Import: missing}); reason(err) != api.ReasonExchangeInvalid || !strings.Contains(err.Error(), "exports no stream") {
		t.Errorf("what is not exported is imported: %v", err)
	}
	if _, err := b.ImportAdd(t.Context(), bob, api.ImportAddRequest{Account: "shop", Import: api.Import{Name: "x", Account: "nobody", Subject: "x", Type: "stream"}}); reason(err) != api.ReasonNotFound {
		t.Errorf("of nobody is imported: %v", err)
	}
	// Who would be cut is told, and is so only when it is meant.
	_, err = b.ExportRemove(t.Context(), alice, api.ExchangeRemoveRequest{Account: "orders", Name: "feed"})
	if reason(err) != api.ReasonCutsImports || !strings.Contains(err.Error(), `import "orders" of account shop`) {
		t.Errorf("removed: %v", err)
	}
	narrower := feed
	narrower.Subject = "orders.us.>"
	if _, err := b.ExportAdd(t.Context(), alice, api.ExportAddRequest{Account: "orders", Export: narrower}); reason(err) != api.ReasonCutsImports {
		t.Errorf("narrowed: %v", err)
	}
	cut, err := b.ExportRemove(t.Context(), alice, api.ExchangeRemoveRequest{Account: "orders", Name: "feed", Cut: true})
	if err != nil || len(cut.Cut) != 1 || cut.Cut[0].Account != "shop" || len(cut.Exports) != 0 {
		t.Errorf("got %+v, %v", cut, err)
	}
	// The import that is dead by now stands in the way of nothing else.
	if _, err := b.ExportAdd(t.Context(), bob, api.ExportAddRequest{Account: "shop", Export: feed}); err != nil {
		t.Error(err)
	}
	if _, err := b.ImportRemove(t.Context(), bob, api.ExchangeRemoveRequest{Account: "shop", Name: "orders"}); err != nil {
		t.Error(err)
	}
	if _, err := b.ImportRemove(t.Context(), bob, api.ExchangeRemoveRequest{Account: "shop", Name: "orders"}); reason(err) != api.ReasonNotFound {
		t.Errorf("removed twice: %v", err)
	}
}

func TestActivation(t *testing.T) {
	t.Parallel()
	b, _ := newTradeBed(t)
	alice, bob := caller("alice"), caller("bob")
	ask := api.Import{Name: "ask", Account: "orders", Subject: "ask.eu", Type: "service"}
	if _, err := b.ExportAdd(t.Context(), alice, api.ExportAddRequest{Account: "orders", Export: private}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ImportAdd(t.Context(), bob, api.ImportAddRequest{Account: "shop", Import: ask}); reason(err) != api.ReasonExchangeInvalid || !strings.Contains(err.Error(), "is private") {
		t.Errorf("imported without a token: %v", err)
	}
	if _, err := b.AccountActivate(t.Context(), bob, api.ActivateRequest{Account: "orders", Export: "ask", Importer: "shop"}); reason(err) != api.ReasonNotFound {
		t.Errorf("who is no owner makes a token: %v", err)
	}
	until := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	made, err := b.AccountActivate(t.Context(), alice, api.ActivateRequest{Account: "orders", Export: "ask", Importer: "shop", Until: until})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeActivationClaims(made.Token)
	if err != nil || claims.Subject != b.record(t, "shop").ID || claims.Expires != until.Unix() || claims.Issuer != b.record(t, "orders").Keys[0].Public {
		t.Errorf("got %+v, %v", claims, err)
	}
	if noted := b.record(t, "orders").Activations; len(noted) != 1 || noted[0].Importer != claims.Subject || noted[0].By != "corp-alice" {
		t.Errorf("noted: %+v", noted)
	}
	ask.Token = made.Token
	got, err := b.ImportAdd(t.Context(), bob, api.ImportAddRequest{Account: "shop", Import: ask})
	if err != nil || !got.Imports[0].Private || !got.Imports[0].Until.Equal(until) {
		t.Fatalf("got %+v, %v", got, err)
	}
	// Whoever changes it in other ways need not have the token.
	ask.Token, ask.Share = "", true
	if _, err := b.ImportAdd(t.Context(), bob, api.ImportAddRequest{Account: "shop", Import: ask}); err != nil || b.record(t, "shop").Imports[0].Token != made.Token {
		t.Errorf("the token is gone: %v", err)
	}
	// A revoked one cannot be imported anew, and one that is made then is younger than the revocation.
	if _, err := b.Revoke(t.Context(), admin, api.RevokeRequest{
		Kind: string(policy.Activation), Target: api.Target{Account: "orders", Key: claims.Subject, Export: "ask.*"}, Reason: "left",
	}); err != nil {
		t.Fatal(err)
	}
	ask.Token = made.Token
	if _, err := b.ImportAdd(t.Context(), bob, api.ImportAddRequest{Account: "shop", Import: ask}); reason(err) != api.ReasonExchangeInvalid || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("imported with a revoked token: %v", err)
	}
	again, err := b.AccountActivate(t.Context(), alice, api.ActivateRequest{Account: "orders", Export: "ask", Importer: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	ask.Token = again.Token
	if _, err := b.ImportAdd(t.Context(), bob, api.ImportAddRequest{Account: "shop", Import: ask}); err != nil {
		t.Errorf("a new token: %v", err)
	}
	for name, req := range map[string]api.ActivateRequest{
		"the past": {Account: "orders", Export: "ask", Importer: "shop", Until: time.Now().Add(-time.Hour)},
		"itself":   {Account: "orders", Export: "ask", Importer: "orders"},
	} {
		if _, err := b.AccountActivate(t.Context(), alice, req); reason(err) != api.ReasonBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whoever owns both accounts, or is an admin, needs no second step.
func TestImportMakesItsToken(t *testing.T) {
	t.Parallel()
	b, _ := newTradeBed(t)
	ask := api.Import{Name: "ask", Account: "orders", Subject: "ask.eu", Type: "service"}
	if _, err := b.ExportAdd(t.Context(), admin, api.ExportAddRequest{Account: "orders", Export: private}); err != nil {
		t.Fatal(err)
	}
	dry, err := b.ImportAdd(t.Context(), admin, api.ImportAddRequest{Account: "shop", Import: ask, DryRun: true})
	if err != nil || len(dry.Imports) != 1 || len(b.record(t, "orders").Activations) != 0 {
		t.Errorf("a dry run: %+v, %v", dry, err)
	}
	if _, err := b.ImportAdd(t.Context(), admin, api.ImportAddRequest{Account: "shop", Import: ask}); err != nil {
		t.Fatal(err)
	}
	if token := b.record(t, "shop").Imports[0].Token; token == "" {
		t.Error("there is no token")
	}
	if len(b.record(t, "orders").Activations) != 1 {
		t.Error("the exporter does not know of it")
	}
}

func TestExchangeSet(t *testing.T) {
	t.Parallel()
	b, _ := newTradeBed(t)
	revision := b.record(t, "orders").Revision
	req := api.ExchangeSetRequest{Account: "orders", Revision: revision, Exports: []api.Export{feed, private}, Imports: []api.Import{}}
	if _, err := b.ExchangeSet(t.Context(), caller("alice"), req); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ExchangeSet(t.Context(), caller("alice"), req); reason(err) != api.ReasonChanged {
		t.Errorf("set again under the revision before: %v", err)
	}
	req.Revision = 0
	req.Exports = append(slices.Clone(req.Exports), api.Export{Name: "b", Subject: "b", Type: "stream"}, api.Export{Name: "c", Subject: "c", Type: "stream"})
	if _, err := b.ExchangeSet(t.Context(), caller("alice"), req); reason(err) != api.ReasonExchangeInvalid || !strings.Contains(err.Error(), "limit is 3") {
		t.Errorf("more than the plan lets: %v", err)
	}
	for i := range 30 {
		req.Exports = append(req.Exports, api.Export{Name: strings.Repeat("x", i), Subject: "$SYS", Type: "stream"})
	}
	b.plans["free"].Limits.Exports = account.NoLimit
	if _, err := b.ExchangeSet(t.Context(), caller("alice"), req); reason(err) != api.ReasonExchangeInvalid || !strings.Contains(err.Error(), "and ") || len(err.Error()) > 8192 {
		t.Errorf("everything is wrong: %v", err)
	}
}

// configuredTrader puts an account APP in the configuration, and returns its id.
func configuredTrader(t *testing.T, b *accountBed) string {
	t.Helper()
	pair, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	id, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	state := *b.state.Load()
	rules := *state.Rules
	rules.Accounts = map[string]*policy.Account{"APP": {Name: "APP", ID: id}}
	state.Rules = &rules
	b.state.Store(&state)
	return id
}

// Accounts of the configuration export too, as their claims say.
func TestImportOfTheConfiguration(t *testing.T) {
	t.Parallel()
	b, claims := newTradeBed(t)
	id := configuredTrader(t, b)
	claims[id] = jwt.NewAccountClaims(id)
	claims[id].Exports.Add(&jwt.Export{Name: "status", Subject: "status.>", Type: jwt.Stream}, &jwt.Export{Name: "ask", Subject: "ask", Type: jwt.Service, TokenReq: true})
	if _, err := b.ImportAdd(t.Context(), caller("bob"), api.ImportAddRequest{Account: "shop", Import: api.Import{Name: "s", Account: "APP", Subject: "status.eu", Type: "stream"}}); err != nil {
		t.Error(err)
	}
	for name, i := range map[string]api.Import{
		"private":       {Name: "x", Account: "APP", Subject: "ask", Type: "service"},
		"not exported":  {Name: "x", Account: "APP", Subject: "other", Type: "service"},
		"not known":     {Name: "x", Account: accountIDs[0], Subject: "other", Type: "service"},
		"the callout's": {Name: "x", Account: b.Closed[0], Subject: "gatehouse.v1.>", Type: "service"},
	} {
		claims[i.Account] = claims[id]
		for _, c := range []provision.Caller{caller("bob"), admin} {
			if _, err := b.ImportAdd(t.Context(), c, api.ImportAddRequest{Account: "shop", Import: i}); reason(err) != api.ReasonExchangeInvalid {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Admins see what an account of the configuration exports, and nothing else of it; others do not learn that it is there.
func TestExchangeOfTheConfiguration(t *testing.T) {
	t.Parallel()
	b, claims := newTradeBed(t)
	id := configuredTrader(t, b)
	ask := func(c provision.Caller, ref string) (api.AccountExchange, error) {
		return b.AccountExchange(t.Context(), c, api.AccountRequest{Account: ref})
	}
	if _, err := ask(admin, "APP"); reason(err) != api.ReasonNotFound {
		t.Errorf("one that servers do not know: %v", err)
	}
	claims[id] = jwt.NewAccountClaims(id)
	claims[id].Exports.Add(&jwt.Export{Name: "status", Subject: "status.*", Type: jwt.Stream, AccountTokenPosition: 2})
	claims[id].Imports.Add(&jwt.Import{Name: "secret", Account: accountIDs[0], Subject: "s", Token: "t", Type: jwt.Stream})
	claims[b.Closed[0]] = claims[id]
	for name, try := range map[string]struct {
		as  provision.Caller
		ref string
	}{"an owner": {caller("bob"), "APP"}, "the callout's": {admin, b.Closed[0]}, "not configured": {admin, accountIDs[0]}} {
		if _, err := ask(try.as, try.ref); reason(err) != api.ReasonNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ref := range []string{"APP", id} {
		x, err := ask(admin, ref)
		if err != nil || x.Name != "APP" || x.Account != id || len(x.Imports) != 0 || len(x.Exports) != 1 || x.Exports[0].Subject != "status.*" {
			t.Errorf("%s: %+v, %v", ref, x, err)
		}
	}
}

func TestAccountGraph(t *testing.T) {
	t.Parallel()
	b, _ := newTradeBed(t)
	if _, err := b.ExportAdd(t.Context(), caller("alice"), api.ExportAddRequest{Account: "orders", Export: feed}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ImportAdd(t.Context(), caller("bob"), api.ImportAddRequest{Account: "shop", Import: api.Import{Name: "f", Account: "orders", Subject: "orders.*.>", Type: "stream"}}); err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string][2]int{forAdmin + "root": {2, 1}, "bob": {2, 1}, "alice": {1, 0}, "dora": {0, 0}} {
		g, err := b.AccountGraph(t.Context(), caller(subject), api.AccountGraphRequest{})
		if err != nil || len(g.Accounts) != want[0] || len(g.Links) != want[1] {
			t.Errorf("%s: %+v, %v", subject, g, err)
		}
	}
	if _, err := b.AccountGraph(t.Context(), caller(forAdmin+"auditor"), api.AccountGraphRequest{}); reason(err) != api.ReasonForbidden {
		t.Errorf("without the right: %v", err)
	}
}
