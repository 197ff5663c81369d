package main

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// adminPolicy is worldPolicy with admins of two kinds.
const adminPolicy = worldPolicy + `  - name: admins
    issuer: demo
    match: { groups: nats-admins }
    grant: { admin: [revoke, sessions, accounts, audit, explain] }
  - name: auditors
    issuer: demo
    match: { groups: ops }
    grant: { admin: [audit] }
`

// adminToken returns a token of a demo user for administration.
func (w *world) adminToken(user string, claims map[string]any) string {
	all := map[string]any{"aud": []string{devstack.AdminClientID}}
	for name, value := range claims {
		all[name] = value
	}
	return w.token(user, all)
}

// away returns the environment of somebody who is not on the host, and who may have a token.
func (r *replica) away(token string) []string {
	return []string{"HOME=" + r.TempDir(), "GATEHOUSE_CONFIG=/nonexistent.yaml", "GATEHOUSE_TOKEN=" + token}
}

// TestAdministrationFromElsewhere reaches the operations over the network, by right.
func TestAdministrationFromElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: adminPolicy})
	r := w.serve(serveOptions{})
	w.login(w.token("alice", nil)).Close()
	eventually(t, func() error {
		if got := r.command("explain", "--subject", "alice"); got.code != exitDone {
			return errors.New(got.err)
		}
		return nil
	})
	root := r.away(w.adminToken("root", nil))
	for _, args := range [][]string{
		{"revoke", "--issuer", "demo", "--subject", "alice", "--reason", "left"},
		{"revocations"},
		{"audit", "--actor", "demo-root"},
		{"explain", "--subject", "alice"},
		{"revoke", "lift", "--issuer", "demo", "--subject", "alice", "--reason", "back"},
	} {
		got := command(t, root, "", append(args, "--url", r.http)...)
		if got.code != exitDone && !(args[0] == "explain" && got.code == exitRefused && strings.Contains(got.out, "blocked")) {
			t.Errorf("%v ended with %d: %s%s", args, got.code, got.out, got.err)
		}
	}
	w.login(w.token("alice", nil)).Close()
	eventually(t, func() error {
		for _, e := range r.audit("--kind", "admin", "--actor", "demo-root") {
			if e.Op == "revoke" && e.Outcome == "allowed" && e.Subject == "root" && e.ConnType == "http" && e.Source == "127.0.0.1" {
				return nil
			}
		}
		return errors.New("the call is not in the audit trail yet")
	})
	for name, test := range map[string]struct {
		token string
		says  string
	}{
		"a login token":       {w.token("root", nil), "gatehouse login --admin"},
		"without the right":   {w.adminToken("bob", nil), "this takes the right revoke, and you have audit"},
		"without any right":   {w.adminToken("alice", nil), "grant.admin"},
		"an expired token":    {w.adminToken("root", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), "gatehouse login --admin"},
		"of another audience": {w.token("root", map[string]any{"aud": "web"}), "admin_audiences"},
	} {
		got := command(t, r.away(test.token), "", "revoke", "--issuer", "demo", "--subject", "alice", "--reason", "x", "--url", r.http)
		if got.code != exitRefused || !strings.Contains(got.err, test.says) {
			t.Errorf("%s: ended with %d: %s", name, got.code, got.err)
		}
	}
	if got := command(t, r.away(""), "", "revocations", "--url", r.http); got.code != exitFailed || !strings.Contains(got.err, "--token-file") {
		t.Errorf("without a token: %d %s", got.code, got.err)
	}
	if got := command(t, root, "", "revocations", "--url", "http://gatehouse.example.com"); got.code != exitUsage || !strings.Contains(got.err, "https") {
		t.Errorf("in the clear: %d %s", got.code, got.err)
	}
	if got := r.command("revocations", "--token-file", "-"); got.code != exitUsage {
		t.Errorf("a token without --url: %d %s", got.code, got.err)
	}
	// An admin whose token is bound to the reader's key cannot administer, and one who is blocked neither.
	r.must("revoke", "--issuer", "demo", "--subject", "root", "--reason", "misuse")
	if got := command(t, root, "", "revocations", "--url", r.http); got.code != exitRefused || !strings.Contains(got.err, "blocked") {
		t.Errorf("blocked: %d %s", got.code, got.err)
	}
}

// TestLoginForAdministration logs in twice with one provider: what administers logs nobody in.
func TestLoginForAdministration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: adminPolicy})
	r := w.serve(serveOptions{})
	home := append(r.env, "GATEHOUSE_HOME="+w.dir)
	device := begin(t, home, "login", "--admin", "--device")
	code := device.await(`on any device:\n\n  (\S+)\n\nand enter this code, by \d\d:\d\d:\d\d:\n\n  (\S+)\n`)
	answer, err := web.PostForm(code[1], url.Values{"user_code": {code[2]}, "username": {"root"}, "password": {"root"}, "decision": {"approve"}})
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer, err)
	}
	_ = answer.Body.Close()
	if code := <-device.code; code != exitDone {
		t.Fatalf("it ended with %d:\n%s", code, device.err)
	}
	who := command(t, home, "", "whoami", "--admin")
	if who.code != exitDone || !strings.Contains(who.out, "MAY ADMINISTER: revoke, sessions, accounts, audit, explain") {
		t.Errorf("whoami ended with %d: %s%s", who.code, who.out, who.err)
	}
	if got := command(t, home, "", "revocations", "--url", r.http); got.code != exitDone {
		t.Errorf("revocations ended with %d: %s", got.code, got.err)
	}
	if got := command(t, home, "", "whoami"); got.code == exitDone {
		t.Errorf("the login for administration is one for logins: %s", got.out)
	}
	if got := command(t, home, "", "login", "--admin", "--bind-key"); got.code != exitUsage {
		t.Errorf("login --admin --bind-key ended with %d: %s", got.code, got.err)
	}
	file := filepath.Join(w.dir, "admin.jwt")
	watch := begin(t, home, "login", "--admin", "--watch", file)
	var token []byte
	eventually(t, func() (err error) {
		token, err = os.ReadFile(file)
		return err
	})
	watch.cancel()
	<-watch.code
	w.mustBeRefused(string(token))
	got := command(t, home, string(token), "explain", "--token-file", "-")
	if got.code != exitDone || !strings.Contains(got.out, "MAY ADMINISTER") || !strings.Contains(got.out, "admins") {
		t.Errorf("explain ended with %d: %s%s", got.code, got.out, got.err)
	}
}

// TestBreakGlass administers while no issuer's keys were ever loaded.
func TestBreakGlass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: adminPolicy})
	w.provider.SetDown(true)
	r := w.newReplica(serveOptions{})
	r.start(false)
	eventually(t, func() error {
		if got := r.command("status", "--json"); got.code == exitFailed && strings.Contains(got.out, `"ready"`) {
			return nil
		}
		return errors.New("it does not serve yet")
	})
	var out, errs record // a token is what this command is for: it is no evidence
	args := []string{"admin-token", "--rights", "revoke,audit", "--reason", "the provider is down", "--ttl", "5m"}
	if code := run(t.Context(), args, stdio{in: strings.NewReader(""), out: &out, err: &errs, env: r.env}); code != exitDone {
		t.Fatalf("admin-token ended with %d: %s", code, errs.String())
	}
	token := strings.TrimSpace(out.String())
	away := r.away(token)
	eventually(t, func() error { // once the store has been read
		if got := command(t, away, "", "revoke", "--issuer", "demo", "--subject", "alice", "--reason", "stolen", "--url", r.http); got.code != exitDone {
			return errors.New(got.err)
		}
		return nil
	})
	if got := command(t, away, "", "explain", "--subject", "alice", "--url", r.http); got.code != exitRefused || !strings.Contains(got.err, "right explain") {
		t.Errorf("explain ended with %d: %s", got.code, got.err)
	}
	w.mustBeRefused(token)
	made := func(e string) bool { return strings.Contains(r.log.String(), e) }
	if !made("an admin token was made on this host") || !made("an admin token is used") || made(token) {
		t.Error("the log does not tell of the token, or holds it")
	}
	eventually(t, func() error {
		if list := r.audit("--kind", "admin", "--actor", "admin-token:"+provision.LocalActor(os.Getuid())); len(list) < 2 { // the call, and what it did
			return errors.New("its use is not in the audit trail yet")
		}
		return nil
	})
	for _, args := range [][]string{
		{"admin-token", "--rights", "revoke"},
		{"admin-token", "--reason", "x"},
		{"admin-token", "--rights", "everything", "--reason", "x"},
		{"admin-token", "--rights", "revoke", "--reason", "x", "--ttl", "2h"},
	} {
		if got := r.command(args...); got.code != exitUsage {
			t.Errorf("%v ended with %d: %s", args, got.code, got.err)
		}
	}
}
