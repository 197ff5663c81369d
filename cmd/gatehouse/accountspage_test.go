package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// TestAccountsPage runs the commands of docs/accounts.md against a real server, with its configuration: each ends well, and prints
// what the page shows.
func TestAccountsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/accounts.md")
	if err != nil {
		t.Fatal(err)
	}
	_, yaml, _ := strings.Cut(string(page), "```yaml\n")
	sealing, yaml, _ := strings.Cut(yaml, "\n")
	yaml, _, found := strings.Cut(yaml, "```")
	if !found || !strings.HasPrefix(sealing, "seal: { key: keys/seal.key }") {
		t.Fatal("the page has no configuration that begins with the sealing key")
	}
	w := newWorld(t, worldOptions{policy: strings.ReplaceAll(yaml, "issuer: corp", "issuer: demo")})
	w.edit(func(yaml string) string {
		return strings.NewReplacer("name: demo", "name: corp", "issuer: demo", "issuer: corp").Replace(yaml)
	})
	s := &transcript{replica: w.serve(serveOptions{})}
	for _, who := range []string{"alice", "bob", "carol"} {
		w.personFile(who)
	}
	secret := regexp.MustCompile(`(?m)^[A-Z2-7]{26}$`)
	file := regexp.MustCompile(`(--token-file|--secret-file|--out) (\S+)`)
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for step := range strings.SplitSeq(strings.TrimPrefix(block[1], "$ "), "\n$ ") {
			line, want, _ := strings.Cut(step, "\n")
			line, isCommand := strings.CutPrefix(strings.TrimSpace(line), "gatehouse ")
			if !isCommand {
				t.Fatalf("not a command of gatehouse: %s", step)
			}
			ran++
			got := s.command(words(file.ReplaceAllString(line, "$1 "+w.dir+"/$2"))...)
			if got.code != exitDone {
				t.Fatalf("$ gatehouse %s\nended with %d: %s%s", line, got.code, got.out, got.err)
			}
			if made := secret.FindString(got.out); made != "" {
				if err := os.WriteFile(filepath.Join(w.dir, "secret"), []byte(made), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want = strings.ReplaceAll(want, "https://login.example.com", w.provider.Issuer())
			if shown, promised := s.same(got.out+got.err), s.same(want); want != "" && strings.TrimSpace(shown) != strings.TrimSpace(promised) {
				t.Errorf("$ gatehouse %s\nprints\n%s\nand the page says\n%s", line, shown, promised)
			}
			if strings.HasPrefix(line, "account accept") {
				who := file.FindAllStringSubmatch(line, -1)
				w.mustEnterAccount(0, "team-orders", filepath.Join(w.dir, who[len(who)-1][2]))
			}
			switch creds := filepath.Join(w.dir, "nightly.creds"); {
			case strings.HasPrefix(line, "creds "):
				nc, err := w.direct(creds)
				if err != nil {
					t.Fatalf("with the creds of the program: %v", err)
				}
				nc.Close()
			case strings.HasPrefix(line, "revoke "):
				if nc, err := w.direct(creds); !errors.Is(err, nats.ErrAuthorization) {
					t.Errorf("with the creds of a program that was revoked: %v", err)
					if err == nil {
						nc.Close()
					}
				}
			}
		}
	}
	if got := s.command("whoami", "--token-file", filepath.Join(w.dir, "alice.jwt")); !strings.Contains(got.out, "You are a member of team-orders: log in as the user account:team-orders.") {
		t.Errorf("a member who names no account is told %s", got.out)
	}
	if ran < 12 {
		t.Errorf("the page has %d commands", ran)
	}
}
