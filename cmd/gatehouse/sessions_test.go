package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// sessions returns what gatehouse sessions shows a program.
func (r *replica) sessions(flags ...string) []api.Session {
	r.Helper()
	return decodeLines[api.Session](r, r.must(append([]string{"sessions", "--json"}, flags...)...))
}

// closing is a connection that tells of its end.
type closing struct {
	*nats.Conn
	closed chan struct{}
}

// loginAt logs in at a server, once that works.
func (w *world) loginAt(server *devtest.Server, token string) closing {
	w.Helper()
	c := closing{closed: make(chan struct{})}
	eventually(w, func() (err error) {
		c.Conn, err = dial(server.ClientURL(), token, nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }))
		if err != nil {
			c.closed = make(chan struct{})
		}
		return err
	})
	w.Cleanup(c.Close)
	return c
}

func (w *world) awaitClosed(c closing) {
	w.Helper()
	select {
	case <-c.closed:
	case <-time.After(30 * time.Second):
		w.Fatal("the connection stays open")
	}
}

// mustBeAlive fails the test when the server does not answer on a connection that nothing should have closed.
func (w *world) mustBeAlive(list ...closing) {
	w.Helper()
	for _, c := range list {
		if err := c.FlushTimeout(30 * time.Second); err != nil {
			w.Errorf("a connection that is not revoked, to %s: %v", c.ConnectedServerName(), err)
		}
	}
}

// TestSessionsAndKick: who is connected to three servers is shown with what is recorded, as it changes, and closed
// without being revoked; a server that does not answer is named and makes the exit code 4.
func TestSessionsAndKick(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{servers: 3, mode: devtest.AsProcess})
	r := w.serve(serveOptions{})
	alice, bob := someone(), someone()
	email := alice + "@example.com"
	claims := developer(alice)
	claims["email"] = email
	var hers []closing
	for _, server := range w.servers {
		hers = append(hers, w.loginAt(server, w.token("alice", claims)))
	}
	his := w.loginAt(w.servers[0], w.token("bob", developer(bob)))

	var list []api.Session
	eventually(t, func() error { // the records of the logins are a moment behind
		if list = r.sessions("--binding", "developers"); len(list) != 4 {
			return fmt.Errorf("%d sessions by the binding", len(list))
		}
		return nil
	})
	for _, s := range list {
		if s.Kind != "callout" || s.Account != "APP" || s.AccountID != w.set.App.ID || s.Server == "" || s.CID == 0 || s.Source != "127.0.0.1" ||
			s.Binding != "developers" || time.Until(s.Expires) < time.Minute || time.Since(s.Since).Abs() > time.Minute || s.Issuer != w.provider.Issuer() {
			t.Errorf("session %+v", s)
		}
	}
	cid, err := his.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]int{
		"--issuer demo --subject " + alice: 3, "--name demo-" + bob: 1, "--account APP --source 127.0.0.0/8": 4, "--source 192.0.2.1": 0,
		"--kind direct --issuer demo": 0, "--issuer demo --server " + his.ConnectedServerName(): 2,
		fmt.Sprintf("--server %s --cid %d", his.ConnectedServerId(), cid): 1,
	} {
		if got := r.sessions(strings.Fields(filter)...); len(got) != want {
			t.Errorf("%s: %d sessions, want %d", filter, len(got), want)
		}
	}
	if table := r.must("sessions", email); strings.Count(table, email) != 3 || strings.Contains(table, bob) {
		t.Errorf("by e-mail address:\n%s", table)
	}

	watched := w.watch(r, "--issuer", "demo")
	watched.shows("+ ", bob)
	if got := r.command("kick", "--name", "demo-"+bob); got.code != exitUsage {
		t.Errorf("a kick without a reason ended with %d: %s%s", got.code, got.out, got.err)
	}
	if got := r.command("kick", "--reason", "why", "--yes"); got.code != exitUsage {
		t.Errorf("a kick of nobody in particular ended with %d: %s%s", got.code, got.out, got.err)
	}
	if got := r.command("kick", "--name", "demo-"+bob, "--reason", "new permissions"); got.code == exitDone || !his.IsConnected() {
		t.Errorf("a kick that nobody agreed to ended with %d: %s%s", got.code, got.out, got.err)
	}
	if out := r.must("kick", "--name", "demo-"+bob, "--reason", "new permissions", "--yes"); !strings.Contains(out, "1 connection closed of 1 found") {
		t.Errorf("kick said:\n%s", out)
	}
	w.awaitClosed(his)
	watched.shows("- ", bob)
	watched.stop()
	if entries := r.audit("--kind", "admin"); !slices.ContainsFunc(entries, func(e api.AuditEntry) bool {
		return e.Op == api.OpKick && e.Reason == "new permissions" && strings.Contains(e.Target, "demo-"+bob) && strings.HasPrefix(e.Actor, "local:")
	}) {
		t.Errorf("the kick is not in the trail: %+v", entries)
	}
	w.loginAt(w.servers[0], w.token("bob", developer(bob))) // nothing was revoked

	frozen := w.servers[2]
	name := hers[2].ConnectedServerName()
	frozen.Freeze()
	defer frozen.Thaw()
	eventually(t, func() error { // the service's own connection may be there, and goes elsewhere
		got := r.command("kick", email, "--reason", "left the company", "--yes")
		if got.code != exitPartial || !strings.Contains(got.err, name) || !hers[0].IsClosed() || !hers[1].IsClosed() {
			return fmt.Errorf("a kick with %s frozen ended with %d: %s%s", name, got.code, got.out, got.err)
		}
		return nil
	})
	if got := r.command("sessions", "--json"); got.code != exitPartial || !strings.Contains(got.err, name) {
		t.Errorf("sessions with %s frozen ended with %d: %s", name, got.code, got.err)
	}
	frozen.Thaw()
	eventually(t, func() error {
		if got := r.command("kick", email, "--reason", "left the company", "--yes"); got.code != exitDone || !hers[2].IsClosed() {
			return errors.New(got.out + got.err)
		}
		return nil
	})
}

// watching is gatehouse sessions --watch under way.
type watching struct {
	*world
	out  *record
	stop func()
}

func (w *world) watch(r *replica, flags ...string) watching {
	w.Helper()
	out, errs := evidence.open(w.Name()+" watch"), evidence.open(w.Name()+" errors of watch")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, append([]string{"sessions", "--watch"}, flags...), stdio{in: strings.NewReader(""), out: out, err: errs, env: r.env})
	}()
	stop := func() {
		cancel()
		select {
		case code := <-done:
			if code != exitDone {
				w.Errorf("sessions --watch ended with %d: %s", code, errs.String())
			}
			done <- code
		case <-time.After(30 * time.Second):
			w.Error("sessions --watch does not end")
		}
	}
	w.Cleanup(stop)
	return watching{w, out, stop}
}

// shows waits for a line with that sign and text.
func (w watching) shows(sign, text string) {
	w.Helper()
	eventually(w, func() error {
		for line := range strings.Lines(w.out.String()) {
			if strings.HasPrefix(line, sign) && strings.Contains(line, text) {
				return nil
			}
		}
		return fmt.Errorf("no line %s with %s in:\n%s", sign, text, w.out.String())
	})
}
