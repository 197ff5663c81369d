package oidc_test

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

func BenchmarkVerify(b *testing.B) {
	i := newIssuer().listen(b)
	v := startLoaded(b, oidc.Config{}, i)
	claims := i.claims(map[string]any{
		"email": "alice@example.com", "email_verified": true, "groups": []string{"dev", "ops", "nats-users"},
	})
	large := maps.Clone(claims)
	for n := range 100 {
		large["groups"] = append(large["groups"].([]string), fmt.Sprintf("department-%03d-readers", n))
	}
	expired := maps.Clone(claims)
	expired["exp"] = time.Now().Add(-time.Hour).Unix()
	// More tokens than are remembered, in turn, are new each time.
	many := func(alg jose.SignatureAlgorithm, kid string, key any, claims map[string]any) (list []string) {
		for n := range 5000 {
			claims["jti"] = strconv.Itoa(n)
			list = append(list, sign(alg, kid, key, claims))
		}
		return list
	}
	forged := func() string {
		one, other := sign(jose.ES256, "ec", ecKey(), claims), sign(jose.ES256, "ec", ecKey(), large)
		return one[:strings.LastIndexByte(one, '.')] + other[strings.LastIndexByte(other, '.'):]
	}
	for _, test := range []struct {
		name string
		raw  func() []string
	}{
		{"RS256", func() []string { return many(jose.RS256, "rsa", rsaKey(), claims) }},
		{"ES256", func() []string { return many(jose.ES256, "ec", ecKey(), claims) }},
		{"ES256 with 100 groups", func() []string { return many(jose.ES256, "ec", ecKey(), large) }},
		{"EdDSA", func() []string { return many(jose.EdDSA, "ed", edKey(), claims) }},
		{"seen before", func() []string { return []string{sign(jose.ES256, "ec", ecKey(), claims)} }},
		{"bad signature", func() []string { return []string{forged()} }},
		{"expired", func() []string { return many(jose.ES256, "ec", ecKey(), expired) }},
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
