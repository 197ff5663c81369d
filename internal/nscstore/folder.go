// Package nscstore reads and writes the folder that nsc and the auth commands of the nats CLI keep: JWTs under
// stores/OPERATOR, seeds under keys/keys, creds files under keys/creds/OPERATOR/ACCOUNT.
package nscstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

const (
	// MaxFile bounds what is read of a file in bytes: the library takes no longer JWT (jwt/v2, decoder.go).
	MaxFile = 1 << 20
	// maxEntries bounds what is listed of a folder.
	maxEntries = 100_000
	// maxName bounds a name in bytes: with its ending it must be the name of a file.
	maxName = 200
)

// The conditions that callers tell apart.
var (
	// ErrFolder says that the folder, or something in it, is not as nsc would have it.
	ErrFolder = errors.New("not a folder of nsc or nats auth")
	// ErrMissing says that the folder has no such account or key.
	ErrMissing = errors.New("not in the folder")
)

// Folder is such a folder, of one operator. Nothing outside of it is read or written, wherever its links point.
type Folder struct {
	root     *os.Root
	operator string
}

// Account is an account of a folder.
type Account struct {
	Token  string
	Claims *jwt.AccountClaims
}

// Open returns the folder of an operator, who may be left unnamed where there is one only. Its errors wrap [ErrFolder].
func Open(dir, operator string) (*Folder, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	f := &Folder{root: root}
	if f.operator, err = f.choose(operator); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return f, nil
}

// Close ends the use of the folder.
func (f *Folder) Close() error { return f.root.Close() }

// choose returns the operator that is meant.
func (f *Folder) choose(operator string) (string, error) {
	entries, err := f.list("stores")
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %s has no folder stores: name the folder of nsc or nats auth, usually ~/.local/share/nats/nsc", ErrFolder, f.root.Name())
	}
	if err != nil {
		return "", err
	}
	var names []string
	for _, name := range entries {
		if f.has(path.Join("stores", name, name+".jwt")) {
			names = append(names, name)
		}
	}
	switch {
	case operator == "" && len(names) == 1:
		return names[0], nil
	case operator == "" && len(names) > 1:
		return "", fmt.Errorf("%w: %s has the operators %s: name one", ErrFolder, f.root.Name(), strings.Join(names, ", "))
	case !slices.Contains(names, operator):
		return "", fmt.Errorf("%w: %s has no operator %q (it has: %s)", ErrFolder, f.root.Name(), operator, strings.Join(names, ", "))
	}
	return operator, nil
}

// OperatorFile returns the path of the operator's JWT.
func (f *Folder) OperatorFile() string { return f.file(f.operatorPath()) }

func (f *Folder) operatorPath() string { return path.Join("stores", f.operator, f.operator+".jwt") }

// Operator returns the operator's JWT and its claims.
func (f *Folder) Operator() (token string, claims *jwt.OperatorClaims, err error) {
	if token, err = f.token(f.operatorPath()); err != nil {
		return "", nil, err
	}
	if claims, err = jwt.DecodeOperatorClaims(token); err != nil {
		return "", nil, fmt.Errorf("%w: %s is not the JWT of an operator: %w", ErrFolder, f.OperatorFile(), err)
	}
	return token, claims, nil
}

// Accounts returns the names of the operator's accounts, sorted.
func (f *Folder) Accounts() ([]string, error) {
	entries, err := f.list(path.Join("stores", f.operator, "accounts"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // an operator without accounts may have no such folder
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(entries, func(name string) bool { return !f.has(f.accountPath(name)) }), nil
}

// AccountFile returns the path of an account's JWT.
func (f *Folder) AccountFile(name string) string { return f.file(f.accountPath(name)) }

func (f *Folder) accountPath(name string) string {
	return path.Join("stores", f.operator, "accounts", name, name+".jwt")
}

// Account returns an account by its name; [ErrMissing] when there is none.
func (f *Folder) Account(name string) (Account, error) {
	if err := checkName("account", name); err != nil {
		return Account{}, err
	}
	token, err := f.token(f.accountPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return Account{}, fmt.Errorf("account %s of operator %s: %w", name, f.operator, ErrMissing)
	}
	if err != nil {
		return Account{}, err
	}
	claims, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		return Account{}, fmt.Errorf("%w: %s is not the JWT of an account: %w", ErrFolder, f.AccountFile(name), err)
	}
	return Account{Token: token, Claims: claims}, nil
}

// KeyFile returns the path of the file with the seed of a public key; empty when there is none.
func (f *Folder) KeyFile(public string) string {
	if !nkeys.IsValidPublicKey(public) || !f.has(keyPath(public)) {
		return ""
	}
	return f.file(keyPath(public))
}

// keyPath returns where the seed of a valid public key is.
func keyPath(public string) string {
	return path.Join("keys", "keys", public[:1], public[1:3], public+".nk")
}

// Seed returns the seed of a public key. The role, such as "signing key of account orders", is for the error, which is
// [ErrMissing] when there is none; no error holds a seed.
func (f *Folder) Seed(public, role string) ([]byte, error) {
	if !nkeys.IsValidPublicKey(public) {
		return nil, fmt.Errorf("%w: %s: %.60q is no public key", ErrFolder, role, public)
	}
	content, err := f.read(keyPath(public))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s, %s: the seed is %w", role, public, ErrMissing)
	}
	if err != nil {
		return nil, err
	}
	kp, err := jwt.ParseDecoratedNKey(content)
	if err != nil {
		return nil, fmt.Errorf("%w: %s, %s: its file holds no seed", ErrFolder, role, public)
	}
	if got, err := kp.PublicKey(); err != nil || got != public {
		return nil, fmt.Errorf("%w: %s, %s: its file holds the seed of another key", ErrFolder, role, public)
	}
	seed, err := kp.Seed()
	if err != nil {
		return nil, fmt.Errorf("%w: %s, %s: its file holds no seed", ErrFolder, role, public)
	}
	return seed, nil
}

// CredsFiles returns the paths of the creds files of an account's users, sorted.
func (f *Folder) CredsFiles(account string) []string {
	if checkName("account", account) != nil {
		return nil
	}
	dir := path.Join("keys", "creds", f.operator, account)
	entries, _ := f.list(dir) // an account without users has no such folder
	var files []string
	for _, name := range entries {
		if strings.HasSuffix(name, ".creds") && f.has(path.Join(dir, name)) {
			files = append(files, f.file(path.Join(dir, name)))
		}
	}
	return files
}

// file returns the path of something in the folder, for people and for configurations.
func (f *Folder) file(name string) string {
	return filepath.Join(f.root.Name(), filepath.FromSlash(name))
}

// has reports whether there is a file.
func (f *Folder) has(name string) bool {
	info, err := f.root.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// list returns the names of what is in a subfolder, sorted, but those that no entity can have.
func (f *Folder) list(name string) ([]string, error) {
	dir, err := f.root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	if len(names) > maxEntries {
		return nil, fmt.Errorf("%w: %s has over %d entries", ErrFolder, f.file(name), maxEntries)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return checkName("entry", name) != nil })
	slices.Sort(names)
	return names, nil
}

// read returns the content of a regular file of at most [MaxFile] bytes.
func (f *Folder) read(name string) ([]byte, error) {
	info, err := f.root.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no file", ErrFolder, f.file(name)) // opening a pipe would wait
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFolder, err)
	}
	if len(content) > MaxFile {
		return nil, fmt.Errorf("%w: %s is over %d bytes long", ErrFolder, f.file(name), MaxFile)
	}
	return content, nil
}

// token returns the JWT in a file, bare or decorated.
func (f *Folder) token(name string) (string, error) {
	content, err := f.read(name)
	if err != nil {
		return "", err
	}
	token, err := jwt.ParseDecoratedJWT(content)
	if err != nil {
		return "", fmt.Errorf("%w: %s holds no JWT", ErrFolder, f.file(name))
	}
	return strings.TrimSpace(token), nil
}

// checkName returns an error unless the text can be the name of an entity: it becomes the name of a file.
func checkName(kind, name string) error {
	odd := func(c rune) bool {
		return c == '/' || c == '\\' || unicode.IsControl(c) || c == unicode.ReplacementChar
	}
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("%w: a name of %s with %d bytes, there can be 1 to %d", ErrFolder, kind, len(name), maxName)
	case name == "." || name == ".." || name != strings.TrimSpace(name) || strings.ContainsFunc(name, odd):
		return fmt.Errorf("%w: %s %q cannot be the name of a file", ErrFolder, kind, name)
	}
	return nil
}

// Find returns the account with that public key, or with that name; [ErrMissing] when there is none.
func (f *Folder) Find(ref string) (Account, error) {
	if !nkeys.IsValidPublicAccountKey(ref) {
		return f.Account(ref)
	}
	names, err := f.Accounts()
	if err != nil {
		return Account{}, err
	}
	for _, name := range names {
		if a, err := f.Account(name); err == nil && a.Claims.Subject == ref {
			return a, nil
		}
	}
	return Account{}, fmt.Errorf("account %s of operator %s: %w", ref, f.operator, ErrMissing)
}
