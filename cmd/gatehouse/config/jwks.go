package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// JWKS is where an issuer's keys are in place of discovery: in a file, or at a URL.
type JWKS struct {
	path    string
	url     string
	content []byte // of the file
	keys    *oidc.Keys
}

func (j *JWKS) parse(text string, f form) error {
	if err := wantText(text, f); err != nil {
		return err
	}
	if strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://") {
		j.url = text
		return checkKeysURL(text)
	}
	path, err := fileName(text)
	j.path = path
	return err
}

func checkKeysURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || strings.Contains(text, "#"):
		return errors.New("is not the URL of a JWKS: write one such as https://login.example.com/keys")
	case u.User != nil:
		return fmt.Errorf("%s has credentials: remove them, token_file names a file with a token to send", quoted(u.Redacted()))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("%s would let anybody on the way replace the issuer's keys: use https (http only on loopback)", quoted(text))
	default:
		return nil
	}
}

func (j *JWKS) load(l *loader, _ string, _ tags) error {
	if j.path == "" {
		return nil
	}
	j.path = l.path(j.path)
	data, err := l.read(j.path, false)
	if err != nil {
		return err
	}
	if info, err := os.Stat(j.path); err == nil && writable(info) {
		return fmt.Errorf("%s can be written by every user of this host, who could add a key and be anybody: run chmod o-w %s", j.path, j.path)
	}
	if j.keys, err = oidc.ParseKeys(data); err != nil {
		return fmt.Errorf("%s: %s", j.path, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	j.content = data
	return nil
}

// Given reports whether the keys are configured at all, rather than discovered.
func (j JWKS) Given() bool { return j.path != "" || j.url != "" }

// MarshalText returns the URL, or the path and the beginning of a hash of what the file holds.
func (j JWKS) MarshalText() ([]byte, error) {
	if j.path == "" {
		return []byte(j.url), nil
	}
	sum := sha256.Sum256(j.content)
	return fmt.Appendf(nil, "%s (%x)", j.path, sum[:6]), nil
}

// TokenFile is a file with a token that Gatehouse sends to an issuer.
type TokenFile struct{ path string }

func (t *TokenFile) parse(text string, f form) error {
	if err := wantText(text, f); err != nil {
		return err
	}
	path, err := fileName(text)
	t.path = path
	return err
}

func (t *TokenFile) load(l *loader, _ string, _ tags) error {
	t.path = l.path(t.path)
	l.files = append(l.files, t.path)
	_, err := t.token()
	return err
}

// token reads the file. Platforms such as Kubernetes replace it while it is in use.
func (t TokenFile) token() (string, error) {
	data, err := readFile(t.path, true)
	if err != nil {
		return "", err
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 || bytes.ContainsFunc(data, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s holds no token: it should be one word, such as a Kubernetes service-account token", t.path)
	}
	return string(data), nil
}

// MarshalText returns the path.
func (t TokenFile) MarshalText() ([]byte, error) { return []byte(t.path), nil }

var (
	_ scalar = (*JWKS)(nil)
	_ scalar = (*TokenFile)(nil)
)
