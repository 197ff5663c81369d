package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// creatingPolicy leads developers to the account of their team, staff to their own, and lets anybody sign up beside that.
const creatingPolicy = `roles:
  app:
    publish: { allow: [">"] }
    subscribe: { allow: [">"] }
plans:
  team: { roles: [app], names: "team-*" }
  home: { roles: [app] }
  free: { roles: [app], per_subject: 10 }
bindings:
  - name: teams
    issuer: demo
    match: { groups: dev }
    grant: { create: { plan: team, role: app, name: "team-{{claim.team}}", for: team } }
  - name: homes
    issuer: demo
    match: { groups: staff }
    grant: { create: { plan: home, role: app, name: "{{claim.nick}}", for: person } }
  - name: everybody
    issuer: demo
    match: { email: "*" }
    grant: { sign_up: [free] }
`

// comer is somebody with a token.
type comer struct{ subject, token string }

// of returns a developer of the team.
func (w *world) of(team string) comer {
	w.Helper()
	claims := developer(someone())
	claims["team"] = team
	return comer{claims["sub"].(string), w.token("alice", claims)}
}

// staff returns somebody who calls themselves that.
func (w *world) staff(subject, nick string) comer {
	w.Helper()
	return comer{subject, w.token("alice", map[string]any{"sub": subject, "groups": []string{"staff"}, "nick": nick})}
}

// accountsNamed returns the accounts that the store has of that name, deleted ones too.
func (r *replica) accountsNamed(name string) []api.Account {
	r.Helper()
	page, err := call[api.AccountsPage](r, api.OpAccountList, api.AccountListRequest{Deleted: true})
	if err != nil {
		r.Fatal(err)
	}
	return slices.DeleteFunc(page.Accounts, func(a api.Account) bool { return !strings.EqualFold(a.Name, name) })
}

// mustBeRefusedAs is [world.mustBeRefused] with a reason and what its detail holds.
func (r *replica) mustBeRefusedAs(v comer, reason, detail string) {
	r.Helper()
	r.mustBeRefused(v.token)
	eventually(r, func() error { // the spool is moved into the store a moment later
		list := r.audit("--subject", v.subject, "--outcome", "refused")
		if len(list) == 0 {
			return errors.New("the refusal is not in the audit trail")
		}
		if list[0].Reason != reason || !strings.Contains(list[0].Detail, detail) {
			r.Errorf("refused as %s for %q, want %s for %q", list[0].Reason, list[0].Detail, reason, detail)
		}
		return nil
	})
}

// TestFirstLogin: a hundred people of one team log in at once, at three servers and two replicas, and are in one account. Then
// others try to get into it, and into one that somebody signed up for.
func TestFirstLogin(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]struct {
		replicas int
		dsn      func(t testing.TB) string
	}{
		"sqlite":   {1, func(testing.TB) string { return "" }},
		"postgres": {2, func(t testing.TB) string { return storetest.Postgres(t, postgres.Migrate) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{servers: 3, policy: creatingPolicy})
			dsn := o.dsn(t)
			var replicas []*replica
			for range o.replicas {
				replicas = append(replicas, w.serve(serveOptions{store: dsn}))
			}
			hear(t, replicas...)
			r := replicas[0]
			if got := r.command("explain", "--live", "--token-file", w.file("new.jwt", w.of("orders").token)); !strings.Contains(got.out, "NOT YET: account team-orders does not exist yet") {
				t.Errorf("explain says %s%s", got.out, got.err)
			}
			if made := r.accountsNamed("team-orders"); len(made) != 0 {
				t.Fatalf("a question has made %+v", made)
			}
			conns := w.logAllIn("orders", 100)
			r.mustHaveMadeOnce("team-orders", "teams", conns)
			r.mustNotGetIn(replicas...)
			r.mustOwnAlone(replicas[len(replicas)-1])
		})
	}
}

// file writes a file of the world and returns its path.
func (w *world) file(name, text string) string {
	w.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

// logAllIn logs so many people of the team in at once, at all servers, each again until it is in.
func (w *world) logAllIn(team string, people int) []*nats.Conn {
	w.Helper()
	conns := make([]*nats.Conn, people)
	tokens := make([]string, people)
	for i := range tokens {
		tokens[i] = w.of(team).token
	}
	var all sync.WaitGroup
	attempts := make([]int, people)
	for i := range conns {
		all.Go(func() {
			untilWithin(w.TB, 2*time.Minute, func() (err error) {
				attempts[i]++
				conns[i], err = dial(w.servers[i%len(w.servers)].ClientURL(), tokens[i])
				return err
			})
		})
	}
	all.Wait()
	total := 0
	for i, nc := range conns {
		total += attempts[i]
		if nc != nil {
			w.Cleanup(nc.Close)
		}
	}
	if w.Failed() {
		w.FailNow()
	}
	w.Logf("%d people were in with %d logins", people, total)
	return conns
}

// mustHaveMadeOnce fails the test unless there is one account of that name, which the binding has made, and all are in it.
func (r *replica) mustHaveMadeOnce(name, binding string, conns []*nats.Conn) {
	r.Helper()
	made := r.accountsNamed(name)
	if len(made) != 1 || made[0].State != "active" || made[0].Members != 0 || made[0].Owner.Subject != "" {
		r.Fatalf("there are the accounts %+v", made)
	}
	for _, nc := range conns {
		if c := r.connection(nc); c.Account != made[0].Account {
			r.Errorf("somebody is in account %s, and not in %s", c.Account, made[0].Account)
		}
	}
	entries := r.audit("--op", api.OpAccountSignup)
	if len(entries) != 1 || entries[0].Target != made[0].Account || !strings.Contains(entries[0].Detail, "made by binding "+binding) || len(entries[0].Bindings) != 1 {
		r.Errorf("the audit trail tells of %+v", entries)
	}
	eventually(r, func() error { // the spools are moved into the store a moment later
		people := map[string]bool{} // some of whom may have given up when the answer came, and logged in again
		for _, e := range r.audit("--kind", "login", "--outcome", "allowed", "--account", name) {
			people[e.Subject] = true
		}
		if len(people) != len(conns) {
			return fmt.Errorf("%d people were allowed, want %d", len(people), len(conns))
		}
		return nil
	})
	if refused := r.audit("--kind", "login", "--outcome", "refused"); len(refused) > 0 {
		r.Errorf("%d logins were refused, such as %+v", len(refused), refused[0])
	}
	got, err := call[api.Account](r, api.OpAccountRename, api.AccountRenameRequest{Account: name, Name: "team-other", Revision: made[0].Revision})
	if err == nil || !strings.Contains(err.Error(), "which it keeps") {
		r.Errorf("it was renamed to %s: %v", got.Name, err)
	}
}

// mustNotGetIn tries to get into accounts that are not the team's, at whichever of the replicas.
func (r *replica) mustNotGetIn(replicas ...*replica) {
	r.Helper()
	told := func(reason string) { // replicas are told, and whoever changes something does not wait for that
		r.Helper()
		for _, other := range replicas {
			other.eventuallyExplains(r.of("orders").token, reason)
		}
	}
	r.mustBeRefusedAs(r.of("Orders"), "account_foreign", "was not made by binding teams for what this token says")
	r.mustBeRefusedAs(r.of("orders."), "claim_unsafe", "begin and end it with a letter or a digit")
	r.mustBeRefusedAs(r.of("\u043erders"), "claim_unsafe", "use letters from a to z")
	nobody := someone()
	r.mustBeRefusedAs(comer{nobody, r.token("alice", developer(nobody))}, "claim_unsafe", "claim team is not in the token")

	// Somebody takes the name of a team first, and has everybody of it be a member.
	mallory := r.token("alice", map[string]any{"sub": "mallory", "groups": []string{}})
	squat := func(op string, req any) {
		r.Helper()
		eventually(r, func() error {
			_, err := post[map[string]any](r.Context(), http.DefaultClient, r.http, op, mallory, req)
			return err
		})
	}
	squat(api.OpAccountSignup, api.AccountSignupRequest{Name: "team-sales", Plan: "free"})
	squat(api.OpMemberAdd, api.MemberAddRequest{Account: "team-sales", Role: "app", Issuer: "demo", Match: map[string][]any{"team": {"sales"}}})
	r.mustBeRefusedAs(r.of("sales"), "account_foreign", "it was signed up for")

	r.must("account", "suspend", "team-orders", "--reason", "a test")
	told("account_suspended")
	r.mustBeRefusedAs(r.of("orders"), "account_suspended", "")
	r.must("account", "resume", "team-orders", "--reason", "a test")
	r.eventuallyLogin(r.of("orders").token)
	r.must("account", "delete", "team-orders", "--yes", "--with-data")
	told("account_suspended")
	r.mustBeRefusedAs(r.of("orders"), "account_suspended", "")
	r.must("account", "undelete", "team-orders")
	r.eventuallyLogin(r.of("orders").token)
	r.must("account", "delete", "team-orders", "--yes", "--with-data", "--grace", "0s")
	eventually(r, func() error {
		if a := r.accountsNamed("team-orders"); len(a) != 1 || a[0].State != "deleted" {
			return fmt.Errorf("there are %+v", a)
		}
		return nil
	})
	told("account_creating") // the decision knows of no account; who makes them does
	r.mustBeRefusedAs(r.of("orders"), "account_foreign", "deleted: no login makes it again")
	if left := r.accountsNamed("team-orders"); len(left) != 1 || left[0].State != "deleted" {
		r.Errorf("after the deletion there are %+v", left)
	}
}

// mustOwnAlone has somebody get an account of their own, at the other replica too, and nobody else who calls themselves that.
func (r *replica) mustOwnAlone(other *replica) {
	r.Helper()
	subject := someone()
	mine := r.connection(r.eventuallyLogin(r.staff(subject, "ada").token))
	made := r.accountsNamed("ada")
	if len(made) != 1 || made[0].Owner.Subject != subject || mine.Account != made[0].Account {
		r.Fatalf("in account %s, and there are %+v", mine.Account, made)
	}
	r.mustBeRefusedAs(r.staff(someone(), "ada"), "account_foreign", "it is the own account of")
	r.mustBeRefusedAs(r.staff(someone(), "Ada"), "account_foreign", "it is the own account of")
	// Plan home lets everybody have one.
	r.mustBeRefusedAs(r.staff(subject, "ada2"), "account_not_granted", "owns as many accounts of plan home as that lets")
	if again := other.connection(other.eventuallyLogin(r.staff(subject, "ada").token)); again.Account != mine.Account {
		r.Errorf("later in account %s", again.Account)
	}
}
