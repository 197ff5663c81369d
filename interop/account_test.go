package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

// TestAccountExamples runs the examples of account sign-up: each signs up for an account whose key is its own, waits while an admin
// has to approve it, and ends logged in to it.
func TestAccountExamples(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	d.edit(t, `names: "team-*"`, `names: "team-*"`+"\n    approval: true\n    per_subject: 3", "\nplans:\n", "\npublic: { nats: [\""+d.NatsURL+"\"] }\nplans:\n")
	dir, err := filepath.Abs("../examples/signup")
	must(t, err)
	// Node.js looks for packages beside a program.
	javascript := t.TempDir()
	must(t, os.CopyFS(javascript, os.DirFS(dir)))
	here, err := filepath.Abs(".")
	must(t, err)
	must(t, os.Symlink(filepath.Join(here, "node_modules"), filepath.Join(javascript, "node_modules")))

	for name, example := range map[string]struct {
		needs, command []string
	}{
		"Go":         {[]string{"go", "version"}, []string{"go", "run", filepath.Join(dir, "account")}},
		"JavaScript": {[]string{"node", "--version"}, []string{"node", filepath.Join(javascript, "account.mjs")}},
		"Python":     {[]string{"python3", "-c", "import cryptography"}, []string{"python3", "-B", filepath.Join(dir, "account.py")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := exec.Command(example.needs[0], example.needs[1:]...).Run(); err != nil {
				t.Skipf("not run: needs %s: %v", strings.Join(example.needs, " "), err)
			}
			s := newTerminal(t, d.Config)
			pair, err := nkeys.CreateAccount()
			must(t, err)
			public, err := pair.PublicKey()
			must(t, err)
			seed, err := pair.Seed()
			must(t, err)
			seedFile := filepath.Join(s.dir, "seed.nk")
			must(t, os.WriteFile(seedFile, seed, 0o600))

			account := "team-" + strings.ToLower(name)
			var out output
			cmd := exec.Command(example.command[0], append(example.command[1:], d.HTTPURL, seedFile, d.tokenFile(t, s, "alice"), account, "free")...)
			cmd.Stdout = &out
			run, _ := start(t, cmd)
			c := &client{TB: t, out: &out, ends: run.Ended()}
			c.await("account " + account + " (" + public + ") is requested")
			if out, err := s.gatehouse("account", "approve", account).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			c.await("account " + account + " (" + public + ") is active")
			c.await("logged in to account " + account)
			s.recorded("--account", account, "--kind", "login", "--outcome", "allowed")
		})
	}
}

// recorded returns once the audit trail has an entry that the flags choose.
func (s terminal) recorded(flags ...string) {
	s.Helper()
	eventually(s, func() error {
		out, err := s.gatehouse(append([]string{"audit", "--json"}, flags...)...).CombinedOutput()
		if err == nil && len(out) == 0 {
			err = errors.New("no entry")
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}
