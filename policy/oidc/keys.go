package oidc

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys    = 128  // read of one JWKS
	minRSABits = 2048 // RFC 7518 section 3.3; go-jose refuses those over jose.MaxRSAModulusBits
)

// keySet is what an issuer published at one time. It is immutable.
type keySet struct {
	keys       []jose.JSONWebKey // public, fit to verify signatures with
	algorithms []string          // accepted of an issuer that is pinned to none, all asymmetric
	digest     [32]byte          // of the JWKS, to tell whether it changed
}

// find returns the key that a token's header points to. known is set when there are keys of
// that id, though none for the algorithm. A token that names no key (Core section 10.1 lets
// an issuer with one key leave kid out) gets the only one for its algorithm.
func (s *keySet) find(id, algorithm string) (key *jose.JSONWebKey, known bool) {
	fitting := 0
	for i := range s.keys {
		k := &s.keys[i]
		if id != "" && k.KeyID != id {
			continue
		}
		known = known || id != ""
		if fits(k, algorithm) {
			key = k
			fitting++
		}
	}
	if fitting != 1 {
		return nil, known
	}
	return key, true
}

// fits reports whether the key may sign with the algorithm.
func fits(key *jose.JSONWebKey, algorithm string) bool {
	if key.Algorithm != "" && key.Algorithm != algorithm {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		return algorithm == ecdsaAlgorithm(public.Curve)
	case ed25519.PublicKey:
		return algorithm == string(jose.EdDSA)
	default:
		return false
	}
}

// ecdsaAlgorithm returns the only algorithm for keys on the curve (RFC 7518 section 3.4).
func ecdsaAlgorithm(curve elliptic.Curve) string {
	switch curve {
	case elliptic.P256():
		return string(jose.ES256)
	case elliptic.P384():
		return string(jose.ES384)
	case elliptic.P521():
		return string(jose.ES512)
	default:
		return ""
	}
}

// parseKeys reads a JWKS (RFC 7517 section 5). A key that cannot be used does not spoil the
// others: skipped tells of each why, except of those that are for encryption, which are as
// they should be.
func parseKeys(data []byte) (keys []jose.JSONWebKey, skipped []error, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, nil, fmt.Errorf("it is not a JWKS: %w", err)
	}
	if set.Keys == nil {
		return nil, nil, errors.New("it is not a JWKS: it has no keys")
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("it holds %d keys, the most accepted are %d", len(set.Keys), maxKeys)
	}
	for i, raw := range set.Keys {
		var key jose.JSONWebKey
		err := key.UnmarshalJSON(raw)
		switch {
		case secret(raw):
			err = errSecret
		case err != nil:
		case key.Use == "enc":
			continue
		case rivals(keys, &key):
			err = errRival
		default:
			err = usable(&key)
		}
		if err != nil {
			skipped = append(skipped, fmt.Errorf("key %d (kid %q): %w", i, clip(keyID(raw)), err))
			continue
		}
		keys = append(keys, key)
	}
	return keys, skipped, nil
}

var (
	errSecret = errors.New("it is a secret that whoever reads it can sign with: have the issuer make a new key pair, and publish its public part alone")
	errRival  = errors.New("another key has the same kid and may sign with the same algorithm")
)

// secret reports whether a key has the member that makes it private (d) or symmetric (k; RFC
// 7518 section 6), whatever else is wrong with it.
func secret(raw json.RawMessage) bool {
	var key struct {
		D, K json.RawMessage
	}
	return json.Unmarshal(raw, &key) == nil && (key.D != nil || key.K != nil)
}

// keyID returns the kid of a key, whatever else is wrong with it.
func keyID(raw json.RawMessage) string {
	var key struct {
		ID string `json:"kid"`
	}
	if json.Unmarshal(raw, &key) != nil {
		return ""
	}
	return key.ID
}

// usable says why signatures must not be verified with the key.
func usable(key *jose.JSONWebKey) error {
	switch {
	case !key.IsPublic():
		return errSecret
	case !key.Valid():
		return errors.New("it is not a valid key")
	case key.Use != "" && key.Use != "sig":
		return fmt.Errorf("its use is %q", clip(key.Use))
	case len(key.KeyID) > maxKeyID:
		return fmt.Errorf("its kid is longer than %d bytes", maxKeyID)
	}
	if public, ok := key.Key.(*rsa.PublicKey); ok && public.N.BitLen() < minRSABits {
		return fmt.Errorf("it has %d bits, the fewest accepted are %d", public.N.BitLen(), minRSABits)
	}
	if len(signs(key)) == 0 {
		return fmt.Errorf("its kind and its alg %q suit no signature algorithm", clip(key.Algorithm))
	}
	return nil
}

// signs lists the algorithms that the key may sign with.
func signs(key *jose.JSONWebKey) (algorithms []string) {
	for _, a := range Algorithms() {
		if fits(key, a) {
			algorithms = append(algorithms, a)
		}
	}
	return algorithms
}

// rivals reports whether keys hold one that a token could mean just as well. Keys without
// kid are told apart by algorithm alone, or not at all, when a token is verified.
func rivals(keys []jose.JSONWebKey, key *jose.JSONWebKey) bool {
	if key.KeyID == "" {
		return false
	}
	set := keySet{keys: keys}
	for _, a := range signs(key) {
		if rival, _ := set.find(key.KeyID, a); rival != nil {
			return true
		}
	}
	return false
}
