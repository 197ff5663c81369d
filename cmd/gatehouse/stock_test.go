package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	authb "github.com/synadia-io/jwt-auth-builder.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/nscstore"
)

// stockPolicy has plans with every limit that there is.
const stockPolicy = `roles:
  app:
    publish: { allow: [">"] }
    subscribe: { allow: [">"] }
plans:
  flat:
    roles: [app]
    connections: 20
    subscriptions: 100
    payload: 65536
    data: 1048576
    leaf_nodes: 2
    imports: 5
    exports: 5
    jetstream: { memory: 1048576, disk: 2097152, streams: 5, consumers: 50 }
  tiered:
    per_subject: 2
    roles: [app]
    tiers:
      R1: { disk: 1048576, streams: 2 }
      R3: { disk: 3145728, memory: 65536, consumers: 7 }
bindings:
  - name: sign-up
    issuer: demo
    match: { groups: dev }
    grant: { sign_up: [flat, tiered] }
`

// TestStockProgramsTakeWhatIsWritten gives all that Gatehouse writes of accounts, with everything that an account can have, to
// programs that know nothing of it: a nats-server of its own process that gets the folder of account export, and nats auth.
func TestStockProgramsTakeWhatIsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: stockPolicy, jetStream: true})
	legacy := w.natsAuth().change("legacy", func(a authb.Account) error {
		_, err := a.ScopedSigningKeys().AddScope("reader")
		return errors.Join(err, a.SetTracingContext(&authb.TracingContext{Destination: "trace.legacy", Sampling: 50}))
	})
	r := w.serve(serveOptions{})
	gone := r.fullAccounts(t)
	r.must("account", "adopt", "legacy", "--plan", "flat", "--owner-issuer", "demo", "--owner-subject", "alice")
	r.must("account", "update", "legacy", "--subscriptions", "33", "--js-disk", "4096")
	w.holds(legacy.Subject(), "what an admin asks", func(c *jwt.AccountClaims) bool { return c.Limits.Subs == 33 && len(c.SigningKeys) == 2 })

	home := filepath.Join(w.dir, "left")
	r.must("account", "export", "--out", authFolder(home), "--operator-jwt", filepath.Join(w.dir, "offline", "operator.jwt"), "--keys", "--reason", "moving out")
	f, err := nscstore.Open(authFolder(home), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, token := range []string{w.set.App.JWT, w.set.Callout.JWT, w.set.System.JWT, w.set.Lobby.JWT} { // by init
		if err := f.AddAccount(token); err != nil {
			t.Fatal(err)
		}
	}
	s := &stock{world: w, folder: f, nats: newNATSCLI(t, home), accounts: map[string]*jwt.AccountClaims{}}
	s.readByAuth(t)
	s.start(t)
	s.works(t, gone)
}

// fullAccounts signs up for accounts that have everything, and returns a user key that is revoked in the first.
func (r *replica) fullAccounts(t *testing.T) (gone nkeys.KeyPair) {
	t.Helper()
	alice, bob := r.personFile("alice"), r.personFile("bob")
	as := func(file string, args ...string) string {
		t.Helper()
		return r.must(append(append([]string{"account"}, args...), "--token-file", file, "--url", r.http)...)
	}
	ids := map[string]string{}
	for name, args := range map[string][]string{
		"orders": {alice, "signup", "--plan", "flat", "--description", "what is ordered", "--tag", "eu,team:a"},
		"shop":   {bob, "signup", "--plan", "tiered"},
		"late":   {bob, "signup", "--plan", "tiered"},
	} {
		eventually(t, func() error { // the answer may come before the account is active
			up := decodeOne[api.AccountSignup](t, as(args[0], append(args[1:], "--name", name, "--json")...))
			ids[name] = up.Account
			if up.State != "active" {
				return fmt.Errorf("%s is %s", name, up.State)
			}
			return nil
		})
	}
	as(alice, "exports", "add", "orders", "feed", "--type", "stream", "--subject", "orders.*.>")
	as(alice, "exports", "add", "orders", "ask", "--type", "service", "--subject", "orders.ask", "--private", "--response", "Stream", "--description", "asks for an order")
	for _, importer := range []string{"shop", "late"} {
		token := filepath.Join(r.dir, importer+".activation")
		as(alice, "exports", "activate", "orders", "ask", "--importer", importer, "--ttl", "1h", "--out", token)
		activation, err := jwt.DecodeActivationClaims(strings.TrimSpace(content(t, token)))
		if err != nil {
			t.Fatal(err)
		}
		mustBeValid(t, "the activation token of "+importer, activation)
		as(bob, "imports", "add", importer, "ask", "--from", "orders", "--type", "service", "--subject", "orders.ask", "--local", "stock", "--activation", token)
	}
	as(bob, "imports", "add", "shop", "orders", "--from", "orders", "--type", "stream", "--subject", "orders.*.>", "--local", "in.$1.from.>")
	r.must("revoke", "--account", "orders", "--export", "orders.ask", "--importer", ids["late"], "--reason", "left", "--yes")
	gone, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	r.must("revoke", "--account", "orders", "--user-key", publicOf(t, gone), "--reason", "lost", "--yes")
	r.must("keys", "rotate", "orders", "--reason", "a test")
	r.holds(ids["orders"], "all of it", func(c *jwt.AccountClaims) bool {
		return len(c.Exports) == 2 && len(c.Revocations) == 1 && len(c.SigningKeys) == 2 && slices.ContainsFunc(c.Exports, func(e *jwt.Export) bool { return len(e.Revocations) == 1 })
	})
	r.holds(ids["shop"], "all of it", func(c *jwt.AccountClaims) bool { return len(c.Imports) == 2 })
	r.holds(ids["late"], "all of it", func(c *jwt.AccountClaims) bool { return len(c.Imports) == 1 })
	return gone
}

// mustBeValid fails the test when the library that nsc, nats auth and nats-server share finds anything wrong.
func mustBeValid(t *testing.T, what string, claims jwt.Claims) {
	t.Helper()
	var issues jwt.ValidationResults
	claims.Validate(&issues)
	for _, issue := range issues.Issues {
		t.Errorf("%s: %s", what, issue.Description)
	}
}

// stock are programs that know nothing of Gatehouse, with what it wrote.
type stock struct {
	*world
	folder   *nscstore.Folder
	nats     *natsCLI
	accounts map[string]*jwt.AccountClaims // by name
	server   *devtest.Server
}

// readByAuth has nats auth list and show all accounts.
func (s *stock) readByAuth(t *testing.T) {
	t.Helper()
	list := s.nats.must("auth", "account", "ls")
	for _, name := range []string{"orders", "shop", "late", "legacy", "APP"} {
		a, err := s.folder.Account(name)
		if err != nil {
			t.Fatal(err)
		}
		s.accounts[name] = a.Claims
		mustBeValid(t, name, a.Claims)
		shown := s.nats.must("auth", "account", "info", name)
		if name == "orders" && a.Claims.Description != "what is ordered" || name == "legacy" && a.Claims.Trace == nil { // nats auth shows neither
			t.Errorf("account %s is %+v", name, a.Claims)
		}
		if !strings.Contains(list, name) || !strings.Contains(shown, a.Claims.Subject) {
			t.Errorf("nats auth says of %s:\n%s%s", name, list, shown)
		}
	}
	for command, want := range map[string][]string{
		"info orders":                    {"team:a", "Connections: 20", "64 KiB"},
		"exports ls orders":              {"orders.*.>", "orders.ask"},
		"exports info orders.ask orders": {"asks for an order"},
		"imports ls shop":                {"in.$1.from.>", "stock"},
		"keys ls legacy":                 {"reader"},
		"info legacy":                    {"Subscriptions: 33"},
	} {
		out := s.nats.must(append([]string{"auth", "account"}, strings.Fields(command)...)...)
		for _, text := range want {
			if !strings.Contains(out, text) {
				t.Errorf("nats auth account %s does not show %q:\n%s", command, text, out)
			}
		}
	}
}

// start starts a nats-server whose resolver has the exported accounts, and has it load each.
func (s *stock) start(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	jwts := filepath.Join(dir, "jwt")
	if err := os.Mkdir(jwts, 0o700); err != nil {
		t.Fatal(err)
	}
	names, err := s.folder.Accounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		a, err := s.folder.Account(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(jwts, a.Claims.Subject+".jwt"), []byte(a.Token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ports := devtest.Ports(t, 2)
	conf := filepath.Join(dir, "nats-server.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, `server_name: stock
listen: "127.0.0.1:%d"
http: "127.0.0.1:%d"
operator: %q
system_account: %s
resolver { type: full, dir: %q }
jetstream { store_dir: %q }
`, ports[0], ports[1], s.folder.OperatorFile(), s.set.System.ID, jwts, filepath.Join(dir, "jetstream")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.server = devtest.StartServers(t, []string{conf}, devtest.AsProcess)[0]
	nc, err := nats.Connect(s.server.ClientURL(), s.emergency("system"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for name, claims := range s.accounts {
		var answer struct {
			Data struct {
				Detail struct {
					Name    string `json:"account_name"`
					Expired bool   `json:"expired"`
					JWT     string `json:"jwt"`
				} `json:"account_detail"`
			} `json:"data"`
			Error json.RawMessage `json:"error"`
		}
		for _, ask := range []string{"$SYS.REQ.ACCOUNT." + claims.Subject + ".CONNZ", "$SYS.REQ.SERVER." + nc.ConnectedServerId() + ".ACCOUNTZ"} {
			msg, err := nc.Request(ask, fmt.Appendf(nil, `{"account":%q}`, claims.Subject), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(msg.Data, &answer); err != nil {
				t.Fatal(err)
			}
		}
		if a, _ := s.folder.Account(name); answer.Error != nil || answer.Data.Detail.JWT != a.Token || answer.Data.Detail.Expired {
			t.Errorf("the server has of account %s: %+v", name, answer)
		}
	}
}

// user has the library of nats auth make a user, signed with a key of the account, and connects as that: the command itself asks
// which key to take.
func (s *stock) user(t *testing.T, account string) *nats.Conn {
	t.Helper()
	left := &natsAuth{world: s.world, dir: authFolder(s.nats.home)}
	left.open()
	a, err := left.operator().Accounts().Get(account)
	if err != nil {
		t.Fatal(err)
	}
	user, err := a.Users().Add("someone", s.accounts[account].SigningKeys.Keys()[0])
	if err != nil {
		t.Fatal(err)
	}
	creds, err := user.Creds(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.server.ClientURL(), nats.UserCredentialBytes(creds), nats.Timeout(10*time.Second))
	if err != nil {
		t.Fatalf("%s: %v", account, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// works has users of the accounts do on the server what the claims let them, and keeps out who was revoked.
func (s *stock) works(t *testing.T, gone nkeys.KeyPair) {
	t.Helper()
	conns := map[string]*nats.Conn{}
	for _, name := range []string{"orders", "shop", "late"} {
		conns[name] = s.user(t, name)
	}
	heard, err := conns["shop"].SubscribeSync("in.eu.from.>")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conns["orders"].Subscribe("orders.ask", func(m *nats.Msg) { _ = m.Respond([]byte("two")) }); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conns["shop"].Flush(), conns["orders"].Publish("orders.eu.new", nil), conns["orders"].Flush()); err != nil {
		t.Fatal(err)
	}
	if _, err := heard.NextMsg(10 * time.Second); err != nil {
		t.Errorf("the stream is not imported: %v", err)
	}
	if _, err := conns["shop"].Request("stock", nil, 10*time.Second); err != nil {
		t.Errorf("the service is not imported: %v", err)
	}
	if _, err := conns["late"].Request("stock", nil, 10*time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("with a revoked activation: %v", err)
	}
	void := s.accounts["orders"].Revocations[publicOf(t, gone)]
	if err := s.enter(t, gone, void); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("with a revoked key: %v", err)
	}
	if err := s.enter(t, gone, void+1); err != nil { // so nothing else was wrong
		t.Error(err)
	}
}

// enter connects to the account orders with a user JWT of that key that was issued at a second.
func (s *stock) enter(t *testing.T, key nkeys.KeyPair, issued int64) error {
	t.Helper()
	orders, public := s.accounts["orders"], publicOf(t, key)
	signer := orders.SigningKeys.Keys()[0]
	seed, err := s.folder.Seed(signer, "signing key of orders")
	if err != nil {
		t.Fatal(err)
	}
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	issuer := publicOf(t, kp)
	head := encode([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`)) // by hand, since the library signs no JWT of another second
	payload := encode(fmt.Appendf(nil, `{"iat":%d,"iss":%q,"sub":%q,"nats":{"issuer_account":%q,"subs":-1,"data":-1,"payload":-1,"type":"user","version":2}}`, issued, issuer, public, orders.Subject))
	signature, err := kp.Sign([]byte(head + "." + payload))
	if err != nil {
		t.Fatal(err)
	}
	token := head + "." + payload + "." + encode(signature)
	own, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.server.ClientURL(), nats.UserJWTAndSeed(token, string(own)), nats.Timeout(10*time.Second))
	if err == nil {
		nc.Close()
	}
	return err
}

func publicOf(t *testing.T, key nkeys.KeyPair) string {
	t.Helper()
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}
