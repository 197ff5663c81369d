package rig

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
)

func keys(t *testing.T, url string) jose.JSONWebKeySet {
	t.Helper()
	r, err := http.Get(url + "/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(r.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	return set
}

// verifies reports whether one of the keys verifies the token.
func verifies(t *testing.T, set jose.JSONWebKeySet, token string) bool {
	t.Helper()
	signed, err := josejwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Key(signed.Headers[0].KeyID) {
		if signed.Claims(k.Key, &map[string]any{}) == nil {
			return true
		}
	}
	return false
}

func TestSlowIssuerPublishesKeysAfterTheirUse(t *testing.T) {
	t.Parallel()
	s := newSlowIssuer("nats", time.Microsecond)
	url := s.listen()
	first := s.newest("alice", time.Hour)
	set := keys(t, url)
	if !verifies(t, set, first) {
		t.Error("the key of a token is not in the next answer")
	}
	second := s.newest("alice", time.Hour)
	if verifies(t, set, second) {
		t.Error("a token verifies with keys that were answered before it was made")
	}
	if later := keys(t, url); !verifies(t, later, first) || !verifies(t, later, second) {
		t.Error("a later answer lacks a key")
	}
}

func TestForeignTokensVerifyWithNoKeyOfTheIssuer(t *testing.T) {
	t.Parallel()
	w := &World{issuer: newIssuer("nats"), foreign: newIssuer("nats")}
	w.Issuer = w.issuer.listen()
	set := keys(t, w.Issuer)
	for alg := range w.issuer.key {
		if !verifies(t, set, w.Token(alg, "alice", time.Hour, nil)) {
			t.Errorf("a good token with %s does not verify", alg)
		}
	}
	for _, kid := range []string{"unknown", "es256"} {
		if verifies(t, set, w.ForeignToken(kid, "alice", time.Hour)) {
			t.Errorf("a foreign token with key id %q verifies", kid)
		}
	}
}
