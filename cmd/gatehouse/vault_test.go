package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/sqlite"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// onBothStores runs the test with each kind of store.
func onBothStores(t *testing.T, test func(t *testing.T, s store.Store)) {
	for name, open := range map[string]func(t testing.TB) (store.Store, error){
		"sqlite": func(t testing.TB) (store.Store, error) {
			return sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "gatehouse.db"), Migrate: true})
		},
		"postgres": func(t testing.TB) (store.Store, error) {
			return postgres.Open(t.Context(), postgres.Options{DSN: storetest.Postgres(t, postgres.Migrate)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			test(t, s)
		})
	}
}

// sealKey returns a new sealing key.
func sealKey(t testing.TB) *seal.Key {
	t.Helper()
	k, err := seal.ParseKey([]byte(seal.NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// accountKey returns a new account key.
func accountKey(t testing.TB) (public string, seed []byte) {
	t.Helper()
	kp, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	if seed, err = kp.Seed(); err != nil {
		t.Fatal(err)
	}
	public, err = kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public, seed
}

// keeper saves accounts with sealed keys.
type keeper struct {
	testing.TB
	store store.Store
	ring  *seal.Ring
	seeds [][]byte // all that were sealed, which nothing may show
}

// account saves a new account with a signing key.
func (k *keeper) account(name string) account.Account {
	k.Helper()
	id, _ := accountKey(k)
	now := time.Now().UTC().Truncate(time.Microsecond)
	a := account.Account{
		ID: id, Name: name, State: account.Active, Plan: "free", Applied: 1, Created: now,
		Owner: account.Person{Principal: policy.Principal{Issuer: "https://idp.example", Subject: "alice"}},
	}
	return k.save(k.add(a, account.Current))
}

// add returns the account with another signing key.
func (k *keeper) add(a account.Account, stage account.Stage) (account.Account, store.SealedKey) {
	k.Helper()
	public, seed := accountKey(k)
	k.seeds = append(k.seeds, seed)
	row := store.SealedKey{Public: public, Account: a.ID}
	row.Box = k.ring.Seal(seed, row.Row())
	a.Keys = append([]account.SigningKey{{Public: public, Stage: stage, Since: time.Now().UTC()}}, a.Keys...)
	return a, row
}

// save saves the record, with sealed keys beside it.
func (k *keeper) save(a account.Account, rows ...store.SealedKey) account.Account {
	k.Helper()
	a.Revision++
	a.Updated = time.Now().UTC().Truncate(time.Microsecond)
	if _, err := k.store.SaveAccount(k.Context(), store.AccountChange{Account: a, Keys: rows, Entry: store.AuditEntry{
		ID: fmt.Sprint(a.ID, a.Revision), At: a.Updated, Kind: store.AdminEntry, Outcome: "done", Op: "test",
	}}); err != nil {
		k.Fatal(err)
	}
	return a
}

// box returns what is sealed for the key.
func (k *keeper) box(a account.Account, public string) store.SealedKey {
	k.Helper()
	page, _, err := k.store.SealedKeys(k.Context(), store.SealedKeyFilter{Accounts: []string{a.ID}})
	if err != nil {
		k.Fatal(err)
	}
	for _, row := range page {
		if row.Public == public {
			return row
		}
	}
	k.Fatalf("no seed of %s is kept", public)
	return store.SealedKey{}
}

// open opens a vault, whose log is checked for seeds at the end.
func (k *keeper) open(s sealedKeys, ring *seal.Ring) (*vault, error) {
	k.Helper()
	var log bytes.Buffer
	v, err := openVault(k.Context(), s, ring, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), func() {})
	k.Cleanup(func() {
		for _, seed := range k.seeds {
			if shown := fmt.Sprintf("%s %v %+v", log.String(), err, v); strings.Contains(shown, string(seed)) {
				k.Error("a seed is shown")
			}
		}
	})
	return v, err
}

func (k *keeper) mustOpen(ring *seal.Ring) *vault {
	k.Helper()
	v, err := k.open(k.store, ring)
	if err != nil {
		k.Fatal(err)
	}
	return v
}

// signs reports whether the vault has the key.
func (v *vault) signs(public string) bool {
	return mint.NewKeyring().With(v.seeds.Load()).Key(public) != nil
}

func TestVaultFollowsAccounts(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, s store.Store) {
		k := &keeper{TB: t, store: s, ring: seal.NewRing(sealKey(t))}
		orders, billing := k.account("orders"), k.account("billing")
		v := k.mustOpen(k.ring)
		expect := func(what string, want map[string]bool) {
			t.Helper()
			for public, has := range want {
				if v.signs(public) != has {
					t.Errorf("%s: key %s: %v, want %v", what, public, !has, has)
				}
			}
		}
		first, other := orders.Keys[0].Public, billing.Keys[0].Public
		expect("at the start", map[string]bool{first: true, other: true})
		v.follow([]account.Account{orders, billing}, true)
		expect("as loaded", map[string]bool{first: true, other: true})

		orders = k.save(k.add(orders, account.Added))
		second := orders.Keys[0].Public
		v.follow([]account.Account{orders}, false)
		expect("a key was added", map[string]bool{first: true, second: true, other: true})

		orders.Keys[0].Stage, orders.Keys[1].Stage = account.Current, account.Leaving
		v.follow([]account.Account{orders}, false)
		expect("the first is leaving", map[string]bool{first: false, second: true, other: true})

		billing.State = account.Deleted
		v.follow([]account.Account{billing}, false)
		expect("an account was deleted", map[string]bool{second: true, other: false})

		third := k.account("third")
		v.follow([]account.Account{third}, false)
		expect("another one", map[string]bool{second: true, third.Keys[0].Public: true})
		v.follow([]account.Account{third}, true)
		expect("it is all that there is", map[string]bool{second: false, third.Keys[0].Public: true})
		if v.seeds.Load().Len() != 1 || len(v.held) != 1 || len(v.missing) != 0 || len(v.warnings()) != 0 {
			t.Errorf("left: %d seeds, %d accounts, %d to be read, warnings %q", v.seeds.Load().Len(), len(v.held), len(v.missing), v.warnings())
		}
	})
}

func TestVaultNeedsTheSealingKey(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, s store.Store) {
		older, newer := sealKey(t), sealKey(t)
		k := &keeper{TB: t, store: s, ring: seal.NewRing(older)}
		for name, ring := range map[string]*seal.Ring{"no key": nil, "a key": seal.NewRing(newer)} {
			if _, err := k.open(s, ring); err != nil {
				t.Errorf("nothing is sealed, and %s: %v", name, err)
			}
		}
		orders := k.account("orders")
		for name, ring := range map[string]*seal.Ring{"no key": nil, "another key": seal.NewRing(newer)} {
			if _, err := k.open(s, ring); !errors.Is(err, seal.ErrOtherKey) || !strings.Contains(err.Error(), "1 seed with the one of id "+older.ID()) {
				t.Errorf("%s: %v, want one that names %s", name, err, older.ID())
			}
		}

		// A running service is not given keys that it could not start with.
		v := k.mustOpen(k.ring)
		v.follow([]account.Account{orders}, true)
		if err := v.check(t.Context(), seal.NewRing(newer)); !errors.Is(err, seal.ErrOtherKey) || !strings.Contains(err.Error(), older.ID()) {
			t.Errorf("the key is taken away: %v", err)
		}
		if err := v.check(t.Context(), seal.NewRing(newer, older)); err != nil {
			t.Errorf("a key is added: %v", err)
		}

		// Another replica seals with the new key before this one has it.
		k.ring = seal.NewRing(newer, older)
		billing := k.account("billing")
		v.follow([]account.Account{billing}, false)
		public := billing.Keys[0].Public
		if v.signs(public) || !v.signs(orders.Keys[0].Public) || len(v.warnings()) != 1 || !strings.Contains(v.warnings()[0], newer.ID()) {
			t.Errorf("without the new key: %v, warnings %q", v.signs(public), v.warnings())
		}
		v.use(k.ring)
		if !v.signs(public) || len(v.warnings()) != 0 {
			t.Errorf("with the new key: %v, warnings %q", v.signs(public), v.warnings())
		}
	})
}

// TestVaultWithBadBoxes changes the table of sealed seeds behind the service's back.
func TestVaultWithBadBoxes(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(k *keeper, victim, other store.SealedKey) []byte{
		"damaged": func(_ *keeper, victim, _ store.SealedKey) []byte {
			box := bytes.Clone(victim.Box)
			box[len(box)-1] ^= 1
			return box
		},
		"damaged where it names the sealing key": func(_ *keeper, victim, _ store.SealedKey) []byte {
			box := bytes.Clone(victim.Box)
			box[3] ^= 1
			return box
		},
		"cut":     func(_ *keeper, victim, _ store.SealedKey) []byte { return victim.Box[:30] },
		"another": func(_ *keeper, _, other store.SealedKey) []byte { return other.Box },
		"another key for this row": func(k *keeper, victim, _ store.SealedKey) []byte {
			_, seed := accountKey(k)
			return k.ring.Seal(seed, victim.Row())
		},
		"no seed": func(k *keeper, victim, _ store.SealedKey) []byte { return k.ring.Seal([]byte("text"), victim.Row()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBothStores(t, func(t *testing.T, s store.Store) {
				k := &keeper{TB: t, store: s, ring: seal.NewRing(sealKey(t))}
				orders, billing := k.account("orders"), k.account("billing")
				victim, other := k.box(orders, orders.Keys[0].Public), k.box(billing, billing.Keys[0].Public)
				changed := victim
				changed.Box = bad(k, victim, other)
				if err := s.Reseal(t.Context(), changed, victim.Box); err != nil {
					t.Fatal(err)
				}
				v := k.mustOpen(k.ring)
				v.follow([]account.Account{orders, billing}, true)
				if v.signs(victim.Public) || !v.signs(other.Public) {
					t.Errorf("the account with the bad box can be used: %v, the other: %v", v.signs(victim.Public), v.signs(other.Public))
				}
				if name != "another key for this row" && (len(v.warnings()) != 1 || !strings.Contains(v.warnings()[0], orders.ID)) {
					t.Errorf("warnings: %q, want one of account %s", v.warnings(), orders.ID)
				}
			})
		})
	}
}

// TestVaultGivesNoKeyOfAnotherAccount: a record that names the key of another account does not get its seed.
func TestVaultGivesNoKeyOfAnotherAccount(t *testing.T) {
	t.Parallel()
	onBothStores(t, func(t *testing.T, s store.Store) {
		k := &keeper{TB: t, store: s, ring: seal.NewRing(sealKey(t))}
		v := k.mustOpen(k.ring)
		orders, billing := k.account("orders"), k.account("billing")
		billing.Keys = append(billing.Keys, orders.Keys...)
		v.follow([]account.Account{billing}, false)
		if v.signs(orders.Keys[0].Public) || !v.signs(billing.Keys[0].Public) || len(v.warnings()) != 1 {
			t.Errorf("the key of another account is held: %v, warnings %q", v.signs(orders.Keys[0].Public), v.warnings())
		}
	})
}

// unsteady is a store that fails while it is told to.
type unsteady struct {
	store.Store
	fails atomic.Bool
}

func (u *unsteady) SealedKeys(ctx context.Context, f store.SealedKeyFilter) ([]store.SealedKey, string, error) {
	if u.fails.Load() {
		return nil, "", store.ErrUnavailable
	}
	return u.Store.SealedKeys(ctx, f)
}

func TestVaultAsksAgain(t *testing.T) {
	t.Parallel()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "gatehouse.db"), Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	u := &unsteady{Store: s}
	k := &keeper{TB: t, store: s, ring: seal.NewRing(sealKey(t))}
	v, err := k.open(u, k.ring)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- v.run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	u.fails.Store(true)
	orders := k.account("orders")
	v.follow([]account.Account{orders}, false)
	if v.signs(orders.Keys[0].Public) {
		t.Fatal("the vault has what it could not read")
	}
	u.fails.Store(false)
	eventually(t, func() error {
		if !v.signs(orders.Keys[0].Public) {
			return errors.New("the key was not read yet")
		}
		return nil
	})
}

// writeSealKey writes a new sealing key into the world's folder and returns it.
func (w *world) writeSealKey(name string) *seal.Key {
	w.Helper()
	text := seal.NewKey()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text+"\n"), 0o600); err != nil {
		w.Fatal(err)
	}
	k, err := seal.ParseKey([]byte(text))
	if err != nil {
		w.Fatal(err)
	}
	return k
}

// setSeal puts the section in place of the one that says what seals.
func (w *world) setSeal(section string) {
	w.Helper()
	w.edit(func(yaml string) string {
		return regexp.MustCompile(`(?m)^(seal:|# nothing is sealed).*$`).ReplaceAllLiteralString(yaml, section)
	})
}

// store opens the world's database, which nothing else has open.
func (w *world) store() store.Store {
	w.Helper()
	cfg, err := config.Load(w.config(), []string{"HOME=" + w.dir})
	if err != nil {
		w.Fatal(err)
	}
	s, err := sqlite.Open(w.Context(), sqlite.Options{Path: cfg.Store.Source(), Migrate: true})
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// TestSealingKeysOfAService: a service without the key that it needs does not start, says which one it is, and takes no
// configuration that it could not start with.
func TestSealingKeysOfAService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	first, second := w.writeSealKey("first.key"), w.writeSealKey("second.key")
	s := w.store()
	(&keeper{TB: t, store: s, ring: seal.NewRing(first)}).account("orders")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	r := w.newReplica(serveOptions{})
	for _, section := range []string{"# nothing is sealed", "seal:\n  key: file:second.key"} {
		w.setSeal(section)
		got := r.command("serve")
		if got.code != exitFailed || !strings.Contains(got.err, "1 seed with the one of id "+first.ID()) {
			t.Errorf("with %q the start ended with %d: %s", section, got.code, got.err)
		}
	}

	w.edit(func(yaml string) string { return strings.Replace(yaml, "second.key", "first.key", 1) })
	r.start(false)
	r.mustGetReady()
	w.edit(func(yaml string) string { return strings.Replace(yaml, "first.key", "second.key", 1) })
	if got := r.command("reload"); got.code != exitFailed || !strings.Contains(got.err, first.ID()) {
		t.Errorf("a reload that takes the key away ended with %d: %s%s", got.code, got.out, got.err)
	}
	w.edit(func(yaml string) string {
		return strings.Replace(yaml, "key: file:second.key", "key: file:second.key\n  old: [file:first.key]", 1)
	})
	r.must("reload")
	expect := func(command string, want ...string) {
		t.Helper()
		out := r.must(strings.Fields(command)...)
		for _, text := range want {
			if !strings.Contains(out, text) {
				t.Errorf("gatehouse %s prints no %q:\n%s", command, text, out)
			}
		}
	}
	expect("keys list", "sealing key           "+second.ID(), "old sealing key       "+first.ID(), "current", "nats.callout.signing_key", "accounts.APP.signing_key[0]")
	expect("keys reseal", "Sealed anew with the key of id "+second.ID()+": 1 seed. Sealed with it by now: 1 seed.")
	expect("keys reseal", ": 0 seeds. Sealed with it by now: 1 seed.")
	if !slices.ContainsFunc(r.audit("--op", "keys.reseal"), func(e api.AuditEntry) bool { return e.Detail == "seeds sealed anew: 1" }) {
		t.Error("the audit trail says nothing of what was sealed anew")
	}
	w.edit(func(yaml string) string { return strings.Replace(yaml, "\n  old: [file:first.key]", "", 1) })
	r.must("reload")
	r.stop()
	expect("keys list", second.ID()) // what to configure can be found out while the service does not start
	r.start(false)
	r.mustGetReady()
	for _, name := range []string{"first.key", "second.key"} {
		text, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil || strings.Contains(r.log.String(), strings.TrimSpace(string(text))) {
			t.Errorf("%s is in the log, or gone: %v", name, err)
		}
	}
}

func TestSealKeyCommand(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "seal.key")
	got := command(t, nil, "", "keys", "seal-key", "--to", path)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: others can read it", info.Mode(), err)
	}
	k, err := seal.ParseKey(text)
	if err != nil || got.code != exitDone || !strings.Contains(got.out, k.ID()) || strings.Contains(got.out, strings.TrimSpace(string(text))) {
		t.Errorf("ended with %d: %s%s%v", got.code, got.out, got.err, err)
	}
	if got := command(t, nil, "", "keys", "seal-key", "--to", path); got.code != exitFailed || !strings.Contains(got.err, "is there already") {
		t.Errorf("again: %d: %s", got.code, got.err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, text) {
		t.Error("the key was overwritten")
	}
	printed := command(t, nil, "", "keys", "seal-key")
	if other, err := seal.ParseKey([]byte(printed.out)); err != nil || other.ID() == k.ID() {
		t.Errorf("prints %q, %v", printed.out, err)
	}
}
