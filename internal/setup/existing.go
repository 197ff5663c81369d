package setup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/nscstore"
)

// ErrExisting marks what is wrong with an existing set-up that [Into] is to enter.
var ErrExisting = errors.New("cannot enter this set-up")

// existing is what Into needs to know of the set-up that it enters.
type existing struct {
	operator    *jwt.OperatorClaims
	signer      key
	signerFile  string // path
	system      string // public key of the system account
	systemCreds string // path
	accounts    []existingAccount
	taken       []string // names of all accounts that are known, offered or not
	left        []string // why accounts were not offered, one sentence each
}

// existingAccount is an application account that Gatehouse may place users in.
type existingAccount struct {
	name, id, keyFile string
	notes             []string
}

// findExisting gathers what o names, and from the store what it leaves out.
func findExisting(o IntoOptions) (*existing, error) {
	var store *nscstore.Folder
	if o.Store != "" {
		var err error
		if store, err = nscstore.Open(o.Store, o.Operator); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrExisting, err)
		}
		defer store.Close()
	}
	var e existing
	for _, step := range []func(IntoOptions, *nscstore.Folder) error{e.findOperator, e.findSigner, e.findSystem, e.findAccounts} {
		if err := step(o, store); err != nil {
			return nil, err
		}
	}
	return &e, nil
}

func (e *existing) findOperator(o IntoOptions, store *nscstore.Folder) error {
	path := o.OperatorJWT
	if path == "" {
		if store == nil {
			return fmt.Errorf("%w: name the operator's JWT, or the nsc folder that has it", ErrExisting)
		}
		path = store.OperatorFile()
	}
	token, err := readJWT(path)
	if err != nil {
		return err
	}
	if e.operator, err = jwt.DecodeOperatorClaims(token); err != nil {
		return fmt.Errorf("%w: %s is not the JWT of an operator: %w", ErrExisting, path, err)
	}
	return nil
}

// findSigner reads the operator key, or picks one of the store: a signing key before the
// identity, which a strict operator does not accept at all.
func (e *existing) findSigner(o IntoOptions, store *nscstore.Folder) error {
	path := o.OperatorKey
	if path == "" && store != nil {
		candidates := slices.Clone([]string(e.operator.SigningKeys))
		if !e.operator.StrictSigningKeyUsage {
			candidates = append(candidates, e.operator.Subject)
		}
		path = firstKey(store, candidates)
	}
	if path == "" {
		return fmt.Errorf("%w: name the file of a key of operator %s: a signing key if it has one", ErrExisting, e.operator.Name)
	}
	signer, err := readKey(path, nkeys.PrefixByteOperator)
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(e.operator.SigningKeys, signer.public):
	case signer.public != e.operator.Subject:
		return fmt.Errorf("%w: the key in %s (%s) is neither the identity nor a signing key of operator %s", ErrExisting, path, signer.public, e.operator.Name)
	case e.operator.StrictSigningKeyUsage:
		return fmt.Errorf("%w: %s holds the identity key of operator %s, which accepts signing keys only: name the file of one", ErrExisting, path, e.operator.Name)
	}
	e.signer = signer
	e.signerFile, err = filepath.Abs(path)
	return err
}

// findSystem checks the system user and learns the system account from it when the
// operator does not name one.
func (e *existing) findSystem(o IntoOptions, store *nscstore.Folder) error {
	path := o.SystemCreds
	if path == "" && store != nil {
		path = onlyCreds(store, e.operator.SystemAccount)
	}
	if path == "" {
		return fmt.Errorf("%w: name the creds file of a user of the system account: nats auth user add, or credential, writes one", ErrExisting)
	}
	token, err := readJWT(path)
	if err != nil {
		return err
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return fmt.Errorf("%w: %s holds no user JWT: %w", ErrExisting, path, err)
	}
	e.system = claims.Issuer
	if claims.IssuerAccount != "" {
		e.system = claims.IssuerAccount
	}
	if want := e.operator.SystemAccount; want != "" && want != e.system {
		return fmt.Errorf("%w: the user in %s belongs to account %s, and the system account of operator %s is %s", ErrExisting, path, e.system, e.operator.Name, want)
	}
	e.systemCreds, err = filepath.Abs(path)
	return err
}

// findAccounts reads the accounts that o names, all of which must be usable, or offers
// those of the store that are.
func (e *existing) findAccounts(o IntoOptions, store *nscstore.Folder) error {
	given := o.Accounts
	if given == nil && store != nil {
		names, err := store.Accounts()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrExisting, err)
		}
		for _, name := range names {
			given = append(given, ExistingAccount{JWT: store.AccountFile(name)})
		}
	}
	for _, g := range given {
		token, err := readJWT(g.JWT)
		if err != nil {
			return err
		}
		claims, err := jwt.DecodeAccountClaims(token)
		if err != nil {
			return fmt.Errorf("%w: %s is not the JWT of an account: %w", ErrExisting, g.JWT, err)
		}
		e.taken = append(e.taken, claims.Name)
		account, problem := e.offer(claims, g.SigningKey, store)
		switch {
		case problem == nil:
			e.accounts = append(e.accounts, account)
		case o.Accounts != nil:
			return fmt.Errorf("%w: account %s in %s: %w", ErrExisting, claims.Name, g.JWT, problem)
		case claims.Subject != e.system:
			e.left = append(e.left, fmt.Sprintf("%s: %v.", claims.Name, problem))
		}
	}
	return nil
}

// offer returns the account of claims with the file of a key that may sign its users, or
// why Gatehouse cannot place users in it.
func (e *existing) offer(claims *jwt.AccountClaims, keyFile string, store *nscstore.Folder) (existingAccount, error) {
	account := existingAccount{name: claims.Name, id: claims.Subject}
	if account.name == "" || slices.ContainsFunc(e.accounts, func(a existingAccount) bool { return a.name == account.name }) {
		account.name = claims.Subject
	}
	switch {
	case claims.Subject == e.system:
		return account, errors.New("it is the system account, where nobody is placed")
	case claims.HasExternalAuthorization():
		return account, errors.New("it is the account of another callout, where nobody is placed")
	case claims.Issuer != e.operator.Subject && !slices.Contains(e.operator.SigningKeys, claims.Issuer):
		return account, fmt.Errorf("it is signed by %s, which is no key of operator %s", claims.Issuer, e.operator.Name)
	}
	if keyFile == "" && store != nil {
		keyFile = firstKey(store, e.userSigners(claims))
	}
	if keyFile == "" {
		return account, errors.New("no key that may sign its users was found: add a signing key (nsc edit account --sk generate), push the account, and name the key's file")
	}
	signer, err := readKey(keyFile, nkeys.PrefixByteAccount)
	if err != nil {
		return account, err
	}
	if !slices.Contains(e.userSigners(claims), signer.public) {
		return account, fmt.Errorf("the key in %s (%s) may not sign its users without a scope", keyFile, signer.public)
	}
	if signer.public == claims.Subject {
		account.notes = []string{"This is the account's identity key. Give the account a signing key when you can:",
			"that one can be replaced, and the identity can go offline."}
	}
	account.keyFile, err = filepath.Abs(keyFile)
	return account, err
}

// userSigners returns the keys that may sign users of an account with permissions of
// their own, best first: signing keys without a scope, then the identity unless the
// operator is strict.
func (e *existing) userSigners(claims *jwt.AccountClaims) []string {
	var keys []string
	for k, scope := range claims.SigningKeys {
		if scope == nil {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	if !e.operator.StrictSigningKeyUsage {
		keys = append(keys, claims.Subject)
	}
	return keys
}

// freeName returns name, or a longer one when an account already has it.
func (e *existing) freeName(name string) string {
	for slices.Contains(e.taken, name) {
		name = "GATEHOUSE_" + name
	}
	return name
}

// readFile returns the content of a file of at most nscstore.MaxFile bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExisting, err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, nscstore.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrExisting, err)
	}
	if len(content) > nscstore.MaxFile {
		return nil, fmt.Errorf("%w: %s is over %d bytes long", ErrExisting, path, nscstore.MaxFile)
	}
	return content, nil
}

// readJWT returns the JWT in a file, bare or between the lines that creds files have.
func readJWT(path string) (string, error) {
	content, err := readFile(path)
	if err != nil {
		return "", err
	}
	token, err := jwt.ParseDecoratedJWT(content)
	if err != nil {
		return "", fmt.Errorf("%w: %s holds no JWT: %w", ErrExisting, path, err)
	}
	return strings.TrimSpace(token), nil
}

// readKey returns the key whose seed is in a file, bare or decorated.
func readKey(path string, prefix nkeys.PrefixByte) (key, error) {
	content, err := readFile(path)
	if err != nil {
		return key{}, err
	}
	kp, err := jwt.ParseDecoratedNKey(content)
	if err != nil {
		return key{}, fmt.Errorf("%w: %s holds no nkeys seed", ErrExisting, path)
	}
	seed, err := kp.Seed()
	if err != nil {
		return key{}, fmt.Errorf("%w: %s holds no nkeys seed", ErrExisting, path)
	}
	if got, _, err := nkeys.DecodeSeed(seed); err != nil || got != prefix {
		return key{}, fmt.Errorf("%w: %s holds a seed of another kind: need one of %s", ErrExisting, path, prefix)
	}
	return keyOf(seed)
}

// firstKey returns the path of the first of the public keys whose seed the store has, or
// the empty string.
func firstKey(store *nscstore.Folder, publics []string) string {
	for _, public := range publics {
		if path := store.KeyFile(public); path != "" {
			return path
		}
	}
	return ""
}

// onlyCreds returns the path of the one creds file of an account's users, or the empty
// string when there is none or a choice.
func onlyCreds(store *nscstore.Folder, id string) string {
	names, _ := store.Accounts() // without them there are none
	for _, name := range names {
		account, err := store.Account(name)
		if err != nil || account.Claims.Subject != id {
			continue
		}
		if found := store.CredsFiles(name); len(found) == 1 {
			return found[0]
		}
	}
	return ""
}
