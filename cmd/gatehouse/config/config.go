package config

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// Config is a valid configuration and what it was compiled into. It is immutable, prints no
// secret and marshals to none.
type Config struct {
	File
	// Warnings are what is allowed but seldom meant.
	Warnings []Problem

	path    string
	files   []string // that it was read from besides path
	rules   *policy.Rules
	keyring *mint.Keyring
}

// Load reads the file at path and the variables GATEHOUSE_… of env (NAME=value, as
// [os.Environ] returns), and everything they name. The error is of type [Errors] and holds
// all problems at once, without any secret.
func Load(path string, env []string) (*Config, error) {
	c, _, err := load(path, env, false)
	return c, err
}

// LoadPolicy is [Load] for whoever only decides: keys, creds and certificates are left unread,
// so that a policy can be tried where they must not be. Everything else is checked as ever. Use
// nothing of the result but the rules, and what they came from.
func LoadPolicy(path string, env []string) (*Config, error) {
	c, _, err := load(path, env, true)
	return c, err
}

// Socket returns the path of the local socket by the file at path and the variables of env,
// whatever else is wrong with them: commands must reach a running service, to block somebody
// say, while a configuration that it refused lies on the disk.
func Socket(path string, env []string) string {
	r, f := newReport(path), &File{}
	setDefaults(reflect.ValueOf(f).Elem())
	r.read(path, f)
	r.environment(f, env)
	if absolute, err := filepath.Abs(path); err == nil {
		_ = f.Socket.load(&loader{dir: filepath.Dir(absolute)}, "socket", tags{})
	}
	return string(f.Socket)
}

// load also returns the files that were read, whether or not the configuration is valid. Sealed,
// it reads none.
func load(path string, env []string, sealed bool) (*Config, []string, error) {
	r := newReport(path)
	absolute, err := filepath.Abs(path)
	if err != nil {
		r.whole("%s", err)
		return nil, nil, r.err()
	}
	c := &Config{path: absolute}
	setDefaults(reflect.ValueOf(&c.File).Elem())
	r.read(path, &c.File)
	if len(r.problems) > 0 && len(r.where) == 1 {
		return nil, nil, r.err() // there is no text whose keys could be looked at
	}
	r.environment(&c.File, env)
	r.missing(&c.File, c.NATS.Callout.Mode)
	c.files = r.load(&c.File, &loader{dir: filepath.Dir(absolute), sealed: sealed})
	c.rules, c.keyring = r.compile(&c.File)
	if err := r.err(); err != nil {
		return nil, c.files, err
	}
	c.Warnings = r.warnings
	return c, c.files, nil
}

// read decodes the file at path into f.
func (r *report) read(path string, f *File) {
	data, err := readBounded(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.whole("there is no such file: gatehouse init makes one, -c names another")
		return
	case err != nil:
		r.whole("cannot be read: %s", err)
		return
	}
	root := parseYAML(data, r)
	switch {
	case root != nil:
		r.decodeBlock("", root, reflect.ValueOf(f).Elem())
	case len(r.problems) == 0 && len(bytes.TrimSpace(data)) == 0:
		r.whole("is empty: gatehouse init makes a complete one")
	case len(r.problems) == 0:
		r.whole("holds no keys, only comments: remove the # before those that are to count")
	}
}

// readBounded returns the start of a regular file, one byte more than may be parsed at most.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// loading is a scalar that names something outside the file.
type loading interface {
	load(l *loader, path string, t tags) error
}

// load makes the paths in f absolute and reads the files that it names, which it returns.
func (r *report) load(f *File, l *loader) []string {
	one := func(path string, v reflect.Value, t tags) {
		named, ok := v.Addr().Interface().(loading)
		if !ok || v.IsZero() {
			return
		}
		if err := named.load(l, path, t); err != nil && !errors.Is(err, errSealed) {
			r.problem(path, "%s", err)
		}
	}
	walk(reflect.ValueOf(f), leaf{}, func(at leaf) {
		switch {
		case !at.isLeaf():
		case at.value.Kind() == reflect.Slice:
			for i := range at.value.Len() {
				one(index(at.path, i), at.value.Index(i), at.tags)
			}
		default:
			one(at.path, at.value, at.tags)
		}
	})
	slices.Sort(l.files)
	return slices.Compact(l.files)
}

// Path returns the absolute path of the configuration file.
func (c *Config) Path() string { return c.path }

// Rules returns what decisions are made by.
func (c *Config) Rules() *policy.Rules { return c.rules }

// Keyring returns the account signing keys.
func (c *Config) Keyring() *mint.Keyring { return c.keyring }

// Unmanaged says what keeps Gatehouse from changing account claims; "" when nothing does.
func (c *Config) Unmanaged() string {
	switch {
	case c.NATS.without():
		return "the servers have no operator, so that there are no account claims"
	case !c.Operator.SigningKey.Given():
		return "operator.signing_key is not configured"
	default:
		return ""
	}
}

// ScopedKeys returns the scoped signing keys of the roles by the ids of their accounts, each list sorted.
func (c *Config) ScopedKeys() map[string][]string {
	keys := map[string][]string{}
	for _, name := range sorted(c.Roles) {
		role := c.Roles[name]
		if a := c.rules.Accounts[role.Account]; a != nil && role.ScopedKey.Given() {
			keys[a.ID] = append(keys[a.ID], role.ScopedKey.Public())
		}
	}
	for _, list := range keys {
		slices.Sort(list)
	}
	return keys
}

// TokenIssuers returns the issuers whose tokens are accepted.
func (c *Config) TokenIssuers() []oidc.Issuer {
	all := make([]oidc.Issuer, 0, len(c.Issuers))
	for _, i := range c.Issuers {
		issuer := i.tokenIssuer()
		issuer.Rules = c.Rules().Version
		all = append(all, issuer)
	}
	return all
}
