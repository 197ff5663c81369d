package oidc_test

import (
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

func BenchmarkVerify(b *testing.B) {
	i := newIssuer().listen(b)
	v := startLoaded(b, oidc.Config{}, i)
	claims := i.claims(map[string]any{
		"email": "alice@example.com", "email_verified": true, "groups": []string{"dev", "ops", "nats-users"},
	})
	// More tokens than are remembered, in turn, are new each time.
	many := func(alg jose.SignatureAlgorithm, kid string, key any) (list []string) {
		for n := range 5000 {
			claims["jti"] = n
			list = append(list, sign(alg, kid, key, claims))
		}
		return list
	}
	for _, test := range []struct {
		name string
		raw  func() []string
	}{
		{"RS256", func() []string { return many(jose.RS256, "rsa", rsaKey()) }},
		{"ES256", func() []string { return many(jose.ES256, "ec", ecKey()) }},
		{"EdDSA", func() []string { return many(jose.EdDSA, "ed", edKey()) }},
		{"seen before", func() []string { return []string{sign(jose.ES256, "ec", ecKey(), claims)} }},
		{"unknown kid", func() []string { return []string{sign(jose.EdDSA, "new", otherKey(), claims)} }},
		{"not a token", func() []string { return []string{"opaque"} }},
	} {
		b.Run(test.name, func(b *testing.B) {
			raw := test.raw()
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				v.Verify(raw[n%len(raw)])
			}
		})
	}
}
