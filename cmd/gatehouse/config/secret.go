package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy/mint"
)

// maxSecret bounds the files that a configuration names.
const maxSecret = 256 << 10

// Path is a file or folder that the service makes itself, absolute once loaded.
type Path string

func (p *Path) parse(text string, f form) error {
	if err := wantText(text, f); err != nil {
		return err
	}
	path, err := fileName(text)
	*p = Path(path)
	return err
}

func (p *Path) load(l *loader, _ string, _ tags) error {
	*p = Path(l.path(string(*p)))
	return nil
}

// CAFile holds certificates of authorities.
type CAFile struct {
	path string
	pem  []byte
}

func (c *CAFile) parse(text string, f form) error {
	if err := wantText(text, f); err != nil {
		return err
	}
	path, err := fileName(text)
	c.path = path
	return err
}

func (c *CAFile) load(l *loader, _ string, _ tags) error {
	c.path = l.path(c.path)
	data, err := l.read(c.path, false)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(data) {
		return fmt.Errorf("%s holds no PEM certificate: give the authority's certificate", c.path)
	}
	c.pem = data
	return nil
}

// Path returns the file's absolute path; empty when none is configured.
func (c CAFile) Path() string { return c.path }

// Pool returns the certificates; nil, which means those that the host trusts, when none are configured.
func (c CAFile) Pool() *x509.CertPool {
	if c.pem == nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.pem)
	return pool
}

// MarshalText returns the path.
func (c CAFile) MarshalText() ([]byte, error) { return []byte(c.path), nil }

// KeyFile is an nkey seed, kept in a file or given by a variable. It prints as its public key.
type KeyFile struct {
	path   string
	seed   []byte
	public string
	key    *mint.Key // of account keys
}

// seedLine matches the line of a key file that is the seed.
var seedLine = regexp.MustCompile(`(?m)^S[A-Z2-7]{57}\b`)

// keyKinds are the kinds of keys that a field's tag asks for.
var keyKinds = map[string]struct {
	prefix nkeys.PrefixByte
	seed   string
	hint   string
}{
	"account":  {nkeys.PrefixByteAccount, "an account seed (SA…)", "nk -gen account makes one"},
	"user":     {nkeys.PrefixByteUser, "a user seed (SU…)", "nk -gen user makes one"},
	"curve":    {nkeys.PrefixByteCurve, "a curve seed (SX…)", "nk -gen curve makes one"},
	"operator": {nkeys.PrefixByteOperator, "an operator seed (SO…)", "nsc generate nkey --operator makes one, which nsc edit operator --sk adds"},
}

func (k *KeyFile) parse(text string, f form) error {
	if err := wantText(text, f); err != nil {
		return err
	}
	if text = strings.TrimSpace(text); f == asVariable && secret.MatchString(text) {
		k.seed = []byte(text)
		return nil
	}
	path, err := fileName(text)
	k.path = path
	return err
}

func (k *KeyFile) load(l *loader, _ string, tag tags) error {
	what := "the variable"
	if k.path != "" {
		k.path = l.path(k.path)
		what = k.path
		data, err := l.read(k.path, true)
		if err != nil {
			return err
		}
		if k.seed = seedLine.Find(data); k.seed == nil {
			return fmt.Errorf("%s holds no nkey seed: write the seed on a line of its own", k.path)
		}
	}
	want := keyKinds[tag.keyKind]
	prefix, _, err := nkeys.DecodeSeed(k.seed)
	switch {
	case err != nil:
		return fmt.Errorf("%s holds a seed that is damaged: want %s", what, want.seed)
	case prefix != want.prefix:
		return fmt.Errorf("%s holds the seed of %s key: want %s; %s", what, article(prefix.String()), want.seed, want.hint)
	}
	if k.public, err = publicKey(k.seed); err != nil {
		return fmt.Errorf("%s holds a seed that is damaged: want %s", what, want.seed)
	}
	if prefix == nkeys.PrefixByteAccount {
		k.key, err = mint.NewKey(k.seed)
	}
	return err
}

// article returns a kind of key as one of its kind.
func article(kind string) string {
	if strings.ContainsAny(kind[:1], "ao") { // account and operator; the u of user is none
		return "an " + kind
	}
	return "a " + kind
}

func publicKey(seed []byte) (string, error) {
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		return "", err
	}
	return kp.PublicKey()
}

// Given reports whether a key is configured.
func (k KeyFile) Given() bool { return k.public != "" }

// Public returns the public key; empty when none is configured.
func (k KeyFile) Public() string { return k.public }

// Key returns the key of an account seed; nil when none or one of another kind is configured.
func (k KeyFile) Key() *mint.Key { return k.key }

// Option returns how to connect as the user whose key it is.
func (k KeyFile) Option() nats.Option {
	return nats.Nkey(k.public, func(nonce []byte) ([]byte, error) {
		kp, err := nkeys.FromSeed(k.seed)
		if err != nil {
			return nil, err
		}
		defer kp.Wipe()
		return kp.Sign(nonce)
	})
}

// Seed returns the seed; nil when none is configured.
func (k KeyFile) Seed() []byte { return k.seed }

// String returns the public key.
func (k KeyFile) String() string { return k.public }

// GoString keeps the seed out of %#v.
func (k KeyFile) GoString() string { return k.public }

// MarshalText returns the public key.
func (k KeyFile) MarshalText() ([]byte, error) { return []byte(k.public), nil }

// Creds is a user's JWT and seed, kept in a file or given by a variable. It prints as the
// user's public key.
type Creds struct {
	path    string
	content []byte // when given by a variable
	user    string
	account string
	allowed jwt.Permissions // by the user JWT, which says nothing of a scoped signing key's
}

func (c *Creds) parse(text string, f form) error {
	if err := wantText(text, f); err != nil {
		return err
	}
	if f == asVariable && secret.MatchString(text) {
		c.content = []byte(text)
		return nil
	}
	path, err := fileName(text)
	c.path = path
	return err
}

func (c *Creds) load(l *loader, _ string, _ tags) error {
	content, what := c.content, "the variable"
	if c.path != "" {
		c.path = l.path(c.path)
		what = c.path
		var err error
		if content, err = l.read(c.path, true); err != nil {
			return err
		}
	}
	bad := fmt.Errorf("%s is not a creds file with a user JWT and its seed: take one from gatehouse init, nsc or nats auth", what)
	token, err := nkeys.ParseDecoratedJWT(content)
	if err != nil {
		return bad
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return bad
	}
	pair, err := nkeys.ParseDecoratedUserNKey(content)
	if err != nil {
		return bad
	}
	if public, err := pair.PublicKey(); err != nil || public != claims.Subject {
		return fmt.Errorf("%s holds a seed that is not that of its user JWT: take the creds file anew from where it was made", what)
	}
	c.user, c.account, c.allowed = claims.Subject, claims.IssuerAccount, claims.Permissions
	if c.account == "" {
		c.account = claims.Issuer
	}
	return nil
}

// Option returns how to connect with these creds. A file is read anew at each connect.
func (c Creds) Option() nats.Option {
	if c.path != "" {
		return nats.UserCredentials(c.path)
	}
	return nats.UserCredentialBytes(c.content)
}

// User returns the user's public key (U…).
func (c Creds) User() string { return c.user }

// Account returns the public key (A…) of the user's account.
func (c Creds) Account() string { return c.account }

// String returns the user's public key.
func (c Creds) String() string { return c.user }

// GoString keeps the seed out of %#v.
func (c Creds) GoString() string { return c.user }

// MarshalText returns the user's public key.
func (c Creds) MarshalText() ([]byte, error) { return []byte(c.user), nil }

// fileName returns the path that a text names, with or without file: before it.
func fileName(text string) (string, error) {
	path := strings.TrimPrefix(text, "file:")
	switch {
	case path == "":
		return "", errors.New("names no file: write file: and a path, such as file:keys/app.nk")
	case strings.HasPrefix(path, "//"):
		return "", fmt.Errorf("%s is a URL: write file: and a path, such as file:keys/app.nk", quoted(text))
	case strings.ContainsAny(path, "\n\x00"):
		return "", errors.New("is not the path of a file: name a file, whose content stays outside")
	}
	return path, nil
}

// loader makes paths absolute and reads the files that a configuration names.
type loader struct {
	dir    string
	sealed bool     // no file is to be read
	files  []string // that were asked for, there or not
}

// errSealed says that a file was not read because none is to be.
var errSealed = errors.New("files are not to be read")

func (l *loader) path(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(l.dir, p)
}

func (l *loader) read(path string, confidential bool) ([]byte, error) {
	if l.sealed {
		return nil, errSealed
	}
	l.files = append(l.files, path)
	return readFile(path, confidential)
}

// readFile returns the content of a file that holds a secret or is small. The error names the
// file and what to do, never the content.
func readFile(path string, confidential bool) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %s: make it, or correct the path (relative ones start at the configuration's folder)", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s cannot be reached: let the user that Gatehouse runs as into its folder", path)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file: name a file", path)
	case info.Size() > maxSecret:
		return nil, fmt.Errorf("%s is larger than %d KiB: name the right file", path, maxSecret>>10)
	}
	if open := exposed(info); confidential && open != "" {
		return nil, fmt.Errorf("%s %s: run chmod 600 %s", path, open, path)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s cannot be read: make it readable for the user that Gatehouse runs as, and for nobody else", path)
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSecret))
}

var (
	_ scalar = (*Path)(nil)
	_ scalar = (*CAFile)(nil)
	_ scalar = (*KeyFile)(nil)
	_ scalar = (*Creds)(nil)
)
