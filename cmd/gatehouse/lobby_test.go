package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// lobbyPolicy is adminPolicy with a lobby for everybody, and admins at another address than any test's.
const lobbyPolicy = adminPolicy + `  - name: elsewhere
    issuer: demo
    match: { groups: contractors }
    source: [192.0.2.0/24]
    grant: { admin: [revoke] }
  - name: newcomers
    issuer: demo
    grant: { lobby: true }
`

// visitor is a connection in the lobby account.
type visitor struct {
	*nats.Conn
	testing.TB
}

// visit connects a demo user to the lobby.
func (w *world) visit(user string) visitor {
	w.Helper()
	nc, err := nats.Connect(w.set.ClientURL(), nats.UserInfo("account:"+policy.LobbyName, w.token(user, nil)), nats.Timeout(5*time.Second),
		nats.CustomInboxPrefix(policy.InboxPrefix(w.provider.Issuer(), user)))
	if err != nil {
		w.Fatalf("enter the lobby: %v", err)
	}
	w.Cleanup(nc.Close)
	return visitor{nc, w.TB}
}

// ask calls an operation with a bearer token and returns the answer, or the error that it is.
func (v visitor) ask(op, token, body string, change ...func(*nats.Msg)) ([]byte, *api.Error) {
	v.Helper()
	msg := nats.NewMsg(api.Subject(op))
	msg.Data = []byte(body)
	if token != "" {
		msg.Header.Set("Authorization", "Bearer "+token)
	}
	for _, f := range change {
		f(msg)
	}
	answer, err := v.RequestMsg(msg, 20*time.Second)
	if err != nil {
		v.Fatalf("%s: %v", op, err)
	}
	if answer.Header.Get("Nats-Service-Error-Code") == "" {
		return answer.Data, nil
	}
	refused := &api.Error{}
	if err := json.Unmarshal(answer.Data, refused); err != nil || refused.Reason != answer.Header.Get("Nats-Service-Error") || refused.RequestID == "" {
		v.Fatalf("%s answered %q %v: %v", op, answer.Data, answer.Header, err)
	}
	return nil, refused
}

// backendPolicy lets a portal's backend act for others.
const backendPolicy = `  - name: portal
    issuer: demo
    match: { groups: portals }
    grant: { on_behalf_of: true }
`

// TestOperationsOverNATS calls operations from the lobby, as their callers are allowed to.
func TestOperationsOverNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{servers: 3, policy: lobbyPolicy + backendPolicy})
	r := w.serve(serveOptions{})
	carol, root := w.visit("carol"), w.visit("root")
	who, refused := carol.ask(api.OpWhoami, w.token("carol", nil), "{}")
	if refused != nil || !bytes.Contains(who, []byte(`"account":"LOBBY"`)) {
		t.Fatalf("whoami: %s %v", who, refused)
	}
	admin := w.adminToken("root", nil)
	body := `{"issuer":"demo","subject":"alice","reason":"left"}`
	if _, refused := root.ask(api.OpRevoke, admin, body); refused != nil {
		t.Fatalf("revoke: %v", refused)
	}
	w.mustBeRefused(w.token("alice", nil))
	if list, refused := root.ask(api.OpRevocations, admin, ""); refused != nil || !bytes.Contains(list, []byte(`"actor":"demo-root"`)) {
		t.Errorf("revocations: %s %v", list, refused)
	}
	if _, refused := root.ask(api.OpRevokeLift, admin, `{"issuer":"demo","subject":"alice","reason":"back"}`); refused != nil {
		t.Errorf("lift: %v", refused)
	}
	w.login(w.token("alice", nil)).Close()
	eventually(t, func() error {
		for _, e := range r.audit("--kind", "admin", "--actor", "demo-root") {
			if e.Op == api.OpRevoke && e.ConnType == "nats" && e.Source == "127.0.0.1" && e.Outcome == "allowed" {
				return nil
			}
		}
		return errors.New("the call is not in the audit trail yet")
	})
	forge := func(host string) func(*nats.Msg) {
		return func(m *nats.Msg) {
			info := fmt.Sprintf(`{"acc":%q,"host":%q,"user":"demo-root"}`, w.set.Lobby.ID, host)
			m.Header.Add("Nats-Request-Info", info)
			m.Header.Add("nats-request-info", info)
		}
	}
	twice := func(m *nats.Msg) { m.Header.Add("Authorization", "Bearer "+admin) }
	behalf := func(m *nats.Msg) {
		m.Header[strings.ToLower(api.OnBehalfHeader)] = []string{`{"issuer":"demo","subject":"bob"}`}
	}
	large := w.token("carol", map[string]any{"aud": "gatehouse-admin", "groups": strings.Repeat("g", 40<<10)})
	for name, test := range map[string]struct {
		token, body string
		change      func(*nats.Msg)
		reason      string
	}{
		"no token":                 {"", body, nil, api.ReasonUnauthenticated},
		"a login token":            {w.token("root", nil), body, nil, string(policy.LoginToken)},
		"no right":                 {w.adminToken("bob", nil), body, nil, api.ReasonForbidden},
		"an address that is not":   {w.adminToken("carol", nil), body, nil, string(policy.SourceRefused)},
		"a forged address":         {w.adminToken("carol", nil), body, forge("192.0.2.1"), string(policy.SourceRefused)},
		"two tokens":               {admin, body, twice, api.ReasonUnauthenticated},
		"for somebody":             {admin, body, behalf, api.ReasonBadRequest},
		"a token that is too long": {large, body, nil, api.ReasonTooLarge},
		"a body that is too long":  {admin, strings.Repeat(" ", 64<<10+1), nil, api.ReasonTooLarge},
		"a body that is no JSON":   {admin, "{", nil, api.ReasonBadRequest},
	} {
		if test.change == nil {
			test.change = func(*nats.Msg) {}
		}
		if answer, refused := carol.ask(api.OpRevoke, test.token, test.body, test.change); refused == nil || refused.Reason != test.reason {
			t.Errorf("%s: answered %s %v, want %s", name, answer, refused, test.reason)
		}
	}
	// A backend that forgets whom it acts for is told so, and one that says it is answered.
	portal := w.adminToken("root", map[string]any{"sub": "portal", "groups": []string{"portals"}})
	if answer, refused := carol.ask(api.OpAccountList, portal, "{}"); refused == nil || refused.Reason != string(policy.NoRights) || !strings.Contains(refused.Message, api.OnBehalfHeader) {
		t.Errorf("a backend that names nobody: answered %s %v", answer, refused)
	}
	if answer, refused := carol.ask(api.OpAccountList, portal, "{}", behalf); refused != nil {
		t.Errorf("a backend that names somebody: answered %s %v", answer, refused)
	}
	for _, op := range []string{api.OpReload, api.OpStatus, api.OpAdminToken} {
		if _, err := root.Request(api.Subject(op), nil, 10*time.Second); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s is served: %v", op, err)
		}
	}
}

// TestOperationsDescribeThemselves reads from the service over NATS what its operations take and answer, as nats micro info does.
func TestOperationsDescribeThemselves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: lobbyPolicy})
	w.serve(serveOptions{})
	nc, err := nats.Connect(w.set.ClientURL(), nats.UserCredentials(filepath.Join(w.dir, "creds", "callout.creds")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	answer, err := nc.Request("$SRV.INFO.gatehouse-operations", nil, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	// Operations will be added; an answer beyond what a message may hold would come from nobody.
	if half := int(nc.MaxPayload()) / 2; len(answer.Data) > half {
		t.Errorf("the description has %d bytes, more than half of a message", len(answer.Data))
	}
	var info micro.Info
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		t.Fatal(err)
	}
	if len(info.Endpoints) < 10 {
		t.Errorf("%d operations are described", len(info.Endpoints))
	}
	for _, e := range info.Endpoints {
		for _, of := range []string{"request_schema", "response_schema"} {
			c := jsonschema.NewCompiler()
			schema, err := jsonschema.UnmarshalJSON(strings.NewReader(e.Metadata[of]))
			if err == nil {
				err = c.AddResource("schema", schema)
			}
			if err == nil {
				_, err = c.Compile("schema")
			}
			if err != nil || !strings.Contains(e.Metadata[of], "properties") {
				t.Errorf("%s of %s: %v\n%s", of, e.Subject, err, e.Metadata[of])
			}
		}
		if e.Metadata["access"] == "" {
			t.Errorf("%s does not say who may call it", e.Subject)
		}
	}
}

// TestLobbyIsClosed lets a user of the lobby do nothing but call operations and hear the answers.
func TestLobbyIsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: lobbyPolicy})
	w.serve(serveOptions{})
	mallory := w.visit("carol")
	denied := make(chan error, 16)
	mallory.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
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
	others := policy.InboxPrefix(w.provider.Issuer(), "root")
	for _, subject := range []string{">", "gatehouse.v1.>", "gatehouse.v1.revoke", "_INBOX.>", others + ".>", "_R_.>", "$SRV.>", "$SYS.>"} {
		if _, err := mallory.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		mustBeDenied("subscribing to " + subject)
	}
	for _, subject := range []string{"app.hello", others + ".x", "$SRV.PING", "$SYS.REQ.USER.AUTH", "gatehouse.replica.hello", "_R_.x", "$JS.API.INFO"} {
		if err := mallory.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
		mustBeDenied("publishing to " + subject)
	}
	// It stays what it is: an ordinary login of somebody whom no binding gives an account ends up here as well.
	nc := w.login(w.token("carol", nil))
	if got := w.connection(nc).Account; got != w.set.Lobby.ID {
		t.Errorf("placed in %s", got)
	}
}

// TestOperationsAreForTheLobbyAlone: an account that imports them, by a token that somebody signed by mistake, could let
// all of its users read what is sent, so that nothing of it is answered.
func TestOperationsAreForTheLobbyAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: lobbyPolicy})
	w.serve(serveOptions{})
	app, err := nats.Connect(w.set.ClientURL(), w.emergency("app"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(app.Close)
	if _, err := app.Request(api.Subject(api.OpWhoami), nil, 10*time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("another account reaches the operations: %v", err)
	}
	activation := jwt.NewActivationClaims(w.set.App.ID)
	activation.ImportSubject, activation.ImportType, activation.IssuerAccount = jwt.Subject(api.Subject(">")), jwt.Service, w.set.Callout.ID
	signer, err := nkeys.FromSeed([]byte(w.set.Callout.SigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := activation.Encode(signer)
	if err != nil {
		t.Fatal(err)
	}
	w.pushApp(func(c *jwt.AccountClaims) {
		c.Imports.Add(&jwt.Import{Name: "gatehouse", Subject: jwt.Subject(api.Subject(">")), Type: jwt.Service, Account: w.set.Callout.ID, Token: token, Share: true})
	})
	intruder := visitor{app, t}
	eventually(t, func() error { // the import takes a moment
		_, err := app.Request(api.Subject(api.OpWhoami), nil, time.Second)
		return err
	})
	forge := func(m *nats.Msg) { m.Header.Set("Nats-Request-Info", fmt.Sprintf(`{"acc":%q}`, w.set.Lobby.ID)) }
	for _, change := range []func(*nats.Msg){func(*nats.Msg) {}, forge} {
		if answer, refused := intruder.ask(api.OpRevocations, w.adminToken("root", nil), "", change); refused == nil || refused.Reason != api.ReasonForbidden {
			t.Errorf("answered %s %v", answer, refused)
		}
	}
}

// TestLobbyFlood: whoever floods the operations gets no answers; logins, and calls over HTTP, go on.
func TestLobbyFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: lobbyPolicy})
	r := w.serve(serveOptions{})
	mallory, root := w.visit("carol"), w.visit("root")
	forged := w.token("root", nil)
	forged = forged[:len(forged)-4] + "AAAA"
	stop := make(chan struct{})
	var flood sync.WaitGroup
	for range 4 {
		flood.Go(func() {
			msg := nats.NewMsg(api.Subject(api.OpRevoke))
			msg.Header.Set("Authorization", "Bearer "+forged)
			msg.Reply = mallory.NewInbox()
			for {
				select {
				case <-stop:
					return
				default:
					if mallory.PublishMsg(msg) != nil {
						return
					}
				}
			}
		})
	}
	defer flood.Wait()
	defer close(stop)
	for range 20 {
		eventually(t, func() error { // a busy machine may let one time out
			nc, err := w.dial(w.token("alice", nil))
			if err == nil {
				nc.Close()
			}
			return err
		})
	}
	if got := command(t, r.away(w.adminToken("root", nil)), "", "revocations", "--url", r.http); got.code != exitDone {
		t.Errorf("over HTTP: %d %s", got.code, got.err)
	}
	eventually(t, func() error {
		msg := nats.NewMsg(api.Subject(api.OpWhoami))
		msg.Header.Set("Authorization", "Bearer "+w.token("root", nil))
		answer, err := root.RequestMsg(msg, 2*time.Second)
		if err == nil && answer.Header.Get("Nats-Service-Error-Code") != "" {
			err = errors.New(string(answer.Data))
		}
		return err
	})
}

// TestLobbyWithoutPermission: installations from before the lobby have a service user that may not serve it. Their
// log says what to do, and logins work.
func TestLobbyWithoutPermission(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: lobbyPolicy})
	file := filepath.Join(w.dir, "creds", "callout.creds")
	creds, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	token, err := nkeys.ParseDecoratedJWT(creds)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	claims.Sub.Allow.Remove("gatehouse.>")
	signer, err := nkeys.FromSeed([]byte(w.set.Callout.SigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	narrower, err := claims.Encode(signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(creds, []byte(token), []byte(narrower), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	r := w.serve(serveOptions{})
	w.login(w.token("alice", nil)).Close()
	eventually(t, func() error {
		if !strings.Contains(r.log.String(), "may not serve the lobby: allow it to subscribe to gatehouse.>") {
			return errors.New("the log does not say so")
		}
		if status := r.must("status"); !strings.Contains(status, "may not serve the lobby") {
			return errors.New("the status does not say so: " + status)
		}
		return nil
	})
}
