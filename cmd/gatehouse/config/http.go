package config

import (
	"crypto/tls"
	"encoding"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
)

// Address returns that of the service as its clients know it, without a slash at the end.
func (h *HTTP) Address() string {
	if h.URL != "" {
		return h.URL
	}
	return "http://" + string(h.Listen)
}

// Near returns the address at which commands on the same host reach the service: the listener itself, or, where
// that shows a certificate, the address that the certificate is for.
func (h *HTTP) Near() string {
	if h.TLS.Given() {
		return h.Address()
	}
	return "http://" + string(h.Listen)
}

// http checks how operations are served over HTTP.
func (r *report) http(h *HTTP) {
	r.check("http.url", h.URL, checkServiceURL)
	cert, key := r.given("http.tls.cert"), r.given("http.tls.key")
	switch {
	case cert && !key:
		r.problem("http.tls.cert", "comes without its private key: give http.tls.key")
	case key && !cert:
		r.problem("http.tls.key", "comes without its certificate: give http.tls.cert")
	case !h.TLS.Given() && r.given("http.tls") && !r.wrong["http.tls"]:
		r.problem("http.tls", "names no certificate, and tokens would cross the network in the clear: give cert and key, or leave it out")
	case !h.TLS.Given():
	case h.URL == "":
		r.problem("http.tls", "needs http.url, the address that the certificate is for, such as https://gatehouse.example.com")
	case strings.HasPrefix(h.URL, "http://"):
		r.problem("http.url", "begins with http://, and with http.tls the service answers https alone: write https://")
	}
	if c, k := h.TLS.Cert.pem, h.TLS.Key.pem; c != nil && k != nil {
		pair, err := tls.X509KeyPair(c, k)
		if err != nil {
			// The library's text never quotes the key.
			r.problem("http.tls.key", "%s and %s are no pair: %s: give a certificate and the private key that it was made for", h.TLS.Cert.path, h.TLS.Key.path, err)
		}
		h.TLS.Key.pair = &pair
	}
}

// checkServiceURL checks the address at which clients reach the service.
func checkServiceURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("not the address of a service: write one such as https://gatehouse.example.com")
	case u.Path != "":
		return fmt.Errorf("%s has a path or a slash at the end: clients call /v1/… below it, write it without", quoted(text))
	}
	return nil
}

// Given reports whether the service shows a certificate.
func (t *ServerTLS) Given() bool { return t.Cert.path != "" }

// Certificate returns what the service shows; nil where none is configured.
func (t *ServerTLS) Certificate() *tls.Certificate { return t.Key.pair }

// CertFile holds the certificates that a server shows.
type CertFile struct {
	path string
	pem  []byte
}

func (c *CertFile) parse(text string, f form) (err error) {
	if err = wantText(text, f); err == nil {
		c.path, err = fileName(text)
	}
	return err
}

func (c *CertFile) load(l *loader, _ string, _ tags) (err error) {
	c.path = l.path(c.path)
	c.pem, err = l.readPEM(c.path, false, "certificate")
	return err
}

// MarshalText returns the path.
func (c CertFile) MarshalText() ([]byte, error) { return []byte(c.path), nil }

// CertKey is the private key of a certificate. It prints as its file's path.
type CertKey struct {
	path string
	pem  []byte
	pair *tls.Certificate // with its certificate, once both are checked
}

func (k *CertKey) parse(text string, f form) (err error) {
	if err = wantText(text, f); err == nil {
		k.path, err = fileName(text)
	}
	return err
}

func (k *CertKey) load(l *loader, _ string, _ tags) (err error) {
	k.path = l.path(k.path)
	k.pem, err = l.readPEM(k.path, true, "private key")
	return err
}

// String returns the path.
func (k CertKey) String() string { return k.path }

// GoString keeps the key out of %#v.
func (k CertKey) GoString() string { return k.path }

// MarshalText returns the path.
func (k CertKey) MarshalText() ([]byte, error) { return []byte(k.path), nil }

// readPEM returns the content of a file that holds PEM.
func (l *loader) readPEM(path string, confidential bool, what string) ([]byte, error) {
	data, err := l.read(path, confidential)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block == nil {
		return nil, fmt.Errorf("%s holds no PEM: give the file of the %s", path, what)
	}
	return data, nil
}

// Origin is that of a web page, as browsers write it in the header Origin.
type Origin string

func (o *Origin) parse(text string, f form) error {
	if err := wantText(text, f); err != nil {
		return err
	}
	u, err := url.Parse(text)
	switch {
	case strings.Contains(text, "*"):
		return fmt.Errorf("%s has a wildcard, and a page that should not would call operations: write each origin out", quoted(text))
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return fmt.Errorf("%s is not an origin: write one such as https://portal.example.com", quoted(text))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("%s would let anybody on the way replace the page: use https (http only on loopback)", quoted(text))
	}
	port := u.Port()
	if port == map[string]string{"https": "443", "http": "80"}[u.Scheme] {
		port = ""
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	exact := u.Scheme + "://" + host
	if port != "" {
		exact += ":" + port
	}
	if exact != text {
		return fmt.Errorf("%s is not as browsers send it: write %s", quoted(text), exact)
	}
	*o = Origin(text)
	return nil
}

var (
	_ scalar                 = (*CertFile)(nil)
	_ scalar                 = (*CertKey)(nil)
	_ scalar                 = (*Origin)(nil)
	_ encoding.TextMarshaler = CertFile{}
	_ encoding.TextMarshaler = CertKey{}
)
