package resolver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Everybody of an account is logged out; who gets a new user JWT later is in.
func TestAccountLogout(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	in := s.follow(t, user)
	d.revoke(policy.Logout, policy.Target{Account: s.App.ID})
	await(t, in.lost)
	s.keptOut(t, user)
	eventually(t, func() error {
		return newDirect(t, s.App, s.App.SigningKey.Reveal(), nil).dial(s.ClientURL())
	})
}

// A suspended account is closed to everybody, and nothing in it is lost.
func TestSuspension(t *testing.T) {
	t.Parallel()
	s := startSystemOf(t, setup.Options{Servers: 1}, devtest.InProcess)
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	in := s.follow(t, user)
	js, err := jetstream.New(in.Conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "orders", []byte("1")); err != nil {
		t.Fatal(err)
	}
	r := d.revoke(policy.Suspension, policy.Target{Account: s.App.ID})
	await(t, in.lost)
	s.keptOut(t, user)
	d.everywhere("no connections, no leaf nodes", func(c *jwt.AccountClaims) bool { return c.Limits.Conn == 0 && c.Limits.LeafNodeConn == 0 })
	d.lift(r)
	await(t, in.back)
	eventually(t, func() error {
		stream, err := js.Stream(t.Context(), "ORDERS")
		if err != nil {
			return err
		}
		return check(stream.CachedInfo().State.Msgs == 1, "the stream holds %d messages", stream.CachedInfo().State.Msgs)
	})
	d.everywhere("unlimited again", func(c *jwt.AccountClaims) bool { return c.Limits.Conn == -1 && c.Limits.LeafNodeConn == -1 })
}

// A leaf node, which connects a whole account, is closed by a suspension and kept out, though it tries again.
func TestSuspensionKeepsLeafNodesOut(t *testing.T) {
	t.Parallel()
	port := devtest.Ports(t, 1)[0]
	s := startSystemOf(t, setup.Options{Servers: 1, NoJetStream: true}, devtest.InProcess, func(conf string) string {
		return conf + fmt.Sprintf("\nleafnodes { listen: \"127.0.0.1:%d\" }\n", port)
	})
	d := startDesk(t, s, newLedger(), nil)
	dir := t.TempDir()
	creds, conf := filepath.Join(dir, "leaf.creds"), filepath.Join(dir, "leaf.conf")
	for path, content := range map[string]string{
		creds: s.EmergencyAppCreds.Reveal(),
		conf:  fmt.Sprintf("listen: \"127.0.0.1:-1\"\nleafnodes { reconnect: 1, remotes: [{ url: \"nats-leaf://127.0.0.1:%d\", credentials: %q }] }\n", port, creds),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := make(chan struct{}, 1000)
	leaf := devstack.NewServer(conf, slog.New(noticing{text: "maximum account", seen: refused}))
	if err := leaf.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer leaf.Stop()
	leaves := func() int {
		var answer struct {
			Data struct{ Leafs []any } `json:"data"`
		}
		if err := json.Unmarshal(s.ask(t, "$SYS.REQ.SERVER.PING.LEAFZ", "")[0], &answer); err != nil {
			t.Fatal(err)
		}
		return len(answer.Data.Leafs)
	}
	eventually(t, func() error { return check(leaves() == 1, "the leaf node is not connected") })
	r := d.revoke(policy.Suspension, policy.Target{Account: s.App.ID})
	for range 2 {
		await(t, refused) // once when it is closed, and at each try
	}
	if n := leaves(); n != 0 {
		t.Errorf("%d leaf nodes are connected", n)
	}
	d.lift(r)
	eventually(t, func() error { return check(leaves() == 1, "the leaf node does not come back") })
}

// noticing is a log that tells when it reads a text.
type noticing struct {
	slog.Handler
	text string
	seen chan<- struct{}
}

func (n noticing) Enabled(context.Context, slog.Level) bool { return true }
func (n noticing) WithAttrs([]slog.Attr) slog.Handler       { return n }
func (n noticing) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, n.text) {
		n.seen <- struct{}{}
	}
	return nil
}

// Servers that keep accounts in memory are told one account at a time, and what holds is what they have applied.
func TestMemoryResolver(t *testing.T) {
	t.Parallel()
	s := startSystemOf(t, setup.Options{Servers: 3, NoJetStream: true}, devtest.InProcess, func(conf string) string {
		return regexp.MustCompile(`(?s)resolver \{.*?\n\}`).ReplaceAllString(conf, "resolver: MEMORY")
	})
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	in := s.follow(t, user)
	r := d.revoke(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
	await(t, in.lost)
	s.keptOut(t, user)
	// It comes up with what its file says, and is told again.
	s.servers[2].Restart()
	eventually(t, func() error { return check(len(d.r.Servers()) == 3, "the server is not back") })
	d.converged(r)
	s.keptOut(t, user)
}

// A signing key that is taken away ends its users and no others; lifting gives it back with its template.
func TestSigningKeyIsTakenAndGivenBack(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	scoped, public := newKey(t, nkeys.PrefixByteAccount)
	seed, err := scoped.Seed()
	if err != nil {
		t.Fatal(err)
	}
	template := jwt.NewUserScope()
	template.Key, template.Role, template.Template.Subs = public, "worker", 7
	s.push(t, s.App, func(c *jwt.AccountClaims) { c.SigningKeys.AddScopedSigner(template) })
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, string(seed), func(c *jwt.UserClaims) { c.SetScoped(true) })
	in, bystander := s.follow(t, user), s.follow(t, newDirect(t, s.App, s.App.SigningKey.Reveal(), nil))
	r := d.revoke(policy.SigningKey, policy.Target{Account: s.App.ID, Key: public})
	await(t, in.lost)
	s.keptOut(t, user)
	d.lift(r)
	await(t, in.back)
	d.everywhere("the template", func(c *jwt.AccountClaims) bool {
		scope, ok := c.SigningKeys[public].(*jwt.UserScope)
		return ok && scope.Role == "worker" && scope.Template.Subs == 7
	})
	if len(bystander.lost) > 0 {
		t.Error("a user of another key was closed")
	}
}

// An account that imports by a token stops hearing when the activation is revoked.
func TestActivation(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	importer, signer := newAccount(t, "IMPORTER"), ""
	kp, public := newKey(t, nkeys.PrefixByteAccount)
	if seed, err := kp.Seed(); err == nil {
		signer = string(seed)
	}
	s.push(t, s.App, func(c *jwt.AccountClaims) {
		c.Exports.Add(&jwt.Export{Subject: "orders", Type: jwt.Service, TokenReq: true})
	})
	token := jwt.NewActivationClaims(importer.ID)
	token.ImportSubject, token.ImportType, token.IssuerAccount = "orders", jwt.Service, s.App.ID
	exporter, err := nkeys.FromSeed([]byte(s.App.SigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := token.Encode(exporter)
	if err != nil {
		t.Fatal(err)
	}
	s.push(t, importer, func(c *jwt.AccountClaims) {
		c.SigningKeys.Add(public)
		c.Imports.Add(&jwt.Import{Subject: "orders", Type: jwt.Service, Account: s.App.ID, Token: encoded})
	})
	d := startDesk(t, s, newLedger(), nil)
	service, caller := s.follow(t, newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)), s.follow(t, newDirect(t, importer, signer, nil))
	if _, err := service.Subscribe("orders", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	call := func() error {
		_, err := caller.Request("orders", nil, time.Second)
		return err
	}
	eventually(t, call)
	r := d.revoke(policy.Activation, policy.Target{Account: s.App.ID, Export: "orders", Key: importer.ID})
	eventually(t, func() error { return check(call() != nil, "the importer is still answered") })
	d.lift(r)
	eventually(t, call)
}

// What others change meanwhile is kept, though they know nothing of ours, and counted; lifting leaves it.
func TestRivalKeepsItsChange(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	r := d.revoke(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
	for range 3 {
		s.push(t, s.App, func(c *jwt.AccountClaims) {
			c.Tags, c.Limits.Subs = jwt.TagList{"theirs"}, 1000
			c.Revocations = jwt.RevocationList{"UOTHER": 5}
		})
		d.everywhere("theirs and ours", func(c *jwt.AccountClaims) bool {
			return c.Tags.Contains("theirs") && c.Limits.Subs == 1000 && c.Revocations[user.key] > 0 && c.Revocations["UOTHER"] == 5
		})
	}
	if n := d.drifted(string(foreign)); n == 0 { // a change is not counted where its servers answered too late
		t.Error("no change of a rival is counted")
	}
	s.keptOut(t, user)
	d.lift(r)
	d.everywhere("theirs alone", func(c *jwt.AccountClaims) bool {
		return c.Tags.Contains("theirs") && len(c.Revocations) == 1 && c.Revocations["UOTHER"] == 5
	})
}

// A server that was down learns at its return what it missed, and the proof waits for it.
func TestServerThatWasDown(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	d := startDesk(t, s, newLedger(), nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	s.servers[2].Stop()
	eventually(t, func() error { return check(len(d.r.Servers()) == 2, "the server is not gone") })
	r := d.revoke(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
	s.servers[2].Start()
	eventually(t, func() error { return check(len(d.r.Servers()) == 3, "the server is not back") })
	d.converged(r)
	s.keptOut(t, user)
}

// A key that the servers do not trust is found out by what they have applied where they do not say whom they trust: the account
// is left as it was, also on their disks, and nothing more is pushed until there is another key.
func TestUntrustedKey(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	s.silence(t)
	stranger, public := newKey(t, nkeys.PrefixByteOperator)
	d := startDesk(t, s, newLedger(), stranger)
	before, err := d.r.lookup(t.Context(), s.App.ID)
	if err != nil {
		t.Fatal(err)
	}
	r := d.store(policy.UserKey, policy.Target{Account: s.App.ID, Key: "U"})
	eventually(t, func() error {
		problems := strings.Join(d.c.Status().Problems, "; ")
		return check(strings.Contains(problems, ErrUntrusted.Error()) && strings.Contains(problems, public), "problems: %s", problems)
	})
	eventually(t, func() error {
		after, err := d.r.lookup(t.Context(), s.App.ID)
		if err != nil {
			return err
		}
		return check(len(after) == 3 && !slices.ContainsFunc(after, func(token string) bool { return token != before[0] }), "the servers do not store what they did")
	})
	pushes := d.pushes.Load()
	for range 5 {
		if done, why, err := d.c.Converged(t.Context(), r); done || err != nil || !strings.Contains(why, "not applied") {
			t.Fatalf("converged %t, %s, %v", done, why, err)
		}
		passed(t, d)
	}
	if n := d.pushes.Load(); n != pushes || n != 2 {
		t.Errorf("%d pushes, want one and one that puts back", n)
	}
	right := keyOf(t, s.OperatorSigningKey)
	d.key.Store(&right)
	d.converged(r)
	d.lift(r)
	d.everywhere("the base", func(c *jwt.AccountClaims) bool { return len(c.Revocations) == 0 })
}

// A rival whose key the servers do not trust changes what they store and not what they have applied: the account would
// be gone at their next start. It is counted and repaired.
func TestStoredClaimsAreRepaired(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	d := startDesk(t, s, newLedger(), nil)
	d.revoke(policy.UserKey, policy.Target{Account: s.App.ID, Key: "U"})
	all, err := d.claimsOn()
	if err != nil {
		t.Fatal(err)
	}
	stranger, public := newKey(t, nkeys.PrefixByteOperator)
	token, err := all[0].Encode(stranger)
	if err != nil {
		t.Fatal(err)
	}
	s.ask(t, "$SYS.REQ.CLAIMS.UPDATE", token)
	eventually(t, func() error {
		stored, err := d.r.lookup(t.Context(), s.App.ID)
		if err != nil {
			return err
		}
		return check(len(stored) == 3 && d.drifted("stored") > 0 && !slices.ContainsFunc(stored, func(token string) bool { return parsed(t, token).issuer() == public }), "%d answers, %d repairs", len(stored), d.drifted("stored"))
	})
}

// A server that stands still keeps nobody in on the others. The proof names it and waits.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	s := startSystemAs(t, 3, devtest.AsProcess)
	d := startDesk(t, s, newLedger(), nil)
	users := []direct{newDirect(t, s.App, s.App.SigningKey.Reveal(), nil), newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)}
	// One that neither of our own connections is to.
	frozen := s.servers[slices.IndexFunc(s.servers, func(server *devtest.Server) bool {
		return server.ClientURL() != d.r.nc.ConnectedUrl() && server.ClientURL() != s.admin.ConnectedUrl()
	})]
	frozen.Freeze()
	defer frozen.Thaw()
	for _, user := range users { // the second while the first still waits for the server
		r := d.store(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
		eventually(t, func() error {
			for _, server := range s.servers {
				if server != frozen && user.dial(server.ClientURL()) == nil {
					return fmt.Errorf("let in by %s", server.ClientURL())
				}
			}
			return nil
		})
		if done, why, err := d.c.Converged(t.Context(), r); done || err != nil || !strings.Contains(why, "did not say") {
			t.Errorf("converged %t, %s, %v", done, why, err)
		}
	}
	frozen.Thaw()
	d.converged(asked(policy.UserKey, policy.Target{Account: s.App.ID, Key: users[1].key}, nil))
	s.keptOut(t, users[1])
}

// passed waits for a pass of the writer that begins now.
func passed(t *testing.T, d *desk) {
	t.Helper()
	d.mu.Lock()
	before := d.until
	d.mu.Unlock()
	d.c.Wake()
	eventually(t, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		return check(d.until.After(before), "no pass")
	})
}

// A writer whose lease another holds pushes nothing, and goes on once that one is silent.
func TestLeaseIsTakenOver(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	l := newLedger()
	if held, _, _ := l.Acquire(t.Context(), claimsLease, "dead", time.Hour); !held {
		t.Fatal("no lease")
	}
	d := startDesk(t, s, l, nil)
	user := newDirect(t, s.App, s.App.SigningKey.Reveal(), nil)
	r := d.store(policy.UserKey, policy.Target{Account: s.App.ID, Key: user.key})
	for range 3 {
		if done, _, err := d.c.Converged(t.Context(), r); done || err != nil {
			t.Fatalf("converged %t, %v", done, err)
		}
	}
	if n := d.pushes.Load(); n != 0 || d.c.Status().Holder {
		t.Fatalf("%d pushes without the lease", n)
	}
	// That one had kept what it was going to push.
	held, err := d.r.appliedEverywhere(t.Context(), s.App.ID)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := overlay{{part: revocation, name: user.key}: r.At.Unix()}.apply(held[0].found).sign(d.c.Signer(), held[0].found.issued()+1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SaveAccountClaims(t.Context(), store.AccountClaims{Account: s.App.ID, Base: held[0].token, Desired: signed, Revision: 1}); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.until = time.Now()
	l.mu.Unlock()
	d.converged(r)
	s.keptOut(t, user)
	d.lift(r)
	d.everywhere("the base", func(c *jwt.AccountClaims) bool { return len(c.Revocations) == 0 })
}

// Whoever writes to the store does not get claims of their own signed, nor those of another account.
func TestStoreIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	l := newLedger()
	d := startDesk(t, s, l, nil)
	r := d.revoke(policy.Suspension, policy.Target{Account: s.App.ID})
	l.mu.Lock()
	kept := l.claims[s.App.ID]
	l.mu.Unlock()
	stranger, _ := newKey(t, nkeys.PrefixByteOperator)
	mine := parsed(t, kept.Base)
	mine.entries[place{part: signingKey, name: "AMINE"}] = json.RawMessage(`"AMINE"`)
	foreign, err := mine.sign(stranger, mine.issued(), 1)
	if err != nil {
		t.Fatal(err)
	}
	damaged, err := mine.sign(d.c.Signer(), mine.issued(), 1)
	if err != nil {
		t.Fatal(err)
	}
	damaged = damaged[:strings.LastIndex(damaged, ".")] + kept.Base[strings.LastIndex(kept.Base, "."):]
	pushes := d.pushes.Load()
	for why, base := range map[string]string{"signed it": foreign, "verification failed": damaged, "it is of account": s.Callout.JWT} {
		l.mu.Lock()
		kept.Base, kept.Revision = base, l.claims[s.App.ID].Revision+1
		l.claims[s.App.ID] = kept
		l.mu.Unlock()
		d.lift(r)
		eventually(t, func() error {
			problems := strings.Join(d.c.Status().Problems, "; ")
			return check(strings.Contains(problems, "what the store has") && strings.Contains(problems, why), "want %q, problems: %s", why, problems)
		})
	}
	if n := d.pushes.Load(); n != pushes {
		t.Errorf("%d pushes of what the store was given", n-pushes)
	}
}

// What does not fit is refused and never pushed; logging everybody out makes room.
func TestClaimsThatDoNotFit(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	l := newLedger()
	fill(t, s, l, 12_000)
	d := startDesk(t, s, l, nil)
	eventually(t, func() error {
		problems := strings.Join(d.c.Status().Problems, "; ")
		return check(strings.Contains(problems, ErrClaimsFull.Error()) && strings.Contains(problems, "12000 entries"), "problems: %s", problems)
	})
	if n := d.pushes.Load(); n != 0 {
		t.Errorf("%d pushes", n)
	}
	r := d.store(policy.Logout, policy.Target{Account: s.App.ID})
	d.converged(r)
	d.everywhere("one entry", func(c *jwt.AccountClaims) bool { return len(c.Revocations) == 1 })
}

// Ten thousand entries are applied by every server.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	l := newLedger()
	fill(t, s, l, 10_000)
	began := time.Now()
	d := startDesk(t, s, l, nil)
	// With the race detector the servers need some seconds for each.
	within(t, 8*soon, func() error {
		held, err := d.r.appliedEverywhere(t.Context(), s.App.ID)
		if err != nil {
			return err
		}
		return check(!slices.ContainsFunc(held, func(h serverClaims) bool { return h.found == nil || h.found.revocations() != 10_000 }), "not all entries everywhere")
	})
	t.Logf("10,000 entries applied on 3 servers %s after the start", time.Since(began))
}

// fill stores that many revocations of user keys.
func fill(t *testing.T, s *system, l *ledger, entries int) {
	t.Helper()
	for i := range entries {
		raw := sha256.Sum256(fmt.Append(nil, i))
		key, err := nkeys.Encode(nkeys.PrefixByteUser, raw[:])
		if err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint("fill", i)
		l.revocations[id] = store.Revocation{Revocation: policy.Revocation{
			ID: id, Kind: policy.UserKey, Target: policy.Target{Account: s.App.ID, Key: string(key)}, At: time.Now(),
		}}
	}
}

// Where nothing is asked nothing is written, nor what would lock Gatehouse out, though it is stored.
func TestClaimsAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	d := startDesk(t, s, newLedger(), nil)
	d.store(policy.Suspension, policy.Target{Account: s.Callout.ID})
	d.store(policy.Logout, policy.Target{Account: s.System.ID})
	d.store(policy.Logout, policy.Target{Principal: policy.Principal{Issuer: "https://corp", Subject: "alice"}})
	for range 3 {
		passed(t, d)
	}
	if n := d.pushes.Load(); n != 0 || len(d.claims) > 0 {
		t.Errorf("%d pushes, %d accounts kept", n, len(d.claims))
	}
}

// Where there are no claims a logout of an account has nothing to wait for; where they cannot be changed, its direct
// users may still be in, and it says so.
func TestConvergedWithoutKey(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	for absent, want := range map[bool]bool{true: true, false: false} {
		c := NewClaims(ClaimsOptions{
			Absent: absent, Resolver: New(Options{Conn: s.admin}), Store: newLedger(),
			Signer: func() nkeys.KeyPair { return nil }, Closed: func() Closed { return nil },
		})
		done, why, err := c.Converged(t.Context(), asked(policy.Logout, policy.Target{Account: s.App.ID}, nil))
		if err != nil || done != want || (why != "") == want {
			t.Errorf("absent %t: %t, %q, %v", absent, done, why, err)
		}
	}
}
