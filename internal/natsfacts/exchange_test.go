package natsfacts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
)

// trade pushes the claims of both accounts with the exports of the one and the imports of the other.
func (d *deployment) trade(t *testing.T, exports jwt.Exports, imports func(exporter, importer *account) jwt.Imports) (exporter, importer *account) {
	t.Helper()
	exporter = d.newAccount(t, "EXPORTER", func(c *jwt.AccountClaims) { c.Exports = exports })
	importer, err := makeAccount("IMPORTER")
	check(t, err)
	importer.claims.Imports = imports(exporter, importer)
	d.push(t, importer)
	return exporter, importer
}

// complete reports whether the first server has applied all imports of the account.
func (d *deployment) complete(t *testing.T, a *account) bool {
	t.Helper()
	d.load(t, a.id)
	info, failure := d.accountInfo(t, d.servers[0], a.id)
	if failure != "" {
		t.Fatal(failure)
	}
	return info.Complete
}

// activation makes a token by which an account imports an export.
func (a *account) activation(t *testing.T, importer *account, e *jwt.Export, until time.Time) string {
	t.Helper()
	c := jwt.NewActivationClaims(importer.id)
	c.ImportSubject, c.ImportType, c.IssuerAccount = e.Subject, e.Type, a.id
	if !until.IsZero() {
		c.Expires = until.Unix()
	}
	token, err := c.Encode(a.signer)
	check(t, err)
	return token
}

// dial connects a user of the account who may do all.
func (d *deployment) dial(t *testing.T, a *account) *nats.Conn {
	t.Helper()
	option, err := a.direct(a.user("user"))
	check(t, err)
	nc, err := nats.Connect(d.servers[0].ClientURL(), option, nats.Timeout(patience))
	check(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// serve answers requests with a text.
func serve(t *testing.T, nc *nats.Conn, subject, text string) {
	t.Helper()
	_, err := nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(text)) })
	check(t, err)
	check(t, nc.Flush())
}

// Fact: an import that nothing can come of is stored with 200 like any other and told to nobody; the account only
// counts as not complete. Gatehouse checks imports before it stores them.
func TestBadImportsAreTakenInSilence(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	stranger, err := makeAccount("STRANGER")
	check(t, err)
	open := &jwt.Export{Name: "open", Subject: "open.*", Type: jwt.Service}
	private := &jwt.Export{Name: "private", Subject: "private", Type: jwt.Service, TokenReq: true}
	for name, tc := range map[string]struct {
		edit func(exporter, importer *account, i *jwt.Import)
		want bool
	}{
		"as exported":   {func(_, _ *account, i *jwt.Import) { i.Subject = "open.a" }, true},
		"not exported":  {func(_, _ *account, i *jwt.Import) { i.Subject = "other" }, false},
		"more":          {func(_, _ *account, i *jwt.Import) { i.Subject = "open.>" }, false},
		"another type":  {func(_, _ *account, i *jwt.Import) { i.Subject, i.Type = "open.a", jwt.Stream }, false},
		"without token": {func(_, _ *account, i *jwt.Import) { i.Subject = "private" }, false},
		"with token": {func(e, a *account, i *jwt.Import) {
			i.Subject, i.Token = "private", e.activation(t, a, private, time.Time{})
		}, true},
		"expired token": {func(e, a *account, i *jwt.Import) {
			i.Subject, i.Token = "private", e.activation(t, a, private, time.Now().Add(-time.Hour))
		}, false},
		"token by a foreign key": {func(e, a *account, i *jwt.Import) {
			forger := &account{id: e.id, signer: stranger.signer}
			i.Subject, i.Token = "private", forger.activation(t, a, private, time.Time{})
		}, false},
		"no such account": {func(_, _ *account, i *jwt.Import) { i.Subject, i.Account = "open.a", stranger.id }, false},
	} {
		_, importer := d.trade(t, jwt.Exports{open, private}, func(e, a *account) jwt.Imports {
			i := &jwt.Import{Name: "i", Account: e.id, Type: jwt.Service}
			tc.edit(e, a, i)
			return jwt.Imports{i}
		})
		if got := d.complete(t, importer); got != tc.want {
			t.Errorf("%s: complete = %t, want %t", name, got, tc.want)
		}
	}
}

// Fact: a token for another account, type or subject, and an export within another one, are refused when pushed.
func TestRefusedExchanges(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	exporter, err := makeAccount("EXPORTER")
	check(t, err)
	e := &jwt.Export{Name: "e", Subject: "a", Type: jwt.Service, TokenReq: true}
	for name, tc := range map[string]struct {
		edit func(a *account)
		want string
	}{
		"token of another account": {func(a *account) {
			a.claims.Imports.Add(&jwt.Import{Name: "i", Account: exporter.id, Subject: "a", Type: jwt.Service, Token: exporter.activation(t, exporter, e, time.Time{})})
		}, "activation token doesn't match account it is being included in"},
		"token of another subject": {func(a *account) {
			a.claims.Imports.Add(&jwt.Import{Name: "i", Account: exporter.id, Subject: "b", Type: jwt.Service, Token: exporter.activation(t, a, e, time.Time{})})
		}, "doesn't match import"},
		"an export in another": {func(a *account) {
			a.claims.Exports.Add(&jwt.Export{Name: "x", Subject: "a.>", Type: jwt.Stream}, &jwt.Export{Name: "y", Subject: "a.b", Type: jwt.Stream})
		}, "already exports"},
		"two services at one place": {func(a *account) {
			a.claims.Imports.Add(&jwt.Import{Name: "i", Account: exporter.id, Subject: "a", Type: jwt.Service}, &jwt.Import{Name: "j", Account: exporter.id, Subject: "b", LocalSubject: "a", Type: jwt.Service})
		}, "overlapping subject namespace"},
	} {
		a, err := makeAccount("APP")
		check(t, err)
		tc.edit(a)
		_, refusals := d.update(t, d.signed(t, a))
		if len(refusals) != 1 || !strings.Contains(refusals[0], tc.want) {
			t.Errorf("%s: refusals = %q, want %q", name, refusals, tc.want)
		}
	}
}

// Fact: exports that overlap without one being in the other are taken, and so are imports from two accounts at one
// subject: a request there reaches both.
func TestOverlapsAreTaken(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	d.newAccount(t, "APP", func(c *jwt.AccountClaims) {
		c.Exports.Add(&jwt.Export{Name: "x", Subject: "a.*.c", Type: jwt.Stream}, &jwt.Export{Name: "y", Subject: "a.b.*", Type: jwt.Stream})
	})
	ask := func(c *jwt.AccountClaims) { c.Exports.Add(&jwt.Export{Name: "ask", Subject: "ask", Type: jwt.Service}) }
	one, two := d.newAccount(t, "ONE", ask), d.newAccount(t, "TWO", ask)
	importer := d.newAccount(t, "IMPORTER", func(c *jwt.AccountClaims) {
		c.Imports.Add(&jwt.Import{Name: "i", Account: one.id, Subject: "ask", Type: jwt.Service}, &jwt.Import{Name: "j", Account: two.id, Subject: "ask", Type: jwt.Service})
	})
	first, second := subscribe(t, d.dial(t, one), "ask"), subscribe(t, d.dial(t, two), "ask")
	check(t, d.dial(t, importer).PublishRequest("ask", "answer", nil))
	next(t, first)
	next(t, second)
}

// Fact: cycles of services are looked for by comparing the subject at home with the subjects that the exporter
// imports, whatever they are called there: two accounts that import one another's services under other names can be
// taken for a cycle, and the import is dropped in silence; a real cycle under other names is not seen.
func TestCyclesAreJudgedByNames(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	// chain makes accounts that each import from the next one, the last from the first.
	chain := func(imports ...[2]string) (complete []bool) {
		var all []*account
		for range imports {
			a, err := makeAccount("APP")
			check(t, err)
			for _, subject := range []string{"x", "y", "z"} {
				a.claims.Exports.Add(&jwt.Export{Name: subject, Subject: jwt.Subject(subject), Type: jwt.Service})
			}
			d.push(t, a)
			all = append(all, a)
		}
		for i, names := range imports {
			all[i].claims.Imports.Add(&jwt.Import{
				Name: "i", Account: all[(i+1)%len(all)].id, Subject: jwt.Subject(names[0]), LocalSubject: jwt.RenamingSubject(names[1]), Type: jwt.Service,
			})
			d.push(t, all[i])
			complete = append(complete, d.complete(t, all[i]))
		}
		return complete
	}
	if got := chain([2]string{"x", "from.b"}, [2]string{"x", "from.a"}); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("one another's, apart: complete = %v", got)
	}
	if got := chain([2]string{"x", "x"}, [2]string{"x", "x"}); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("a cycle: complete = %v", got)
	}
	if got := chain([2]string{"x", "from.b"}, [2]string{"y", "x"}); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("none, but taken for one: complete = %v", got)
	}
	if got := chain([2]string{"y", "x"}, [2]string{"z", "y"}, [2]string{"x", "z"}); !slices.Equal(got, []bool{true, true, true}) {
		t.Errorf("a cycle under other names: complete = %v", got)
	}
}

// Fact: a revoked activation, or one that has come to its end, ends the import on connections that exist; a new token
// gives it back.
func TestActivationEnds(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	e := &jwt.Export{Name: "ask", Subject: "ask", Type: jwt.Service, TokenReq: true}
	exporter, importer := d.trade(t, jwt.Exports{e}, func(exporter, importer *account) jwt.Imports {
		return jwt.Imports{{Name: "ask", Account: exporter.id, Subject: "ask", Type: jwt.Service, Token: exporter.activation(t, importer, e, time.Time{})}}
	})
	serve(t, d.dial(t, exporter), "ask", "yes")
	client := d.dial(t, importer)
	answered := func(want bool) {
		t.Helper()
		check(t, poll(func() error {
			_, err := client.Request("ask", nil, patience)
			if got := !errors.Is(err, nats.ErrNoResponders); got != want {
				return fmt.Errorf("answered = %t, want %t (%w)", got, want, err)
			}
			return nil
		}))
	}
	answered(true)
	e.RevokeAt(importer.id, time.Now())
	d.push(t, exporter)
	answered(false)
	e.ClearRevocation(importer.id)
	d.push(t, exporter)
	answered(true)
	importer.claims.Imports[0].Token = exporter.activation(t, importer, e, time.Now().Add(2*time.Second))
	d.push(t, importer)
	answered(false)
}
