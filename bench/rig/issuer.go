package rig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
)

// issuer is an OIDC issuer with a key of each kind, whose key ids are the algorithms' names.
type issuer struct {
	audience string
	url      string
	key      map[string]crypto.Signer // by algorithm
	set      jose.JSONWebKeySet
}

func newIssuer(audience string) *issuer {
	_, dk, _ := ed25519.GenerateKey(rand.Reader)
	i := &issuer{audience: audience, key: map[string]crypto.Signer{
		"RS256": must(rsa.GenerateKey(rand.Reader, 2048)),
		"ES256": newECKey(),
		"EdDSA": dk,
	}}
	for alg, k := range i.key {
		i.set.Keys = append(i.set.Keys, published(alg, strings.ToLower(alg), k))
	}
	return i
}

func newECKey() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

func published(alg, kid string, k crypto.Signer) jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.Public(), KeyID: kid, Algorithm: alg, Use: "sig"}
}

// listen serves discovery and keys until the process ends and returns the issuer's URL.
func (i *issuer) listen() string {
	return i.serve(func() jose.JSONWebKeySet { return i.set }, 0)
}

// serve is listen with the keys that are answered, and how long each answer takes.
func (i *issuer) serve(keys func() jose.JSONWebKeySet, delay time.Duration) string {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	i.url = "http://" + l.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(rw http.ResponseWriter, r *http.Request) {
		time.Sleep(delay)
		_ = json.NewEncoder(rw).Encode(map[string]any{
			"issuer": i.url, "jwks_uri": i.url + "/keys",
			"authorization_endpoint": i.url + "/auth", "token_endpoint": i.url + "/token",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "EdDSA"},
		})
	})
	mux.HandleFunc("/keys", func(rw http.ResponseWriter, r *http.Request) {
		time.Sleep(delay)
		_ = json.NewEncoder(rw).Encode(keys())
	})
	go http.Serve(l, mux)
	return i.url
}

// token signs an ID token with the key of alg under the given key id.
func (i *issuer) token(alg, kid, sub string, ttl time.Duration, extra map[string]any) string {
	return sign(alg, kid, i.key[alg], i.claims(sub, ttl, extra))
}

func (i *issuer) claims(sub string, ttl time.Duration, extra map[string]any) map[string]any {
	now := time.Now()
	c := map[string]any{
		"iss": i.url, "aud": i.audience, "sub": sub, "iat": now.Unix(), "exp": now.Add(ttl).Unix(),
		"jti":   fmt.Sprintf("%s-%d", sub, now.UnixNano()),
		"email": sub + "@example.com", "email_verified": true, "name": sub, "groups": []string{"dev", "nats-users"},
	}
	for k, v := range extra {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	return c
}

func sign(alg, kid string, key crypto.Signer, claims map[string]any) string {
	signer := must(jose.NewSigner(
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: jose.JSONWebKey{Key: key, KeyID: kid}},
		(&jose.SignerOptions{}).WithType("JWT")))
	return must(josejwt.Signed(signer).Claims(claims).Serialize())
}

// slowIssuer takes its time for every answer, and signs with a key that it publishes with the next one
// only: whoever gets one of its tokens has to ask it for keys.
type slowIssuer struct {
	*issuer
	delay time.Duration

	mu    sync.Mutex
	kid   int // of the key that signs
	next  crypto.Signer
	known jose.JSONWebKeySet
}

func newSlowIssuer(audience string, delay time.Duration) *slowIssuer {
	return &slowIssuer{issuer: newIssuer(audience), delay: delay, next: newECKey()}
}

func (s *slowIssuer) listen() string { return s.serve(s.publish, s.delay) }

// publish returns all keys that have signed, and changes to a new one.
func (s *slowIssuer) publish() jose.JSONWebKeySet {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known.Keys = append(s.known.Keys, published("ES256", s.name(), s.next))
	s.kid++
	s.next = newECKey()
	return jose.JSONWebKeySet{Keys: append([]jose.JSONWebKey(nil), s.known.Keys...)}
}

func (s *slowIssuer) name() string { return fmt.Sprintf("slow-%d", s.kid) }

// newest signs a token with the key that is published next.
func (s *slowIssuer) newest(sub string, ttl time.Duration) string {
	s.mu.Lock()
	kid, key := s.name(), s.next
	s.mu.Unlock()
	return sign("ES256", kid, key, s.claims(sub, ttl, nil))
}
