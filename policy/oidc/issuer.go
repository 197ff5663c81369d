package oidc

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ErrIssuer says that an issuer is not configured in a way that could work.
var ErrIssuer = errors.New("invalid issuer")

// Issuer configures one OIDC issuer.
type Issuer struct {
	Name      string   // [a-z0-9]{1,16}
	URL       string   // the exact iss of its tokens; discovery is at URL/.well-known/openid-configuration
	Keys      *Keys    // its keys; nil means that they are fetched
	KeysURL   string   // where they are fetched; empty means where discovery says
	Audiences []string // at least one; a token must name one of them
	// AdminAudiences make a token one for administration, which [Verifier.VerifyAdmin] takes: one of
	// them must be in its aud, and none of Audiences. Without any, the issuer has no such tokens.
	AdminAudiences []string
	// Algorithms are the signature algorithms accepted of this issuer; empty means the
	// asymmetric ones that its discovery document names, or without discovery its keys, see
	// [Keys.Algorithms].
	Algorithms []string
	MaxAge     time.Duration // longest time since iat; 0 means no bound
	Logout     LogoutRules   // of its logout tokens
	Rules      string        // version of the rules that it is configured beside; identities carry it
	// AllowHTTP accepts an unencrypted URL on a host other than this one: whoever can change
	// what travels there can then log in as anybody.
	AllowHTTP bool
	Client    *http.Client // how to reach the issuer; nil means a default one; its redirect policy is not used
	// Credential returns a bearer token that is sent with every fetch, to the issuer and to where
	// it says that its keys are, and never unencrypted to another host. Nil means none is.
	Credential func() (string, error)
}

// LogoutRules say which logout tokens of an issuer are accepted, and what they end.
type LogoutRules struct {
	// Audiences are the client ids that its logout tokens are made for; without any, none is accepted.
	Audiences []string
	// EndIdentity has a logout token that names an identity end all of its sessions, for issuers
	// whose tokens do not say of which session they are.
	EndIdentity bool
}

// source tells where the issuer's keys come from.
func (i *Issuer) source() string {
	if i.Keys != nil {
		return "given"
	}
	return i.KeysURL
}

// asymmetric are the algorithms that an issuer may be pinned to. None and HMAC are not
// among them: a key that everybody may read must not be able to sign.
var asymmetric = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512,
	jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512,
	jose.EdDSA,
}

// Algorithms lists the signature algorithms (RFC 7518 section 3.1) that an issuer may be
// pinned to: the asymmetric ones.
func Algorithms() []string {
	names := make([]string, len(asymmetric))
	for i, a := range asymmetric {
		names[i] = string(a)
	}
	return names
}

func isAsymmetric(algorithm string) bool {
	return slices.Contains(asymmetric, jose.SignatureAlgorithm(algorithm))
}

var issuerName = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

const maxURL = 1024 // bytes of an issuer's or JWKS URL

// validate returns everything that is wrong with the issuer, each part wrapping [ErrIssuer].
func (i *Issuer) validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w %q: %w", ErrIssuer, i.Name, fmt.Errorf(format, args...)))
	}
	if !issuerName.MatchString(i.Name) {
		fault("its name must be 1 to 16 characters of a-z and 0-9")
	}
	if err := i.validateURL(); err != nil {
		fault("%w", err)
	}
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		fault("it needs audiences, none of them empty: a token made for another service must not open this one")
	}
	if slices.Contains(i.AdminAudiences, "") {
		fault("an audience for administration is empty: a token without one would count")
	}
	for _, a := range i.AdminAudiences {
		if slices.Contains(i.Audiences, a) {
			fault("audience %q is for logins and for administration: every login token would be one of an admin", a)
		}
	}
	for _, a := range i.Algorithms {
		if !isAsymmetric(a) {
			fault("algorithm %q is not accepted of anybody: use some of %s", a, strings.Join(Algorithms(), ", "))
		}
	}
	if err := i.validateKeys(); err != nil {
		fault("%w", err)
	}
	if i.MaxAge < 0 {
		fault("its maximum age %s is negative: use 0 for none", i.MaxAge)
	}
	if len(i.Logout.Audiences) > 0 && i.MaxAge == 0 {
		fault("it sends logout tokens and has no maximum age: what they end would have to be known for ever")
	}
	return errors.Join(errs...)
}

func (i *Issuer) validateURL() error {
	u, err := parseURL(i.URL)
	if err != nil {
		return fmt.Errorf("url %w", err)
	}
	// Discovery 1.0 section 3: an issuer has neither.
	if u.RawQuery != "" || u.ForceQuery {
		return fmt.Errorf("url %q holds a query: write it as the iss claim has it", i.URL)
	}
	if u.Scheme == "http" && i.source() == "" && !i.AllowHTTP && !loopback(u.Hostname()) {
		return fmt.Errorf("url %q is not https: keys that come unencrypted can be replaced on the way", i.URL)
	}
	return nil
}

func (i *Issuer) validateKeys() error {
	switch {
	case i.Keys != nil && i.KeysURL != "":
		return errors.New("has keys that are given and a URL to fetch them: choose one")
	case i.Keys != nil && len(i.Algorithms) > 0 && !i.Keys.Fit(i.Algorithms):
		return fmt.Errorf("none of its keys is for %s", strings.Join(i.Algorithms, ", "))
	case i.KeysURL == "":
		return nil
	}
	u, err := parseURL(i.KeysURL)
	if err != nil {
		return fmt.Errorf("keys url %w", err)
	}
	if u.Scheme == "http" && !i.AllowHTTP && !loopback(u.Hostname()) {
		return fmt.Errorf("keys url %q is not https: keys that come unencrypted can be replaced on the way", i.KeysURL)
	}
	return nil
}

// keysURL returns where the JWKS is, as the discovery document says. It must be encrypted
// unless the issuer itself need not be.
func (i *Issuer) keysURL(raw string) (string, error) {
	u, err := parseURL(raw)
	if err != nil {
		return "", fmt.Errorf("jwks_uri %w", err)
	}
	if u.Scheme == "http" && !strings.HasPrefix(i.URL, "http://") {
		return "", fmt.Errorf("jwks_uri %q is not https as the issuer is", raw)
	}
	if u.Scheme == "http" && !i.AllowHTTP && !loopback(u.Hostname()) {
		return "", fmt.Errorf("jwks_uri %q is not https: keys that come unencrypted can be replaced on the way", raw)
	}
	return raw, nil
}

// parseURL returns an absolute http or https URL without credentials and fragment.
func parseURL(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, fmt.Errorf("is longer than %d bytes", maxURL)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("cannot be parsed: write it as https://host/path") // err would repeat a password
	case u.User != nil:
		return nil, errors.New("holds a user name: leave it out")
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "", u.Opaque != "":
		return nil, fmt.Errorf("%q is not an absolute https URL", raw)
	case strings.Contains(raw, "#"):
		return nil, fmt.Errorf("%q holds a fragment: leave it out", raw)
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
