package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gatehouse-nats/gatehouse"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/login"
)

// knownIssuers are the issuers that somebody may log in to.
type knownIssuers struct {
	from string // where they are named, for people
	list []api.LoginIssuer
	http map[string]*http.Client // by URL, those that are reached in another way than others
}

// knownIssuers returns those that the service at an address names; without one, those of the configuration.
func (c *cli) knownIssuers(ctx context.Context, service string) (knownIssuers, error) {
	known := knownIssuers{from: service, http: map[string]*http.Client{}}
	if service != "" {
		d, err := c.discover(ctx, service)
		known.list = d.Issuers
		return known, err
	}
	cfg, err := c.load()
	if err != nil {
		return known, fmt.Errorf("%w: give --url of a service, --issuer URL and --client-id, or a configuration that has them: %w", errUsage, err)
	}
	known.from = cfg.Path()
	for _, i := range cfg.Issuers {
		known.list = append(known.list, loginIssuer(i))
		known.http[i.URL] = i.HTTPClient()
	}
	return known, nil
}

// choose completes conf by the one issuer that the flags mean.
func (k knownIssuers) choose(l loginFlags, conf *login.Config) error {
	means := func(i api.LoginIssuer) bool { return l.issuer == "" || l.issuer == i.Name || l.issuer == i.URL }
	var found []string
	for _, i := range k.list {
		client, bindKey := i.ClientID, i.BindKey
		if l.admin {
			client, bindKey = i.AdminClientID, false
		}
		if client == "" || !means(i) {
			continue
		}
		found = append(found, i.Name)
		conf.Issuer, conf.HTTP, conf.BindKey = i.URL, k.http[i.URL], l.bindKey || bindKey
		conf.ClientID = cmp.Or(l.clientID, client)
		if len(l.scopes) == 0 {
			conf.Scopes = i.Scopes
		}
	}
	key := "login.client_id"
	if l.admin {
		key = "login.admin_client_id"
	}
	switch {
	case len(found) == 1:
		return nil
	case len(found) > 1:
		return fmt.Errorf("%w: several issuers have a login (%s): choose one with --issuer", errUsage, strings.Join(found, ", "))
	case l.issuer != "" && !slices.ContainsFunc(k.list, means):
		return fmt.Errorf("%w: there is no issuer %q in %s", errUsage, l.issuer, k.from)
	default:
		return fmt.Errorf("%w: no issuer in %s has %s: add it, or give --issuer URL and --client-id", errUsage, k.from, key)
	}
}

// discover asks the service at an address what clients need to know.
func (c *cli) discover(ctx context.Context, service string) (api.Discovery, error) {
	base, err := c.serviceURL(service)
	if err != nil {
		return api.Discovery{}, err
	}
	return gatehouse.Discover(ctx, base, &http.Client{Timeout: whoamiTimeout})
}

// servers completes a context by what the service at an address says, or without one by the configuration, and returns the address
// at which the service is reached; empty when nothing says it. The service's sentinel goes into a file in dir.
func (c *cli) servers(ctx context.Context, nc *login.NATSContext, service, dir string) (string, error) {
	if service == "" {
		cfg, err := c.load()
		switch {
		case err == nil:
			nc.URL = cmp.Or(nc.URL, cfg.NATS.URL)
			nc.CA = cmp.Or(nc.CA, cfg.NATS.TLS.CA.Path())
			return cfg.HTTP.Near(), nil
		case nc.URL == "":
			return "", fmt.Errorf("%w: give --url, --server, or a configuration: %w", errUsage, err)
		default:
			return "", nil
		}
	}
	d, err := c.discover(ctx, service)
	if err != nil {
		return "", err
	}
	if nc.URL = cmp.Or(nc.URL, strings.Join(d.NATS, ",")); nc.URL == "" {
		return "", fmt.Errorf("%w: %s does not say where its servers are: give --server, or configure public.nats there", errUsage, service)
	}
	if nc.Sentinel == "" && d.Sentinel != "" {
		nc.Sentinel = filepath.Join(dir, "sentinel-"+nc.Name+".creds")
		if err := login.WriteSecret(nc.Sentinel, []byte(d.Sentinel)); err != nil {
			return "", err
		}
	}
	return c.serviceURL(service)
}
