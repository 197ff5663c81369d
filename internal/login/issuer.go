package login

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const maxAnswer = 1 << 20 // bytes of one answer of the issuer

// issuer is what discovery tells, bound to the client that logs in.
type issuer struct {
	url      string
	http     *http.Client
	oauth2   oauth2.Config
	verifier *oidc.IDTokenVerifier
	now      func() time.Time
}

// checkURL returns what keeps u from being asked with secrets in hand.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("%q is not an address: write https://HOST", raw)
	case u.Scheme == "https", u.Scheme == "http" && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()):
		return nil
	default:
		return fmt.Errorf("%q does not use TLS: write https", raw)
	}
}

// boundedClient returns a client whose requests end, whose answers have a size, and which takes
// a token or a code nowhere else.
func boundedClient(base *http.Client) *http.Client {
	c := *base
	if c.Timeout == 0 {
		c.Timeout = requestTimeout
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	c.Transport = boundedTransport{c.Transport}
	c.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		if via[0].Method != http.MethodGet || len(via) > 3 {
			return http.ErrUseLastResponse
		}
		return checkURL(next.URL.String())
	}
	return &c
}

type boundedTransport struct{ next http.RoundTripper }

func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

// discover reads the issuer's discovery document.
func (c *Client) discover(ctx context.Context) (*issuer, error) {
	ctx = oidc.ClientContext(ctx, c.http)
	p, err := oidc.NewProvider(ctx, c.config.Issuer)
	if mismatch, ok := errors.AsType[*oidc.IssuerMismatchError](err); ok {
		return nil, fmt.Errorf("%w: it calls itself %q, not %q: configure exactly that address", ErrIssuer, plain(mismatch.Discovered), c.config.Issuer)
	}
	if err != nil {
		return nil, issuerError(ctx, "discovery of "+c.config.Issuer+", check the address and the network", err)
	}
	var offered struct {
		Scopes []string `json:"scopes_supported"`
		JWKS   string   `json:"jwks_uri"`
	}
	if err := p.Claims(&offered); err != nil {
		return nil, fmt.Errorf("%w: its discovery document cannot be read", ErrIssuer)
	}
	endpoint := p.Endpoint()
	endpoints := []string{endpoint.AuthURL, endpoint.TokenURL, offered.JWKS}
	if endpoint.DeviceAuthURL != "" { // not every issuer has it
		endpoints = append(endpoints, endpoint.DeviceAuthURL)
	}
	for _, u := range endpoints {
		if err := checkURL(u); err != nil {
			return nil, fmt.Errorf("%w: an endpoint of its discovery document: %w", ErrIssuer, err)
		}
	}
	endpoint.AuthStyle = oauth2.AuthStyleInParams // a public client has no secret to put into a header
	return &issuer{
		url:      c.config.Issuer,
		http:     c.http,
		oauth2:   oauth2.Config{ClientID: c.config.ClientID, Endpoint: endpoint, Scopes: scopes(c.config.Scopes, offered.Scopes)},
		verifier: p.VerifierContext(ctx, &oidc.Config{ClientID: c.config.ClientID, Now: c.now}),
		now:      c.now,
	}, nil
}

// scopes returns what to ask for: what was wanted, else the useful ones that are offered.
func scopes(wanted, offered []string) []string {
	if len(wanted) == 0 {
		wanted = []string{"profile", "email", "groups", oidc.ScopeOfflineAccess}
		if len(offered) == 0 { // the list is optional in discovery; groups is no standard scope
			offered = []string{"profile", "email", oidc.ScopeOfflineAccess}
		}
		wanted = slices.DeleteFunc(wanted, func(s string) bool { return !slices.Contains(offered, s) })
	}
	if slices.Contains(wanted, oidc.ScopeOpenID) {
		return wanted
	}
	return append([]string{oidc.ScopeOpenID}, wanted...)
}

// address returns where the browser has to go.
func (a attempt) address(redirectURI string) string {
	config := a.issuer.oauth2
	config.RedirectURL = redirectURI
	return config.AuthCodeURL(a.state, oidc.Nonce(a.nonce), oauth2.S256ChallengeOption(a.verifier))
}

// exchange turns a code into a login.
func (a attempt) exchange(ctx context.Context, code, redirectURI string) (kept, error) {
	ctx = oidc.ClientContext(ctx, a.issuer.http)
	config := a.issuer.oauth2
	config.RedirectURL = redirectURI
	tokens, err := config.Exchange(ctx, code, oauth2.VerifierOption(a.verifier))
	if err != nil {
		return kept{}, issuerError(ctx, "exchange of the code", err)
	}
	return a.accept(ctx, tokens)
}

// accept checks that the ID token was made for this attempt, and returns what to keep.
func (a attempt) accept(ctx context.Context, tokens *oauth2.Token) (kept, error) {
	id, k, err := a.issuer.verify(oidc.ClientContext(ctx, a.issuer.http), tokens)
	if err != nil {
		return kept{}, err
	}
	if id.Nonce != a.nonce {
		return kept{}, fmt.Errorf("%w: its ID token was made for another login (nonce): log in again", ErrIssuer)
	}
	if a.keySeed != "" {
		k.Key, k.KeySeed = a.nonce, a.keySeed
	}
	return k, nil
}

// renew uses the refresh token of a login. Its error wraps [ErrLoginNeeded] when the issuer has
// ended the login. What it returns is to be kept also beside an error, when it holds a refresh token.
func (i *issuer) renew(ctx context.Context, old kept) (kept, error) {
	ctx = oidc.ClientContext(ctx, i.http)
	tokens, err := i.oauth2.TokenSource(ctx, &oauth2.Token{RefreshToken: old.RefreshToken}).Token()
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refused.ErrorCode == "invalid_grant" {
		return kept{}, fmt.Errorf("%w: the issuer has ended the login of %s", ErrLoginNeeded, old.Display)
	}
	if err != nil {
		return kept{}, issuerError(ctx, "renewal", err)
	}
	old.RefreshToken = tokens.RefreshToken // the former one where the issuer gave none
	id, renewed, err := i.verify(ctx, tokens)
	if err != nil {
		return old, err
	}
	// OpenID Connect Core 1.0, section 12.2: a refresh never changes who it is.
	if renewed.Subject != old.Subject {
		return kept{}, fmt.Errorf("%w: its ID token speaks of somebody else after a renewal", ErrIssuer)
	}
	// The same section lets issuers leave the nonce out, and most do: the new token would be one that anybody can use.
	if old.Key != "" && id.Nonce != old.Key {
		return old, fmt.Errorf("%w: the issuer's renewed ID token is not bound to the key of the login of %s any more (it has another nonce or none)", ErrLoginNeeded, old.Display)
	}
	renewed.Key, renewed.KeySeed = old.Key, old.KeySeed
	return renewed, nil
}

// verify checks the ID token in an answer of the token endpoint and returns what to keep of the answer.
func (i *issuer) verify(ctx context.Context, tokens *oauth2.Token) (*oidc.IDToken, kept, error) {
	raw, _ := tokens.Extra("id_token").(string)
	if raw == "" {
		return nil, kept{}, fmt.Errorf("%w: it returned no ID token: the scope openid must be allowed for the client, and renewals must return one", ErrIssuer)
	}
	id, err := i.verifier.Verify(ctx, raw)
	if expired, ok := errors.AsType[*oidc.TokenExpiredError](err); ok {
		return nil, kept{}, fmt.Errorf("%w: its new ID token has expired at %s: compare this machine's clock", ErrIssuer, expired.Expiry.Format(time.RFC3339))
	}
	if err != nil {
		return nil, kept{}, issuerError(ctx, "its ID token", err)
	}
	var claims struct {
		Party    string `json:"azp"`
		Username string `json:"preferred_username"`
		Email    string `json:"email"`
		Name     string `json:"name"`
	}
	if err := id.Claims(&claims); err != nil || id.Subject == "" {
		return nil, kept{}, fmt.Errorf("%w: its ID token has no sub, or names that are no texts", ErrIssuer)
	}
	if claims.Party != "" && claims.Party != i.oauth2.ClientID {
		return nil, kept{}, fmt.Errorf("%w: its ID token was made for the client %q", ErrIssuer, plain(claims.Party))
	}
	display := id.Subject
	for _, name := range []string{claims.Name, claims.Email, claims.Username} {
		if name != "" {
			display = name
		}
	}
	return id, kept{
		Session: Session{
			Issuer: i.url, ClientID: i.oauth2.ClientID, Subject: id.Subject, Display: plain(display),
			Obtained: i.now().UTC().Truncate(time.Second), Expires: id.Expiry.UTC(), Renewable: tokens.RefreshToken != "",
		},
		IDToken: raw, RefreshToken: tokens.RefreshToken,
	}, nil
}

// issuerError says what became of a request to the issuer, without what was sent.
func issuerError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		if refused.ErrorCode != "" {
			return &DeniedError{Code: plain(refused.ErrorCode), Description: plain(refused.ErrorDescription)}
		}
		return fmt.Errorf("%w: %s: %s", ErrIssuer, what, plain(refused.Response.Status))
	}
	// The request's address is known, and go-oidc's errors quote whole answers.
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	return fmt.Errorf("%w: %s: %s", ErrIssuer, what, plain(strings.TrimPrefix(err.Error(), "oidc: ")))
}
