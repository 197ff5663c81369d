package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
)

// writePair writes a new certificate for 127.0.0.1, its own authority, and its key as the world's cert.pem and key.pem.
func (w *world) writePair() *x509.Certificate {
	w.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		w.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		w.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		w.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(w.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			w.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		w.Fatal(err)
	}
	return certificate
}

// trusting returns a client that trusts one certificate and keeps no connection.
func trusting(c *x509.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
}

// TestServiceWithCertificate: operations over TLS alone, a renewed certificate without a restart, and nothing in the clear
// when somebody takes http.tls out of the file.
func TestServiceWithCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	first := w.writePair()
	const block = "  tls: { cert: cert.pem, key: key.pem }\n"
	w.edit(func(yaml string) string { return strings.Replace(yaml, "http:\n", "http:\n"+block, 1) })
	r := w.newReplica(serveOptions{})
	url := strings.Replace(r.http, "http://", "https://", 1)
	r.env = append(r.env, "GATEHOUSE_HTTP_URL="+url)
	r.start(false)
	r.mustGetReady()

	whoami := func(c *http.Client) error {
		out, err := post[api.Whoami](t.Context(), c, url, api.OpWhoami, w.token("alice", nil), api.WhoamiRequest{})
		if err == nil && !out.Allowed {
			return errors.New(out.Reason)
		}
		return err
	}
	if err := whoami(trusting(first)); err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if err == nil {
			_ = conn.Close()
			t.Errorf("%s is spoken", tls.VersionName(version))
		}
	}
	_, err := post[api.Whoami](t.Context(), http.DefaultClient, r.http, api.OpWhoami, "", api.WhoamiRequest{})
	if err == nil || !strings.Contains(err.Error(), "400 Bad Request, which is not from Gatehouse") {
		t.Errorf("without TLS: %v", err)
	}

	second := w.writePair()
	eventually(t, func() error { return whoami(trusting(second)) })
	if err := whoami(trusting(first)); err == nil {
		t.Error("the old certificate is still shown")
	}

	w.edit(func(yaml string) string { return strings.Replace(yaml, block, "", 1) })
	if got := r.command("reload"); got.code != exitFailed || !strings.Contains(got.err, "http.tls was given or taken away") {
		t.Errorf("reload: %d %s", got.code, got.err)
	}
	if err := whoami(trusting(second)); err != nil {
		t.Errorf("after a configuration that was refused: %v", err)
	}
}
