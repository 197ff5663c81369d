package devstack

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-jose/go-jose/v4"
)

// Algorithm is a JWS signing algorithm (RFC 7518, RFC 8037) that the provider can use.
type Algorithm string

// The algorithms that the provider can sign with.
const (
	RS256 Algorithm = "RS256"
	ES256 Algorithm = "ES256"
	EdDSA Algorithm = "EdDSA"
)

const (
	keysFile = "oidc-keys.json"
	// maxKeys bounds the published key set: rotation drops the oldest beyond it.
	maxKeys = 8
)

// Keys are the signing keys of the demo provider, with the issuer they speak for. The newest key signs, older ones stay
// published so that their tokens still verify. Safe for concurrent use.
type Keys struct {
	path string // where they are kept; empty: in memory only

	mu     sync.RWMutex
	issuer string
	keys   []jose.JSONWebKey // private, newest first, never empty, replaced as a whole
}

// keysOnDisk is the content of the key file.
type keysOnDisk struct {
	Issuer string            `json:"issuer"`
	Keys   []jose.JSONWebKey `json:"keys"`
}

// OpenKeys reads the keys that a provider keeps in dir, so that tokens can be minted without the running process.
// The error matches fs.ErrNotExist when no provider ever ran there.
func OpenKeys(dir string) (*Keys, error) {
	path := filepath.Join(dir, keysFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the demo provider's keys: %w", err)
	}
	var disk keysOnDisk
	if err := json.Unmarshal(data, &disk); err != nil {
		return nil, fmt.Errorf("demo provider's keys in %s: %w", path, err)
	}
	if len(disk.Keys) == 0 || disk.Issuer == "" {
		return nil, fmt.Errorf("demo provider's keys in %s: the file holds no key or no issuer; delete it to start anew", path)
	}
	for _, key := range disk.Keys {
		if !key.Valid() || key.IsPublic() || key.KeyID == "" {
			return nil, fmt.Errorf("demo provider's keys in %s: key %q is not a private signing key; delete the file to start anew", path, key.KeyID)
		}
	}
	return &Keys{path: path, issuer: disk.Issuer, keys: disk.Keys}, nil
}

// openOrCreateKeys returns the keys kept in dir (in memory only when dir is empty) as those of issuer. The signing key
// is of the algorithm asked for; with none asked for a kept one stays, and a new one is ES256.
func openOrCreateKeys(dir, issuer string, algorithm Algorithm) (*Keys, error) {
	if dir == "" {
		k := &Keys{issuer: issuer}
		return k, k.rotate(algorithm)
	}
	k, err := OpenKeys(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k = &Keys{path: filepath.Join(dir, keysFile), issuer: issuer}
		return k, k.rotate(algorithm)
	case err != nil:
		return nil, err
	case algorithm != "" && algorithm != k.algorithm():
		k.issuer = issuer
		return k, k.rotate(algorithm)
	case k.issuer != issuer: // the port changed since the last run
		k.issuer = issuer
		return k, k.save(k.keys)
	}
	return k, nil
}

// Issuer returns the issuer URL of the provider that the keys belong to.
func (k *Keys) Issuer() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.issuer
}

// Sign returns claims as a compact JWS made by the newest key. Entries of header replace the protected header's own
// ("typ", "kid") or join them; the algorithm cannot be replaced.
func (k *Keys) Sign(header, claims map[string]any) (string, error) {
	signing := k.signingKey()
	opts := (&jose.SignerOptions{}).WithType("JWT")
	for name, value := range header {
		opts = opts.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(signing.Algorithm), Key: signing}, opts)
	if err != nil {
		return "", fmt.Errorf("signing a demo token: %w", err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("signing a demo token: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing a demo token: %w", err)
	}
	return signed.CompactSerialize()
}

func (k *Keys) algorithm() Algorithm { return Algorithm(k.signingKey().Algorithm) }

func (k *Keys) signingKey() jose.JSONWebKey { return k.all()[0] }

// all returns the private keys, newest first; the slice is never changed afterwards.
func (k *Keys) all() []jose.JSONWebKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys
}

// rotate makes a new signing key of the algorithm, by default the present one's (ES256 when there is none), and keeps
// the older ones published.
func (k *Keys) rotate(algorithm Algorithm) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if algorithm == "" {
		algorithm = ES256
		if len(k.keys) > 0 {
			algorithm = Algorithm(k.keys[0].Algorithm)
		}
	}
	key, err := newKey(algorithm)
	if err != nil {
		return err
	}
	keys := append([]jose.JSONWebKey{key}, k.keys...)
	return k.save(keys[:min(len(keys), maxKeys)])
}

// retire withdraws every key but the signing one: tokens of the others no longer verify.
func (k *Keys) retire() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.save(k.keys[:1:1])
}

// save writes keys to the file, where there is one, and then adopts them. The caller holds the lock or is alone.
func (k *Keys) save(keys []jose.JSONWebKey) error {
	if k.path != "" {
		if err := writeSecretJSON(k.path, keysOnDisk{Issuer: k.issuer, Keys: keys}); err != nil {
			return fmt.Errorf("keeping the demo provider's keys: %w", err)
		}
	}
	k.keys = keys
	return nil
}

func newKey(algorithm Algorithm) (jose.JSONWebKey, error) {
	private, err := generateKey(algorithm)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	key := jose.JSONWebKey{Key: private, Algorithm: string(algorithm), Use: "sig"}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("naming a new %s key: %w", algorithm, err)
	}
	key.KeyID = fmt.Sprintf("%x", thumbprint[:8])
	return key, nil
}

func generateKey(algorithm Algorithm) (crypto.Signer, error) {
	switch algorithm {
	case RS256:
		return rsa.GenerateKey(rand.Reader, 2048)
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	default:
		return nil, fmt.Errorf("no signing algorithm %q; there are %s, %s and %s", algorithm, RS256, ES256, EdDSA)
	}
}

// writeSecretJSON replaces the file at path, mode 0600, in one step: a reader sees the old content or the new.
func writeSecretJSON(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // CreateTemp makes it 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // fails after the rename, as it should
	_, err = temp.Write(data)
	if err := errors.Join(err, temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
