package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	authb "github.com/synadia-io/jwt-auth-builder.go"
)

// TestAdoptionPage runs the commands of docs/adoption.md in their order, on a set-up that nats auth has an account in.
func TestAdoptionPage(t *testing.T) {
	t.Parallel()
	w := planned(t, 1)
	n := w.natsAuth()
	n.change("ORDERS", func(authb.Account) error { return nil })
	n.change("SHIP", func(a authb.Account) error {
		_, err := a.ScopedSigningKeys().Add()
		return err
	})
	r := w.serve(serveOptions{})
	page := content(t, "../../docs/adoption.md")
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.NewReplacer("~/.local/share/nats/nsc", n.dir, "--out left", "--out "+filepath.Join(w.dir, "left"), "prod/", w.dir+"/").Replace(line)
			args := words(strings.TrimSpace(line))
			got := r.command(args[1:]...)
			// ORDERS was taken over by the command before.
			if again := strings.Contains(line, "--all"); got.code != exitDone && (!again || got.code != exitPartial) {
				t.Fatalf("%s ended with %d: %s%s", line, got.code, got.out, got.err)
			}
			ran++
		}
	}
	if ran != 4 {
		t.Errorf("%d commands ran", ran)
	}
	w.mustEnter("ORDERS", w.token("alice", nil))
	w.mustEnter("SHIP", w.token("alice", nil))
	left := &natsAuth{world: w, dir: filepath.Join(w.dir, "left")}
	left.open()
	if _, err := left.operator().Accounts().Get("SHIP"); err != nil {
		t.Error(err)
	}
}
