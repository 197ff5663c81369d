package main

import (
	"crypto/tls"
	"net/http"

	"github.com/gatehouse-nats/gatehouse/provision"
)

// publicServer speaks TLS where a certificate is configured, with the one of the configuration in force.
func (d *daemon) publicServer(h http.Handler) *http.Server {
	s := provision.NewServer(h)
	if d.cfg.Load().HTTP.TLS.Given() {
		s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return d.cfg.Load().HTTP.TLS.Certificate(), nil
		}}
	}
	return s
}

// web returns which pages and proxies calls may come through. The service's own pages are among them.
func (d *daemon) web() provision.Web {
	h := &d.cfg.Load().HTTP
	w := provision.Web{Origins: []string{h.Address()}}
	for _, o := range h.Origins {
		w.Origins = append(w.Origins, string(o))
	}
	for _, p := range h.Proxies {
		w.Proxies = append(w.Proxies, p.Prefix)
	}
	return w
}
