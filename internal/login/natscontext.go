package login

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// ErrContextExists says that a context of that name is there which Gatehouse did not write.
var ErrContextExists = errors.New("the nats CLI has a context of this name already: choose another one, or replace it")

// contextMark begins the description of the contexts that Gatehouse writes.
const contextMark = "Gatehouse: "

// NATSContext is a context of the nats CLI that logs in with a token file. The CLI reads the file
// each time it starts (jsm.go natscontext, v0.5.1): a command that runs for longer keeps the token it began with.
type NATSContext struct {
	Name        string
	Description string // who logs in where
	URL         string // of the servers, separated by commas
	TokenFile   string // absolute, see [Client.WriteToken]
	KeyFile     string // absolute, see [KeyFile]; empty when the token is bound to no key
	InboxPrefix string // see [Session.InboxPrefix]
	Sentinel    string // absolute path of creds or of a user JWT; empty for the default sentinel
	CA          string // absolute path of the certificate authority's certificate; empty for the system's
}

// contextFile holds the fields of a context file that Gatehouse sets, as natscontext names them.
type contextFile struct {
	Description string `json:"description"`
	URL         string `json:"url"`
	Token       string `json:"token"`
	Creds       string `json:"creds,omitempty"`
	NKey        string `json:"nkey,omitempty"`
	UserJWT     string `json:"user_jwt,omitempty"`
	UserSeed    string `json:"user_seed,omitempty"`
	InboxPrefix string `json:"inbox_prefix,omitempty"`
	CA          string `json:"ca,omitempty"`
}

// Write writes the context into the nats CLI's configuration and returns its file. A context of
// that name that Gatehouse did not write is [ErrContextExists] unless replace is set.
func (c NATSContext) Write(replace bool) (path string, err error) {
	path, err = c.path()
	if err != nil {
		return "", err
	}
	content, err := c.encode()
	if err != nil {
		return "", err
	}
	if !replace {
		if err := ours(path); err != nil {
			return "", err
		}
	}
	return path, WriteSecret(path, content)
}

// path returns where the CLI looks for the context. Like the CLI it asks the system for the home folder, not $HOME.
func (c NATSContext) path() (string, error) {
	if c.Name == "" || strings.Contains(c.Name, "..") || strings.ContainsAny(c.Name, `/\`) {
		return "", fmt.Errorf(`%q cannot name a context: leave out "..", "/" and "\"`, c.Name)
	}
	root := os.Getenv("XDG_CONFIG_HOME")
	if root == "" {
		u, err := user.Current()
		if err != nil {
			return "", fmt.Errorf("where the nats CLI keeps its contexts: %w", err)
		}
		root = filepath.Join(u.HomeDir, ".config")
	}
	return filepath.Join(root, "nats", "context", c.Name+".json"), nil
}

func (c NATSContext) encode() ([]byte, error) {
	token, err := fileReference(c.TokenFile)
	if err != nil {
		return nil, err
	}
	f := contextFile{Description: contextMark + c.Description, URL: c.URL, Token: token, InboxPrefix: c.InboxPrefix}
	if c.CA != "" {
		if _, err := fileReference(c.CA); err != nil {
			return nil, err
		}
		f.CA = c.CA
	}
	switch {
	case c.KeyFile != "":
		err = f.setKey(c.KeyFile, c.Sentinel)
	case c.Sentinel != "":
		err = f.setSentinel(c.Sentinel)
	}
	if err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(f, "", "  ")
	return append(data, '\n'), err
}

// setSentinel refers to a sentinel with a seed as creds, and to a mere JWT as such: the CLI
// reads no creds without a seed.
func (f *contextFile) setSentinel(path string) error {
	reference, err := fileReference(path)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("sentinel: %w", err)
	}
	if bytes.Contains(data, []byte("NKEY SEED-----")) {
		f.Creds = path
		return nil
	}
	if bytes.Contains(data, []byte("-----")) {
		return fmt.Errorf("sentinel: %s is a creds file without a seed, which the nats CLI does not read: give the bare JWT", path)
	}
	f.UserJWT = reference
	return nil
}

// setKey refers to the key that signs, beside the sentinel's bare JWT if there is one: with its creds the CLI would
// sign with the sentinel's own seed.
func (f *contextFile) setKey(keyFile, sentinel string) error {
	reference, err := fileReference(keyFile)
	if err != nil {
		return err
	}
	if sentinel == "" {
		f.NKey = keyFile
		return nil
	}
	data, err := os.ReadFile(sentinel)
	if err != nil {
		return fmt.Errorf("sentinel: %w", err)
	}
	token, err := nkeys.ParseDecoratedJWT(data)
	if err != nil {
		return fmt.Errorf("sentinel: %s holds no user JWT: %w", sentinel, err)
	}
	claims, err := jwt.DecodeUserClaims(strings.TrimSpace(token))
	if err != nil || !claims.BearerToken {
		return fmt.Errorf("sentinel: %s is not a bearer user JWT, and a connection signs with one key: give a bearer sentinel, as those of Gatehouse are", sentinel)
	}
	f.UserJWT, f.UserSeed = strings.TrimSpace(token), reference
	return nil
}

// fileReference returns how a context refers to the content of a file. The CLI expands variables,
// and takes a reference that it cannot parse for the value itself.
func fileReference(path string) (string, error) {
	reference := "file://" + path
	u, err := url.Parse(reference)
	if err != nil || u.Scheme != "file" || !filepath.IsAbs(path) || strings.Contains(path, "$") {
		return "", fmt.Errorf("the nats CLI cannot read a file by the path %q: it must be absolute, without $, %% and control characters", path)
	}
	return reference, nil
}

// ours reports as an error that a context is there which Gatehouse did not write.
func ours(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var there contextFile
	if json.Unmarshal(data, &there) != nil || !strings.HasPrefix(there.Description, contextMark) {
		return fmt.Errorf("%w (%s)", ErrContextExists, path)
	}
	return nil
}
