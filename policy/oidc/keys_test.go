package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func TestParseKeysSkips(t *testing.T) {
	t.Parallel()
	rsa2048 := generate(t, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	p256 := generate(t, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
	ed := generate(t, func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err })
	short := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	long := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: 65537}

	for name, test := range map[string]struct {
		keys    []any
		want    []string // the ids kept
		skipped []string // parts of what is said of the others
	}{
		"keys of all kinds": {
			keys: []any{jwk("r", rsa2048.Public()), jwk("e", p256.Public()), jwk("d", ed.Public())},
			want: []string{"r", "e", "d"},
		},
		"a short RSA key":    {keys: []any{jwk("r", short)}, skipped: []string{"1024 bits"}},
		"a huge RSA key":     {keys: []any{jwk("r", long)}, skipped: []string{`kid "r"`}},
		"RSA of exponent 1":  {keys: []any{jwk("r", &rsa.PublicKey{N: rsa2048.Public().(*rsa.PublicKey).N, E: 1})}, skipped: []string{`kid "r"`}},
		"a private key":      {keys: []any{jwk("r", rsa2048)}, skipped: []string{"secret"}},
		"a symmetric key":    {keys: []any{jwk("s", []byte("0123456789abcdef0123456789abcdef"))}, skipped: []string{"secret"}},
		"for encryption":     {keys: []any{jose.JSONWebKey{KeyID: "r", Key: rsa2048.Public(), Use: "enc"}}},
		"for something else": {keys: []any{jose.JSONWebKey{KeyID: "r", Key: rsa2048.Public(), Use: "wrap"}}, skipped: []string{`use is "wrap"`}},
		"for key management": {keys: []any{jose.JSONWebKey{KeyID: "r", Key: rsa2048.Public(), Algorithm: "RSA-OAEP"}}, skipped: []string{`"RSA-OAEP"`}},
		"for HMAC":           {keys: []any{jose.JSONWebKey{KeyID: "r", Key: rsa2048.Public(), Algorithm: "HS256"}}, skipped: []string{`"HS256"`}},
		"of a foreign curve": {keys: []any{map[string]string{"kty": "EC", "kid": "e", "crv": "secp256k1", "x": "AA", "y": "AA"}}, skipped: []string{"key 0"}},
		"of an unused curve": {keys: []any{map[string]string{"kty": "EC", "kid": "e", "crv": "P-224", "x": "AA", "y": "AA"}}, skipped: []string{"key 0"}},
		"not on its curve":   {keys: []any{map[string]string{"kty": "EC", "kid": "e", "crv": "P-256", "x": strings.Repeat("A", 43), "y": strings.Repeat("A", 43)}}, skipped: []string{"key 0"}},
		"of an unknown kind": {keys: []any{map[string]string{"kty": "XYZ", "kid": "x"}}, skipped: []string{"key 0"}},
		"not an object":      {keys: []any{7, jwk("d", ed.Public())}, want: []string{"d"}, skipped: []string{"key 0"}},
		"a kid too long":     {keys: []any{jwk(strings.Repeat("k", 513), ed.Public())}, skipped: []string{"512 bytes"}},
		"one kid, one kind":  {keys: []any{jwk("k", ed.Public()), jwk("k", ed.Public())}, want: []string{"k"}, skipped: []string{"same kid"}},
		"one kid, two kinds": {keys: []any{jwk("k", ed.Public()), jwk("k", p256.Public())}, want: []string{"k", "k"}},
		"one kid, two algorithms": {
			keys: []any{
				jose.JSONWebKey{KeyID: "k", Key: rsa2048.Public(), Algorithm: "RS256"},
				jose.JSONWebKey{KeyID: "k", Key: rsa2048.Public(), Algorithm: "PS256"},
			},
			want: []string{"k", "k"},
		},
		"no kid": {keys: []any{jwk("", ed.Public()), jwk("", p256.Public())}, want: []string{"", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := json.Marshal(map[string]any{"keys": test.keys})
			if err != nil {
				t.Fatal(err)
			}
			keys, skipped, err := parseKeys(data)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, k := range keys {
				ids = append(ids, k.KeyID)
			}
			if diff := cmp.Diff(test.want, ids); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			if len(skipped) != len(test.skipped) {
				t.Fatalf("skipped %v, want %q", skipped, test.skipped)
			}
			for i, want := range test.skipped {
				if !strings.Contains(skipped[i].Error(), want) {
					t.Errorf("said %q, want it to hold %q", skipped[i], want)
				}
			}
		})
	}
}

func generate(t testing.TB, key func() (crypto.Signer, error)) crypto.Signer {
	t.Helper()
	k, err := key()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func jwk(id string, key any) jose.JSONWebKey { return jose.JSONWebKey{KeyID: id, Key: key} }

func TestFits(t *testing.T) {
	t.Parallel()
	rsaKey := new(rsa.PublicKey)
	for name, test := range map[string]struct {
		key  jose.JSONWebKey
		want string
	}{
		"RSA":            {jwk("", rsaKey), "RS256 RS384 RS512 PS256 PS384 PS512"},
		"RSA for one":    {jose.JSONWebKey{Key: rsaKey, Algorithm: "RS512"}, "RS512"},
		"RSA with ES256": {jose.JSONWebKey{Key: rsaKey, Algorithm: "ES256"}, ""},
		"P-256":          {jwk("", &ecdsa.PublicKey{Curve: elliptic.P256()}), "ES256"},
		"P-384":          {jwk("", &ecdsa.PublicKey{Curve: elliptic.P384()}), "ES384"},
		"P-521":          {jwk("", &ecdsa.PublicKey{Curve: elliptic.P521()}), "ES512"},
		"P-224":          {jwk("", &ecdsa.PublicKey{Curve: elliptic.P224()}), ""},
		"Ed25519":        {jwk("", ed25519.PublicKey{}), "EdDSA"},
		"a secret":       {jwk("", []byte("secret")), ""},
	} {
		if got := strings.Join(signs(&test.key), " "); got != test.want {
			t.Errorf("%s signs with %q, want %q", name, got, test.want)
		}
	}
}

// FuzzParseKeys expects that what is kept of a JWKS, given or fetched, is public, fit for an
// algorithm, and found by a token that means it.
func FuzzParseKeys(f *testing.F) {
	p256 := generate(f, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
	ed := generate(f, func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err })
	for _, keys := range [][]any{
		{}, {7}, {jwk("a", p256.Public()), jwk("b", ed.Public())}, {jwk("a", p256)}, {jwk("", ed.Public())},
		{jwk("s", []byte("0123456789abcdef"))}, {map[string]string{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "r"}},
		{jwk("a", ed.Public()), jwk("a", ed.Public())}, {jose.JSONWebKey{Key: p256.Public(), Use: "enc"}},
	} {
		data, err := json.Marshal(map[string]any{"keys": keys})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"keys":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		given, err := ParseKeys(data)
		if (given == nil) != (err != nil) {
			t.Fatalf("keys %v, error %v", given, err)
		}
		keys, _, err := parseKeys(data)
		if err != nil && (len(keys) > 0 || given != nil) {
			t.Fatalf("keys come with the error %v", err)
		}
		if given != nil && len(given.Algorithms()) == 0 {
			t.Error("given keys are for no algorithm")
		}
		set := keySet{keys: keys}
		for i := range keys {
			k := &keys[i]
			own := signs(k)
			if !k.IsPublic() || !k.Valid() || len(own) == 0 {
				t.Errorf("kept %+v", k)
			}
			for _, a := range own {
				if found, _ := set.find(k.KeyID, a); found != k && (k.KeyID != "" || given != nil && len(own) == 1) {
					t.Errorf("key %q is not found for %s", k.KeyID, a)
				}
			}
		}
	})
}
