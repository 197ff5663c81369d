package oidc_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// A token that was accepted once is judged anew by whatever has changed since.
func TestSeenTokensAreJudgedAnew(t *testing.T) {
	t.Parallel()
	i := newIssuer()
	settings := func(change func(*oidc.Issuer)) []oidc.Issuer {
		one := oidc.Issuer{Name: "corp", URL: i.url, Audiences: []string{"nats"}, Keys: given(t, public("ed", edKey()), public("ec", ecKey()))}
		if change != nil {
			change(&one)
		}
		return []oidc.Issuer{one}
	}
	for name, c := range map[string]struct {
		change func(*oidc.Issuer)
		want   policy.Reason
	}{
		"the key is gone": {func(o *oidc.Issuer) {
			o.Keys, o.Algorithms = given(t, public("ec", ecKey())), []string{"EdDSA", "ES256"}
		}, policy.KeysUnavailable},
		"the key is another":           {func(o *oidc.Issuer) { o.Keys = given(t, public("ed", otherKey())) }, policy.SignatureInvalid},
		"another audience":             {func(o *oidc.Issuer) { o.Audiences = []string{"other"} }, policy.AudienceRefused},
		"other algorithms":             {func(o *oidc.Issuer) { o.Algorithms = []string{"ES256"} }, policy.AlgorithmRefused},
		"too old by now":               {func(o *oidc.Issuer) { o.MaxAge = time.Minute }, policy.TokenTooOld},
		"the issuer has another url":   {func(o *oidc.Issuer) { o.URL += "/" }, policy.IssuerUnknown},
		"the issuer was given a name":  {func(o *oidc.Issuer) { o.Name = "acme" }, ""},
		"nothing":                      {nil, ""},
		"the same keys in a new order": {func(o *oidc.Issuer) { o.Keys = given(t, public("ec", ecKey()), public("ed", edKey())) }, ""},
	} {
		v, err := oidc.New(oidc.Config{}, settings(nil))
		if err != nil {
			t.Fatal(err)
		}
		raw := i.token(map[string]any{"iat": time.Now().Add(-2 * time.Minute).Unix()})
		for range 2 {
			if id, refusal, _ := v.Verify(raw); refusal != nil || id == nil || id.Subject != "alice" {
				t.Fatalf("%s: %+v, %v", name, id, refusal)
			}
		}
		if err := v.SetIssuers(settings(c.change)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			id, refusal, _ := v.Verify(raw)
			switch {
			case c.want == "" && (refusal != nil || id.Issuer != settings(c.change)[0].Name):
				t.Errorf("%s: %+v, %v", name, id, refusal)
			case c.want != "" && (refusal == nil || refusal.Reason != c.want):
				t.Errorf("%s: %+v, %v, want %s", name, id, refusal, c.want)
			}
		}
		// A signature of another token does not become this one's.
		if _, refusal, _ := v.Verify(raw[:len(raw)-8] + "AAAAAAAA"); refusal == nil {
			t.Errorf("%s: a changed signature is accepted", name)
		}
	}
}

func TestSeenTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer()
		v, err := oidc.New(oidc.Config{}, []oidc.Issuer{{Name: "corp", URL: i.url, Audiences: []string{"nats"}, Keys: given(t, public("ed", edKey()))}})
		if err != nil {
			t.Fatal(err)
		}
		raw := i.token(map[string]any{"exp": time.Now().Add(time.Minute).Unix()})
		if _, refusal, _ := v.Verify(raw); refusal != nil {
			t.Fatal(refusal)
		}
		time.Sleep(2 * time.Minute)
		if _, refusal, _ := v.Verify(raw); refusal == nil || refusal.Reason != policy.TokenExpired {
			t.Errorf("after its end: %v", refusal)
		}
	})
}

// More tokens than are remembered are accepted all the same, again and again.
func TestSeenTokensAreBounded(t *testing.T) {
	t.Parallel()
	i := newIssuer()
	v, err := oidc.New(oidc.Config{}, []oidc.Issuer{{Name: "corp", URL: i.url, Audiences: []string{"nats"}, Keys: given(t, public("ed", edKey()))}})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 * 2048 {
		raw := sign(jose.EdDSA, "ed", edKey(), i.claims(map[string]any{"sub": fmt.Sprint(n % 2500)}))
		if id, refusal, _ := v.Verify(raw); refusal != nil || id.Subject != fmt.Sprint(n%2500) {
			t.Fatalf("token %d: %+v, %v", n, id, refusal)
		}
	}
	if n := v.Remembered(); n > 2*2048 {
		t.Errorf("%d tokens are remembered", n)
	}
}
