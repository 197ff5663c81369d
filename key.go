package gatehouse

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nkeys"
)

// ErrNoNonce says that the server sends no nonce, so that no key can be proved to it. A server in
// operator mode always does; one without an operator does when its configuration has nkey users.
var ErrNoNonce = errors.New("gatehouse: the server sends no nonce, so it cannot be proved that the token's key is here: " +
	"a server without an operator needs an nkey user in its configuration")

// Nonce returns what to send as nonce in an OIDC authentication request, so that the ID token is bound
// to the user key: its public key. See [WithKey].
func Nonce(key nkeys.KeyPair) (string, error) {
	if key == nil {
		return "", errors.New("gatehouse: the key is nil")
	}
	public, err := key.PublicKey()
	if err != nil {
		return "", fmt.Errorf("gatehouse: the key: %w", err)
	}
	if !nkeys.IsValidPublicUserKey(public) {
		return "", errors.New("gatehouse: a token can be bound to a user key alone: make one with nkeys.CreateUser")
	}
	return public, nil
}

// boundKey is the key that the tokens of a connection are bound to. The zero value stands for none.
type boundKey struct {
	// with calls use with the key, which it must not keep.
	with func(use func(nkeys.KeyPair) error) error
}

func keyInMemory(key nkeys.KeyPair) boundKey {
	return boundKey{func(use func(nkeys.KeyPair) error) error { return use(key) }}
}

// keyFile reads the file for each use.
func keyFile(path string) boundKey {
	return boundKey{func(use func(nkeys.KeyPair) error) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("gatehouse: the key: %w", err)
		}
		defer clear(data)
		key, err := nkeys.FromSeed(bytes.TrimSpace(data))
		if err != nil {
			return fmt.Errorf("gatehouse: %s holds no seed of a user key (SU…): %w", path, err)
		}
		defer key.Wipe()
		return use(key)
	}}
}

func (k boundKey) given() bool { return k.with != nil }

// public returns the public key, as [Nonce] does.
func (k boundKey) public() (public string, err error) {
	err = k.with(func(key nkeys.KeyPair) error {
		public, err = Nonce(key)
		return err
	})
	return public, err
}

// sign signs a server's nonce.
func (k boundKey) sign(nonce []byte) (signature []byte, err error) {
	if len(nonce) == 0 {
		return nil, ErrNoNonce
	}
	err = k.with(func(key nkeys.KeyPair) error {
		if _, err := Nonce(key); err != nil { // the file may hold another kind of key by now
			return err
		}
		signature, err = key.Sign(nonce)
		return err
	})
	return signature, err
}
