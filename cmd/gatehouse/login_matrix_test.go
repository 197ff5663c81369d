package main

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// TestLoginInEveryCombination admits one and refuses another for each number of servers, way to
// run them, with and without xkey, on each store.
func TestLoginInEveryCombination(t *testing.T) {
	for _, mode := range []devtest.Mode{devtest.InProcess, devtest.AsProcess} {
		for _, servers := range []int{1, 3} {
			for _, sealed := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%d servers/xkey %t", mode, servers, sealed), func(t *testing.T) {
					if mode == devtest.AsProcess {
						t.Parallel()
					}
					w := newWorld(t, worldOptions{servers: servers, mode: mode, noXKey: !sealed})
					process := mode == devtest.AsProcess
					t.Run("sqlite", func(t *testing.T) {
						w := w.in(t)
						w.testLogin(w.serve(serveOptions{process: process}))
					})
					t.Run("postgres", func(t *testing.T) {
						w := w.in(t)
						o := serveOptions{process: process, store: storetest.Postgres(t, postgres.Migrate)}
						w.testLogin(w.serve(o), w.serve(o))
					})
				})
			}
		}
	}
}

// in returns the same world for a subtest.
func (w *world) in(t testing.TB) *world {
	sub := *w
	sub.TB = t
	return &sub
}

// testLogin checks a login and a refusal at each server of a world, and what every replica
// says of them.
func (w *world) testLogin(replicas ...*replica) {
	w.Helper()
	for _, s := range w.servers {
		subject := someone()
		token := w.token("alice", developer(subject))
		began := time.Now()
		nc, err := dial(s.ClientURL(), token, nats.CustomInboxPrefix("_INBOX_none"))
		if err != nil {
			w.Fatal(err)
		}
		defer nc.Close()
		name := "demo-" + subject
		if at := w.connection(nc); at.AuthorizedUser != name || at.Account != w.set.App.ID {
			w.Errorf("the server shows %+v, want user %s of account %s", at, name, w.set.App.ID)
		}
		w.checkPermissions(nc)

		stranger := someone()
		refused, err := dial(s.ClientURL(), w.token("carol", map[string]any{"sub": stranger}))
		if err == nil {
			refused.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			w.Errorf("whom no binding names got %v", err)
		}
		for _, r := range replicas {
			e := r.auditOf(nc)
			latest := began.Add(time.Hour + time.Minute)
			if e.Name != name || e.Subject != subject || e.Issuer != w.provider.Issuer() || e.Account != "APP" ||
				!slices.Equal(e.Bindings, []string{"developers"}) || !slices.Equal(e.Roles, []string{"developer"}) ||
				e.ServerName != nc.ConnectedServerName() || e.Display["email"] != "alice@example.com" || e.Source != "127.0.0.1" ||
				e.Expires.Before(began.Add(50*time.Minute)) || e.Expires.After(latest) {
				w.Errorf("the audit entry of the login is %+v", e)
			}
			eventually(w, func() error {
				entries := r.audit("--name", "demo-"+stranger)
				if len(entries) != 1 || entries[0].Outcome != "refused" || entries[0].Reason != "no_binding" || entries[0].CID == 0 {
					return fmt.Errorf("audit entries of the refused: %+v", entries)
				}
				return nil
			})
		}
	}
}

// checkPermissions checks that what the role allows works and nothing else does.
func (w *world) checkPermissions(nc *nats.Conn) {
	w.Helper()
	violations := make(chan error, 16)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { violations <- err })
	sub, err := nc.SubscribeSync("app.hello")
	if err != nil {
		w.Fatal(err)
	}
	if err := nc.Publish("app.hello", []byte("hello")); err != nil {
		w.Fatal(err)
	}
	if _, err := sub.NextMsg(10 * time.Second); err != nil {
		w.Errorf("a message that the role allows did not arrive: %v", err)
	}
	for _, try := range []func() error{
		func() error { return nc.Publish("other.hello", nil) },
		func() error { return nc.Publish("$SYS.REQ.USER.AUTH", nil) },
		func() error { _, err := nc.SubscribeSync("other.>"); return err },
		func() error { _, err := nc.SubscribeSync(">"); return err },
	} {
		if err := try(); err != nil {
			w.Fatal(err)
		}
		select {
		case err := <-violations:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				w.Errorf("got %v, want a permissions violation", err)
			}
		case <-time.After(10 * time.Second):
			w.Error("the server let through what the role does not allow")
		}
	}
}
