package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxDocument  = 1 << 20 // bytes of a discovery document or JWKS
	maxRedirects = 3
)

// discovery is what is needed of a discovery document (Discovery 1.0 section 3).
type discovery struct {
	Issuer     string   `json:"issuer"`
	KeysURL    string   `json:"jwks_uri"`
	Algorithms []string `json:"id_token_signing_alg_values_supported"`
}

// fetcher gets the documents of one issuer.
type fetcher struct {
	issuer  *Issuer
	client  http.Client
	timeout time.Duration // of each request
}

func newFetcher(issuer *Issuer, client *http.Client, timeout time.Duration) *fetcher {
	f := &fetcher{issuer: issuer, client: *client, timeout: timeout}
	f.client.CheckRedirect = sameHost
	return f
}

// sameHost follows a few redirects within one scheme and host: where keys may come from is
// the configuration's word and the discovery document's, not that of whoever redirects.
func sameHost(req *http.Request, via []*http.Request) error {
	from := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case req.URL.Scheme != from.Scheme || req.URL.Host != from.Host:
		return fmt.Errorf("redirected to another host: %s://%s", req.URL.Scheme, req.URL.Host)
	}
	return nil
}

// keys fetches the JWKS, from where the discovery document says unless the issuer does. A set
// without any usable key is returned too, together with an error that says so.
func (f *fetcher) keys(ctx context.Context) (set *keySet, skipped []error, err error) {
	location, algorithms, err := f.locate(ctx)
	if err != nil {
		return nil, nil, err
	}
	data, err := f.get(ctx, location)
	if err != nil {
		return nil, nil, err
	}
	set = &keySet{algorithms: algorithms, digest: sha256.Sum256(data)}
	if set.keys, skipped, err = parseKeys(data); err != nil {
		return nil, nil, fmt.Errorf("%s cannot be used: %w", location, err)
	}
	if algorithms == nil {
		set.algorithms = set.derived()
	}
	if len(set.keys) == 0 {
		err = fmt.Errorf("%s cannot be used: %w", location, noKey(skipped))
	}
	return set, skipped, err
}

// locate returns where the JWKS is, and the algorithms that the issuer says it signs with; nil
// when nobody asks it.
func (f *fetcher) locate(ctx context.Context) (location string, algorithms []string, err error) {
	if f.issuer.KeysURL != "" {
		return f.issuer.KeysURL, nil, nil
	}
	document, err := f.discover(ctx)
	if err != nil {
		return "", nil, err
	}
	if location, err = f.issuer.keysURL(document.KeysURL); err != nil {
		return "", nil, fmt.Errorf("the discovery document cannot be used: %w", err)
	}
	algorithms, err = document.asymmetric()
	return location, algorithms, err
}

func (f *fetcher) discover(ctx context.Context) (*discovery, error) {
	location := strings.TrimSuffix(f.issuer.URL, "/") + "/.well-known/openid-configuration" // Discovery 1.0 section 4.1
	data, err := f.get(ctx, location)
	if err != nil {
		return nil, err
	}
	var document discovery
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("%s is not a discovery document: %w", location, err)
	}
	// Discovery 1.0 section 4.3: exactly, since it must be the iss of the tokens.
	if document.Issuer != f.issuer.URL {
		return nil, fmt.Errorf("%s is of issuer %q: write the issuer's url exactly like that, slash at the end included, if that is the one meant",
			location, clip(document.Issuer))
	}
	return &document, nil
}

// asymmetric returns those of the issuer's algorithms that are accepted of anybody.
func (d *discovery) asymmetric() ([]string, error) {
	if len(d.Algorithms) == 0 {
		return []string{string(jose.RS256)}, nil // Discovery 1.0 section 3: it must be among them
	}
	algorithms := slices.DeleteFunc(slices.Clone(d.Algorithms), func(a string) bool { return !isAsymmetric(a) })
	if len(algorithms) == 0 {
		return nil, errors.New("the discovery document names no asymmetric algorithm: have the issuer sign ID tokens with RS256, ES256 or EdDSA")
	}
	return algorithms, nil
}

// get returns the document at an address.
func (f *fetcher) get(ctx context.Context, location string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	req.Header.Set("User-Agent", "gatehouse")
	if err := f.authorize(req); err != nil {
		return nil, err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, untrusted(err) // names method, address and cause
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fmt.Errorf("GET %s: answered %s: have it let anybody read its keys, or give a credential in the issuer's token_file", location, resp.Status)
	default:
		return nil, fmt.Errorf("GET %s: answered %s", location, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("GET %s: %w", location, err)
	case len(data) > maxDocument:
		return nil, fmt.Errorf("GET %s: the answer is longer than %d bytes", location, maxDocument)
	}
	return data, nil
}

// authorize adds the issuer's credential, unless the request would show it to others.
func (f *fetcher) authorize(req *http.Request) error {
	if f.issuer.Credential == nil {
		return nil
	}
	if req.URL.Scheme != "https" && !loopback(req.URL.Hostname()) {
		return fmt.Errorf("GET %s: not asked, since the credential would travel unencrypted: use https", req.URL)
	}
	credential, err := f.issuer.Credential()
	if err != nil {
		return fmt.Errorf("GET %s: not asked, for want of the credential: %w", req.URL, err)
	}
	req.Header.Set("Authorization", "Bearer "+credential)
	return nil
}

// untrusted adds what to do to an error about the issuer's certificate.
func untrusted(err error) error {
	if _, is := errors.AsType[x509.UnknownAuthorityError](err); is {
		return fmt.Errorf("%w: give that authority's certificate in the issuer's tls.ca", err)
	}
	if _, is := errors.AsType[x509.HostnameError](err); is {
		return fmt.Errorf("%w: ask it under a name that its certificate holds, or have the certificate replaced", err)
	}
	if invalid, is := errors.AsType[x509.CertificateInvalidError](err); is && invalid.Reason == x509.Expired {
		return fmt.Errorf("%w: have the issuer's certificate renewed, unless this host's clock is wrong", err)
	}
	return err
}

// newClient returns the client for issuers that bring none. It keeps connections no longer
// than for the two requests of one fetch.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    10 * time.Second,
		IdleConnTimeout:        10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}}
}
