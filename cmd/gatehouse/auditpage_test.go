package main

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

// TestAuditPageSessions runs what docs/audit.md shows.
func TestAuditPageSessions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	sessions := regexp.MustCompile("(?s)```console\n\\$ gatehouse ([^\n]*)\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(sessions) != 2 {
		t.Fatalf("the page shows %d sessions, want 2", len(sessions))
	}
	s := newTranscript(t)
	alice := store.AuditEntry{Subject: "alice", Source: "10.0.0.1", Account: "APP", Bindings: []string{"developers"}, Display: map[string]string{"email": "alice@example.com"}}
	refused := alice
	refused.Outcome, refused.Reason, refused.Account, refused.Bindings = "refused", "no_binding", "", nil
	s.record(alice, refused, store.AuditEntry{Subject: "mallory"})
	s.must("revoke", "--issuer", "demo", "--subject", "mallory", "--reason", "left")
	rfc := regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`)
	cursor := regexp.MustCompile(`from here: --cursor \S+`)
	for _, session := range sessions {
		got := s.command(words(session[1])...)
		shown := cursor.ReplaceAllString(rfc.ReplaceAllString(got.out+got.err, "2026-01-02T15:04:05Z"), "from here: --cursor …")
		if shown, promised := s.same(shown), s.same(session[2]); shown != promised {
			t.Errorf("$ gatehouse %s\nprints\n%s\nand the page says\n%s", session[1], shown, promised)
		}
	}
}

// An export goes on where the one before ended, and follows what comes.
func TestAuditExportAndFollow(t *testing.T) {
	t.Parallel()
	s := newTranscript(t)
	s.record(store.AuditEntry{Subject: "one"}, store.AuditEntry{Subject: "two"})
	subjects := func(out string) (list []string) {
		for _, e := range decodeLines[store.AuditEntry](t, out) {
			list = append(list, e.Subject)
		}
		return list
	}
	export := func(flags ...string) (string, string) {
		t.Helper()
		got := s.command(append([]string{"audit", "--all", "--json"}, flags...)...)
		_, cursor, found := strings.Cut(strings.TrimSpace(got.err), "To go on from here: --cursor ")
		if got.code != exitDone || !found {
			t.Fatalf("%+v", got)
		}
		return strings.Join(subjects(got.out), " "), cursor
	}
	first, cursor := export()
	if first != "one two" {
		t.Errorf("exported %s", first)
	}
	if again, same := export("--cursor", cursor); again != "" || same != cursor {
		t.Errorf("exported again: %s", again)
	}
	late := store.AuditEntry{Subject: "late", At: time.Now().Add(-time.Hour)}
	s.record(late)
	if more, _ := export("--cursor", cursor); more != "late" {
		t.Errorf("exported what came late: %s", more)
	}
	for _, wrong := range [][]string{{"audit", "--all", "--limit", "3"}, {"audit", "--follow", "--limit", "3"}} {
		if got := s.command(wrong...); got.code != exitUsage {
			t.Errorf("%v ended with %d", wrong, got.code)
		}
	}
}

// Whoever follows sees what comes, once, also over a restart of the service, and how to go on.
func TestAuditFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	r := w.serve(serveOptions{})
	login := func() string {
		subject := someone()
		w.eventuallyLogin(w.token("alice", developer(subject))).Close()
		return subject
	}
	recorded := []string{login()} // may still be on its way to the store
	out, errs := evidence.open(t.Name()), evidence.open(t.Name()+" errors")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"audit", "--follow", "--json", "--outcome", "allowed", "--kind", "login"}, stdio{in: strings.NewReader(""), out: out, err: errs, env: r.env})
	}()
	shown := func(subject string) func() error {
		return func() error {
			if !strings.Contains(out.String(), `"`+subject+`"`) {
				return errors.New("it does not show " + subject)
			}
			return nil
		}
	}
	eventually(t, func() error { // it has begun once it shows one
		recorded = append(recorded, login())
		if out.String() == "" {
			return errors.New("it shows nothing")
		}
		return nil
	})
	recorded = append(recorded, login())
	r.stop()
	r.start(false)
	r.mustGetReady()
	recorded = append(recorded, login())
	eventually(t, shown(recorded[len(recorded)-1]))
	cancel()
	if code := <-ended; code != exitDone || !strings.Contains(errs.String(), "To go on from here: --cursor ") {
		t.Errorf("it ended with %d: %s", code, errs.String())
	}
	var got []string
	for _, e := range decodeLines[store.AuditEntry](t, out.String()) {
		got = append(got, e.Subject)
	}
	first := slices.Index(recorded, got[0])
	if first < 0 || !slices.Equal(got, recorded[first:]) {
		t.Errorf("it shows %v of %v", got, recorded)
	}
}
