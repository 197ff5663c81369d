package oidc

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"
)

// signers returns a private key of each kind.
func signers(t testing.TB) []crypto.Signer {
	list := []crypto.Signer{
		generate(t, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }),
		generate(t, func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err }),
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		list = append(list, generate(t, func() (crypto.Signer, error) { return ecdsa.GenerateKey(curve, rand.Reader) }))
	}
	return list
}

// TestVerifiesAsGoJose has go-jose sign for each key and algorithm, changes the signature or not, and
// compares who accepts it, with each key and each algorithm in the header.
func TestVerifiesAsGoJose(t *testing.T) {
	t.Parallel()
	keys := signers(t)
	const payload = `{"iss":"https://a.test","sub":"alice"}`
	rapid.Check(t, func(t *rapid.T) {
		signer := rapid.SampledFrom(keys).Draw(t, "signer")
		signed := rapid.SampledFrom(signs(&jose.JSONWebKey{Key: signer.Public()})).Draw(t, "signed with")
		claimed := rapid.SampledFrom([]string{signed, rapid.SampledFrom(Algorithms()).Draw(t, "other")}).Draw(t, "in the header")
		key := &jose.JSONWebKey{Key: rapid.SampledFrom([]crypto.Signer{signer, rapid.SampledFrom(keys).Draw(t, "other key")}).Draw(t, "verified by").Public()}

		part := strings.Split(sign(t, signer, signed, payload), ".")
		signature, err := base64.RawURLEncoding.DecodeString(part[2])
		if err != nil {
			t.Fatal(err)
		}
		signature = change(t, signature)
		input := part[0] + "." + part[1]
		if claimed != signed {
			input = encodePart(fmt.Sprintf(`{"alg":%q}`, claimed)) + "." + part[1]
		}
		jws, err := jose.ParseSignedCompact(input+"."+encodePart(string(signature)), asymmetric)
		if err != nil {
			t.Fatal(err)
		}
		_, err = jws.Verify(key.Key)
		if got := verifies(key, claimed, []byte(input), signature); got != (err == nil) {
			t.Errorf("verifies: %t, go-jose says %v", got, err)
		}
	})
}

// An algorithm that is none of the pinned ones verifies nothing, whatever its name resembles.
func TestVerifiesPinnedAlgorithmsAlone(t *testing.T) {
	t.Parallel()
	key := generate(t, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	sum := sha512.Sum512([]byte("input"))
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA512)
	if err != nil {
		t.Fatal(err)
	}
	public := &jose.JSONWebKey{Key: key.Public()}
	if !verifies(public, "RS512", []byte("input"), signature) {
		t.Error("RS512 does not verify")
	}
	for _, algorithm := range []string{"", "none", "HS512", "RS", "RS1", "rs512", "RS5120", "ES512", "PS512", "RS256"} {
		if verifies(public, algorithm, []byte("input"), signature) {
			t.Errorf("%q verifies", algorithm)
		}
	}
}

// sign returns a token that go-jose signed, in its compact form.
func sign(t *rapid.T, key crypto.Signer, algorithm, payload string) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(algorithm), Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// change returns a signature as it is or spoilt in some way.
func change(t *rapid.T, signature []byte) []byte {
	s := bytes.Clone(signature)
	switch rapid.IntRange(0, 7).Draw(t, "change") {
	case 0:
		s[rapid.IntRange(0, len(s)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
	case 1:
		s = s[:rapid.IntRange(0, len(s)-1).Draw(t, "length")]
	case 2:
		s = append(s, rapid.SliceOfN(rapid.Byte(), 1, 70).Draw(t, "more")...)
	case 3:
		s = append([]byte{0}, s...)
	case 4:
		clear(s[:rapid.IntRange(1, len(s)).Draw(t, "zeros")])
	case 5:
		s = slices.Insert(s, len(s)/2, 0) // before S
	}
	return s
}

// FuzzTokenAsGoJose expects that a token that can be read is one to go-jose too, that both read the same
// in it, and that both come to the same of its signature.
func FuzzTokenAsGoJose(f *testing.F) {
	ed := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	keys := []*jose.JSONWebKey{{Key: ed.Public()}, {Key: ec.Public()}}
	for _, more := range []string{
		``, `,"kid":"k","typ":"JWT"`, `,"kid":"\u006b"`, `,"n":1e999`, `,"n":[1,{"a":null}]`, `,"x5t":"AA"`, `,"x5c":[]`,
		`,"x5c":["AA"]`, `,"x5c":"AA"`, `,"jwk":{"kty":"oct","k":"AAAA"}`, `,"jwk":null`, `,"nonce":7`, `,"nonce":"n"`,
	} {
		input := encodePart(`{"alg":"EdDSA"`+more+`}`) + "." + encodePart(`{"iss":"https://a.test","sub":"alice"}`)
		f.Add(input + "." + encodePart(string(ed25519.Sign(ed, []byte(input)))))
		f.Add(input + "." + encodePart(strings.Repeat("\x01", 64)))
	}
	input := encodePart(`{"alg":"ES256"}`) + "." + encodePart(`{"iss":"https://a.test","sub":"alice"}`)
	f.Add(input + "." + encodePart(strings.Repeat("\x01", 64)))
	f.Fuzz(func(t *testing.T, raw string) {
		ours, refusal := parse([]byte(raw), 16<<10, forLogin)
		if refusal != nil {
			return
		}
		jws, err := jose.ParseSignedCompact(raw, asymmetric)
		if err != nil {
			t.Fatalf("go-jose refuses it: %v", err)
		}
		if h := jws.Signatures[0].Protected; h.Algorithm != ours.algorithm || h.KeyID != ours.keyID {
			t.Errorf("alg %q and kid %q, go-jose reads %q and %q", ours.algorithm, ours.keyID, h.Algorithm, h.KeyID)
		}
		claims, err := objectByTokens(jws.UnsafePayloadWithoutVerification())
		if err != nil || claims["iss"] != ours.issuer || len(claims) != len(ours.claims) {
			t.Errorf("claims %v, go-jose reads %v, %v", ours.claims, claims, err)
		}
		for _, key := range keys {
			_, err := jws.Verify(key.Key)
			if got := verifies(key, ours.algorithm, ours.input, ours.signature); got != (err == nil) {
				t.Errorf("verifies with %T: %t, go-jose says %v", key.Key, got, err)
			}
		}
	})
}

func encodePart(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
