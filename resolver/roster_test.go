package resolver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// records keeps accounts as the stores do, and tells replicas of changes as their mirrors do.
type records struct {
	mu       sync.Mutex
	accounts map[string]account.Account
	told     map[*Claims]bool
	served   map[string]string
	batches  atomic.Int64
	listed   atomic.Pointer[func(store.AccountFilter)] // is called after each list; may be nil
}

func newRecords() *records {
	return &records{accounts: map[string]account.Account{}, told: map[*Claims]bool{}, served: map[string]string{}}
}

func (r *records) Accounts(_ context.Context, f store.AccountFilter) (page []account.Account, next string, err error) {
	defer func() {
		if listed := r.listed.Load(); listed != nil {
			(*listed)(f)
		}
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, a := range r.accounts {
		if len(f.IDs) > 0 && !slices.Contains(f.IDs, id) || f.Unapplied && a.Applied >= a.Revision || f.State != "" && a.State != f.State || !f.Deleted && f.State != account.Deleted && a.State == account.Deleted {
			continue
		}
		page = append(page, a)
	}
	return page, "", nil
}

func (r *records) MarkApplied(_ context.Context, applied []store.Applied) error {
	r.batches.Add(1)
	r.mu.Lock()
	var changed []account.Account
	for _, done := range applied {
		a := r.accounts[done.ID]
		if done.Revision < a.Applied || done.Revision > a.Revision || a.State == account.Deleted {
			continue
		}
		a.Applied = done.Revision
		if a.State = account.Active; done.Published {
			a.State = account.Published
		}
		if done.Issued >= a.Issued {
			a.Issued, a.Signer, a.Given = done.Issued, done.Signer, done.Given
		}
		r.accounts[a.ID] = a
		changed = append(changed, a)
	}
	r.mu.Unlock()
	r.tell(changed...)
	return nil
}

func (r *records) Serve(_ context.Context, _, _ string, claims []store.ServedClaims) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range claims {
		r.served[c.Account] = c.Token
	}
	return nil
}

func (r *records) tell(changed ...account.Account) {
	r.mu.Lock()
	var replicas []*Claims
	for c := range r.told {
		replicas = append(replicas, c)
	}
	r.mu.Unlock()
	for _, c := range replicas {
		c.Accounts(changed, false)
	}
}

func (r *records) follow(c *Claims, follows bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if follows {
		r.told[c] = true
	} else {
		delete(r.told, c)
	}
}

func (r *records) get(id string) account.Account {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accounts[id]
}

// save stores a record as the next revision.
func (r *records) save(a account.Account) account.Account {
	r.mu.Lock()
	a.Revision = r.accounts[a.ID].Revision + 1
	r.accounts[a.ID] = a
	r.mu.Unlock()
	r.tell(a)
	return a
}

// signed is a self-service account with the key that its users are signed with.
type signed struct {
	account.Account
	key nkeys.KeyPair
}

func newSigned(t testing.TB, name string) signed {
	t.Helper()
	identity, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	key, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return signed{account.Account{
		ID: id, Name: name, State: account.Creating, Plan: "free", Created: time.Now(),
		Keys: []account.SigningKey{{Public: public, Stage: account.Current}},
	}, key}
}

// dial connects a user of the account to a server.
func (a signed) dial(t testing.TB, url string) error {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewUserClaims(public)
	claims.IssuerAccount = a.ID
	token, err := claims.Encode(a.key)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(url, nats.UserJWT(func() (string, error) { return token, nil }, user.Sign), nats.NoReconnect(), nats.IgnoreDiscoveredServers())
	if err == nil {
		nc.Close()
	}
	return err
}

// unlimited is the plan of all accounts here.
var unlimited = account.Limits{Connections: -1, LeafNodes: -1, Subscriptions: -1, Payload: -1, Data: -1, Imports: -1, Exports: -1}

// keeper is a replica that keeps self-service accounts.
type keeper struct {
	*desk
	records *records
	plans   sync.Map // name → account.Limits
	stop    func()
}

// keep starts a replica; key is the operator's unless another is given.
func keep(t testing.TB, s *system, l *ledger, records *records, key nkeys.KeyPair) *keeper {
	t.Helper()
	return keepOf(t, s, l, records, key, Full)
}

// keepPlanless is keep for a replica whose configuration has no plan.
func keepPlanless(t testing.TB, s *system, l *ledger, records *records) *keeper {
	t.Helper()
	return keepPlans(t, 200*time.Millisecond, s, l, records, nil, Full, nil)
}

// keepOf is keep for servers with another resolver.
func keepOf(t testing.TB, s *system, l *ledger, records *records, key nkeys.KeyPair, kind Kind) *keeper {
	t.Helper()
	return keepEvery(t, 200*time.Millisecond, s, l, records, key, kind)
}

// keepEvery is keepOf with another interval between looks when nothing happens.
func keepEvery(t testing.TB, interval time.Duration, s *system, l *ledger, records *records, key nkeys.KeyPair, kind Kind) *keeper {
	t.Helper()
	return keepPlans(t, interval, s, l, records, key, kind, map[string]account.Limits{"free": unlimited})
}

// keepPlans is keepEvery with other plans.
func keepPlans(t testing.TB, interval time.Duration, s *system, l *ledger, records *records, key nkeys.KeyPair, kind Kind, plans map[string]account.Limits) *keeper {
	t.Helper()
	if key == nil {
		var err error
		if key, err = nkeys.FromSeed([]byte(s.OperatorSigningKey.Reveal())); err != nil {
			t.Fatal(err)
		}
	}
	k := &keeper{desk: &desk{system: s, ledger: l}, records: records}
	for name, limits := range plans {
		k.plans.Store(name, limits)
	}
	k.key.Store(&key)
	nc, err := nats.Connect(s.ClientURL(), nats.UserCredentialBytes([]byte(s.SystemCreds.Reveal())), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1), nats.IgnoreAuthErrorAbort())
	if err != nil {
		t.Fatal(err)
	}
	k.r = New(Options{Kind: kind, Interval: 200 * time.Millisecond, Conn: nc, Logger: devtest.Log(t)})
	k.c = NewClaims(ClaimsOptions{
		Resolver: k.r, Store: l, Revocations: l.all, Holder: rand.Text(), Leeway: 10 * time.Second, Interval: interval,
		Signer: func() nkeys.KeyPair { return *k.key.Load() }, Closed: func() Closed { return Closed{s.Callout.ID: nil, s.System.ID: nil, s.Lobby.ID: nil} },
		OnDrift: func(_, how string) {
			n, _ := k.drifts.LoadOrStore(how, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		},
		Records: records, Limits: func(plan string) (account.Limits, bool) {
			l, ok := k.plans.Load(plan)
			if !ok {
				return account.Limits{}, false
			}
			return l.(account.Limits), true
		},
	})
	records.follow(k.c, true)
	k.r.SetAccounts(map[string]Requirement{s.App.ID: {Name: s.App.Name, SigningKeys: s.app.SigningKeys}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = k.r.Run(ctx) })
	running.Go(func() { _ = k.c.Run(ctx) })
	k.stop = sync.OnceFunc(func() {
		records.follow(k.c, false)
		cancel()
		running.Wait()
		nc.Close()
	})
	t.Cleanup(k.stop)
	return k
}

// active waits until the accounts are applied everywhere.
func (k *keeper) active(t *testing.T, accounts ...signed) {
	t.Helper()
	for _, a := range accounts {
		within(t, time.Minute, func() error {
			is := k.records.get(a.ID)
			return check(is.Applied == is.Revision, "account %s is at revision %d, applied %d: %v", a.Name, is.Revision, is.Applied, k.c.Status().Problems)
		})
	}
}

func signUp(t testing.TB, r *records, n int) (list []signed) {
	t.Helper()
	for i := range n {
		a := newSigned(t, fmt.Sprintf("team-%d", i))
		a.Account = r.save(a.Account)
		list = append(list, a)
	}
	return list
}

// Accounts that are signed up at once can be used at once on every server, and are noted as applied in batches.
func TestSignedUpAccountsAreApplied(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	accounts := signUp(t, records, 200)
	began := time.Now()
	k.active(t, accounts...)
	t.Logf("200 accounts in %s, %d batches", time.Since(began), records.batches.Load())
	for i, a := range accounts {
		if err := a.dial(t, s.servers[i%3].ClientURL()); err != nil {
			t.Errorf("account %d: %v", i, err)
		}
	}
	for _, how := range Drifts() {
		if n := k.drifted(how); n != 0 {
			t.Errorf("%d servers counted as %s", n, how)
		}
	}
	if n := records.batches.Load(); n > 100 {
		t.Errorf("%d batches of 200 accounts", n)
	}
}

// startFolders starts servers that exchange what they store every second, and returns the folders of their accounts.
func startFolders(t *testing.T, servers int) (*system, []string) {
	t.Helper()
	return startFoldersOf(t, servers, "1s")
}

// startFoldersOf is startFolders with another interval.
func startFoldersOf(t *testing.T, servers int, interval string) (*system, []string) {
	t.Helper()
	var folders []string
	s := startSystemOf(t, setup.Options{Servers: servers, NoJetStream: true}, devtest.InProcess, func(conf string) string {
		folder := t.TempDir()
		folders = append(folders, folder)
		return regexp.MustCompile(`(?s)resolver \{.*?\n\}`).ReplaceAllString(conf, fmt.Sprintf("resolver {\n type: full\n dir: %q\n allow_delete: true\n interval: %q\n}", folder, interval))
	})
	return s, folders
}

// storedAs waits until every server stores and has applied what the records ask for, and returns the JWTs.
func (k *keeper) storedAs(t *testing.T, accounts ...signed) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, a := range accounts {
		within(t, time.Minute, func() error {
			d := &delivery{account: a.ID}
			if err := k.r.readBack(t.Context(), []*delivery{d}); err != nil {
				return err
			}
			record := k.records.get(a.ID)
			want, err := k.c.claimsOf(&record, record.Issued)
			if err != nil {
				return err
			}
			all[a.ID] = want
			for _, has := range slices.Concat(d.stored, slices.Collect(maps.Values(d.applied))) {
				if has != want {
					return fmt.Errorf("account %s: a server has other claims", a.Name)
				}
			}
			return check(len(d.stored) == len(k.servers) && len(d.applied) == len(k.servers), "%d servers store it, %d have it", len(d.stored), len(d.applied))
		})
	}
	return all
}

// A server that comes back with an empty folder, and one with an older folder, get what they lack; a rival's claims go.
// All of it is counted.
func TestFoldersAreRepaired(t *testing.T) {
	t.Parallel()
	s, folders := startFolders(t, 3)
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	accounts := signUp(t, records, 20)
	k.active(t, accounts...)
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(folders[1])); err != nil {
		t.Fatal(err)
	}
	for i, a := range accounts {
		a.Account = records.get(a.ID)
		a.Description = "changed"
		accounts[i].Account = records.save(a.Account)
	}
	k.active(t, accounts...)
	for _, server := range s.servers[1:] {
		server.Stop()
	}
	replace(t, folders[1], old)
	replace(t, folders[2], t.TempDir())
	for _, server := range s.servers[1:] {
		server.Start()
	}
	devtest.AwaitReady(t, s.servers...)
	eventually(t, func() error { return check(len(k.r.Servers()) == 3, "not every server is known") })
	k.storedAs(t, accounts...)
	for i, a := range accounts {
		if err := a.dial(t, s.servers[1+i%2].ClientURL()); err != nil {
			t.Errorf("account %d: %v", i, err)
		}
	}
}

// replace puts a copy of a folder in the place of another.
func replace(t *testing.T, folder, with string) {
	t.Helper()
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(folder, os.DirFS(with)); err != nil {
		t.Fatal(err)
	}
}

// A rival's claims of an account, signed later by the same key, are replaced on every server and counted.
func TestRivalIsOverruled(t *testing.T) {
	t.Parallel()
	s, _ := startFolders(t, 3)
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	accounts := signUp(t, records, 3)
	k.active(t, accounts...)
	before := k.storedAs(t, accounts...)[accounts[0].ID]
	claims, err := jwt.DecodeAccountClaims(before)
	if err != nil {
		t.Fatal(err)
	}
	claims.SigningKeys = nil
	token, err := claims.Encode(k.c.Signer())
	if err != nil {
		t.Fatal(err)
	}
	s.ask(t, "$SYS.REQ.CLAIMS.UPDATE", token)
	eventually(t, func() error { return check(k.drifted("foreign") > 0, "nothing is counted") })
	k.active(t, accounts...)
	after := k.storedAs(t, accounts...)[accounts[0].ID]
	if parsed(t, after).issued() <= parsed(t, token).issued() {
		t.Error("the rival's claims would win where servers exchange theirs")
	}
	if err := accounts[0].dial(t, s.ClientURL()); err != nil {
		t.Error(err)
	}
}

// Another replica goes on where the holder of the lease was stopped, and every account is applied in the end.
func TestAnotherKeepsTheRoster(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	l, records := newLedger(), newRecords()
	first, second := keep(t, s, l, records, nil), keep(t, s, l, records, nil)
	accounts := signUp(t, records, 100)
	first.stop()
	accounts = append(accounts, signUp(t, records, 50)...)
	second.active(t, accounts...)
	second.storedAs(t, accounts...)
	if n := second.drifted("foreign"); n != 0 {
		t.Errorf("%d drifts", n)
	}
}

// With an operator key that the servers do not trust, and do not say so, one account is tried, and it is said what to do.
func TestAccountOfUntrustedKey(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	s.silence(t)
	records := newRecords()
	stranger, public := newKey(t, nkeys.PrefixByteOperator)
	pushes := atomic.Int64{}
	if _, err := s.admin.Subscribe("$SYS.REQ.CLAIMS.UPDATE", func(*nats.Msg) { pushes.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if err := s.admin.Flush(); err != nil {
		t.Fatal(err)
	}
	k := keep(t, s, newLedger(), records, stranger)
	eventually(t, func() error { return check(len(k.r.Servers()) == 3, "not every server is known") }) // another server is another chance
	signUp(t, records, 20)
	told := func() {
		t.Helper()
		eventually(t, func() error {
			problems := strings.Join(k.c.Status().Problems, "; ")
			return check(strings.Contains(problems, ErrUntrusted.Error()) && strings.Contains(problems, public) && strings.Contains(problems, "20 accounts"), "problems: %s", problems)
		})
	}
	told()
	before := records.batches.Load()
	for range 3 { // rounds of attempts
		k.c.roster.mu.Lock()
		for _, a := range k.c.roster.accounts {
			a.next = time.Time{}
		}
		k.c.roster.mu.Unlock()
		k.c.roster.stir()
		eventually(t, func() error {
			k.c.roster.mu.Lock()
			defer k.c.roster.mu.Unlock()
			for _, a := range k.c.roster.accounts {
				if a.next.IsZero() {
					return errors.New("not tried yet")
				}
			}
			return nil
		})
	}
	told()
	if n := pushes.Load(); n != 1 || records.batches.Load() != before {
		t.Errorf("%d pushes, want one", n)
	}
}

// A suspension closes a self-service account and its lift gives back what the record asks for.
func TestSuspendedAccount(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	k.t = t
	a := signUp(t, records, 1)[0]
	k.active(t, a)
	if err := a.dial(t, s.ClientURL()); err != nil {
		t.Fatal(err)
	}
	r := k.revoke(policy.Suspension, policy.Target{Account: a.ID})
	if err := a.dial(t, s.ClientURL()); err == nil {
		t.Error("a suspended account lets in")
	}
	a.Account = records.get(a.ID)
	a.Description = "changed meanwhile"
	records.save(a.Account)
	k.active(t, a)
	if err := a.dial(t, s.ClientURL()); err == nil {
		t.Error("a change of the record lets in")
	}
	k.lift(r)
	eventually(t, func() error { return a.dial(t, s.ClientURL()) })
}

// An account that nobody configured and that no record is of is told of, and left alone.
func TestUnknownAccountIsTold(t *testing.T) {
	t.Parallel()
	s, _ := startFolders(t, 1)
	k := keep(t, s, newLedger(), newRecords(), nil)
	stranger := newAccount(t, "STRANGER")
	s.push(t, stranger, nil)
	eventually(t, func() error {
		return check(slices.Contains(k.c.Status().Unknown, stranger.ID), "unknown: %v", k.c.Status().Unknown)
	})
	if stored, err := k.r.lookup(t.Context(), stranger.ID); err != nil || len(stored) != 1 || stored[0] == "" {
		t.Errorf("%d answers, %v", len(stored), err)
	}
}

// On a server that has just been asked a login waits for the answer, and never before it is there for the account.
func TestAccountIsReadWhenALoginNamesIt(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 3)
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	other := s.run(t, Options{Interval: never}, s.need(t)) // a replica that did not push it
	ready(t, other)
	absent, a := newSigned(t, "absent"), signUp(t, records, 1)[0]
	k.active(t, a)
	record := records.get(a.ID)
	entry := record.Entry()
	for _, r := range []*Resolver{other, k.r} {
		for _, server := range r.Servers() {
			named := entry.Account
			for pending := r.Reading(server.ID, &named); pending != nil; pending = r.Reading(server.ID, &named) {
				if r == k.r {
					t.Error("who has just read it back asks again")
				}
				await(t, pending)
			}
			if key, refusal := r.SigningKey(server.ID, &named, "", time.Now()); key != a.Keys[0].Public {
				t.Errorf("%s: %v", server.Name, refusal)
			}
			none := absent.Entry().Account
			if pending := r.Reading(server.ID, &none); pending == nil {
				t.Error("an account that nobody has is not asked for")
			} else {
				await(t, pending)
			}
			if key, refusal := r.SigningKey(server.ID, &none, "", time.Now()); refusal == nil || refusal.Reason != policy.AccountUnready {
				t.Errorf("an account that nobody has: %s, %v", key, refusal)
			}
		}
	}
}

// What is known of an account is asked for anew once somebody pushes its claims.
func TestPushVoidsWhatIsKnown(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	a := newAccount(t, "LATE")
	_, signing := newKey(t, nkeys.PrefixByteAccount)
	named := &policy.Account{Name: a.Name, ID: a.ID, SigningKeys: []string{signing}}
	server := r.Servers()[0].ID
	s.push(t, a, func(c *jwt.AccountClaims) { c.SigningKeys.Add(signing) })
	key := func() error {
		if pending := r.Reading(server, named); pending != nil {
			await(t, pending)
		}
		_, refusal := r.SigningKey(server, named, "", time.Now())
		if refusal != nil {
			return fmt.Errorf("%s: %s", refusal.Reason, refusal.Detail)
		}
		return nil
	}
	eventually(t, key)
	s.push(t, a, nil)
	eventually(t, func() error {
		err := key()
		return check(err != nil, "the key is still given")
	})
}

// An account whose record is deleted goes from the servers, also where one brings it back; where servers do not let it go
// that is told.
func TestDeletedAccountGoes(t *testing.T) {
	t.Parallel()
	s, folders := startFolders(t, 3)
	records := newRecords()
	k := keep(t, s, newLedger(), records, nil)
	accounts := signUp(t, records, 2)
	k.active(t, accounts...)
	token := k.storedAs(t, accounts...)[accounts[0].ID]
	gone := func() error {
		stored, err := k.r.lookup(t.Context(), accounts[0].ID)
		if err != nil {
			return err
		}
		return check(len(stored) == 3 && strings.Join(stored, "") == "", "it is still stored")
	}
	a := records.get(accounts[0].ID)
	a.State = account.Deleted
	records.save(a)
	eventually(t, gone)
	eventually(t, func() error { return check(len(k.c.Status().Gone) == 0, "gone: %v", k.c.Status().Gone) })
	s.servers[1].Stop()
	if err := os.WriteFile(filepath.Join(folders[1], a.ID+".jwt"), []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	s.servers[1].Start()
	devtest.AwaitReady(t, s.servers...)
	within(t, 2*time.Minute, gone)
	if err := accounts[1].dial(t, s.ClientURL()); err != nil {
		t.Error(err)
	}
}
