package oidc_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// TestTokensAtOnceAreTheirOwn verifies many tokens at once, over and over and beside broken ones, while the keys of their issuer
// change to and fro: each proves its own identity or none, and none that begins after a change is taken for the keys before it.
func TestTokensAtOnceAreTheirOwn(t *testing.T) {
	t.Parallel()
	i := newIssuer()
	settings := func(key jose.JSONWebKey) []oidc.Issuer {
		return []oidc.Issuer{{Name: "corp", URL: i.url, Audiences: []string{"nats"}, Keys: given(t, key)}}
	}
	first, second := settings(public("k", edKey())), settings(public("k", otherKey()))
	v, err := oidc.New(oidc.Config{}, first)
	if err != nil {
		t.Fatal(err)
	}
	const people = 24
	good, rotated := make([]string, people), make([]string, people)
	for n := range people {
		claims := i.claims(map[string]any{"sub": fmt.Sprint("user-", n), "jti": fmt.Sprint("jti-", n), "groups": []any{fmt.Sprint("group-", n), "ü\n"}})
		good[n], rotated[n] = sign(jose.EdDSA, "k", edKey(), claims), sign(jose.EdDSA, "k", otherKey(), claims)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for lane := range 4 {
		wg.Go(func() {
			for n := lane; ; n = (n + 1) % people {
				select {
				case <-done:
					return
				default:
				}
				for _, raw := range []string{good[n], rotated[n], good[n][:len(good[n])-9] + "AAAAAAAAA", craft(`{"alg":"EdDSA","kid":"k"}`, `{"iss":"`+i.url+`","sub":"\u00e9`)} {
					id, refusal, pending := v.Verify(raw)
					if pending != nil || refusal == nil && (raw != good[n] && raw != rotated[n]) {
						t.Errorf("%v, pending %t for %.60q", id, pending != nil, raw)
					}
					if refusal == nil && !isPerson(id, n) {
						t.Errorf("token %d proves %+v", n, id)
					}
				}
			}
		})
	}
	for round := range 60 {
		now, old := second, good
		if round%2 == 1 {
			now, old = first, rotated
		}
		if err := v.SetIssuers(now); err != nil {
			t.Fatal(err)
		}
		for n, raw := range old {
			if id, refusal, _ := v.Verify(raw); refusal == nil || refusal.Reason != policy.SignatureInvalid {
				t.Errorf("round %d, token %d of the keys before: %+v, %v", round, n, id, refusal)
			}
		}
	}
	close(done)
	wg.Wait()
}

func isPerson(id *policy.Identity, n int) bool {
	groups, _ := id.Claims["groups"].([]any)
	return id.Subject == fmt.Sprint("user-", n) && id.TokenID == fmt.Sprint("jti-", n) && id.Claims["sub"] == id.Subject && len(groups) == 2 && groups[0] == fmt.Sprint("group-", n)
}
