package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store/events"
)

// TestEventsPage runs the commands of docs/events.md: the account of a portal hears then that another one is active, and the token is of
// no use to anybody else.
func TestEventsPage(t *testing.T) {
	t.Parallel()
	b := newTraders(t)
	page, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	line := strings.NewReplacer("prod", b.dir, "PORTAL", b.id["orders"], "CALLOUT", b.set.Callout.ID, " portal ", " orders ")
	var ran []string
	for _, block := range regexp.MustCompile("(?s)```console\n\\$ gatehouse (.*?)\n```").FindAllStringSubmatch(string(page), -1) {
		command := line.Replace(block[1])
		args := words(command)
		if args[0] == "account" {
			if shown := "gatehouse " + strings.Replace(command, " orders ", " "+b.id["orders"]+" ", 1); !strings.Contains(ran[len(ran)-1], shown) {
				t.Errorf("init prints\n%s\nand the page says\n%s", ran[len(ran)-1], shown)
			}
			ran = append(ran, b.as("alice", args[1:]...))
			continue
		}
		ran = append(ran, b.must(args...))
	}
	if len(ran) != 2 {
		t.Fatalf("the page has %d commands", len(ran))
	}
	checkModes(t, b.dir)

	heard, err := b.enter(1, "orders", "alice").SubscribeSync(events.Subjects + ".active.*")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // an import is applied a moment after it is stored
		name := someone()
		up, err := post[api.AccountSignup](t.Context(), http.DefaultClient, b.http, api.OpAccountSignup, b.world.token("alice", developer(name)), api.AccountSignupRequest{Name: name, Plan: "free"})
		if err != nil {
			return err
		}
		for {
			m, err := heard.NextMsg(5 * time.Second)
			if err != nil {
				return fmt.Errorf("account %s is told of to nobody: %w", up.Account, err)
			}
			var e events.Event
			if err := json.Unmarshal(m.Data, &e); err != nil || e.Type != "account.active" || m.Subject != events.Subjects+".active."+e.Account {
				t.Fatalf("%s: %s", m.Subject, m.Data)
			}
			if e.Account == up.Account {
				return nil
			}
		}
	})

	theirs := filepath.Join(b.dir, "events", b.id["orders"]+".jwt")
	if again := b.command("init", b.dir, "--events", b.id["orders"]); again.code != exitFailed || !strings.Contains(again.err, "already there") {
		t.Errorf("made a second time: %d %s", again.code, again.err)
	}
	for name, refused := range map[string]struct{ more, says string }{
		"no token":               {"", "is private"},
		"another's token":        {" --activation " + theirs, "for another account"},
		"what is more":           {" --activation " + theirs + " --subject gatehouse.>", "exports no stream"},
		"operations":             {" --activation " + theirs + " --type service --subject " + api.Subject(">"), "exports no service"},
		"of the system account":  {" --activation " + theirs + " --from " + b.set.System.ID, "there is no account"},
		"requests of the logins": {" --activation " + theirs + " --subject $SYS.>", "exports no stream"},
	} {
		args := words("account imports add shop events --subject " + api.EventSubjects + " --from " + b.set.Callout.ID + " --local in.>" + refused.more)
		owner, admin := []string{"--url", b.http, "--token-file", b.token["bob"]}, []string(nil) // an admin by the socket
		for _, caller := range [][]string{owner, admin} {
			if got := b.command(append(args, caller...)...); got.code != exitRefused || !strings.Contains(got.err, refused.says) {
				t.Errorf("%s: %d %s", name, got.code, got.err)
			}
		}
	}
	for _, odd := range []string{"orders", b.set.Callout.ID, b.set.System.ID, b.set.Lobby.ID} {
		if got := b.command("init", b.dir, "--events", odd); got.code != exitUsage {
			t.Errorf("for %s: %d %s", odd, got.code, got.err)
		}
	}
}
