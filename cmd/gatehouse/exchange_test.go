package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
)

// exchangePolicy lets developers sign up, and admins manage accounts.
const exchangePolicy = `roles:
  app:
    publish: { allow: [">"] }
    subscribe: { allow: [">"] }
plans:
  free: { roles: [app], per_subject: 3 }
bindings:
  - name: sign-up
    issuer: demo
    match: { groups: dev }
    grant: { sign_up: [free] }
  - name: admins
    issuer: demo
    match: { groups: nats-admins }
    grant: { admin: [accounts] }
`

// tradePatience bounds a wait for what should happen soon.
const tradePatience = 10 * time.Second

// traders is a service on three servers with the accounts orders of alice and shop of bob.
type traders struct {
	*replica
	token map[string]string // files, by person
	id    map[string]string // of the accounts
}

func newTraders(t *testing.T) *traders {
	t.Helper()
	w := newWorld(t, worldOptions{servers: 3, policy: exchangePolicy})
	b := &traders{replica: w.serve(serveOptions{}), token: map[string]string{}, id: map[string]string{}}
	for account, owner := range map[string]string{"orders": "alice", "shop": "bob"} {
		b.token[owner] = filepath.Join(w.dir, owner+".jwt")
		token := w.token("alice", developer(owner))
		if err := os.WriteFile(b.token[owner], []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error { // until it is active; the same call again says how it stands
			up, err := post[api.AccountSignup](t.Context(), http.DefaultClient, b.http, api.OpAccountSignup, token, api.AccountSignupRequest{Name: account, Plan: "free"})
			if err == nil && up.State != "active" {
				err = fmt.Errorf("account %s is %s", account, up.State)
			}
			b.id[account] = up.Account
			return err
		})
	}
	return b
}

// as runs a command of accounts over HTTP with somebody's own token.
func (b *traders) as(who string, args ...string) string {
	b.Helper()
	return b.must(append(append([]string{"account"}, args...), "--url", b.http, "--token-file", b.token[who])...)
}

// enter logs somebody in to an account at a server.
func (b *traders) enter(server int, account, who string) *nats.Conn {
	b.Helper()
	token, err := os.ReadFile(b.token[who])
	if err != nil {
		b.Fatal(err)
	}
	var nc *nats.Conn
	eventually(b, func() (err error) {
		nc, err = nats.Connect(b.servers[server].ClientURL(), nats.UserInfo("account:"+account, string(token)), nats.Timeout(tradePatience), nats.NoReconnect(), nats.IgnoreDiscoveredServers())
		return err
	})
	b.Cleanup(nc.Close)
	return nc
}

// TestExchange: a stream with other subjects and a private service by a token work between two accounts of sign-up, on servers
// of their own; the revoked activation ends, and the export that is removed does.
func TestExchange(t *testing.T) {
	t.Parallel()
	b := newTraders(t)
	exporter, importer := b.enter(1, "orders", "alice"), b.enter(2, "shop", "bob")

	b.as("alice", "exports", "add", "orders", "feed", "--type", "stream", "--subject", "orders.*.>")
	b.as("bob", "imports", "add", "shop", "orders", "--from", "orders", "--type", "stream", "--subject", "orders.*.>", "--local", "in.$1.from.>")
	heard, err := importer.SubscribeSync("in.eu.from.>")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // an import is applied a moment after it is stored
		if err := exporter.Publish("orders.eu.new", []byte("1")); err != nil {
			return err
		}
		m, err := heard.NextMsg(200 * time.Millisecond)
		if err == nil && m.Subject != "in.eu.from.new" {
			t.Errorf("heard on %s", m.Subject)
		}
		return err
	})

	if _, err := exporter.Subscribe("orders.ask", func(m *nats.Msg) { _ = m.Respond([]byte("two")) }); err != nil {
		t.Fatal(err)
	}
	b.as("alice", "exports", "add", "orders", "ask", "--type", "service", "--subject", "orders.ask", "--private", "--cut")
	without := b.command("account", "imports", "add", "shop", "ask", "--from", "orders", "--type", "service", "--subject", "orders.ask", "--url", b.http, "--token-file", b.token["bob"])
	if without.code != exitRefused || !strings.Contains(without.err, "is private") {
		t.Errorf("without a token: %d %s", without.code, without.err)
	}
	token := filepath.Join(b.dir, "ask.jwt")
	b.as("alice", "exports", "activate", "orders", "ask", "--importer", "shop", "--ttl", "1h", "--out", token)
	b.as("bob", "imports", "add", "shop", "ask", "--from", "orders", "--type", "service", "--subject", "orders.ask", "--local", "stock", "--activation", token)
	answered := func(want bool) {
		t.Helper()
		eventually(t, func() error {
			_, err := importer.Request("stock", nil, tradePatience)
			if got := !errors.Is(err, nats.ErrNoResponders); got != want {
				return fmt.Errorf("answered: %t, want %t (%w)", got, want, err)
			}
			return nil
		})
	}
	answered(true)
	if graph := b.must("account", "graph"); !strings.Contains(graph, `-.->|"service orders.ask as stock"|`) || !strings.Contains(graph, `-->|"stream orders`) {
		t.Errorf("the graph is\n%s", graph)
	}
	if list := b.as("alice", "exports", "list", "orders"); !strings.Contains(list, "shop until") {
		t.Errorf("the exports are\n%s", list)
	}
	b.must("revoke", "--account", "orders", "--export", "orders.ask", "--importer", b.id["shop"], "--reason", "left", "--yes")
	answered(false)
	cut := b.command("account", "exports", "remove", "orders", "feed", "--url", b.http, "--token-file", b.token["alice"])
	if cut.code != exitRefused || !strings.Contains(cut.err, `import "orders" of account shop`) {
		t.Errorf("removed unasked: %d %s", cut.code, cut.err)
	}
}
