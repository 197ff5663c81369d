// Package login gets tokens for people at a terminal: it logs in to an OIDC issuer through the
// browser or by device code, keeps the login in a file, renews it, and hands its ID token to the nats CLI.
package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/nats-io/nkeys"
	"golang.org/x/oauth2"
)

// Errors that a caller tells apart.
var (
	// ErrLoginNeeded says that only a person can go on: with gatehouse login.
	ErrLoginNeeded = errors.New("not logged in: run gatehouse login")
	// ErrIssuer says that the issuer cannot be reached or answers something that is not OIDC.
	ErrIssuer = errors.New("the issuer does not answer as it should")
)

const (
	// defaultWait is how long a person has in the browser.
	defaultWait = 5 * time.Minute
	// requestTimeout bounds each request to the issuer.
	requestTimeout = 10 * time.Second
)

// A DeniedError is the issuer's refusal of a login (RFC 6749, sections 4.1.2.1 and 5.2; RFC 8628, section 3.5).
type DeniedError struct {
	Code        string // such as access_denied
	Description string // the issuer's own words, may be empty
}

// Error says what was refused and what to do about it.
func (e *DeniedError) Error() string {
	what := "the issuer refused the login: " + e.Code
	if e.Description != "" {
		what += " (" + e.Description + ")"
	}
	switch e.Code {
	case "access_denied":
		return what + ": log in again and agree, or ask the issuer's admin for access"
	case "invalid_client", "unauthorized_client", "unsupported_grant_type":
		return what + ": check the client id; the client must be a public one, with the authorization code flow (for a login by device code: the device code grant)"
	case "invalid_grant":
		return what + ": log in again, and answer in the browser without delay"
	case "expired_token":
		return what + ": run the command again, and enter the code before it ends"
	case "invalid_scope":
		return what + ": the issuer knows no such scope for this client: configure others"
	case "temporarily_unavailable", "server_error":
		return what + ": try again later"
	default:
		return what
	}
}

// Config says where to log in and as which program.
type Config struct {
	Issuer   string // exact URL; https, unless it is a loopback one
	ClientID string // of a public client with the authorization code flow, PKCE and refresh tokens
	// Scopes to ask for; openid is added. Without any: profile, email, groups and offline_access,
	// as far as the issuer offers them.
	Scopes []string
	// BindKey binds ID tokens to a key that each login makes: they are of no use without it, see [KeyFile].
	BindKey bool
	Dir     string       // where logins are kept; default [Dir]
	Port    int          // of the redirect URI, for issuers that demand a fixed one; default any free one
	HTTP    *http.Client // for requests to the issuer; default http.DefaultClient
}

// Client logs in as one client of one issuer. Several processes may use the same login.
type Client struct {
	config Config
	http   *http.Client
	cache  cache
	now    func() time.Time
}

// New checks the configuration. Nothing is asked of the issuer yet.
func New(c Config) (*Client, error) {
	if err := checkURL(c.Issuer); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if c.ClientID == "" {
		return nil, errors.New("no client id: issuers[].login.client_id names it")
	}
	if c.Dir == "" {
		dir, err := Dir()
		if err != nil {
			return nil, err
		}
		c.Dir = dir
	}
	return &Client{
		config: c,
		http:   boundedClient(cmp.Or(c.HTTP, http.DefaultClient)),
		cache:  newCache(c.Dir, c.Issuer, c.ClientID),
		now:    time.Now,
	}, nil
}

// Prompt is how a person is asked to log in.
type Prompt struct {
	Show    func(address string)       // is always called first
	Browser func(address string) error // opens the address; nil where there is no desktop. A failure is harmless
	Device  func()                     // may be nil; called where no browser opens but [Client.LoginByDevice] would do as well
	Wait    time.Duration              // how long the person has; default 5 minutes
}

// Login has a person log in and keeps the result in place of the one before. It listens on
// 127.0.0.1 for the browser's return (RFC 8252, section 7.3) and proves with PKCE and S256 that
// the code came to the program that asked for it (RFC 7636).
func (c *Client) Login(ctx context.Context, p Prompt) (Session, error) {
	wait := cmp.Or(p.Wait, defaultWait)
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("no answer from the browser within %v: run the command again, and open the address that it prints", wait))
	defer cancel()
	issuer, err := c.discover(ctx)
	if err != nil {
		return Session{}, err
	}
	attempt, err := newAttempt(issuer, c.config.BindKey)
	if err != nil {
		return Session{}, err
	}
	callback, err := listen(c.config.Port, attempt.state)
	if err != nil {
		return Session{}, err
	}
	defer callback.close()

	address := attempt.address(callback.redirectURI())
	p.Show(address)
	switch {
	case p.Browser != nil:
		_ = p.Browser(address) // the address has been shown
	case p.Device != nil && !c.config.BindKey && issuer.oauth2.Endpoint.DeviceAuthURL != "":
		p.Device()
	}
	answer, err := callback.wait(ctx)
	if err != nil {
		return Session{}, err
	}
	session, err := c.complete(ctx, attempt, answer, callback.redirectURI())
	callback.finish(err)
	return session, err
}

// complete turns the browser's answer into a login that is kept.
func (c *Client) complete(ctx context.Context, a attempt, answer answer, redirectURI string) (Session, error) {
	code, err := answer.code(c.config.Issuer)
	if err != nil {
		return Session{}, err
	}
	kept, err := a.exchange(ctx, code, redirectURI)
	if err != nil {
		return Session{}, err
	}
	return kept.Session, c.keep(ctx, kept)
}

// keep puts a login in the place of the one before.
func (c *Client) keep(ctx context.Context, k kept) error {
	unlock, err := c.cache.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.cache.write(k)
}

// Session returns who is logged in, without asking the issuer; [ErrLoginNeeded] when nobody is.
func (c *Client) Session() (Session, error) {
	kept, err := c.cache.read()
	return kept.Session, err
}

// Logout forgets the login on this machine; at the issuer it goes on. Without one it does nothing.
func (c *Client) Logout(ctx context.Context) error {
	unlock, err := c.cache.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.cache.remove()
}

// attempt is one try to log in.
type attempt struct {
	issuer   *issuer
	state    string
	nonce    string // empty in a login by device code
	verifier string // of PKCE
	keySeed  string // of the key whose public part is the nonce; empty when the token is to be bound to none
}

// newAttempt returns an attempt with 32 random bytes in each of its texts. A nonce that is a public key
// binds the ID token to that key; it is as random as any other.
func newAttempt(i *issuer, bindKey bool) (attempt, error) {
	a := attempt{issuer: i, state: oauth2.GenerateVerifier(), nonce: oauth2.GenerateVerifier(), verifier: oauth2.GenerateVerifier()}
	if !bindKey {
		return a, nil
	}
	key, err := nkeys.CreateUser()
	if err != nil {
		return attempt{}, fmt.Errorf("make the login's key: %w", err)
	}
	defer key.Wipe()
	seed, err := key.Seed()
	if err != nil {
		return attempt{}, fmt.Errorf("make the login's key: %w", err)
	}
	a.keySeed = string(seed)
	a.nonce, err = key.PublicKey()
	return a, err
}

// plain makes what an issuer says fit for a terminal: no control characters, one line, 300 characters at most.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 300 {
		s = string(r[:300]) + "…"
	}
	return strings.TrimSpace(s)
}
