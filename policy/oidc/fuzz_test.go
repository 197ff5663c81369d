package oidc_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// FuzzVerify expects that nothing passes but tokens with a payload that the issuer signed,
// and that whatever else comes is refused for a reason. Keys and times are fixed, since each
// fuzzing process makes its own and must understand the others' tokens.
func FuzzVerify(f *testing.F) {
	ed := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	ec := must(ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{1}, 32)))
	i := newIssuer()
	i.keys = []jose.JSONWebKey{public("ed", ed), public("ec", ec)}
	issued := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	claims := func(changes map[string]any) map[string]any {
		all := i.claims(map[string]any{"iat": issued.Unix(), "exp": issued.Add(time.Hour).Unix()})
		maps.Copy(all, changes)
		return all
	}
	v := start(f, oidc.Config{Now: func() time.Time { return issued }}, i.config())
	admit(f, v, sign(jose.EdDSA, "ed", ed, claims(nil)))

	signed := make(map[string]bool) // header and payload
	for _, raw := range []string{
		sign(jose.EdDSA, "ed", ed, claims(nil)),
		sign(jose.EdDSA, "", ed, claims(nil)),
		sign(jose.ES256, "ec", ec, claims(nil)),
		sign(jose.EdDSA, "ed", ed, claims(map[string]any{"aud": "other"})),
		sign(jose.EdDSA, "ed", ed, claims(map[string]any{"sub": ""})),
		sign(jose.EdDSA, "ed", ed, claims(map[string]any{"events": map[string]any{}})),
		sign(jose.EdDSA, "new", ed, claims(nil)),
	} {
		signed[raw[:strings.LastIndexByte(raw, '.')]] = true
		f.Add(raw)
		f.Add(raw[:len(raw)/2])
		f.Add(strings.ToUpper(raw))
	}
	f.Add("")
	f.Add("a.b.c")
	f.Add(encode(`{"alg":"none"}`) + "." + encode(`{"iss":"`+i.url+`","sub":"root"}`) + ".")
	f.Add(signHMAC(i.claims(nil)))
	f.Fuzz(func(t *testing.T, raw string) {
		id, refusal, pending := v.Verify(raw)
		outcomes := 0
		if refusal == nil && id != nil {
			outcomes++
			if !signed[raw[:strings.LastIndexByte(raw, '.')]] {
				t.Errorf("a token that the issuer did not sign proves to be %q", id.Subject)
			}
		}
		if refusal != nil {
			outcomes++
			if refusal.Reason == "" || refusal.Detail == "" {
				t.Errorf("refused without a reason: %v", refusal)
			}
		}
		if pending != nil {
			outcomes++
		}
		if outcomes != 1 {
			t.Errorf("identity %v, refusal %v, pending %v", id, refusal, pending != nil)
		}
	})
}
