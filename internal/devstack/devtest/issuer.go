package devtest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Style is how a provider publishes its keys and heads its tokens.
type Style struct {
	keysPath   string         // of the JWKS, after the issuer's URL; from the host's root when it begins with /
	discovery  map[string]any // what the discovery document says besides issuer and jwks_uri
	header     map[string]any // what a token's header has besides alg and kid
	withoutAlg bool           // keys do not say what they are for
	certified  bool           // keys come with certificates (x5c, x5t)
	encryption bool           // the JWKS holds a key for encryption as well
	bearer     bool           // documents are shown only to who presents a token
}

func rs256(more map[string]any) map[string]any {
	all := map[string]any{"id_token_signing_alg_values_supported": []string{"RS256"}, "response_types_supported": []string{"id_token"}}
	maps.Copy(all, more)
	return all
}

// The styles of providers, after their public documents as of 2026.
var (
	Keycloak = Style{
		keysPath: "protocol/openid-connect/certs", certified: true, encryption: true, header: map[string]any{"typ": "JWT"},
		discovery: rs256(map[string]any{"id_token_signing_alg_values_supported": []string{
			"PS384", "RS384", "EdDSA", "ES384", "HS256", "HS512", "ES256", "RS256", "HS384", "ES512", "PS256", "PS512", "RS512"}}),
	}
	Entra = Style{
		keysPath: "../discovery/v2.0/keys", certified: true, withoutAlg: true, header: map[string]any{"typ": "JWT"},
		discovery: rs256(map[string]any{"subject_types_supported": []string{"pairwise"}, "cloud_instance_name": "microsoftonline.com"}),
	}
	Auth0 = Style{
		keysPath: ".well-known/jwks.json", certified: true, header: map[string]any{"typ": "JWT"},
		discovery: rs256(map[string]any{"id_token_signing_alg_values_supported": []string{"HS256", "RS256", "PS256"}}),
	}
	Kubernetes = Style{keysPath: "/openid/v1/jwks", discovery: rs256(map[string]any{"subject_types_supported": []string{"public"}}), bearer: true}
	GitHub     = Style{keysPath: ".well-known/jwks", certified: true, header: map[string]any{"typ": "JWT", "x5t": "eBZ_cn3sXYAd0ch4THBKHIgOwOE"}, discovery: rs256(nil)}
	Dex        = Style{keysPath: "keys", discovery: rs256(nil)}
)

// Issuer publishes keys and signs tokens as a provider of its style does. It answers over TLS
// under the provider's own name, with a certificate of a private authority.
type Issuer struct {
	url    string
	style  Style
	key    *rsa.PrivateKey
	public []jose.JSONWebKey
	server *httptest.Server
}

// issuerKeyID is the kid of an issuer's signing key.
const issuerKeyID = "f8a2c9d04e"

// IssuerToken is what an issuer whose documents are not public wants as a bearer token.
const IssuerToken = "e30.the-token-of-the-service-account.e30"

// StartIssuer serves an issuer with that URL, an https one, until the test ends; those who dial
// with [Issuer.Dial] reach it. An empty URL stands for the issuer's address on this host.
func StartIssuer(t testing.TB, style Style, issuerURL string) *Issuer {
	t.Helper()
	i := &Issuer{url: issuerURL, style: style, key: newRSAKey(t)}
	i.server = httptest.NewUnstartedServer(i)
	i.server.Config.ErrorLog = slog.NewLogLogger(Log(t).Handler(), slog.LevelInfo)
	if issuerURL == "" {
		i.url = "https://" + i.server.Listener.Addr().String()
	}
	i.public = []jose.JSONWebKey{i.published(t, i.key, "sig", "RS256")}
	if style.encryption {
		other := i.published(t, newRSAKey(t), "enc", "RSA-OAEP")
		other.KeyID = "e" + issuerKeyID
		i.public = append(i.public, other)
	}
	i.server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{i.certificate(t, i.key)}, PrivateKey: i.key}}}
	i.server.StartTLS()
	t.Cleanup(i.server.Close)
	return i
}

func newRSAKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certificate returns one of the key for the issuer's host, which is its own authority.
func (i *Issuer) certificate(t testing.TB, key *rsa.PrivateKey) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		DNSNames:    []string{i.location("").Hostname(), "kubernetes.default.svc"}, // the API server's names it in every form
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// published returns the JWK that the provider shows of the key.
func (i *Issuer) published(t testing.TB, key *rsa.PrivateKey, use, algorithm string) jose.JSONWebKey {
	t.Helper()
	public := jose.JSONWebKey{Key: key.Public(), KeyID: issuerKeyID, Use: use, Algorithm: algorithm}
	if i.style.withoutAlg {
		public.Algorithm = ""
	}
	if i.style.certified {
		certificate, err := x509.ParseCertificate(i.certificate(t, key))
		if err != nil {
			t.Fatal(err)
		}
		public.Certificates = []*x509.Certificate{certificate}
	}
	return public
}

// location returns the address of something below the issuer's URL.
func (i *Issuer) location(below string) *url.URL {
	base, err := url.Parse(strings.TrimSuffix(i.url, "/") + "/")
	if err == nil {
		base, err = base.Parse(below)
	}
	if err != nil {
		panic("the issuer's URL: " + err.Error())
	}
	return base
}

// ServeHTTP answers with the discovery document and the JWKS.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if i.style.bearer && r.Header.Get("Authorization") != "Bearer "+IssuerToken {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	switch r.URL.Path {
	case i.location(".well-known/openid-configuration").Path:
		document := map[string]any{"issuer": i.url, "jwks_uri": i.location(i.style.keysPath).String()}
		maps.Copy(document, i.style.discovery)
		_ = json.NewEncoder(w).Encode(document)
	case i.location(i.style.keysPath).Path:
		_, _ = w.Write(i.JWKS())
	default:
		http.NotFound(w, r)
	}
}

// URL returns the issuer's URL, the iss of its tokens.
func (i *Issuer) URL() string { return i.url }

// JWKS returns the keys as they are published.
func (i *Issuer) JWKS() []byte {
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: i.public})
	if err != nil {
		panic("public keys do not marshal: " + err.Error())
	}
	return data
}

// CA returns the certificate, in PEM, that the issuer's own is verified with.
func (i *Issuer) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.TLS.Certificates[0].Certificate[0]})
}

// Dial connects to the issuer, whatever the address is, as http.Transport.DialContext does.
func (i *Issuer) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, i.server.Listener.Addr().String())
}

// Sign returns a token with the claims.
func (i *Issuer) Sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	options := new(jose.SignerOptions).WithHeader("kid", issuerKeyID)
	for name, value := range i.style.header {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: i.key}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}
