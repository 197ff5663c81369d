// Package devstack is what gatehouse dev runs around the service: an OIDC provider with demo users and embedded
// nats-servers. Tests use both.
package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	defaultTokenTTL = time.Hour
	closeTimeout    = 2 * time.Second
	maxRequestBytes = 16 << 10
)

// ProviderOptions say how a demo provider is run; the zero value suits tests.
type ProviderOptions struct {
	Listen    string        // loopback address; default 127.0.0.1 on a free port
	Dir       string        // an existing folder for keys and refresh tokens; default: they end with the provider
	Algorithm Algorithm     // of the signing key; default: the kept key's, else ES256
	Users     []User        // default DemoUsers()
	TokenTTL  time.Duration // of ID and access tokens; default one hour
	Log       *slog.Logger  // for what the HTTP server reports; default slog.Default()
}

// Provider is an OIDC provider on a loopback address, over plain HTTP, with users whose passwords are public. It offers
// discovery, JWKS, the authorization code flow with PKCE, refresh tokens and the device flow (RFC 8628) to the clients
// ClientID and AdminClientID. The ID token is the one to send to NATS: its aud is [Audience, ClientID]; the access token is a JWT with the
// same claims of the user, whose aud contains Audience.
type Provider struct {
	issuer string
	keys   *Keys
	users  []User
	outage *outage
	server *http.Server
	cancel context.CancelFunc // ends requests in progress
	served chan error         // the result of Serve
	close  func() error       // once
}

// StartProvider listens and serves until Close.
func StartProvider(opts ProviderOptions) (*Provider, error) {
	opts = opts.withDefaults()
	listener, err := listenLoopback(opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("demo OIDC provider: %w", err)
	}
	p, err := newProvider("http://"+listener.Addr().String(), opts)
	if err != nil {
		return nil, fmt.Errorf("demo OIDC provider: %w", errors.Join(err, listener.Close()))
	}
	go func() { p.served <- p.server.Serve(listener) }()
	return p, nil
}

func (o ProviderOptions) withDefaults() ProviderOptions {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Users == nil {
		o.Users = DemoUsers()
	}
	if o.TokenTTL == 0 {
		o.TokenTTL = defaultTokenTTL
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// listenLoopback refuses other addresses: the passwords are public.
func listenLoopback(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return nil, errors.Join(
			fmt.Errorf("%s is reachable from other machines, but the passwords are public; listen on 127.0.0.1", address),
			listener.Close())
	}
	return listener, nil
}

func newProvider(issuer string, opts ProviderOptions) (*Provider, error) {
	for _, user := range opts.Users {
		if user.Name == "" {
			return nil, errors.New("a demo user has no name")
		}
	}
	keys, err := openOrCreateKeys(opts.Dir, issuer, opts.Algorithm)
	if err != nil {
		return nil, err
	}
	storage, err := newStorage(keys, opts.Users, opts.TokenTTL, opts.Dir)
	if err != nil {
		return nil, err
	}
	protocol, err := newProtocol(issuer, storage)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	login := loginPages{storage: storage}.handler()
	for _, path := range []string{loginPath, devicePath, stylePath, "/{$}"} {
		mux.Handle(path, login)
	}
	mux.Handle("/", pagesMayRead(protocol))

	ctx, cancel := context.WithCancel(context.Background())
	p := &Provider{
		issuer: issuer, keys: keys, users: opts.Users, cancel: cancel, served: make(chan error, 1),
		outage: newOutage(onlyLoopbackHosts(http.MaxBytesHandler(mux, maxRequestBytes))),
	}
	p.server = &http.Server{
		Handler:           p.outage,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxRequestBytes,
		ErrorLog:          slog.NewLogLogger(opts.Log.Handler(), slog.LevelWarn),
	}
	p.close = sync.OnceValue(p.shutdown)
	return p, nil
}

// newProtocol is everything but the pages.
func newProtocol(issuer string, storage *storage) (http.Handler, error) {
	config := &op.Config{
		DefaultLogoutRedirectURI: "/",
		CodeMethodS256:           true,
		GrantTypeRefreshToken:    true,
		SupportedScopes:          []string{"openid", "profile", "email", "offline_access", scopeGroups},
		SupportedClaims: []string{
			"iss", "sub", "aud", "azp", "exp", "iat", "auth_time", "nonce", "amr", "jti", "sid",
			"name", "preferred_username", "email", "email_verified", "groups",
		},
		DeviceAuthorization: op.DeviceAuthorizationConfig{
			Lifetime: loginLifetime, PollInterval: 2 * time.Second, UserFormPath: devicePath, UserCode: op.UserCodeBase20,
		},
	}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		return nil, err
	}
	algorithms := []string{string(RS256), string(ES256), string(EdDSA)}
	return op.NewProvider(config, storage, op.StaticIssuer(issuer),
		op.WithAllowInsecure(), // loopback only
		op.WithCORSOptions(nil),
		op.WithAccessTokenVerifierOpts(op.WithSupportedAccessTokenSigningAlgorithms(algorithms...)),
		op.WithIDTokenHintVerifierOpts(op.WithSupportedIDTokenHintSigningAlgorithms(algorithms...)),
	)
}

// onlyLoopbackHosts refuses requests under any other host name: a web site that lets its own name resolve to a loopback
// address would otherwise be of the provider's origin.
func onlyLoopbackHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := (&url.URL{Host: r.Host}).Hostname()
		if !loopbackHost(host) {
			http.Error(w, "unknown host", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// pagesMayRead lets web pages that are served on this machine read discovery, keys and tokens, as an application that
// runs in the browser has to. They send no cookies along; pages of other origins may read nothing.
func pagesMayRead(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if u, err := url.Parse(origin); err != nil || !loopbackHost(u.Hostname()) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", origin)
		if r.Method == http.MethodOptions {
			w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loopbackHost(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// Issuer returns the issuer URL, without a slash at its end.
func (p *Provider) Issuer() string { return p.issuer }

// Users returns the users that can log in.
func (p *Provider) Users() []User { return p.users }

// Keys returns the signing keys.
func (p *Provider) Keys() *Keys { return p.keys }

// Token mints a token for the user of that name without a login; see Keys.MintToken.
func (p *Provider) Token(user, audience string, ttl time.Duration, extra map[string]any) (string, error) {
	found, err := FindUser(p.users, user)
	if err != nil {
		return "", err
	}
	return p.keys.MintToken(found, audience, ttl, extra)
}

// RotateKeys makes a new signing key of the present algorithm; the older ones stay published (the newest 8 in all).
func (p *Provider) RotateKeys() error { return p.keys.rotate("") }

// SetAlgorithm makes a new signing key of that algorithm; the older ones stay published.
func (p *Provider) SetAlgorithm(algorithm Algorithm) error { return p.keys.rotate(algorithm) }

// RetireKeys withdraws every published key but the signing one.
func (p *Provider) RetireKeys() error { return p.keys.retire() }

// SetDelay makes each answer wait for d after its request arrived, until changed; requests that wait already follow a
// change. Zero ends the delay.
func (p *Provider) SetDelay(d time.Duration) {
	p.outage.set(func() { p.outage.delay = d })
}

// SetDown cuts every connection without an answer, until called with false.
func (p *Provider) SetDown(down bool) {
	// Without kept connections a client cannot take the cut for a stale one and send its request twice.
	p.server.SetKeepAlivesEnabled(!down)
	p.outage.set(func() { p.outage.down = down })
}

// JWKSFetches returns how many requests for the key set have arrived, answered or not.
func (p *Provider) JWKSFetches() int64 { return p.outage.jwks.Load() }

// DiscoveryFetches returns how many requests for the discovery document have arrived, answered or not.
func (p *Provider) DiscoveryFetches() int64 { return p.outage.discoveries.Load() }

// Close ends requests in progress and returns when nothing runs any more. Further calls return the same.
func (p *Provider) Close() error { return p.close() }

func (p *Provider) shutdown() error {
	p.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := p.server.Shutdown(ctx)
	if err != nil { // a client holds on
		err = p.server.Close()
	}
	if served := <-p.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("demo OIDC provider: %w", err)
	}
	return nil
}
