// Package mint turns a decision into a signed user JWT and holds the account signing
// keys that do so. It is the only place where Gatehouse signs a credential.
package mint

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nkeys"
)

// ErrKeyKind says that a seed is of another kind than the one that is needed.
var ErrKeyKind = errors.New("seed is of the wrong kind")

// Key is an account's identity or signing key, expanded once: nkeys derives both the
// private and the public key from the seed at every use, which costs more than the signature.
type Key struct {
	nkeys.KeyPair
	public  string
	private ed25519.PrivateKey
}

// NewKey returns the key of an account seed (SA…), or an error that wraps [ErrKeyKind]
// and holds nothing of the seed.
func NewKey(seed []byte) (*Key, error) {
	prefix, raw, err := nkeys.DecodeSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("%w: not an nkey seed", ErrKeyKind)
	}
	if prefix != nkeys.PrefixByteAccount {
		return nil, fmt.Errorf("%w: want an account seed (SA…), got one of kind %s", ErrKeyKind, prefix)
	}
	kp, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, fmt.Errorf("%w: not an nkey seed", ErrKeyKind)
	}
	public, err := kp.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("derive the public key: %w", err)
	}
	return &Key{KeyPair: kp, public: public, private: ed25519.NewKeyFromSeed(raw)}, nil
}

// PublicKey returns the public key (A…); the error is always nil.
func (k *Key) PublicKey() (string, error) { return k.public, nil }

// Public returns the public key (A…).
func (k *Key) Public() string { return k.public }

// Sign returns the Ed25519 signature of the input; the error is always nil.
func (k *Key) Sign(input []byte) ([]byte, error) {
	return ed25519.Sign(k.private, input), nil
}

// LogValue keeps the seed out of logs.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.public) }

// String keeps the seed out of formatted text.
func (k *Key) String() string { return k.public }
