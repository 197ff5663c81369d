package oidc_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// Keys of the sizes that are not in newIssuer, made once.
var (
	rsa3072 = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 3072)) })
	rsa4096 = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 4096)) })
	ec384   = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	ec521   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)) })
)

// everyKey returns the keys of all kinds and sizes by kid, and the algorithms that each is for.
func everyKey() (keys map[string]crypto.Signer, algorithms map[string][]jose.SignatureAlgorithm) {
	forRSA := []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	keys = map[string]crypto.Signer{
		"rsa2048": rsaKey(), "rsa3072": rsa3072(), "rsa4096": rsa4096(),
		"p256": ecKey(), "p384": ec384(), "p521": ec521(), "ed": edKey(),
	}
	algorithms = map[string][]jose.SignatureAlgorithm{
		"rsa2048": forRSA, "rsa3072": forRSA, "rsa4096": forRSA,
		"p256": {jose.ES256}, "p384": {jose.ES384}, "p521": {jose.ES512}, "ed": {jose.EdDSA},
	}
	return keys, algorithms
}

// newIssuerOfAll returns an issuer with a key of each kind and size, and every algorithm.
func newIssuerOfAll() *issuer {
	i := newIssuer()
	i.keys, i.algorithms = nil, oidc.Algorithms()
	keys, _ := everyKey()
	for id, key := range keys {
		i.keys = append(i.keys, public(id, key))
	}
	return i
}

func TestEveryAlgorithm(t *testing.T) {
	t.Parallel()
	i := newIssuerOfAll().listen(t)
	v := start(t, oidc.Config{}, i.config())
	keys, algorithms := everyKey()
	for id, key := range keys {
		for _, own := range algorithms[id] {
			raw := sign(own, id, key, i.claims(map[string]any{"sub": id}))
			if got := admit(t, v, raw); got.Subject != id {
				t.Errorf("%s with %s: proves %q", own, id, got.Subject)
			}
			// Another payload, another key of the kind, another algorithm in the header.
			part := strings.Split(raw, ".")
			payload := string(must(json.Marshal(i.claims(map[string]any{"sub": "root"}))))
			if got := now(t, v, part[0]+"."+encode(payload)+"."+part[2]); got != policy.SignatureInvalid {
				t.Errorf("%s with %s and another payload: %s", own, id, got)
			}
			for _, other := range oidc.Algorithms() {
				if other == string(own) {
					continue
				}
				header := fmt.Sprintf(`{"alg":%q,"kid":%q}`, other, id)
				got := now(t, v, encode(header)+"."+part[1]+"."+part[2])
				if got != policy.AlgorithmRefused && got != policy.SignatureInvalid {
					t.Errorf("%s with %s and %s in the header: %s", own, id, other, got)
				}
			}
		}
		for _, other := range oidc.Algorithms() { // signed as well as can be, with a key that is not for it
			header := fmt.Sprintf(`{"alg":%q,"kid":%q}`, other, id)
			if fit := strings.Contains(fmt.Sprint(algorithms[id]), other); fit {
				continue
			}
			if got := now(t, v, encode(header)+"."+encode("{\"iss\":\""+i.url+"\"}")+".AAAA"); got != policy.AlgorithmRefused {
				t.Errorf("%s in the header for key %s: %s", other, id, got)
			}
		}
	}
}

// TestKeyIsHeldToItsAlgorithm tries keys that say what they are for on something else.
func TestKeyIsHeldToItsAlgorithm(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	i.algorithms = oidc.Algorithms()
	i.keys = []jose.JSONWebKey{
		{Key: rsaKey().Public(), KeyID: "rs", Algorithm: "RS256"},
		{Key: rsaKey().Public(), KeyID: "ps", Algorithm: "PS384"},
	}
	v := start(t, oidc.Config{}, i.config())
	admit(t, v, sign(jose.RS256, "rs", rsaKey(), i.claims(nil)))
	admit(t, v, sign(jose.PS384, "ps", rsaKey(), i.claims(nil)))
	for _, c := range []struct {
		algorithm jose.SignatureAlgorithm
		id        string
	}{{jose.PS256, "rs"}, {jose.RS384, "rs"}, {jose.RS384, "ps"}, {jose.PS256, "ps"}} {
		if got := now(t, v, sign(c.algorithm, c.id, rsaKey(), i.claims(nil))); got != policy.AlgorithmRefused {
			t.Errorf("%s with key %s: %s", c.algorithm, c.id, got)
		}
	}
}

func TestShortRSAKeyVerifiesNothing(t *testing.T) {
	short := must(rsa.GenerateKey(rand.Reader, 2040))
	inBubble(t, func(t *testing.T, i *issuer) {
		i.keys = append(i.keys, public("short", short))
		v := startLoaded(t, oidc.Config{}, i)
		if got := outlast(t, v, sign(jose.RS256, "short", short, i.claims(nil))); got != policy.KeyUnknown {
			t.Errorf("a token signed with 2040 bits: %s", got)
		}
	})
}

// TestSignatureEncodings changes how an ECDSA signature is written down (RFC 7518 section 3.4:
// R and S as they are, each as long as the curve's order).
func TestSignatureEncodings(t *testing.T) {
	t.Parallel()
	i := newIssuerOfAll().listen(t)
	v := start(t, oidc.Config{}, i.config())
	key := ec521()
	input := encode(`{"alg":"ES512","kid":"p521"}`) + "." + encode(string(must(json.Marshal(i.claims(nil)))))
	digest := sha512.Sum512([]byte(input))
	r, s := must2(ecdsa.Sign(rand.Reader, key, digest[:]))
	order := key.Params().N
	plain := func(r, s *big.Int, length int) string {
		return string(append(r.FillBytes(make([]byte, length)), s.FillBytes(make([]byte, length))...))
	}
	admit(t, v, input+"."+encode(plain(r, s, 66)))
	// Issuers make S in either half of the range, so that both have to pass.
	admit(t, v, input+"."+encode(plain(r, new(big.Int).Sub(order, s), 66)))

	high := new(big.Int).SetBit(s, 527, 1)
	for name, signature := range map[string]string{
		"S beyond the order":      plain(r, new(big.Int).Add(s, order), 66),
		"R beyond the order":      plain(new(big.Int).Add(r, order), s, 66),
		"a bit above the order":   plain(r, high, 66),
		"a longer form":           plain(r, s, 67),
		"a zero byte before":      "\x00" + plain(r, s, 66),
		"a zero byte after":       plain(r, s, 66) + "\x00",
		"R alone":                 plain(r, s, 66)[:66],
		"R and S exchanged":       plain(s, r, 66),
		"zeros":                   strings.Repeat("\x00", 132),
		"S zero":                  plain(r, new(big.Int), 66),
		"R and S of the order":    plain(order, order, 66),
		"ASN.1 as in TLS":         string(must(asn1.Marshal(struct{ R, S *big.Int }{r, s}))),
		"the length of ES256's":   strings.Repeat("\x01", 64),
		"more bytes than a token": strings.Repeat("\x01", 4000),
	} {
		if got := now(t, v, input+"."+encode(signature)); got != policy.SignatureInvalid {
			t.Errorf("%s: %s", name, got)
		}
	}
	// The last character of base64url may hold bits that belong to no byte: they must be zero.
	text := encode(plain(r, s, 66) + "\x00")[:177] // 133 bytes take 178 characters
	if got := now(t, v, input+"."+text); got == policy.Allowed {
		t.Errorf("base64url of an impossible length: %s", got)
	}
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}

// TestHeaderNeverBringsKeys sends tokens whose header offers a key or says where one is.
func TestHeaderNeverBringsKeys(t *testing.T) {
	t.Parallel()
	foreign := newIssuer()
	foreign.keys = []jose.JSONWebKey{public("ed", otherKey())}
	foreign.listen(t)
	i := newIssuer().listen(t)
	v := startLoaded(t, oidc.Config{}, i)
	payload := encode(string(must(json.Marshal(i.claims(nil)))))
	key := string(must(json.Marshal(public("ed", otherKey()))))
	for name, offer := range map[string]string{
		"jwk":                 `"jwk":` + key,
		"jku":                 `"jku":"` + foreign.url + `/keys"`,
		"x5u":                 `"x5u":"` + foreign.url + `/certificate"`,
		"x5c":                 `"x5c":["` + certificate(t, otherKey()) + `"]`,
		"jwk that is secret":  `"jwk":{"kty":"oct","k":"AAAA"}`,
		"jwk that is a text":  `"jwk":"` + foreign.url + `"`,
		"jku and jwk":         `"jku":"` + foreign.url + `/keys","jwk":` + key,
		"x5c that is no list": `"x5c":"AAAA"`,
	} {
		input := encode(`{"alg":"EdDSA","kid":"ed",`+offer+`}`) + "." + payload
		raw := input + "." + encode(string(must(otherKey().Sign(nil, []byte(input), crypto.Hash(0)))))
		got := now(t, v, raw)
		if got != policy.SignatureInvalid && got != policy.TokenMalformed {
			t.Errorf("%s: %s", name, got)
		}
	}
	if asked := foreign.discovered.Load() + foreign.fetched.Load(); asked != 0 {
		t.Errorf("what a header names was asked %d times", asked)
	}
}
