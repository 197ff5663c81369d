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
		"jti": "6c1f0c5e", "email": "alice@example.com", "email_verified": true, "groups": []string{"dev", "ops", "nats-users"},
	})
	for _, test := range []struct{ name, raw string }{
		{"RS256", sign(jose.RS256, "rsa", rsaKey(), claims)},
		{"ES256", sign(jose.ES256, "ec", ecKey(), claims)},
		{"EdDSA", sign(jose.EdDSA, "ed", edKey(), claims)},
		{"unknown kid", sign(jose.EdDSA, "new", otherKey(), claims)},
		{"not a token", "opaque"},
	} {
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.Verify(test.raw)
			}
		})
	}
}
