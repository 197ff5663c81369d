package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// accountPolicy lets developers sign up.
const accountPolicy = `roles:
  app:
    publish: { allow: [">"] }
    subscribe: { allow: [">"] }
plans:
  free: { roles: [app], per_subject: 3, connections: 20, jetstream: { disk: 1048576, streams: 5 } }
  team: { roles: [app], approval: true, names: team-* }
bindings:
  - name: sign-up
    issuer: demo
    match: { groups: dev }
    grant: { sign_up: [free, team] }
  - name: admins
    issuer: demo
    match: { groups: nats-admins }
    grant: { admin: [accounts] }
`

// personFile writes a token of somebody who is a developer into a file, and returns its path.
func (w *world) personFile(subject string) string {
	w.Helper()
	file := filepath.Join(w.dir, subject+".jwt")
	if err := os.WriteFile(file, []byte(w.token("alice", developer(subject))), 0o600); err != nil {
		w.Fatal(err)
	}
	return file
}

// enterNamed logs in to an account with the token in a file, once, at that server.
func (w *world) enterNamed(server int, account, file string, options ...nats.Option) (*nats.Conn, error) {
	w.Helper()
	token, err := os.ReadFile(file)
	if err != nil {
		w.Fatal(err)
	}
	return nats.Connect(w.servers[server].ClientURL(), append([]nats.Option{
		nats.UserInfo("account:"+account, string(token)), nats.Timeout(5 * time.Second), nats.NoReconnect(), nats.IgnoreDiscoveredServers(),
	}, options...)...)
}

// mustEnterAccount is enterNamed for who has to be let in, soon.
func (w *world) mustEnterAccount(server int, account, file string, options ...nats.Option) *nats.Conn {
	w.Helper()
	var nc *nats.Conn
	eventually(w, func() (err error) {
		nc, err = w.enterNamed(server, account, file, options...)
		return err
	})
	w.Cleanup(nc.Close)
	return nc
}

// mustStayOut fails the test unless a login to the account is refused.
func (w *world) mustStayOut(account, file string) {
	w.Helper()
	nc, err := w.enterNamed(0, account, file)
	if err == nil {
		nc.Close()
		w.Fatalf("the login to %s was admitted", account)
	}
	// An account that is on its way out is answered with silence, which the server's first PING may end.
	if !errors.Is(err, nats.ErrAuthorization) && !strings.Contains(err.Error(), "expected 'PONG', got 'PING'") {
		w.Fatalf("the login to %s was not refused but failed: %v", account, err)
	}
}

func decodeOne[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// TestAccountStory: somebody signs up, is in at another server than the service's, invites a colleague who logs in, and the
// colleague is out once removed.
func TestAccountStory(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]func(t testing.TB) string{
		"sqlite":   func(testing.TB) string { return "" },
		"postgres": func(t testing.TB) string { return storetest.Postgres(t, postgres.Migrate) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{servers: 3, policy: accountPolicy, jetStream: true})
			r := w.serve(serveOptions{store: dsn(t)})
			alice, bob := w.personFile("alice"), w.personFile("bob")
			as := func(file string, args ...string) string {
				t.Helper()
				return r.must(append(append([]string{"account"}, args...), "--token-file", file, "--json")...)
			}
			var up api.AccountSignup
			eventually(t, func() error { // the answer may come before the account is active
				up = decodeOne[api.AccountSignup](t, as(alice, "signup", "--name", "orders", "--plan", "free", "--url", r.http))
				if up.State != "active" {
					return fmt.Errorf("it is %s", up.State)
				}
				return nil
			})
			mine := w.mustEnterAccount(2, "orders", alice)
			if c := w.connection(mine); c.Account != up.Account {
				t.Errorf("in account %s, want %s", c.Account, up.Account)
			}
			w.mustStayOut("orders", bob)
			invited := decodeOne[api.MemberInvitation](t, as(alice, "invite", "orders", "--role", "app"))
			secret := filepath.Join(w.dir, "secret")
			if err := os.WriteFile(secret, []byte(invited.Secret), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := decodeOne[api.Membership](t, as(bob, "accept", "orders", "--secret-file", secret)); got.Account != up.Account || len(got.Members) != 1 {
				t.Errorf("accepted %+v", got)
			}
			colleague := w.mustEnterAccount(1, "orders", bob)
			heard := make(chan *nats.Msg, 1)
			if _, err := mine.ChanSubscribe("hello", heard); err != nil {
				t.Fatal(err)
			}
			if err := mine.Flush(); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() error { // interest takes its time from server to server
				if err := colleague.Publish("hello", []byte("hi")); err != nil {
					t.Fatal(err)
				}
				select {
				case <-heard:
					return nil
				case <-time.After(100 * time.Millisecond):
					return errors.New("nothing was heard")
				}
			})
			removed := decodeOne[api.MemberRemoval](t, as(alice, "remove", "orders", invited.Member.ID))
			if removed.Member.Subject != "bob" || len(removed.Unanswered) > 0 {
				t.Errorf("removed %+v", removed)
			}
			eventually(t, func() error {
				if !colleague.IsClosed() {
					return errors.New("the colleague is connected")
				}
				return nil
			})
			w.mustStayOut("orders", bob)
			if !mine.IsConnected() {
				t.Error("the owner was closed as well")
			}
		})
	}
}

// TestAccountWithOwnKey: the account's identity is a key whose seed never left the requester.
func TestAccountWithOwnKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: accountPolicy})
	r := w.serve(serveOptions{})
	alice := w.personFile("alice")
	key := func(pair nkeys.KeyPair, err error) (file, public string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		public, err = pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		file = filepath.Join(w.dir, public+".nk")
		if err := os.WriteFile(file, seed, 0o600); err != nil {
			t.Fatal(err)
		}
		return file, public
	}
	signup := func(name, file string) result {
		return r.command("account", "signup", "--name", name, "--plan", "free", "--key-file", file, "--token-file", alice, "--url", r.http, "--json")
	}
	user, _ := key(nkeys.CreateUser())
	if got := signup("orders", user); got.code != exitFailed || !strings.Contains(got.err, "another kind") {
		t.Errorf("with a user's key: %+v", got)
	}
	file, public := key(nkeys.CreateAccount())
	got := signup("orders", file)
	if got.code != exitDone || decodeOne[api.AccountSignup](t, got.out).Account != public {
		t.Fatalf("%+v", got)
	}
	if c := w.connection(w.mustEnterAccount(0, "orders", alice)); c.Account != public {
		t.Errorf("in account %s, want %s", c.Account, public)
	}
	// What servers know is nobody's to take, even with its key: here it is that of the account APP.
	if err := os.WriteFile(filepath.Join(w.dir, "app-identity.nk"), []byte(w.set.App.Identity), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := signup("stolen", filepath.Join(w.dir, "app-identity.nk")); got.code != exitRefused || !strings.Contains(got.err, "key_taken") {
		t.Errorf("with the key of APP: %+v", got)
	}
}

// TestAccountDeletionShowsData: what an account stores is asked of the servers, and it is closed at once.
func TestAccountDeletionShowsData(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{servers: 3, policy: accountPolicy, jetStream: true})
	r := w.serve(serveOptions{})
	alice := w.personFile("alice")
	r.must("account", "signup", "--name", "orders", "--plan", "free", "--token-file", alice)
	nc := w.mustEnterAccount(1, "orders", alice, nats.ClosedHandler(func(*nats.Conn) {}))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // the servers take a moment to give the account its JetStream
		_, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, MaxBytes: 65536})
		return err
	})
	if _, err := js.Publish(t.Context(), "orders.1", make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	got := r.command("account", "delete", "orders", "--yes", "--token-file", alice)
	if got.code != exitRefused || !strings.Contains(got.err, "of which there are 1") || !strings.Contains(got.err, "has_data") {
		t.Fatalf("%+v", got)
	}
	gone := decodeOne[api.AccountDeletion](t, r.must("account", "delete", "orders", "--yes", "--with-data", "--token-file", alice, "--json"))
	if gone.Streams != 1 || gone.Bytes < 1000 || gone.Account.State != "deleting" || len(gone.Unanswered) > 0 {
		t.Errorf("%+v", gone)
	}
	eventually(t, func() error {
		if !nc.IsClosed() {
			return errors.New("the owner is connected")
		}
		return nil
	})
	w.mustStayOut("orders", alice)
	r.must("account", "undelete", "orders", "--token-file", alice)
	back := w.mustEnterAccount(2, "orders", alice)
	js, err = jetstream.New(back)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		_, err := js.Stream(t.Context(), "ORDERS")
		return err
	})
}

// TestCommandsOfAccounts shows what the commands print.
func TestCommandsOfAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: accountPolicy})
	s := &transcript{replica: w.serve(serveOptions{})}
	for _, who := range []string{"alice", "bob"} {
		w.personFile(who)
	}
	s.session(
		`account signup --name orders --plan free --token-file DIR/alice.jwt`,
		`account signup --name orders --plan free --token-file DIR/alice.jwt --json`,
		`account signup --name orders --plan free --token-file DIR/bob.jwt`,
		`account signup --name team-a --plan team --token-file DIR/alice.jwt`,
		`account signup --name team-b --plan team --issuer demo --subject bob`,
		`account signup --name other --token-file DIR/alice.jwt`,
		`account list`,
		`account list --state requested`,
		`account list --token-file DIR/bob.jwt`,
		`account approve team-a --token-file DIR/alice.jwt`,
		`account approve team-a`,
		`account reject team-a --reason "no team"`,
		`account get orders`,
		`account get orders --token-file DIR/bob.jwt`,
		`account update orders --description "all orders" --tag eu,prod --token-file DIR/alice.jwt`,
		`account update orders --connections 100 --token-file DIR/alice.jwt`,
		`account update orders --connections 100 --js-streams 20`,
		`account update orders --description late --revision 1`,
		`account rename orders sales --token-file DIR/alice.jwt`,
		`account add sales --role app --issuer demo --subject bob --token-file DIR/alice.jwt`,
		`account add sales --role boss --issuer demo --subject bob`,
		`account add sales --role app --issuer demo --match groups=sales`,
		`account invite sales --role app --ttl 24h`,
		`account accept sales --token-file DIR/bob.jwt`,
		`account accept sales --token-file DIR/bob.jwt`,
		`account members sales --token-file DIR/alice.jwt`,
		`account members sales --token-file DIR/bob.jwt`,
		`account suspend sales --reason unpaid`,
		`account list`,
		`account resume sales --reason paid`,
		`account delete sales --dry-run --token-file DIR/alice.jwt`,
		`account delete sales --token-file DIR/alice.jwt`,
		`account delete sales --yes --token-file DIR/alice.jwt`,
		`account undelete sales --token-file DIR/alice.jwt`,
		`account signup`,
		`account get`,
		`account update sales`,
		`account suspend sales`,
		`account list --url http://gatehouse.example.com --token-file DIR/alice.jwt`,
	)
	s.compare("accounts.txt")
	members := decodeLines[api.Member](t, s.must("account", "members", "sales", "--json"))
	for _, m := range members {
		if m.Role == "app" && m.Subject == "bob" {
			s.must("account", "remove", "sales", m.ID)
		}
	}
	if after := decodeLines[api.Member](t, s.must("account", "members", "sales", "--json")); len(after) != len(members)-1 {
		t.Errorf("%d members of %d are left", len(after), len(members))
	}
	// An admin from elsewhere, with a token for administration.
	away := s.away(w.adminToken("root", nil))
	if got := command(t, away, "", "account", "list", "--url", s.http, "--json"); got.code != exitDone || len(decodeLines[api.Account](t, got.out)) != 3 {
		t.Errorf("%+v", got)
	}
}
