package config

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

const (
	// issuerTimeout bounds a request to an issuer with certificate authorities of its own.
	issuerTimeout = 10 * time.Second
	maxDisplay    = 16
	// logoutMaxAge is the max_age of an issuer that logs people out and has none: no logout could be
	// forgotten while tokens from before it may still be valid.
	logoutMaxAge = 30 * 24 * time.Hour
	// endIdentity is the value of logout.ends for all sessions of an identity.
	endIdentity = "identity"
)

var issuerName = regexp.MustCompile(`^[a-z0-9]{1,16}$`)

// reservedIssuer begins the principal names of programs, which no issuer speaks for.
const reservedIssuer = "prog"

// algorithms are the signature algorithms that can be pinned (RFC 7518, RFC 8037), all asymmetric.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// issuers checks the issuers and returns their display claims by name.
func (r *report) issuers(list []*Issuer) map[string][]policy.ClaimPath {
	display := map[string][]policy.ClaimPath{}
	names, urls := map[string]int{}, map[string]int{}
	for i, is := range list {
		at := index("issuers", i)
		r.unique(names, join(at, "name"), is.Name, i)
		if first, twice := urls[is.URL]; twice && is.URL != "" {
			r.problem(join(at, "url"), "%s is that of element [%d] too, and a token's iss could mean either: give each issuer a URL of its own (a Kubernetes cluster gets one by --service-account-issuer)", quoted(is.URL), first)
		} else {
			urls[is.URL] = i
		}
		r.check(join(at, "name"), is.Name, checkIssuerName)
		r.check(join(at, "url"), is.URL, is.checkURL)
		r.issuerKeys(at, is)
		r.adminLogin(at, is)
		for j, a := range is.AdminAudiences {
			if slices.Contains(is.Audiences, a) {
				r.problem(index(join(at, "admin_audiences"), j), "%s is in audiences too, so that every login token would be one of an admin: have the issuer make tokens of another audience for administration", quoted(a))
			}
		}
		for j, a := range is.Algorithms {
			r.check(index(join(at, "algorithms"), j), a, checkAlgorithm)
		}
		if is.Logout.Ends == endIdentity && len(is.Logout.Audiences) == 0 {
			r.problem(join(join(at, "logout"), "ends"), "has no effect without logout.audiences: name the client ids that logout tokens are made for")
		}
		paths := r.claimPaths(join(at, "display"), is.Display)
		if len(paths) > maxDisplay {
			r.problem(join(at, "display"), "names %d claims: every record carries them, keep to %d", len(paths), maxDisplay)
		}
		if len(paths) > 0 {
			display[is.Name] = paths
		}
	}
	return display
}

// check reports what a check says of a text, unless there is none.
func (r *report) check(path, text string, check func(string) error) {
	if text == "" {
		return // missing, or reported when it was decoded
	}
	if err := check(text); err != nil {
		r.problem(path, "%s", err)
	}
}

// unique reports a text that another element of the list has too.
func (r *report) unique(seen map[string]int, path, text string, i int) {
	if text == "" {
		return
	}
	if first, twice := seen[text]; twice {
		r.problem(path, "%s is that of element [%d] too: give each its own", quoted(text), first)
		return
	}
	seen[text] = i
}

func (r *report) claimPaths(path string, list []string) []policy.ClaimPath {
	var paths []policy.ClaimPath
	for i, s := range list {
		p, err := policy.ParseClaimPath(s)
		if err != nil {
			r.problem(index(path, i), "%s: write the name of a claim, such as email", err)
			continue
		}
		paths = append(paths, p)
	}
	return paths
}

func checkIssuerName(name string) error {
	switch {
	case name == reservedIssuer:
		return fmt.Errorf("%s is kept for programs: choose another name", name)
	case !issuerName.MatchString(name):
		return fmt.Errorf("%s is not a name for an issuer: use 1 to 16 of a-z and 0-9", quoted(name))
	default:
		return nil
	}
}

// issuerKeys checks what says how the issuer's keys are come by.
func (r *report) issuerKeys(at string, is *Issuer) {
	if is.JWKS.keys == nil {
		return
	}
	if len(is.Algorithms) > 0 && !is.JWKS.keys.Fit(is.Algorithms) {
		r.problem(join(at, "algorithms"), "no key in %s is for %s: correct one of them", is.JWKS.path, orList(is.Algorithms))
	}
	if is.TokenFile.path != "" {
		r.problem(join(at, "token_file"), "would not be used, since the keys come from a file: leave it out")
	}
	if is.TLS.CA.Path() != "" {
		r.problem(join(join(at, "tls"), "ca"), "would not be used, since the keys come from a file: leave it out")
	}
}

// checkURL checks the issuer's URL. Where nothing is fetched from, it need not be https.
func (i *Issuer) checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("%s is not a URL: write exactly the iss claim of the issuer's tokens, such as https://login.example.com", quoted(text))
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#"):
		return fmt.Errorf("%s has more than scheme, host and path: write exactly the iss claim of the issuer's tokens", quoted(u.Redacted()))
	case strings.Contains(u.Path, "/.well-known/"):
		return fmt.Errorf("%s is a discovery document: leave off /.well-known/… and compare with the iss claim of a token", quoted(text))
	case u.Scheme == "http" && !i.JWKS.Given() && !loopback(u.Hostname()):
		return fmt.Errorf("%s would let anybody on the way replace the issuer's keys: use https (http only on loopback)", quoted(text))
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%s is not an https URL: write exactly the iss claim of the issuer's tokens", quoted(text))
	default:
		return nil
	}
}

func checkAlgorithm(name string) error {
	switch {
	case slices.Contains(algorithms, name):
		return nil
	case strings.EqualFold(name, "none"):
		return fmt.Errorf("%s means no signature, so that anybody could be anyone: use %s", quoted(name), orList(algorithms))
	case strings.HasPrefix(strings.ToUpper(name), "HS"):
		return fmt.Errorf("%s signs with a secret that whoever checks could sign with too: use %s", quoted(name), orList(algorithms))
	default:
		return fmt.Errorf("%s is not a signature algorithm: %s", quoted(name), didYouMean(name, algorithms))
	}
}

func (i *Issuer) tokenIssuer() oidc.Issuer {
	is := oidc.Issuer{
		Name: i.Name, URL: i.URL, Audiences: i.Audiences, AdminAudiences: i.AdminAudiences, Algorithms: i.Algorithms,
		MaxAge: time.Duration(i.MaxAge), Keys: i.JWKS.keys, KeysURL: i.JWKS.url,
		Logout: oidc.LogoutRules{Audiences: i.Logout.Audiences, EndIdentity: i.Logout.Ends == endIdentity},
	}
	if len(i.Logout.Audiences) > 0 && i.MaxAge == 0 {
		is.MaxAge = logoutMaxAge
	}
	if i.TokenFile.path != "" {
		is.Credential = i.TokenFile.token
	}
	is.Client = i.HTTPClient()
	return is
}

// HTTPClient returns what reaches an issuer with certificate authorities of its own; nil where the
// host's are the ones to trust.
func (i *Issuer) HTTPClient() *http.Client {
	pool := i.TLS.CA.Pool()
	if pool == nil {
		return nil
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return &http.Client{Transport: transport, Timeout: issuerTimeout}
}
