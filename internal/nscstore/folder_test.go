package nscstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	authb "github.com/synadia-io/jwt-auth-builder.go"
	"github.com/synadia-io/jwt-auth-builder.go/providers/nsc"

	"github.com/gatehouse-nats/gatehouse/internal/nscstore"
)

// The tests compare with the library that nats auth is made of, which uses nsc's own code for the folder.

type pair struct {
	nkeys.KeyPair
	public string
	seed   []byte
}

func newPair(t *testing.T, prefix nkeys.PrefixByte) pair {
	t.Helper()
	kp, err := nkeys.CreatePair(prefix)
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := kp.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return pair{kp, public, seed}
}

func encode(t *testing.T, c jwt.Claims, by nkeys.KeyPair) string {
	t.Helper()
	token, err := c.Encode(by)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// set is an operator with one account, as Gatehouse would write it out.
type set struct {
	dir                                string
	operator, operatorKey, id, signing pair
	operatorToken, accountToken        string
}

func newSet(t *testing.T) set {
	t.Helper()
	s := set{
		dir: t.TempDir(), operator: newPair(t, nkeys.PrefixByteOperator), operatorKey: newPair(t, nkeys.PrefixByteOperator),
		id: newPair(t, nkeys.PrefixByteAccount), signing: newPair(t, nkeys.PrefixByteAccount),
	}
	oc := jwt.NewOperatorClaims(s.operator.public)
	oc.Name = "acme"
	oc.SigningKeys.Add(s.operatorKey.public)
	s.operatorToken = encode(t, oc, s.operator)
	ac := jwt.NewAccountClaims(s.id.public)
	ac.Name = "orders"
	ac.SigningKeys.Add(s.signing.public)
	s.accountToken = encode(t, ac, s.operatorKey)
	return s
}

// write writes the set, with the seed of the account's signing key.
func (s set) write(t *testing.T) *nscstore.Folder {
	t.Helper()
	f, err := nscstore.Create(s.dir, s.operatorToken)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := errors.Join(f.AddAccount(s.accountToken), f.AddSeed(s.signing.seed), f.AddSeed(s.signing.seed)); err != nil {
		t.Fatal(err)
	}
	return f
}

// library opens a folder as nats auth does.
func library(t *testing.T, dir string) *authb.AuthImpl {
	t.Helper()
	auth, err := authb.NewAuth(nsc.NewNscProvider(filepath.Join(dir, "stores"), filepath.Join(dir, "keys")))
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLibraryReadsWhatIsWritten(t *testing.T) {
	s := newSet(t)
	s.write(t)
	auth := library(t, s.dir)
	operator, err := auth.Operators().Get("acme")
	if err != nil {
		t.Fatal(err)
	}
	account, err := operator.Accounts().Get("orders")
	if err != nil {
		t.Fatal(err)
	}
	if account.Subject() != s.id.public || account.JWT() != s.accountToken {
		t.Errorf("the library reads account %s", account.Subject())
	}
	// It signs users with the seed that was written, and stores them.
	user, err := account.Users().Add("alice", s.signing.public)
	if err != nil {
		t.Fatal(err)
	}
	if err := auth.Commit(); err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(user.JWT())
	if err != nil || claims.Issuer != s.signing.public {
		t.Errorf("the user is signed by %v, %v", claims, err)
	}
	err = filepath.Walk(s.dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 && path != s.dir {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestReadsWhatLibraryWrites(t *testing.T) {
	dir := t.TempDir()
	auth := library(t, dir)
	operator, err := auth.Operators().Add("acme")
	if err != nil {
		t.Fatal(err)
	}
	account, err := operator.Accounts().Add("shop floor") // nsc takes blanks
	if err != nil {
		t.Fatal(err)
	}
	signing, err := account.ScopedSigningKeys().Add()
	if err != nil {
		t.Fatal(err)
	}
	if err := auth.Commit(); err != nil {
		t.Fatal(err)
	}
	f, err := nscstore.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, claims, err := f.Operator(); err != nil || claims.Name != "acme" {
		t.Errorf("operator %v, %v", claims, err)
	}
	names, err := f.Accounts()
	if err != nil || !slices.Equal(names, []string{"shop floor"}) {
		t.Fatalf("accounts %q, %v", names, err)
	}
	got, err := f.Account("shop floor")
	if err != nil || got.Claims.Subject != account.Subject() || got.Token != account.JWT() {
		t.Errorf("got %v, %v", got, err)
	}
	seed, err := f.Seed(signing, "signing key of account shop floor")
	if err != nil {
		t.Fatal(err)
	}
	if kp, err := nkeys.FromSeed(seed); err != nil {
		t.Error(err)
	} else if public, _ := kp.PublicKey(); public != signing {
		t.Errorf("the seed is of %s", public)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	s := newSet(t)
	f := s.write(t)
	if _, err := nscstore.Create(s.dir, s.operatorToken); !errors.Is(err, nscstore.ErrExists) {
		t.Errorf("a second folder: %v", err)
	}
	if err := f.AddAccount(s.accountToken); !errors.Is(err, nscstore.ErrExists) {
		t.Errorf("a second account: %v", err)
	}
}

func TestNamesThatAreNoFiles(t *testing.T) {
	s := newSet(t)
	f := s.write(t)
	for _, name := range []string{"../x", "a/b", `a\b`, "..", ".", "", " a", "a\x00", "a\n", strings.Repeat("a", 300)} {
		c := jwt.NewAccountClaims(s.id.public)
		c.Name = name
		if err := f.AddAccount(encode(t, c, s.operatorKey)); !errors.Is(err, nscstore.ErrFolder) {
			t.Errorf("%.20q is written: %v", name, err)
		}
		if _, err := f.Account(name); !errors.Is(err, nscstore.ErrFolder) {
			t.Errorf("%.20q is read: %v", name, err)
		}
		oc := jwt.NewOperatorClaims(s.operator.public)
		oc.Name = name
		if _, err := nscstore.Create(t.TempDir(), encode(t, oc, s.operator)); !errors.Is(err, nscstore.ErrFolder) {
			t.Errorf("operator %.20q: %v", name, err)
		}
	}
}

func TestLinksLeadNowhere(t *testing.T) {
	s := newSet(t)
	f := s.write(t)
	outside := t.TempDir()
	put(t, outside, "orders2.jwt", s.accountToken)
	put(t, outside, "seed", string(s.id.seed))
	accounts := filepath.Join(s.dir, "stores", "acme", "accounts")
	keyFolder := filepath.Join(s.dir, "keys", "keys", "A", s.id.public[1:3])
	if err := errors.Join(
		os.Symlink(outside, filepath.Join(accounts, "orders2")),
		os.MkdirAll(keyFolder, 0o700),
		os.Symlink(filepath.Join(outside, "seed"), filepath.Join(keyFolder, s.id.public+".nk")),
	); err != nil {
		t.Fatal(err)
	}
	if names, err := f.Accounts(); err != nil || !slices.Equal(names, []string{"orders"}) {
		t.Errorf("accounts %q, %v", names, err)
	}
	if got, err := f.Account("orders2"); err == nil {
		t.Errorf("read %v through a link", got.Claims.Name)
	}
	if _, err := f.Seed(s.id.public, "identity key"); err == nil || f.KeyFile(s.id.public) != "" {
		t.Errorf("read a seed through a link: %v", err)
	}
}

func TestDamage(t *testing.T) {
	s := newSet(t)
	f := s.write(t)
	other := newPair(t, nkeys.PrefixByteAccount)
	path := func(public string) string {
		return filepath.Join("keys", "keys", public[:1], public[1:3], public+".nk")
	}
	put(t, s.dir, path(other.public), string(s.id.seed)) // another key's
	put(t, s.dir, path(s.operator.public), "SOnonsense"+string(s.id.seed))
	put(t, s.dir, "stores/acme/accounts/broken/broken.jwt", "no.j.wt")
	put(t, s.dir, "stores/acme/accounts/huge/huge.jwt", strings.Repeat("x", nscstore.MaxFile+1))
	put(t, s.dir, "stores/acme/accounts/person/person.jwt", s.operatorToken)
	pipe := filepath.Join(s.dir, "stores", "acme", "accounts", "pipe", "pipe.jwt")
	if err := errors.Join(os.MkdirAll(filepath.Dir(pipe), 0o700), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"a missing key":      second(f.Seed(s.id.public, "identity key of account orders")),
		"another key's seed": second(f.Seed(other.public, "identity key of account orders")),
		"no seed":            second(f.Seed(s.operator.public, "identity key of account orders")),
		"no public key":      second(f.Seed(string(s.id.seed[:20]), "identity key of account orders")),
		"a broken JWT":       second(f.Account("broken")),
		"a huge file":        second(f.Account("huge")),
		"an operator":        second(f.Account("person")),
		"a pipe":             second(f.Account("pipe")),
		"no account":         second(f.Account("nobody")),
		"no folder":          second(nscstore.Open(filepath.Join(s.dir, "none"), "")),
		"an empty folder":    second(nscstore.Open(t.TempDir(), "")),
		"no such operator":   second(nscstore.Open(s.dir, "umbrella")),
		"no JWT":             second(nscstore.Create(t.TempDir(), "x")),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
			continue
		}
		if strings.Contains(err.Error(), string(s.id.seed)) {
			t.Errorf("%s: the error holds a seed", what)
		}
	}
	err := second(f.Seed(s.id.public, "identity key of account orders"))
	if !errors.Is(err, nscstore.ErrMissing) || !strings.Contains(err.Error(), s.id.public) || !strings.Contains(err.Error(), "identity key of account orders") {
		t.Errorf("a missing key is not named: %v", err)
	}
	if err := second(f.Account("nobody")); !errors.Is(err, nscstore.ErrMissing) {
		t.Errorf("a missing account: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
