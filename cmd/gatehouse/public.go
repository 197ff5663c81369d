package main

import (
	"crypto/tls"
	"net/http"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
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

// discovery returns what clients are told before they log in.
func (d *daemon) discovery() api.Discovery {
	cfg := d.cfg.Load()
	out := api.Discovery{
		Versions: []string{api.Version}, URL: cfg.HTTP.Address(), Issuers: []api.LoginIssuer{},
		NATS: append([]string{}, cfg.Public.NATS...), WebSocket: append([]string{}, cfg.Public.WebSocket...), Sentinel: cfg.Public.Sentinel.Content(),
	}
	if cfg.Lobby() != "" {
		out.Lobby = policy.LobbyName
	}
	for _, i := range cfg.Issuers {
		out.Issuers = append(out.Issuers, loginIssuer(i))
	}
	return out
}

func loginIssuer(i *config.Issuer) api.LoginIssuer {
	return api.LoginIssuer{
		Name: i.Name, URL: i.URL, Audiences: i.Audiences, ClientID: i.Login.ClientID, AdminClientID: i.Login.AdminClientID,
		Scopes: i.Login.Scopes, BindKey: i.Login.BindKey,
	}
}
