package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

// TestKeysPage runs the commands of docs/keys.md with a real server: each ends well, and the lines below it are in what it
// prints. The rotation comes to its end but for the old key, whose time is not over.
func TestKeysPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/keys.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, worldOptions{policy: worldPolicy + "plans:\n  free: { roles: [developer] }\n"})
	key := w.writeSealKey("seal.key")
	w.setSeal("seal:\n  key: file:seal.key")
	s := w.store()
	k := &keeper{TB: t, store: s, ring: seal.NewRing(key)}
	k.account("orders")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r := w.serve(serveOptions{})
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for _, step := range strings.Split(strings.TrimPrefix(block[1], "$ "), "\n$ ") {
			command, want, _ := strings.Cut(step, "\n")
			command = strings.ReplaceAll(command, " keys/", " "+w.dir+"/keys/")
			ran++
			if err := r.shows(nil, command, want); err != nil {
				t.Error(err)
			}
		}
	}
	if ran < 6 {
		t.Errorf("the page has %d commands", ran)
	}
	eventually(t, func() error {
		if out := r.must("keys", "list", "orders"); !strings.Contains(out, "leaving") || strings.Contains(out, "added") {
			return fmt.Errorf("the new key is not current yet:\n%s", out)
		}
		return nil
	})
	r.must("keys", "rotate", "orders", "--now", "--reason", "it leaked")
	r.stop()
	s = w.store()
	defer func() { _ = s.Close() }()
	list, _, err := s.Accounts(t.Context(), store.AccountFilter{Name: "orders"})
	if err != nil || len(list) != 1 || len(list[0].Keys) != 2 || list[0].Keys[0].Stage != account.Current {
		t.Fatalf("got %+v, %v", list, err)
	}
	for _, seed := range k.seeds {
		if strings.Contains(r.log.String(), string(seed)) {
			t.Error("a seed is in the log")
		}
	}
}
