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

// revocationPagePolicy gives developers and contractors logins and creds of their own.
const revocationPagePolicy = `roles:
  developer:
    publish: { allow: ["app.>"] }
    subscribe: { allow: ["app.>"] }
bindings:
  - name: developers
    issuer: demo
    match: { groups: [dev, contractors] }
    grant: { account: APP, role: developer, direct: { ttl: 1h } }
`

// TestRevocationPage runs the commands of docs/revocation.md against a real server: each prints what the page shows,
// and who is out by then is out.
func TestRevocationPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/revocation.md")
	if err != nil {
		t.Fatal(err)
	}
	p := newRevoking(t, "corp")
	key := p.signUp("7f3a")
	ends := map[string]string{ // whom commands of the page put out
		"kick bob@":                           "bob",
		"revoke alice@":                       "alice",
		"revoke --account APP --user-key":     "creds of 7f3a",
		"revoke --issuer corp --subject 7f3a": "7f3a",
		"revoke --issuer corp --match":        "carol",
		"revoke --account APP --logout":       "bob",
	}
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for step := range strings.SplitSeq(strings.TrimPrefix(block[1], "$ "), "\n$ ") {
			line, want, _ := strings.Cut(step, "\n")
			line, isCommand := strings.CutPrefix(strings.TrimSpace(line), "gatehouse ")
			if !isCommand {
				t.Fatalf("not a command of gatehouse: %s", step)
			}
			ran++
			p.runs(strings.ReplaceAll(line, "U…", key), want)
			for command, who := range ends {
				if !strings.HasPrefix(line, command) || strings.Contains(line, "--dry-run") {
					continue
				}
				p.closes(who)
				if token := p.tokens[who]; strings.HasPrefix(command, "kick") {
					p.connect(who)
				} else if token != "" {
					p.mustBeRefused(token)
				}
				delete(ends, command)
			}
		}
	}
	if ran < 12 || len(ends) > 0 {
		t.Errorf("the page has %d commands, and none of %v", ran, ends)
	}
}

// revoking is a session of an admin, with people who are connected meanwhile.
type revoking struct {
	*transcript
	id     string // of the revocation that was shown last
	tokens map[string]string
	conns  map[string]*nats.Conn
}

// newRevoking has alice, bob, 7f3a and the contractor carol connect, each under an address of their own.
func newRevoking(t *testing.T, issuer string) *revoking {
	t.Helper()
	w := newWorld(t, worldOptions{policy: revocationPagePolicy})
	if issuer != "demo" {
		w.edit(func(yaml string) string {
			return strings.NewReplacer("name: demo", "name: "+issuer, "issuer: demo", "issuer: "+issuer).Replace(yaml)
		})
	}
	p := &revoking{transcript: &transcript{replica: w.serve(serveOptions{})}, tokens: map[string]string{}, conns: map[string]*nats.Conn{}}
	for who, groups := range map[string]string{"alice": "dev", "bob": "dev", "7f3a": "dev", "carol": "contractors"} {
		p.tokens[who] = w.token("alice", map[string]any{"sub": who, "groups": []string{groups}, "email": who + "@example.com"})
	}
	for _, who := range []string{"alice", "bob", "7f3a", "carol"} { // sessions are shown in this order
		p.connect(who)
	}
	return p
}

// connect has somebody connect, and returns once the record of that login can be read.
func (p *revoking) connect(who string) {
	p.Helper()
	p.conns[who] = p.eventuallyLogin(p.tokens[who])
	eventually(p, func() error {
		if got := p.command("sessions", who+"@example.com"); got.code != exitDone || !strings.Contains(got.out, who+"@example.com") {
			return errors.New(got.out + got.err)
		}
		return nil
	})
}

// signUp makes creds for somebody, connects with them, and returns their public key.
func (p *revoking) signUp(who string) (key string) {
	p.Helper()
	token, file := filepath.Join(p.dir, who+".jwt"), filepath.Join(p.dir, who+".creds")
	if err := os.WriteFile(token, []byte(p.tokens[who]), 0o600); err != nil {
		p.Fatal(err)
	}
	p.must("creds", "--account", "APP", "--out", file, "--token-file", token)
	p.conns["creds of "+who] = p.mustBeDirect(file)
	return publicKey(p, mustReadCreds(p, file))
}

// runs carries out a command that has to end well and, where the page shows that, to print the text. An id in it
// stands for the one that was shown last.
func (p *revoking) runs(line, want string) {
	p.Helper()
	got := p.command(words(vary[1].match.ReplaceAllString(line, p.id))...)
	if got.code != exitDone {
		p.Fatalf("$ gatehouse %s\nended with %d: %s%s", line, got.code, got.out, got.err)
	}
	if found := vary[1].match.FindString(got.out); found != "" {
		p.id = found
	}
	if shown, promised := p.same(got.out+got.err), p.same(want); want != "" && strings.TrimSpace(shown) != strings.TrimSpace(promised) {
		p.Errorf("$ gatehouse %s\nprints\n%s\nand the page says\n%s", line, shown, promised)
	}
}

// closes waits until the connections of these people are closed, and sees that nobody else's are but of those for whom
// it was called before.
func (p *revoking) closes(people ...string) {
	p.Helper()
	for _, who := range people {
		eventually(p, func() error {
			if !p.conns[who].IsClosed() {
				return errors.New(who + " is connected")
			}
			return nil
		})
		delete(p.conns, who)
	}
	for other, nc := range p.conns {
		if !nc.IsConnected() {
			p.Errorf("%s was closed with %s", other, people)
		}
	}
}
