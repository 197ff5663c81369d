package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// scopedPolicy gives batch jobs a role whose permissions are in the account's claims.
const scopedPolicy = `roles:
  worker: { scoped_key: keys/worker.nk, account: APP, tags: ["team:{{claim.team}}"] }
bindings:
  - name: jobs
    issuer: demo
    match: { groups: jobs }
    grant: { account: APP, role: worker }
`

// workerTemplate lets a worker use the subjects of its team and those of its name.
func workerTemplate() *jwt.UserScope {
	scope := jwt.NewUserScope()
	scope.Role = "worker"
	scope.Template.Pub.Allow.Add("jobs.{{tag(team)}}.>")
	scope.Template.Sub.Allow.Add("jobs.{{tag(team)}}.>", "{{name()}}.>")
	return scope
}

// writeKey makes an account key, writes its seed below the world's folder, and returns the public key.
func (w *world) writeKey(file string) string {
	w.Helper()
	kp, err := nkeys.CreateAccount()
	if err != nil {
		w.Fatal(err)
	}
	seed, err := kp.Seed()
	if err != nil {
		w.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, file), append(seed, '\n'), 0o600); err != nil {
		w.Fatal(err)
	}
	return public
}

// pushApp puts changed claims of the application account on every server.
func (w *world) pushApp(change func(*jwt.AccountClaims)) {
	w.Helper()
	claims, err := jwt.DecodeAccountClaims(w.set.App.JWT)
	if err != nil {
		w.Fatal(err)
	}
	change(claims)
	w.pushes++
	// Two claims of one second would share a jti otherwise, and servers would not tell them apart.
	claims.Audience = fmt.Sprintf("push-%d", w.pushes)
	operator, err := nkeys.FromSeed([]byte(w.set.OperatorSigningKey.Reveal()))
	if err != nil {
		w.Fatal(err)
	}
	token, err := claims.Encode(operator)
	if err != nil {
		w.Fatal(err)
	}
	// A server that has just been restarted may not be connected yet.
	eventually(w, func() error { return w.push(token) })
}

// push sends claims to all servers and returns nil when each has taken them.
func (w *world) push(token string) error {
	inbox := w.system.NewInbox()
	answers, err := w.system.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := w.system.PublishRequest("$SYS.REQ.CLAIMS.UPDATE", inbox, []byte(token)); err != nil {
		return err
	}
	for range w.servers {
		msg, err := answers.NextMsg(2 * time.Second)
		if err != nil {
			return fmt.Errorf("push: %w", err)
		}
		if !strings.Contains(string(msg.Data), `"code":200`) {
			return fmt.Errorf("push: %s", msg.Data)
		}
	}
	return nil
}

// batchJob returns claims of a batch job of a team.
func batchJob(team string) map[string]any {
	return map[string]any{"sub": someone(), "groups": []string{"jobs"}, "team": team}
}

// TestScopedKey admits with a role whose permissions are a template's, and nobody while the claims
// have no such template: its users would be free to do anything.
func TestScopedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: scopedPolicy})
	worker := w.writeKey("keys/worker.nk")
	// Gatehouse needs no plain signing key where all roles are scoped.
	w.edit(func(yaml string) string { return strings.Replace(yaml, "signing_key: file:keys/app.nk", "", 1) })
	r := w.newReplica(serveOptions{})
	r.start(false)

	eventually(w, func() error {
		if err := r.ready(); err == nil || !strings.Contains(err.Error(), "do not list the scoped signing key "+worker) {
			return fmt.Errorf("without the key in the claims readyz says %v", err)
		}
		return nil
	})
	r.mustStayUnanswered(batchJob("blue"), "account_unready")

	w.pushApp(func(c *jwt.AccountClaims) { c.SigningKeys.Add(worker) })
	eventually(w, func() error {
		if err := r.ready(); err == nil || !strings.Contains(err.Error(), worker+" without a template") {
			return fmt.Errorf("with a plain key in the claims readyz says %v", err)
		}
		return nil
	})
	r.mustStayUnanswered(batchJob("blue"), "account_unready")

	scope := workerTemplate()
	scope.Key = worker
	scope.Template.Data = 100 // no server holds anybody to it
	w.pushApp(func(c *jwt.AccountClaims) { c.SigningKeys.AddScopedSigner(scope) })
	r.mustGetReady()
	job := batchJob("blue")
	nc := w.login(w.token("alice", job))
	mayPublish(t, nc, "jobs.blue.x", true)
	mayPublish(t, nc, "jobs.red.x", false)
	maySubscribe(t, nc, "jobs.blue.>", true)
	maySubscribe(t, nc, "demo-"+job["sub"].(string)+".>", true)
	maySubscribe(t, nc, "jobs.>", false)
	maySubscribe(t, nc, ">", false)
	e := r.auditOf(nc)
	if !slices.Equal(e.Roles, []string{"worker"}) || e.Account != "APP" {
		t.Errorf("audit entry %+v", e)
	}
	w.mustBeRefused(w.token("alice", batchJob("Blue")))
	shown := command(t, r.env, w.token("alice", job), "explain", "--live", "--token-file", "-")
	if !strings.Contains(shown.out, worker+" team:blue") || !strings.Contains(shown.out, "jobs.{{tag(team)}}.>") {
		t.Errorf("explain --live says %s%s", shown.out, shown.err)
	}
	if offline := command(t, r.env, w.token("alice", job), "explain", "--token-file", "-"); offline.code != exitDone || !strings.Contains(offline.out, "explain --live") {
		t.Errorf("explain says %s%s", offline.out, offline.err)
	}

	if status := r.must("status"); !strings.Contains(status, "warning: server") || !strings.Contains(status, worker+" of account APP limits data") {
		t.Errorf("status does not warn of a limit that is ignored:\n%s", status)
	}

	// The template is gone again: who is in is cut off by the server, and nobody comes in.
	w.pushApp(func(c *jwt.AccountClaims) { c.SigningKeys.Add(worker) })
	eventually(w, func() error {
		if r.ready() == nil {
			return errors.New("ready without the template")
		}
		return nil
	})
	r.mustStayUnanswered(batchJob("blue"), "account_unready")
}

// mustStayUnanswered logs in and fails the test unless the login was left unanswered for the reason. A
// client cannot tell silence from a refusal: nats-server ends both with the same error.
func (r *replica) mustStayUnanswered(claims map[string]any, reason string) {
	r.Helper()
	// The server refuses when its time for the callout is over, unless its first PING comes before that and ends the
	// client's wait: either way nobody is in.
	if nc, err := r.dial(r.token("alice", claims)); err == nil {
		nc.Close()
		r.Fatal("the login was admitted")
	}
	eventually(r, func() error {
		entries := r.audit("--subject", claims["sub"].(string))
		if len(entries) == 0 || entries[0].Outcome != "silent" || entries[0].Reason != reason {
			return fmt.Errorf("audit entries %+v, want silence for %s", entries, reason)
		}
		return nil
	})
}

// mayPublish checks whether a connection may publish to a subject.
func mayPublish(t testing.TB, nc *nats.Conn, subject string, want bool) {
	t.Helper()
	if err := nc.Publish(subject, nil); err != nil {
		t.Fatal(err)
	}
	if got := permitted(t, nc, strconv.Quote(subject)); got != want {
		t.Errorf("may publish to %s: %t, want %t", subject, got, want)
	}
}

// maySubscribe checks whether a connection may subscribe to a subject, in a queue group when one stands
// behind a blank.
func maySubscribe(t testing.TB, nc *nats.Conn, subject string, want bool) {
	t.Helper()
	name, queue, grouped := strings.Cut(subject, " ")
	sub, err := nc.QueueSubscribeSync(name, queue)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	complaint := strconv.Quote(name)
	if grouped {
		complaint += " using queue " + strconv.Quote(queue)
	}
	if got := permitted(t, nc, complaint); got != want {
		t.Errorf("may subscribe to %s: %t, want %t", subject, got, want)
	}
}

// permitted reports whether the server did not complain of something: its complaint comes before the
// answer to a flush, and nats.go notes it as it comes.
func permitted(t testing.TB, nc *nats.Conn, something string) bool {
	t.Helper()
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	err := nc.LastError()
	return !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), something)
}
