package policy

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
)

// BoundKey is the key that a token is bound to: its issuer says that whoever presents the token
// has to prove that they hold it. One of the fields is set at least.
type BoundKey struct {
	// User is the NATS user public key (U…) in the claim nonce.
	User string
	// Thumbprint is the claim cnf.jkt: the SHA-256 thumbprint of a JWK (RFC 7638; RFC 9449, section 6.1).
	Thumbprint string
	// Uncheckable says that the claim cnf names a key in a way that a NATS client cannot prove.
	Uncheckable bool
}

// boundKeyClaims are the claims that [Identity.BoundKey] reads.
var boundKeyClaims = []string{"nonce", "cnf"}

// BoundKey returns the key that the token is bound to; nil when it is bound to none. OpenID
// providers repeat whatever nonce a client has sent, so only a valid user public key counts as
// one; any other is an ordinary nonce.
func (id *Identity) BoundKey() *BoundKey {
	var k BoundKey
	if nonce, ok := id.Claims["nonce"].(string); ok {
		if _, ok := decodeUserKey(nonce); ok {
			k.User = nonce
		}
	}
	if cnf, ok := id.Claims["cnf"]; ok {
		members, _ := cnf.(map[string]any)
		k.Thumbprint, _ = members["jkt"].(string)
		k.Uncheckable = !isThumbprint(k.Thumbprint)
	}
	if k == (BoundKey{}) {
		return nil
	}
	return &k
}

// String names the key, for people. It is safe to print.
func (k *BoundKey) String() string {
	switch {
	case k.Uncheckable:
		return "a key that no NATS client can prove (claim cnf without jkt)"
	case k.User != "":
		return "key " + k.User
	default:
		return "key with thumbprint " + k.Thumbprint
	}
}

// isThumbprint reports whether s is a SHA-256 in base64 for URLs, without padding.
func isThumbprint(s string) bool {
	sum, err := base64.RawURLEncoding.DecodeString(s) // skips line breaks
	return err == nil && len(sum) == sha256.Size && len(s) == base64.RawURLEncoding.EncodedLen(sha256.Size)
}

// public returns the key that a proof has to be made with. The claimed key, which is the client's
// word alone, counts only where the token names its thumbprint.
func (k *BoundKey) public(claimed string) (ed25519.PublicKey, bool) {
	name := k.User
	if name == "" {
		name = claimed
	}
	public, ok := decodeUserKey(name)
	if !ok || k.Thumbprint != "" && thumbprint(public) != k.Thumbprint {
		return nil, false
	}
	return public, true
}

// thumbprint returns the JWK thumbprint of an Ed25519 key (RFC 8037, appendix A.3).
func thumbprint(public ed25519.PublicKey) string {
	x := base64.RawURLEncoding.EncodeToString(public)
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
