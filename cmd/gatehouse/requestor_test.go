package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
)

// TestRequestor signs a user up through creds that are nobody's, as the NATS documentation's account based set-up has it,
// and finds that they are of no other use.
func TestRequestor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: directPolicy, servers: 3})
	r := w.serve(serveOptions{})
	made := r.must("init", w.dir, "--signup", "--requestor", "portal")
	file := filepath.Join(w.dir, "creds", "portal.creds")
	checkModes(t, w.dir)
	public := publicKey(t, mustReadCreds(t, file))
	if !strings.Contains(made, file) || !strings.Contains(made, "--user-key "+public) {
		t.Errorf("it printed %s", made)
	}
	if again := r.command("init", w.dir, "--signup", "--requestor", "portal"); again.code != exitFailed || !strings.Contains(again.err, "already there") {
		t.Errorf("made a second time: %d %s", again.code, again.err)
	}
	if odd := r.command("init", w.dir, "--signup", "--requestor", "../x"); odd.code != exitUsage {
		t.Errorf("named by a path: %d %s", odd.code, odd.err)
	}

	nc, err := nats.Connect(w.set.ClientURL(), nats.UserCredentials(file), nats.CustomInboxPrefix("_INBOX_portal"), nats.Timeout(5*time.Second), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	portal := visitor{nc, t}
	token := w.token("alice", map[string]any{"sub": someone(), "groups": []string{"jobs"}})
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	userKey, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	req := api.UserSignupRequest{UserKey: userKey, Account: "APP", Proof: api.SignupProof{Audience: r.http, Time: time.Now().UnixMilli()}}
	signature, err := key.Sign(api.SignupStatement(req, token))
	if err != nil {
		t.Fatal(err)
	}
	req.Proof.Signature = base64.RawURLEncoding.EncodeToString(signature)
	body, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, refused := portal.ask(api.OpUserSignup, "", string(body)); refused == nil || refused.Reason != api.ReasonUnauthenticated {
		t.Errorf("without a token: %v", refused)
	}
	answer, refused := portal.ask(api.OpUserSignup, token, string(body))
	if refused != nil {
		t.Fatal(refused)
	}
	var up api.UserSignup
	if err := json.Unmarshal(answer, &up); err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(up.JWT, seed)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(w.dir, "own.creds")
	if err := os.WriteFile(own, creds, 0o600); err != nil {
		t.Fatal(err)
	}
	mustHear(t, w.mustBeDirect(own), "jobs.one")
	if _, refused := portal.ask(api.OpWhoami, token, "{}"); refused != nil {
		t.Errorf("whoami: %v", refused)
	}

	denied := make(chan error, 16)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
	mustBeDenied := func(what string) {
		t.Helper()
		select {
		case err := <-denied:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s is allowed", what)
		}
	}
	for _, subject := range []string{api.Subject(api.OpRevoke), api.Subject(api.OpSessions), api.Subject("account.get"), "jobs.one", "_INBOX_portal.x", "_R_.x", "$SYS.REQ.USER.AUTH", "$JS.API.INFO"} {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		mustBeDenied("publishing to " + subject)
	}
	for _, subject := range []string{">", api.Subject(">"), api.Subject(api.OpWhoami), "_INBOX.>", "_INBOX_portal2.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		mustBeDenied("subscribing to " + subject)
	}

	// As what was printed says.
	_, command, _ := strings.Cut(made, "\ngatehouse ")
	r.must(append(strings.Fields(strings.NewReplacer(`"..."`, "leaked").Replace(command)), "--wait", "--yes")...)
	eventually(t, func() error {
		if !nc.IsClosed() {
			return errors.New("the requestor is still connected")
		}
		return nil
	})
	for _, s := range w.servers {
		if again, err := nats.Connect(s.ClientURL(), nats.UserCredentials(file), nats.NoReconnect()); err == nil {
			again.Close()
			t.Errorf("the requestor is let in by %s", s.ClientURL())
		}
	}
}
