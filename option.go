package gatehouse

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Option is a choice of the caller of [Connect].
type Option func(*config) error

type config struct {
	sentinel     sentinel
	key          boundKey
	account      string
	privateInbox bool
	whoami       *url.URL
	httpClient   *http.Client
	silence      time.Duration // see the constant
	nats         []nats.Option
}

func newConfig(opts []Option) (config, error) {
	cfg := config{httpClient: http.DefaultClient, silence: silence}
	var errs []error
	for _, o := range opts {
		errs = append(errs, o(&cfg))
	}
	if cfg.key.given() && cfg.sentinel.read != nil {
		errs = append(errs, cfg.sentinel.leavesSigning())
	}
	return cfg, errors.Join(errs...)
}

// WithSentinel sends the given sentinel with each login: the contents of its creds file, or
// its user JWT alone where it is a bearer one. It is not needed where the servers have a default sentinel.
func WithSentinel(credsOrJWT []byte) Option {
	return func(c *config) error {
		c.sentinel = sentinelBytes(credsOrJWT)
		_, err := c.sentinel.jwt()
		return err
	}
}

// WithSentinelFile is [WithSentinel] with a file, which is read anew for each login.
func WithSentinelFile(path string) Option {
	return func(c *config) error {
		c.sentinel = sentinelFile(path)
		_, err := c.sentinel.jwt()
		return err
	}
}

// WithKey proves at each login that this program holds the user key to which its tokens are bound: it
// signs the nonce that the server makes for the connection. The token is bound when its OIDC
// authentication request had [Nonce] of the key as nonce, and then it is of no use without the key. A
// sentinel that is given as well must be a bearer one, as those of Gatehouse are: a connection signs with one
// key. Where the server sends no nonce the error is [ErrNoNonce].
func WithKey(key nkeys.KeyPair) Option {
	return func(c *config) error {
		c.key = keyInMemory(key)
		_, err := c.key.public()
		return err
	}
}

// WithKeyFile is [WithKey] with a file that holds the key's seed (SU…), such as gatehouse login
// --bind-key writes. It is read anew for each login.
func WithKeyFile(path string) Option {
	return func(c *config) error {
		c.key = keyFile(path)
		_, err := c.key.public()
		return err
	}
}

// WithAccount asks for an account by its name, 1 to 256 bytes. It is needed by an identity that
// is granted several; it takes precedence over the account of an envelope that the source gives.
func WithAccount(name string) Option {
	return func(c *config) error {
		if name == "" || len(name) > maxAccountName {
			return fmt.Errorf("gatehouse: an account's name has 1 to %d bytes, this one has %d", maxAccountName, len(name))
		}
		c.account = name
		return nil
	}
}

// WithPrivateInbox receives replies under the identity's private inbox prefix, which no other
// identity may subscribe to where roles use {{inbox}}. The prefix follows from the iss and sub
// of the first token; a later token of another identity is an error and is not sent.
func WithPrivateInbox() Option {
	return func(c *config) error {
		c.privateInbox = true
		return nil
	}
}

// WithWhoami names the HTTP address of the service, such as https://gatehouse.example.com. The
// reason of a refusal is fetched there, with the token that was refused: so it must be an https
// address unless it is a loopback one. See [RefusedError].
func WithWhoami(baseURL string) Option {
	return func(c *config) error {
		u, err := serviceURL(baseURL)
		c.whoami = u
		return err
	}
}

// serviceURL returns the HTTP address of a service to which a token may be sent.
func serviceURL(address string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSuffix(address, "/"))
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("gatehouse: %q is not the HTTP address of a service: write https://HOST", address)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, fmt.Errorf("gatehouse: %q would get the token without TLS: use https", address)
	}
	return u, nil
}

// loopback reports whether a host of a URL is this machine.
func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// WithHTTPClient sets the client that [WithWhoami] uses, for a private certificate authority or a proxy.
func WithHTTPClient(client *http.Client) Option {
	return func(c *config) error {
		if client == nil {
			return errors.New("gatehouse: the HTTP client is nil")
		}
		c.httpClient = client
		return nil
	}
}

// WithNATSOptions passes options on to nats.go. They take precedence over the defaults that
// [Connect] lists, but must not authenticate: no token, creds or nkey.
//
// An error handler among them also learns of logins that fail while the connection is being
// restored: of [ErrNoToken], and with [WithWhoami] once a minute of a refusal as a
// [*RefusedError], in a goroutine of its own.
func WithNATSOptions(opts ...nats.Option) Option {
	return func(c *config) error {
		c.nats = append(c.nats, opts...)
		return nil
	}
}
