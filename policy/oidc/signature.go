package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"math/big"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// verifies reports whether the signature of an input (RFC 7515 section 5.2) is one that the key made with
// the algorithm. It takes what go-jose takes for a key that [fits] the algorithm; no other key verifies anything.
func verifies(key *jose.JSONWebKey, algorithm string, input, signature []byte) bool {
	if !isAsymmetric(algorithm) || !fits(key, algorithm) {
		return false
	}
	switch public := key.Key.(type) {
	case *ecdsa.PublicKey:
		// R and S as they are, each as long as the curve's order (RFC 7518 section 3.4).
		size := (public.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		_, digest := digest(algorithm, input)
		return ecdsa.Verify(public, digest, r, s)
	case *rsa.PublicKey:
		hash, digest := digest(algorithm, input)
		if strings.HasPrefix(algorithm, "PS") {
			return rsa.VerifyPSS(public, hash, digest, signature, nil) == nil
		}
		return rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
	case ed25519.PublicKey:
		return len(public) == ed25519.PublicKeySize && ed25519.Verify(public, input, signature)
	default:
		return false
	}
}

// digest returns what an asymmetric algorithm that hashes its input signs, and the hash.
func digest(algorithm string, input []byte) (crypto.Hash, []byte) {
	switch {
	case strings.HasSuffix(algorithm, "256"):
		sum := sha256.Sum256(input)
		return crypto.SHA256, sum[:]
	case strings.HasSuffix(algorithm, "384"):
		sum := sha512.Sum384(input)
		return crypto.SHA384, sum[:]
	default:
		sum := sha512.Sum512(input)
		return crypto.SHA512, sum[:]
	}
}
