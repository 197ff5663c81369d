package oidc_test

import (
	"testing"

	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// TestVerifyDoesNotGrowWithIssuersAndLength counts allocations: times belong to the machine. The limit
// is some more than what the standard library's pools make of it now and then.
func TestVerifyDoesNotGrowWithIssuersAndLength(t *testing.T) {
	const slack, runs = 5, 20
	for _, g := range growths {
		if g.name == "groups" {
			continue // each is decoded
		}
		var least float64
		for i, n := range g.sizes {
			v, token := g.build(t, n)
			var tokens []string
			for id := range runs + 1 { // each once: none was seen before
				tokens = append(tokens, token(id))
			}
			made := testing.AllocsPerRun(runs, func() {
				id, refusal, _ := v.Verify(tokens[0])
				if id == nil || refusal != nil {
					t.Fatal(refusal)
				}
				tokens = tokens[1:]
			})
			if i == 0 {
				least = made
			}
			if made > least+slack {
				t.Errorf("with %d %s verifying makes %v allocations, with %d %v", n, g.name, made, g.sizes[0], least)
			}
		}
	}
}

// TestVerifyAsksNoOtherIssuer: a token of one issuer, even with a key that it does not know, has the keys of
// no other fetched.
func TestVerifyAsksNoOtherIssuer(t *testing.T) {
	t.Parallel()
	one, other := newIssuer(), newIssuer()
	other.url = "https://other.test"
	config := other.config()
	config.Name = "other"
	v := start(t, oidc.Config{RefreshInterval: 1}, one.config(), config)
	admit(t, v, one.token(nil))
	admit(t, v, other.token(nil))
	before, asked := other.fetched.Load(), one.fetched.Load()
	for range 10 {
		id, _, fetch := v.Verify(sign("EdDSA", "unknown", otherKey(), one.claims(nil)))
		if id != nil {
			t.Fatal("a token with a key that nobody publishes is accepted")
		}
		if fetch != nil {
			<-fetch
		}
	}
	if one.fetched.Load() == asked {
		t.Fatal("the issuer of the tokens was not asked for keys")
	}
	if after := other.fetched.Load(); after != before {
		t.Errorf("the other issuer's keys were fetched %d times more", after-before)
	}
}
