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
	"github.com/synadia-io/jwt-auth-builder.go/providers/nsc"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/nscstore"
)

// planned is a world with a plan for accounts of sign-up.
func planned(t *testing.T, servers int) *world {
	w := newWorld(t, worldOptions{servers: servers, jetStream: true})
	w.edit(func(yaml string) string {
		return yaml + "plans:\n  team: { roles: [developer], connections: 5 }\n"
	})
	w.placeAnywhere()
	return w
}

// placeAnywhere has the servers take answers of the callout that place somebody in an account that init did not make.
func (w *world) placeAnywhere() {
	w.Helper()
	claims, err := jwt.DecodeAccountClaims(w.set.Callout.JWT)
	if err != nil {
		w.Fatal(err)
	}
	claims.Authorization.AllowedAccounts = jwt.StringList{jwt.AnyAccount}
	operator, err := nkeys.FromSeed([]byte(w.set.OperatorSigningKey.Reveal()))
	if err != nil {
		w.Fatal(err)
	}
	claims.Audience = "anywhere" // else it has the jti of the one before, should it be of the same second
	token, err := claims.Encode(operator)
	if err != nil {
		w.Fatal(err)
	}
	eventually(w, func() error { return w.push(token) })
}

// natsAuth is a folder as nats auth keeps it, of the world's operator, and what nats auth does with it.
type natsAuth struct {
	*world
	dir  string
	auth *authb.AuthImpl
}

func (w *world) natsAuth() *natsAuth {
	w.Helper()
	n := &natsAuth{world: w, dir: authFolder(w.dir)}
	f, err := nscstore.Create(n.dir, w.set.OperatorJWT)
	if err != nil {
		w.Fatal(err)
	}
	if err := errors.Join(f.AddSeed([]byte(w.set.OperatorSigningKey.Reveal())), f.AddSeed([]byte(w.set.OperatorIdentity.Reveal())), f.Close()); err != nil {
		w.Fatal(err)
	}
	n.open()
	return n
}

func (n *natsAuth) open() {
	n.Helper()
	var err error
	if n.auth, err = authb.NewAuth(nsc.NewNscProvider(filepath.Join(n.dir, "stores"), filepath.Join(n.dir, "keys"))); err != nil {
		n.Fatal(err)
	}
}

func (n *natsAuth) operator() authb.Operator {
	n.Helper()
	operator, err := n.auth.Operators().Get("gatehouse")
	if err != nil {
		n.Fatal(err)
	}
	return operator
}

// change makes an account or changes it, and pushes what comes of it, as nats auth account add, edit and push do.
func (n *natsAuth) change(name string, do func(authb.Account) error) authb.Account {
	n.Helper()
	a, err := n.operator().Accounts().Get(name)
	if err != nil {
		a, err = n.operator().Accounts().Add(name)
		if err == nil {
			err = a.SetIssuer(n.operator().SigningKeys().List()[0]) // the operator is strict
		}
	}
	if err == nil {
		err = do(a)
	}
	if err == nil {
		err = n.auth.Commit()
	}
	if err != nil {
		n.Fatal(err)
	}
	eventually(n, func() error { return n.push(a.JWT()) })
	return a
}

// claims returns the claims that each server has applied of an account.
func (w *world) claims(id string) (all []*jwt.AccountClaims) {
	w.Helper()
	for _, s := range w.servers {
		nc, err := nats.Connect(s.ClientURL(), w.emergency("system"), nats.IgnoreDiscoveredServers())
		if err != nil {
			w.Fatal(err)
		}
		msg, err := nc.Request("$SYS.REQ.SERVER."+nc.ConnectedServerId()+".ACCOUNTZ", fmt.Appendf(nil, `{"account":%q}`, id), 10*time.Second)
		nc.Close()
		if err != nil {
			w.Fatal(err)
		}
		var answer struct {
			Data struct {
				Detail struct {
					JWT string `json:"jwt"`
				} `json:"account_detail"`
			} `json:"data"`
		}
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			w.Fatal(err)
		}
		if claims, err := jwt.DecodeAccountClaims(answer.Data.Detail.JWT); err == nil {
			all = append(all, claims)
		}
	}
	return all
}

// holds waits until every server has applied claims of the account with which is is true.
func (w *world) holds(id, what string, is func(*jwt.AccountClaims) bool) {
	w.Helper()
	eventually(w, func() error {
		all := w.claims(id)
		if len(all) != len(w.servers) || slices.ContainsFunc(all, func(c *jwt.AccountClaims) bool { return !is(c) }) {
			return fmt.Errorf("not every server has %s", what)
		}
		return nil
	})
}

// enterAccount logs in to an account of sign-up.
func (w *world) enterAccount(name, token string) (*nats.Conn, error) {
	return nats.Connect(w.set.ClientURL(), nats.UserInfo("account:"+name, token), nats.Timeout(5*time.Second), nats.NoReconnect(), nats.IgnoreDiscoveredServers())
}

// mustEnter logs in to an account of sign-up, which has just been made.
func (w *world) mustEnter(name, token string) *nats.Conn {
	w.Helper()
	var nc *nats.Conn
	eventually(w, func() (err error) {
		nc, err = w.enterAccount(name, token)
		return err
	})
	w.Cleanup(nc.Close)
	return nc
}

// TestAdoptFromServers takes an account over that nats auth made, and lets nats auth go on changing it.
func TestAdoptFromServers(t *testing.T) {
	t.Parallel()
	w := planned(t, 3)
	n := w.natsAuth()
	orders := n.change("orders", func(a authb.Account) error {
		_, err := a.Exports().Streams().Add("feed", "orders.>")
		return errors.Join(err, a.Limits().SetMaxConnections(7))
	})
	r := w.serve(serveOptions{})
	id := orders.Subject()
	owner := []string{"--owner-issuer", "demo", "--owner-subject", "alice", "--json"}
	dry := r.must(append([]string{"account", "adopt", "orders", "--dry-run"}, owner...)...)
	if got := decodeLines[api.AccountAdoption](t, dry); len(got) != 1 || got[0].Account != id || got[0].State != "" || got[0].Plan != "team" {
		t.Errorf("dry run: %s", dry)
	}
	if nc, err := w.enterAccount("orders", w.token("alice", nil)); err == nil {
		nc.Close()
		t.Error("the dry run lets somebody in")
	}
	got := decodeLines[api.AccountAdoption](t, r.must(append([]string{"account", "adopt", "orders"}, owner...)...))
	if len(got) != 1 || got[0].Made == "" || got[0].Account != id || len(got[0].Sealed) != 0 {
		t.Fatalf("adopted %+v", got)
	}
	nc := w.mustEnter("orders", w.token("alice", nil))
	if at := w.connection(nc).Account; at != id {
		t.Errorf("alice is in %s", at)
	}
	if refused, err := w.enterAccount("orders", w.token("bob", nil)); err == nil {
		refused.Close()
		t.Error("bob, who is no member, is let in")
	}
	kept := func(c *jwt.AccountClaims) bool {
		return c.Limits.Conn == 7 && c.Exports.HasExportContainingSubject("orders.>") && c.SigningKeys.Contains(got[0].Made)
	}
	w.holds(id, "the claims of nats auth with the signing key", kept)

	// nats auth knows nothing of the signing key, and changes what it knows.
	n.change("orders", func(a authb.Account) error {
		_, err := a.Exports().Services().Add("ask", "ask")
		return errors.Join(err, a.Limits().SetMaxConnections(9))
	})
	w.holds(id, "both changes", func(c *jwt.AccountClaims) bool {
		return c.Limits.Conn == 9 && c.Exports.HasExportContainingSubject("ask") && c.SigningKeys.Contains(got[0].Made)
	})
	w.mustEnter("orders", w.token("alice", nil))

	again := r.command("account", "adopt", "orders")
	if again.code != exitRefused || !strings.Contains(again.err, "has it already") {
		t.Errorf("a second time: %d %s", again.code, again.err)
	}
	for ref, why := range map[string]string{
		"APP": "of the configuration", w.set.Callout.ID: "Gatehouse itself is in it", w.set.System.ID: "system account", w.set.Lobby.ID: "lobby", "nobody": "no server has claims",
	} {
		if got := r.command("account", "adopt", ref); got.code != exitRefused || !strings.Contains(got.err, why) {
			t.Errorf("%s: %d %s", ref, got.code, got.err)
		}
	}
}

// TestAdoptFromFolder takes accounts over with their signing keys, and writes them out again into a folder that nats auth takes.
func TestAdoptFromFolder(t *testing.T) {
	t.Parallel()
	w := planned(t, 3)
	n := w.natsAuth()
	var signing string
	orders := n.change("orders", func(a authb.Account) (err error) {
		signing, err = a.ScopedSigningKeys().Add()
		if err == nil {
			_, err = a.ScopedSigningKeys().AddScope("reader")
		}
		return err
	})
	n.change("SHIP", func(a authb.Account) error { return a.Limits().SetMaxConnections(3) })
	n.change("lobby", func(authb.Account) error { return nil }) // no name that accounts of sign-up have
	foreign, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	w.putForeign(n.dir, foreign)
	identity := filepath.Join(n.dir, "keys", "keys", "A", orders.Subject()[1:3], orders.Subject()+".nk")
	if err := os.Remove(identity); err != nil { // it is offline
		t.Fatal(err)
	}
	r := w.serve(serveOptions{})
	got := r.command("account", "adopt", "--all", "--store", n.dir, "--owner-issuer", "demo", "--owner-subject", "alice", "--json")
	if got.code != exitPartial || !strings.Contains(got.err, "2 of 4 accounts were left") || !strings.Contains(got.err, "no key of the operator") || !strings.Contains(got.err, "reserved") {
		t.Fatalf("ended with %d: %s%s", got.code, got.out, got.err)
	}
	taken := map[string]api.AccountAdoption{}
	for _, a := range decodeLines[api.AccountAdoption](t, got.out) {
		taken[a.Name] = a
	}
	if a := taken["orders"]; !slices.Equal(a.Sealed, []string{signing}) || a.Made != "" || len(a.Elsewhere) != 1 {
		t.Errorf("orders: %+v", a)
	}
	if a := taken["SHIP"]; len(a.Sealed) != 0 || a.Made == "" {
		t.Errorf("SHIP: %+v", a)
	}
	w.mustEnter("orders", w.token("alice", nil))
	w.mustEnter("SHIP", w.token("alice", nil))
	if trail := r.log.String(); strings.Contains(trail, "SA") && strings.Contains(trail, content(t, filepath.Join(n.dir, "keys", "keys", "A", signing[1:3], signing+".nk"))) {
		t.Error("the log holds a seed")
	}

	out := filepath.Join(w.dir, "left")
	operator := filepath.Join(w.dir, "offline", "operator.jwt")
	if silent := r.command("account", "export", "--out", out, "--operator-jwt", operator, "--keys"); silent.code != exitUsage {
		t.Errorf("keys without a reason: %d %s", silent.code, silent.err)
	}
	r.must("account", "export", "--out", out, "--operator-jwt", operator, "--keys", "--reason", "moving out")
	checkModes(t, out)
	eventually(t, func() error {
		entries := r.audit("--op", api.OpAccountHandover)
		if !slices.ContainsFunc(entries, func(e api.AuditEntry) bool { return e.Reason == "moving out" && strings.Contains(e.Detail, signing) }) {
			return fmt.Errorf("the audit trail says %+v", entries)
		}
		return nil
	})
	left := &natsAuth{world: w, dir: out}
	left.open()
	account, err := left.operator().Accounts().Get("orders")
	if err != nil {
		t.Fatal(err)
	}
	user, err := account.Users().Add("leaver", signing)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := user.Creds(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.dir, "leaver.creds")
	if err := os.WriteFile(file, creds, 0o600); err != nil {
		t.Fatal(err)
	}
	if at := w.connection(w.mustBeDirect(file)).Account; at != orders.Subject() {
		t.Errorf("who left is in %s", at)
	}
}

// putForeign puts an account that another operator signed into the folder.
func (w *world) putForeign(dir string, operator nkeys.KeyPair) {
	w.Helper()
	kp, err := nkeys.CreateAccount()
	if err != nil {
		w.Fatal(err)
	}
	id, err := kp.PublicKey()
	if err != nil {
		w.Fatal(err)
	}
	claims := jwt.NewAccountClaims(id)
	claims.Name = "foreign"
	token, err := claims.Encode(operator)
	if err != nil {
		w.Fatal(err)
	}
	f, err := nscstore.Open(dir, "")
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	if err := f.AddAccount(token); err != nil {
		w.Fatal(err)
	}
}
