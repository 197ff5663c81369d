package oidc_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// crowd starts a verifier that has the keys of so many issuers and returns the first of these.
func crowd(t testing.TB, n int) (*oidc.Verifier, *issuer) {
	t.Helper()
	first := newIssuer()
	configs := []oidc.Issuer{first.config()}
	all := []*issuer{first}
	for k := range n - 1 {
		i := newIssuer()
		i.url = fmt.Sprintf("https://issuer-%d.test", k)
		c := i.config()
		c.Name = fmt.Sprintf("other%d", k)
		configs, all = append(configs, c), append(all, i)
	}
	v := start(t, oidc.Config{}, configs...)
	for _, i := range all {
		admit(t, v, i.token(nil))
	}
	return v, first
}

// padded returns the token of a claim that makes it so many bytes long, a few more or less.
func padded(i *issuer, size, id int) string {
	claims := i.claims(map[string]any{"jti": fmt.Sprintf("%09d", id), "pad": ""})
	short := len(sign(jose.ES256, "ec", ecKey(), claims))
	claims["pad"] = strings.Repeat("x", max(0, size-short)*3/4)
	return sign(jose.ES256, "ec", ecKey(), claims)
}

// grouped returns a token with so many groups.
func grouped(i *issuer, groups, id int) string {
	list := make([]string, groups)
	for g := range list {
		list[g] = fmt.Sprintf("g%03d", g)
	}
	return sign(jose.ES256, "ec", ecKey(), i.claims(map[string]any{"jti": fmt.Sprintf("%09d", id), "groups": list}))
}

// growth is something of which there may be much, and tokens for it.
type growth struct {
	name  string
	sizes []int
	build func(t testing.TB, n int) (*oidc.Verifier, func(id int) string)
}

var growths = []growth{
	{"issuers", []int{1, 100}, func(t testing.TB, n int) (*oidc.Verifier, func(int) string) {
		v, i := crowd(t, n)
		return v, func(id int) string { return padded(i, 0, id) }
	}},
	{"bytes of the token", []int{1000, 4000, 16_000}, func(t testing.TB, n int) (*oidc.Verifier, func(int) string) {
		v, i := crowd(t, 1)
		return v, func(id int) string { return padded(i, n, id) }
	}},
	{"groups", []int{1, 100, 1000}, func(t testing.TB, n int) (*oidc.Verifier, func(int) string) {
		v, i := crowd(t, 1)
		return v, func(id int) string { return grouped(i, n, id) }
	}},
}

// BenchmarkGrowth shows what verifying a token costs when there is more of something. What costs anything
// with more issuers would be a fault; a longer token has to be hashed and decoded.
func BenchmarkGrowth(b *testing.B) {
	for _, g := range growths {
		for _, n := range g.sizes {
			for _, known := range []bool{false, true} {
				name := fmt.Sprintf("%s=%d/new", g.name, n)
				if known {
					name = fmt.Sprintf("%s=%d/seen before", g.name, n)
				}
				b.Run(name, func(b *testing.B) {
					v, token := g.build(b, n)
					tokens := []string{token(0)}
					// More tokens than are remembered, in turn, are new each time.
					for id := 1; !known && id < min(5000, (12<<20)/len(tokens[0])); id++ {
						tokens = append(tokens, token(id))
					}
					admit(b, v, tokens[0])
					b.ReportAllocs()
					for k := 0; b.Loop(); k++ {
						if id, refusal, _ := v.Verify(tokens[k%len(tokens)]); id == nil || refusal != nil {
							b.Fatal(refusal)
						}
					}
				})
			}
		}
	}
}
