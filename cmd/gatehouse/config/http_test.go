package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// secured is what a service that speaks TLS adds to its configuration.
const secured = `
http:
  listen: 0.0.0.0:8420
  url: https://gatehouse.example.com
  tls: { cert: cert.pem, key: file:key.pem }
  origins: ["https://portal.example.com", "https://portal.example.com:8443", "http://localhost:3000", "http://127.0.0.1", "http://[::1]:3000"]
  proxies: [10.0.0.0/8, "2001:db8::1"]
`

func TestHTTP(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.mustLoad(small + secured)
	if len(c.Warnings) > 0 || c.HTTP.TLS.Certificate() == nil || c.HTTP.Address() != "https://gatehouse.example.com" || c.HTTP.Near() != "https://gatehouse.example.com" {
		t.Errorf("warnings %v, certificate %v, address %s", c.Warnings, c.HTTP.TLS.Certificate(), c.HTTP.Address())
	}
	if diff := cmp.Diff([]Origin{"https://portal.example.com", "https://portal.example.com:8443", "http://localhost:3000", "http://127.0.0.1", "http://[::1]:3000"}, c.HTTP.Origins); diff != "" {
		t.Errorf("origins (-want +got):\n%s", diff)
	}
	if printed := fmt.Sprintf("%v %+v %#v", c.HTTP.TLS, c.HTTP.TLS, c.HTTP.TLS.Key); strings.Contains(printed, "PRIVATE") || !strings.Contains(printed, "key.pem") {
		t.Errorf("the private key prints as %s", printed)
	}
	plain := f.mustLoad(small + "http: { url: \"https://gatehouse.example.com\" }\n")
	if plain.HTTP.TLS.Certificate() != nil || plain.HTTP.Near() != "http://127.0.0.1:8420" || plain.HTTP.Address() != "https://gatehouse.example.com" {
		t.Errorf("behind a proxy: near %s, address %s", plain.HTTP.Near(), plain.HTTP.Address())
	}
}

// A private key that others on the host can read is refused.
func TestPrivateKeyOfTheServiceIsItsOwn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if err := os.Chmod(filepath.Join(f.dir, "key.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.load(small + secured); err == nil || !strings.Contains(err.Error(), "run chmod 600") {
		t.Errorf("%v", err)
	}
}

// A renewed certificate needs no restart; one that does not belong to its key leaves the old one in force.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	w, err := NewWatcher(f.mustLoad(small+secured), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	certificate, private := testPair(t)
	f.write("cert.pem", certificate)
	if u := w.Reload(); u.Err == nil || !strings.Contains(u.Err.Error(), "are no pair") {
		t.Fatalf("half of a new pair: %+v", u)
	}
	f.write("key.pem", private)
	u := w.Reload()
	if u.Err != nil || u.Restart != nil {
		t.Fatalf("a new pair: %+v", u)
	}
	if got := u.Config.HTTP.TLS.Certificate().Certificate[0]; string(got) == string(w.started.HTTP.TLS.Certificate().Certificate[0]) {
		t.Error("it is the old one")
	}
}
