package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// directPolicy lets jobs hold creds of their own, and developers log in with their tokens alone.
const directPolicy = `roles:
  worker:
    publish: { allow: ["jobs.>"] }
    subscribe: { allow: ["jobs.>"] }
bindings:
  - name: jobs
    issuer: demo
    match: { groups: jobs }
    grant: { account: APP, role: worker, direct: { ttl: 1h, keys: 2 } }
  - name: developers
    issuer: demo
    match: { groups: dev }
    grant: { account: APP, role: worker }
`

// tokenFile writes a token of a demo user and returns the file.
func (w *world) tokenFile(claims map[string]any) string {
	w.Helper()
	path := filepath.Join(w.dir, "token-"+someone())
	if err := os.WriteFile(path, []byte(w.token("alice", claims)), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

// direct connects with a creds file, once.
func (w *world) direct(file string) (*nats.Conn, error) {
	return nats.Connect(w.set.ClientURL(), nats.UserCredentials(file), nats.Timeout(5*time.Second), nats.NoReconnect(), nats.IgnoreDiscoveredServers())
}

// mustBeDirect connects with a creds file.
func (w *world) mustBeDirect(file string) *nats.Conn {
	w.Helper()
	nc, err := w.direct(file)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(nc.Close)
	return nc
}

func content(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func mustReadCreds(t testing.TB, file string) credsFile {
	t.Helper()
	creds, err := readCreds(file)
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

func publicKey(t testing.TB, f credsFile) string {
	t.Helper()
	key, err := f.key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A creds file logs in without Gatehouse, as its identity may and no further.
func TestCreds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: directPolicy})
	r := w.serve(serveOptions{})
	subject := someone()
	token := w.tokenFile(map[string]any{"sub": subject, "groups": []string{"jobs"}})
	file := filepath.Join(w.dir, "job.creds")
	var printed struct {
		File, Name string
		UserKey    string `json:"user_key"`
		AccountID  string `json:"account_id"`
		Expires    time.Time
	}
	if err := json.Unmarshal([]byte(r.must("creds", "--account", "APP", "--out", file, "--token-file", token, "--json")), &printed); err != nil {
		t.Fatal(err)
	}
	creds := mustReadCreds(t, file)
	if printed.File != file || printed.Name != policy.PrincipalName("demo", subject) || printed.AccountID != w.set.App.ID || printed.UserKey != publicKey(t, creds) {
		t.Errorf("printed %+v", printed)
	}
	nc := w.mustBeDirect(file)
	if shown := w.connection(nc); shown.Account != w.set.App.ID || shown.AuthorizedUser != printed.UserKey {
		t.Errorf("connection %+v, want one in %s as %s", shown, w.set.App.ID, printed.UserKey)
	}
	mustHear(t, nc, "jobs.one")
	mustNotPublish(t, nc, "other")

	// Renewed with the same key, and known as one key.
	r.must("creds", "--account", "APP", "--out", file, "--token-file", token)
	if again := mustReadCreds(t, file); publicKey(t, again) != printed.UserKey {
		t.Errorf("renewed for key %s, had %s", publicKey(t, again), printed.UserKey)
	}
	program := filepath.Join(w.dir, "nightly.creds")
	r.must("creds", "--account", "APP", "--out", program, "--token-file", token, "--program", "nightly")
	if name := mustReadCreds(t, program).name; name != policy.ProgramName("nightly", w.provider.Issuer(), subject) {
		t.Errorf("the program is %s", name)
	}
	refused := r.command("creds", "--account", "APP", "--out", filepath.Join(w.dir, "third.creds"), "--token-file", token)
	if refused.code != exitRefused || !strings.Contains(refused.err, "too_many_keys") {
		t.Errorf("a third key: %d %s", refused.code, refused.err)
	}
	var entries []api.AuditEntry
	eventually(t, func() error {
		if entries = r.audit("--name", printed.Name); len(entries) < 4 {
			return fmt.Errorf("%d audit entries, want 4", len(entries))
		}
		return nil
	})
	if len(entries) != 4 || entries[0].Reason != "too_many_keys" || entries[3].UserKey != printed.UserKey || entries[3].Op != api.OpUserSignup {
		t.Errorf("audit entries %+v", entries)
	}

	r.stop()
	mustHear(t, w.mustBeDirect(file), "jobs.two")
	mustHear(t, w.mustBeDirect(program), "jobs.three")
}

// mustHear expects that the connection may publish and subscribe to the subject.
func mustHear(t testing.TB, nc *nats.Conn, subject string) {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish(subject, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.NextMsg(10 * time.Second); err != nil {
		t.Errorf("%s: %v", subject, err)
	}
}

// mustNotPublish expects that the server refuses what the connection publishes there.
func mustNotPublish(t testing.TB, nc *nats.Conn, subject string) {
	t.Helper()
	violations := make(chan error, 1)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case violations <- err:
		default:
		}
	})
	if err := nc.Publish(subject, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-violations:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", subject, err)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("%s may be published", subject)
	}
}

func TestCredsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: directPolicy})
	r := w.serve(serveOptions{})
	subject := someone()
	job := w.tokenFile(map[string]any{"sub": subject, "groups": []string{"jobs"}})
	file := filepath.Join(w.dir, "job.creds")
	get := func(token string, flags ...string) result {
		return r.command(append([]string{"creds", "--account", "APP", "--out", file, "--token-file", token}, flags...)...)
	}
	for name, c := range map[string]struct {
		got  result
		code int
		want string
	}{
		"a binding without direct":          {get(w.tokenFile(map[string]any{"sub": someone(), "groups": []string{"dev"}})), exitRefused, "direct_not_granted"},
		"one binding of two without direct": {get(w.tokenFile(map[string]any{"sub": someone(), "groups": []string{"dev", "jobs"}})), exitRefused, "direct_not_granted"},
		"nothing granted":                   {get(w.tokenFile(map[string]any{"sub": someone(), "groups": []string{"x"}})), exitRefused, "no_binding"},
		"an account that is not granted":    {get(job, "--account", "OTHER"), exitRefused, "account_not_granted"},
		"a strange program":                 {get(job, "--program", "A B"), exitUsage, "--program"},
		"another address of the service":    {get(job, "--url", strings.Replace(r.http, "127.0.0.1", "localhost", 1)), exitRefused, "call it by that address"},
		"in the clear":                      {get(job, "--url", "http://gatehouse.example.com"), exitUsage, "use https"},
		"no file":                           {r.command("creds", "--account", "APP"), exitUsage, "--out"},
		"standard input for ever":           {get("-", "--watch"), exitUsage, "--watch needs a fresh token"},
	} {
		if c.got.code != c.code || !strings.Contains(c.got.err, c.want) {
			t.Errorf("%s: %d %s, want %d and %q", name, c.got.code, c.got.err, c.code, c.want)
		}
		if _, err := os.Stat(file); err == nil {
			t.Fatalf("%s: the file was written", name)
		}
	}
	if got := get(job); got.code != exitDone {
		t.Fatal(got.err)
	}
	r.must("revoke", "--issuer", "demo", "--subject", subject, "--reason", "left")
	if got := get(job); got.code != exitRefused || !strings.Contains(got.err, "blocked") {
		t.Errorf("a blocked identity: %d %s", got.code, got.err)
	}
}

// What is in the way is left as it is, whatever it is.
func TestCredsReplaceNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: directPolicy})
	r := w.serve(serveOptions{})
	job := func() string { return w.tokenFile(map[string]any{"sub": someone(), "groups": []string{"jobs"}}) }
	own, other := job(), job()
	file := filepath.Join(w.dir, "some.creds")
	get := func(flags ...string) result {
		return r.command(append([]string{"creds", "--account", "APP", "--out", file, "--token-file", own}, flags...)...)
	}
	put := func(text string, mode os.FileMode) {
		if err := errors.Join(os.RemoveAll(file), os.WriteFile(file, []byte(text), mode), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	theirs := filepath.Join(w.dir, "theirs.creds")
	r.must("creds", "--account", "APP", "--out", theirs, "--token-file", other)
	mine := filepath.Join(w.dir, "mine.creds")
	r.must("creds", "--account", "APP", "--out", mine, "--token-file", own)
	for name, c := range map[string]struct {
		text, why string
		mode      os.FileMode
		flags     []string
	}{
		"something else":           {"notes", "not a creds file", 0o600, nil},
		"something else, shared":   {"notes", "is not replaced: it is not a creds file: choose another --out", 0o644, nil},
		"nothing":                  {"", "not a creds file", 0o600, nil},
		"another identity's":       {content(t, theirs), "it holds the creds of demo-", 0o600, nil},
		"the sentinel's":           {content(t, filepath.Join(w.dir, "creds", "sentinel.creds")), "it holds the creds of ", 0o600, nil},
		"own, for another program": {content(t, mine), "you sign up as prog-nightly-", 0o600, []string{"--program", "nightly"}},
		"own, and others read it":  {content(t, mine), "others may read it", 0o644, nil},
		"one key's JWT and another's seed": {strings.Replace(content(t, mine), section(t, content(t, mine), "SEED"), section(t, content(t, theirs), "SEED"), 1),
			"for another key", 0o600, nil},
	} {
		put(c.text, c.mode)
		got := get(c.flags...)
		if got.code != exitFailed || !strings.Contains(got.err, c.why) || !strings.Contains(got.err, "--force") {
			t.Errorf("%s: %d %s, want %q", name, got.code, got.err, c.why)
		}
		if content(t, file) != c.text {
			t.Errorf("%s: the file was changed", name)
		}
	}
	put("notes", 0o644)
	if got := get("--force"); got.code != exitDone {
		t.Fatalf("--force: %s", got.err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want mode 0600", info, err)
	}
	mustHear(t, w.mustBeDirect(file), "jobs.x")
}

// section returns the line in a block of a creds file.
func section(t testing.TB, creds, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(creds, name+"-----\n")
	line, _, more := strings.Cut(rest, "\n")
	if !ok || !more {
		t.Fatalf("no %s in the creds", name)
	}
	return line
}

// heldPolicy has direct users whom servers hold to where and how they connect, and one whose token is bound.
const heldPolicy = `roles:
  worker:
    publish: { allow: ["jobs.>"] }
    subscribe: { allow: ["jobs.>"] }
bindings:
  - name: here
    issuer: demo
    match: { groups: here }
    source: 127.0.0.1
    grant: { account: APP, role: worker, direct: { ttl: 1h } }
  - name: browsers
    issuer: demo
    match: { groups: web }
    connection_types: [websocket]
    grant: { account: APP, role: worker, direct: { ttl: 1h } }
  - name: holders
    issuer: demo
    match: { groups: held }
    require_key: true
    grant: { account: APP, role: worker, direct: { ttl: 1h } }
`

// What Gatehouse checks at each connect of a callout user, servers check of direct users.
func TestServersHoldDirectUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: heldPolicy})
	r := w.serve(serveOptions{})
	get := func(group string, claims map[string]any, flags ...string) (string, result) {
		all := map[string]any{"sub": someone(), "groups": []string{group}}
		maps.Copy(all, claims)
		token := w.tokenFile(all)
		file := filepath.Join(w.dir, someone()+".creds")
		return file, r.command(append([]string{"creds", "--out", file, "--token-file", token}, flags...)...)
	}
	refusedAt := func(url, file string, options ...nats.Option) {
		t.Helper()
		nc, err := nats.Connect(url, append([]nats.Option{nats.UserCredentials(file), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.Timeout(5 * time.Second)}, options...)...)
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%v, want a refusal", err)
		}
	}

	here, got := get("here", nil)
	if got.code != exitDone {
		t.Fatal(got.err)
	}
	mustHear(t, w.mustBeDirect(here), "jobs.x")
	elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: 5 * time.Second}
	if runtime.GOOS == "linux" { // where all of 127.0.0.0/8 is this host's
		refusedAt(w.set.ClientURL(), here, nats.SetCustomDialer(&elsewhere))
	}

	web, got := get("web", nil)
	if got.code != exitDone {
		t.Fatal(got.err)
	}
	refusedAt(w.set.ClientURL(), web)
	nc, err := nats.Connect(w.servers[0].WebSocketURL(), nats.UserCredentials(web), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.Timeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	mustHear(t, nc, "jobs.y")

	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(w.dir, "held.nk")
	if err := os.WriteFile(keyFile, append(seed, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, got := get("held", nil); got.code != exitRefused || !strings.Contains(got.err, "key_required") {
		t.Errorf("a token that is not bound: %d %s", got.code, got.err)
	}
	if _, got := get("held", map[string]any{"nonce": public}); got.code != exitRefused || !strings.Contains(got.err, "key_proof_invalid") {
		t.Errorf("a token that is bound to another key: %d %s", got.code, got.err)
	}
	held, got := get("held", map[string]any{"nonce": public}, "--key-file", keyFile)
	if got.code != exitDone {
		t.Fatal(got.err)
	}
	if is := publicKey(t, mustReadCreds(t, held)); is != public {
		t.Errorf("the creds are for %s, want %s", is, public)
	}
	mustHear(t, w.mustBeDirect(held), "jobs.z")
}

// scopedDirectPolicy has direct users whose permissions are in the account's claims.
const scopedDirectPolicy = `roles:
  worker: { scoped_key: keys/worker.nk, account: APP, tags: ["team:{{claim.team}}"] }
bindings:
  - name: jobs
    issuer: demo
    match: { groups: jobs }
    grant: { account: APP, role: worker, direct: { ttl: 1h } }
`

// A scoped signing key makes direct users too, once its template keeps leaf nodes out.
func TestScopedCreds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: scopedDirectPolicy})
	worker := w.writeKey("keys/worker.nk")
	push := func(types ...string) {
		w.pushApp(func(c *jwt.AccountClaims) {
			scope := workerTemplate()
			scope.Key = worker
			scope.Template.AllowedConnectionTypes.Add(types...)
			c.SigningKeys.AddScopedSigner(scope)
		})
	}
	push()
	r := w.serve(serveOptions{})
	token := w.tokenFile(batchJob("blue"))
	file := filepath.Join(w.dir, "job.creds")
	get := func() result { return r.command("creds", "--out", file, "--token-file", token) }
	if got := get(); got.code != exitRefused || !strings.Contains(got.err, "direct_not_granted") {
		t.Fatalf("a template that lets leaf nodes in: %d %s", got.code, got.err)
	}
	push(jwt.ConnectionTypeStandard)
	eventually(t, func() error {
		if got := get(); got.code != exitDone {
			return errors.New(got.err)
		}
		return nil
	})
	nc := w.mustBeDirect(file)
	mustHear(t, nc, "jobs.blue.x")
	mustNotPublish(t, nc, "jobs.red.x")
}

// Whoever is blocked is closed out and kept out with creds that are still valid, on each server; a program only when
// programs are meant, and a key by itself.
func TestRevokedCredsAreKeptOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: directPolicy, servers: 3})
	r := w.serve(serveOptions{})
	subject := someone()
	token := w.tokenFile(map[string]any{"sub": subject, "groups": []string{"jobs"}})
	signUp := func(token, name string, flags ...string) string {
		file := filepath.Join(w.dir, name+".creds")
		r.must(append([]string{"creds", "--account", "APP", "--out", file, "--token-file", token}, flags...)...)
		return file
	}
	own, program := signUp(token, "own"), signUp(token, "nightly", "--program", "nightly")
	other := signUp(w.tokenFile(map[string]any{"sub": someone(), "groups": []string{"jobs"}}), "other")
	closed := func(file string) <-chan struct{} {
		nc, gone := w.mustBeDirect(file), make(chan struct{})
		nc.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
		nc.SetClosedHandler(func(*nats.Conn) { close(gone) })
		return gone
	}
	mustEnd := func(file string, gone <-chan struct{}) {
		t.Helper()
		select {
		case <-gone:
		case <-time.After(time.Minute):
			t.Fatal("the connection is still there")
		}
		for _, s := range w.servers {
			eventually(t, func() error {
				nc, err := nats.Connect(s.ClientURL(), nats.UserCredentials(file), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.Timeout(5*time.Second))
				if err == nil {
					nc.Close()
					return errors.New("it came back")
				}
				return nil
			})
		}
	}
	ownGone, programGone, otherGone := closed(own), closed(program), closed(other)

	r.must("revoke", "--issuer", "demo", "--subject", subject, "--reason", "left", "--yes")
	mustEnd(own, ownGone)
	mustHear(t, w.mustBeDirect(program), "jobs.program")
	if got := r.command("creds", "--account", "APP", "--out", program, "--token-file", token, "--program", "nightly"); got.code != exitRefused || !strings.Contains(got.err, "blocked") {
		t.Errorf("the renewal of a blocked identity's program: %d %s", got.code, got.err)
	}
	r.must("revoke", "--issuer", "demo", "--subject", subject, "--reason", "its programs too", "--programs", "--yes")
	mustEnd(program, programGone)
	mustHear(t, w.mustBeDirect(other), "jobs.other")
	r.must("revoke", "--account", "APP", "--user-key", publicKey(t, mustReadCreds(t, other)), "--reason", "lost", "--yes")
	mustEnd(other, otherGone)
}

// Who is granted other accounts than before keeps the file of the one that it was made for.
func TestCredsOfAnotherAccount(t *testing.T) {
	t.Parallel()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req api.UserSignupRequest
		err := json.NewDecoder(r.Body).Decode(&req)
		if err == nil {
			err = json.NewEncoder(w).Encode(api.UserSignup{JWT: "eyJ", UserKey: req.UserKey, Account: "NEW", AccountID: "ANEW", Name: "corp-alice"})
		}
		if err != nil {
			t.Error(err)
		}
	}))
	defer service.Close()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "job.creds")
	s := signup{
		service: service.URL, path: file, creds: credsFile{key: key, jwt: "eyI", name: "corp-alice", account: "AOLD"},
		token: func(context.Context) (string, error) { return "token", nil },
	}
	if _, err := s.renew(t.Context()); err == nil || !strings.Contains(err.Error(), "it is for account AOLD, and this would be for ANEW (NEW)") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the file was written")
	}
}

// The stock nats CLI takes a creds file as it is.
func TestCredsInTheNATSCLI(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	installNATS(t, bin)
	w := newWorld(t, worldOptions{policy: directPolicy})
	r := w.serve(serveOptions{})
	file := filepath.Join(w.dir, "job.creds")
	r.must("creds", "--out", file, "--token-file", w.tokenFile(map[string]any{"sub": someone(), "groups": []string{"jobs"}}))
	sub, err := w.mustBeDirect(file).SubscribeSync("jobs.cli")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	eventually(t, func() error {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "nats"), "--server", w.set.ClientURL(), "--creds", file, "pub", "jobs.cli", "hello")
		cmd.Env = append(os.Environ(), "HOME="+w.dir, "XDG_CONFIG_HOME="+w.dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		_, err := sub.NextMsg(time.Second)
		return err
	})
}
