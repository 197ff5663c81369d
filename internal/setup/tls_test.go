package setup_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

// selfSigned writes a certificate for names and its key, and returns their paths.
func selfSigned(t *testing.T, names ...string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key := selfSigned(t, "127.0.0.1")
	ports := freePorts(t, 1)
	set, dir := written(t, setup.Options{
		TLSCert: cert, TLSKey: key, TLSCA: cert, Ports: ports,
		Listen: "127.0.0.1", Origins: []string{"https://portal.example.com"},
	})
	startInProcess(t, filepath.Join(dir, set.ServerFile(0)))
	if !strings.HasPrefix(set.ClientURL(), "tls://") {
		t.Errorf("client URL %s is not for TLS", set.ClientURL())
	}
	answerLogins(t, keysOf(set), nats.RootCAs(cert))
	if got := accountOf(t, connect(t, set.ClientURL(), nats.RootCAs(cert), nats.Token("good"))); got != set.App.ID {
		t.Errorf("user is in %s, want %s", got, set.App.ID)
	}
	if nc, err := nats.Connect(set.ClientURL(), nats.Token("good")); err == nil {
		nc.Close()
		t.Error("a client that does not know the authority connected")
	}

	browser := fmt.Sprintf("wss://127.0.0.1:%d", ports[0].WebSocket)
	origin := func(o string) nats.Option {
		return nats.WebSocketConnectionHeaders(http.Header{"Origin": {o}})
	}
	connect(t, browser, nats.RootCAs(cert), nats.Token("good"), origin("https://portal.example.com"))
	if nc, err := nats.Connect(browser, nats.RootCAs(cert), nats.Token("good"), origin("https://evil.example.com")); err == nil {
		nc.Close()
		t.Error("a page of another origin connected")
	}
}

func TestWebSocketWithoutTLS(t *testing.T) {
	t.Parallel()
	ports := freePorts(t, 1)
	set, dir := written(t, setup.Options{Ports: ports})
	startInProcess(t, filepath.Join(dir, set.ServerFile(0)))
	answerLogins(t, keysOf(set))
	browser := fmt.Sprintf("ws://127.0.0.1:%d", ports[0].WebSocket)
	connect(t, browser, nats.Token("good"))
	if nc, err := nats.Connect(browser, nats.Token("good"), nats.WebSocketConnectionHeaders(http.Header{"Origin": {"https://evil.example.com"}})); err == nil {
		nc.Close()
		t.Error("a page of another origin connected")
	}
}

// TestHostOfCertificate shows which host the URLs name when only a certificate is given.
func TestHostOfCertificate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names []string
		host  string
	}{
		{[]string{"nats.example.com", "127.0.0.1"}, "127.0.0.1"},
		{[]string{"nats.example.com", "localhost"}, "localhost"},
		{[]string{"*.example.com", "nats.example.com"}, "nats.example.com"},
		{[]string{"192.0.2.7"}, "192.0.2.7"},
	} {
		cert, key := selfSigned(t, c.names...)
		set, err := setup.New(setup.Options{TLSCert: cert, TLSKey: key})
		if err != nil {
			t.Fatal(err)
		}
		if want := "tls://" + c.host + ":4222"; set.ClientURL() != want {
			t.Errorf("certificate for %v: %s, want %s", c.names, set.ClientURL(), want)
		}
		if conf := set.ServerConfig(0, "/srv"); !strings.Contains(conf, `listen: "0.0.0.0:4222"`) {
			t.Errorf("with TLS the server does not listen on all addresses:\n%s", conf)
		}
	}
	cert, key := selfSigned(t, "nats.example.com")
	if _, err := setup.New(setup.Options{TLSCert: cert, TLSKey: key, Host: "127.0.0.1"}); !errors.Is(err, setup.ErrOptions) {
		t.Errorf("a host that the certificate does not cover: got %v", err)
	}
}
