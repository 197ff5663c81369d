package oidc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

// authority is a private certificate authority.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority() *authority {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "private authority"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &authority{must(x509.ParseCertificate(der)), key}
}

// serve serves the issuer over TLS with a certificate of the authority, which change makes wrong.
func (a *authority) serve(t *testing.T, i *issuer, change func(*x509.Certificate)) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(template)
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	der := must(x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key))
	server := httptest.NewUnstartedServer(i)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	i.url = server.URL
}

// client trusts the authority alone.
func (a *authority) client(t *testing.T) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestPrivateAuthority expects that an issuer's certificate is verified with its own authority,
// with and without discovery, and that the status says what is wrong with it and what to do.
func TestPrivateAuthority(t *testing.T) {
	t.Parallel()
	own, other := newAuthority(), newAuthority()
	good := func(*x509.Certificate) {}
	for name, c := range map[string]struct {
		trusted *authority
		change  func(*x509.Certificate)
		status  []string // parts of it; none when the keys load
	}{
		"its authority":           {own, good, nil},
		"another authority":       {other, good, []string{"unknown authority", "tls.ca"}},
		"an expired certificate":  {own, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, []string{"expired", "renewed"}},
		"one that is not due yet": {own, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }, []string{"not yet valid", "clock"}},
		"of another host": {own, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"login.example.com"} },
			[]string{"127.0.0.1", "a name that its certificate holds"}},
	} {
		for _, discovery := range []bool{true, false} {
			i := newIssuer()
			own.serve(t, i, c.change)
			config := i.config()
			config.Client = c.trusted.client(t)
			if !discovery {
				config.KeysURL = i.url + "/keys"
			}
			v := start(t, oidc.Config{}, config)
			want := policy.Allowed
			if c.status != nil {
				want = policy.KeysUnavailable
			}
			if got := wait(t, v, i.token(nil)); got != want {
				t.Errorf("%s, discovery %v: %s, want %s", name, discovery, got, want)
			}
			status := v.Status()[0]
			if (status.LastError == "") != (c.status == nil) {
				t.Errorf("%s, discovery %v: status %+v", name, discovery, status)
			}
			for _, part := range c.status {
				if !strings.Contains(status.LastError, part) {
					t.Errorf("%s, discovery %v: status %q lacks %q", name, discovery, status.LastError, part)
				}
			}
			if asked := i.discovered.Load(); !discovery && asked != 0 {
				t.Errorf("%s: %d discovery requests", name, asked)
			}
		}
	}
}
