package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
)

// TestConfigMode logs in on servers without operator, sealed or with a system user or both, and
// asks for accounts where nobody is placed.
func TestConfigMode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		noXKey, noSystem bool
	}{
		"sealed, with a system user": {}, "plain": {noXKey: true}, "sealed, without system user": {noSystem: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{config: true, noXKey: c.noXKey})
			if c.noSystem {
				w.edit(func(yaml string) string { return strings.Replace(yaml, "    nkey: file:keys/system.nk\n", "", 1) })
			}
			r := w.serve(serveOptions{})
			w.testLogin(r)
			for _, account := range []string{"SYS", "AUTH", "$G", "$SYS"} {
				subject := someone()
				token := w.token("alice", developer(subject))
				nc, err := w.dial("", nats.UserInfo("account:"+account, token))
				if err == nil {
					nc.Close()
					t.Fatalf("somebody was placed in %s", account)
				}
				eventually(t, func() error { return r.ended("demo-"+subject, "account_not_granted") })
			}
		})
	}
}

// TestConfigModeKeys: the keys of the configuration are listed, whether something serves or not, and what only an operator has is said
// to need one.
func TestConfigModeKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{config: true})
	cfg, err := config.Load(w.config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	look := func(when string, run func(args ...string) result) {
		got := run("keys", "list", "--json")
		if got.code != exitDone {
			t.Fatalf("%s: list ended with %d: %s", when, got.code, got.err)
		}
		page := decodeOne[api.KeysPage](t, got.out)
		if len(page.Configured) != 1 || page.Configured[0].Key != cfg.NATS.Callout.SigningKey.Public() || len(page.Keys) != 0 {
			t.Errorf("%s: listed %+v", when, page)
		}
		for _, args := range [][]string{{"keys", "operator"}, {"keys", "reseal"}, {"keys", "list", "orders"}} {
			if got := run(args...); got.code == exitDone || !strings.Contains(got.err, "the servers have no operator (nats.callout.mode is config)") {
				t.Errorf("%s: %v ended with %d: %s", when, args, got.code, got.err)
			}
		}
	}
	if got := command(t, nil, "", "migrate", "-c", w.config()); got.code != exitDone {
		t.Fatalf("migrate ended with %d: %s", got.code, got.err)
	}
	look("nothing serves", func(args ...string) result { return command(t, nil, "", append(args, "-c", w.config())...) })
	look("it serves", w.serve(serveOptions{}).command)
}

// TestConfigModeMissingAccount: a grant into an account that the servers do not define is noticed
// before anybody is refused for it, and logins into the others go on.
func TestConfigModeMissingAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{config: true})
	r := w.serve(serveOptions{})
	w.edit(func(yaml string) string {
		yaml = strings.Replace(yaml, "  APP: {} # defined in the servers' files\n", "  APP: {}\n  LATER: {}\n", 1)
		return strings.Replace(yaml, "bindings:\n", `bindings:
  - { name: later, issuer: demo, match: { groups: later }, grant: { account: LATER, role: developer } }
`, 1)
	})
	eventually(t, func() error {
		err := r.ready()
		if err == nil || !strings.Contains(err.Error(), "account LATER: the server's file does not define it") {
			return fmt.Errorf("/readyz says %v", err)
		}
		return nil
	})
	began := time.Now()
	subject := someone()
	token := w.token("alice", map[string]any{"sub": subject, "groups": []string{"later"}})
	if nc, err := w.dial(token); err == nil {
		nc.Close()
		t.Fatal("a login into an account that is not there was admitted")
	}
	eventually(t, func() error { return r.ended("demo-"+subject, "account_unready") })
	if took := time.Since(began); took < time.Second {
		t.Errorf("the login was refused after %s, want no answer: the account may come", took)
	}
	w.login(w.token("alice", developer(someone())))
}

// TestDocumentedConfigMode: the configuration in docs/protocols.md is valid beside what init writes.
func TestDocumentedConfigMode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{config: true, noServers: true})
	path := filepath.Join(w.dir, "documented.yaml")
	if err := os.WriteFile(path, []byte(snippet(t, "Servers without an operator", "yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := command(t, nil, "", "check", "-c", path); got.code != exitDone {
		t.Errorf("check ended with %d: %s%s", got.code, got.out, got.err)
	}
}

// TestModeChangeNeedsRestart: a reload does not lead a running service to other servers' accounts.
func TestModeChangeNeedsRestart(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t, worldOptions{config: true}), newWorld(t, worldOptions{noServers: true})
	r := w.serve(serveOptions{})
	yaml, err := os.ReadFile(other.config())
	if err != nil {
		t.Fatal(err)
	}
	w.edit(func(string) string {
		return strings.NewReplacer(
			"creds/", other.dir+"/creds/", "file:keys/", "file:"+other.dir+"/keys/", other.set.ClientURL(), w.set.ClientURL(),
		).Replace(string(yaml))
	})
	if got := r.command("reload"); got.code == exitDone || !strings.Contains(got.err, "restart the service") {
		t.Errorf("reload ended with %d: %s%s", got.code, got.out, got.err)
	}
	w.login(w.token("alice", developer(someone())))
}
