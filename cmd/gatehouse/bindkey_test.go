package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse"
	"github.com/gatehouse-nats/gatehouse/internal/devstack"
)

// bindKeyPolicy admits developers with a key-bound token alone.
var bindKeyPolicy = strings.Replace(worldPolicy, "    match: { groups: dev }\n", "    match: { groups: dev }\n    require_key: true\n", 1)

// TestBoundLogin logs in with a key, and uses the token with the stock nats CLI and the client library.
// Whoever steals the token file gets nothing, and neither does a token that is not bound.
func TestBoundLogin(t *testing.T) {
	w := newWorld(t, worldOptions{policy: bindKeyPolicy})
	bin := t.TempDir()
	installNATS(t, bin)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(w.dir, "xdg"))
	t.Setenv("GATEHOUSE_HOME", filepath.Join(w.dir, "home"))
	t.Setenv("SSH_CONNECTION", "none")
	r := w.serve(serveOptions{})

	// The configuration does not ask for a key yet, and check says so.
	if got := command(t, r.env, "", "check"); !strings.Contains(got.err, "bindings[0].require_key: gatehouse login gets tokens of issuer demo that are not bound") ||
		!strings.Contains(got.out, "require_key in developers: tokens that were renewed, or obtained by device code,") {
		t.Errorf("check says %s%s", got.out, got.err)
	}
	w.edit(func(yaml string) string {
		return strings.Replace(yaml, "client_id: "+devstack.ClientID, "client_id: "+devstack.ClientID+", bind_key: true", 1)
	})

	connect := begin(t, connectEnv(r), "connect", "--name", "bound", "--no-browser")
	logInAs(t, connect.await(`(http://\S+code_challenge=\S+)`)[1], "alice")
	if code := <-connect.code; code != exitDone {
		t.Fatalf("connect ended with %d:\n%s%s", code, connect.out, connect.err)
	}
	tokenFile := filepath.Join(w.dir, "home", "token-bound")
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := os.ReadFile(tokenFile + ".nk")
	if err != nil {
		t.Fatal(err)
	}
	if shown := connect.out.String() + connect.err.String(); strings.Contains(shown, string(seed)) || strings.Contains(shown, string(token)) {
		t.Error("connect shows the token or the key's seed")
	}

	if shown := connect.err.String(); strings.Contains(shown, "--device") {
		t.Errorf("connect offers a login by device code, which cannot bind a key:\n%s", shown)
	}

	pub := func(flags ...string) (out string, err error) {
		for range 5 { // the CLI tries once, and a login may stay unanswered on a loaded machine
			var b []byte
			b, err = exec.CommandContext(t.Context(), filepath.Join(bin, "nats"), append(flags, "pub", "app.hello", "world")...).CombinedOutput()
			if out = string(b); err == nil || !strings.Contains(out, "i/o timeout") {
				break
			}
		}
		return out, err
	}
	if out, err := pub("--context", "bound"); err != nil {
		t.Errorf("nats pub: %v\n%s", err, out)
	}
	if out, err := pub("--server", w.set.ClientURL(), "--nkey", tokenFile+".nk", "--token", string(token)); err != nil {
		t.Errorf("nats pub without a context: %v\n%s", err, out)
	}
	sentinel := filepath.Join(w.dir, "creds", "sentinel.creds")
	if code := run(t.Context(), []string{"connect", "--name", "sentinel", "--sentinel", sentinel}, stdio{in: strings.NewReader(""), out: connect.out, err: connect.err, env: connectEnv(r)}); code != exitDone {
		t.Fatalf("connect with a sentinel ended with %d:\n%s", code, connect.err)
	}
	if out, err := pub("--context", "sentinel"); err != nil {
		t.Errorf("nats pub with a sentinel: %v\n%s", err, out)
	}
	nc, err := gatehouse.Connect(t.Context(), w.set.ClientURL(), gatehouse.TokenFile(tokenFile), gatehouse.WithKeyFile(tokenFile+".nk"))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()

	thief, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := thief.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token, reason string
		opts          []nats.Option
	}{
		"stolen":                         {string(token), "key_proof_missing", nil},
		"stolen, signed by another key":  {string(token), "key_proof_invalid", []nats.Option{nats.Nkey(public, thief.Sign)}},
		"not bound, signed by some key":  {w.token("alice", nil), "key_required", []nats.Option{nats.Nkey(public, thief.Sign)}},
		"not bound, and nothing signed":  {w.token("alice", nil), "key_required", nil},
		"not bound, an ordinary nonce":   {w.token("alice", map[string]any{"nonce": "n-0S6_WzA2Mj"}), "key_required", nil},
		"bound by DPoP to another's key": {w.token("alice", map[string]any{"cnf": map[string]any{"jkt": strings.Repeat("A", 43)}}), "key_proof_missing", nil},
	} {
		before := r.refusals(c.reason)
		if nc, err := w.dial(c.token, c.opts...); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v, want a refusal", name, err)
			if err == nil {
				nc.Close()
			}
		}
		eventually(t, func() error {
			if r.refusals(c.reason) != before+1 {
				return errors.New(name + ": not recorded as " + c.reason)
			}
			return nil
		})
	}

	if out, err := pub("--server", w.set.ClientURL(), "--token", string(token)); err == nil || !strings.Contains(out, "Authorization Violation") {
		t.Errorf("nats pub without the key: %v\n%s", err, out)
	}

	// Explain shows the difference that the key makes.
	explained := func(token string) string {
		return command(t, r.env, token, "explain", "--token-file", "-").out
	}
	if got := explained(string(token)); !strings.Contains(got, "Bound to key U") || !strings.Contains(got, "ALLOWED into account APP") {
		t.Errorf("explain of the bound token:\n%s", got)
	}
	if got := explained(w.token("alice", nil)); !strings.Contains(got, "Not bound to a key: whoever has the token can use it.") ||
		!strings.Contains(got, "require_key is set and the token is not bound to a key") || !strings.Contains(got, "REFUSED: key_required") {
		t.Errorf("explain of the unbound token:\n%s", got)
	}
}

// connectEnv is the environment of commands that write contexts.
func connectEnv(r *replica) []string {
	return append(r.env, "XDG_CONFIG_HOME="+os.Getenv("XDG_CONFIG_HOME"), "GATEHOUSE_HOME="+os.Getenv("GATEHOUSE_HOME"))
}

// refusals returns how many refusals for a reason are in the audit trail.
func (r *replica) refusals(reason string) int {
	r.Helper()
	n := 0
	for _, e := range r.audit("--outcome", "refused") {
		if e.Reason == reason {
			n += max(1, e.Count)
		}
	}
	return n
}
