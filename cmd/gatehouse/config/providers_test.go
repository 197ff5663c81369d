package config

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

const guides = "../../../docs/providers/"

var styles = map[string]devtest.Style{
	"keycloak": devtest.Keycloak, "entra": devtest.Entra, "auth0": devtest.Auth0,
	"kubernetes": devtest.Kubernetes, "github-actions": devtest.GitHub, "dex": devtest.Dex,
}

// guideBlock matches what a guide promises: a configuration, or claims and their answer.
var (
	guideBlock  = regexp.MustCompile("(?s)```yaml\n# gatehouse.yaml\n(.*?)\n```|```json\n(.*?)\n```\n+([^\n]*)")
	guideAnswer = regexp.MustCompile("^Gatehouse answers `([a-z_]+)`(?:, by (`.*`))?[.:]")
)

// guided is the configuration that a guide has shown last.
type guided struct {
	*fixture
	config *Config
	tokens *oidc.Verifier
	issuer *devtest.Issuer
}

// TestProviderGuides loads each configuration of docs/providers and sends it each token that
// stands below, signed and published as the provider does it, over TLS under its own name.
func TestProviderGuides(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(guides + "*.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, page := range pages {
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		if name == "README" {
			continue
		}
		seen++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			style, ok := styles[name]
			if !ok {
				t.Fatal("there is no issuer that makes tokens as this guide shows them: add one to devtest")
			}
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			var g *guided
			answers := 0
			for _, block := range guideBlock.FindAllStringSubmatch(string(text), -1) {
				if block[1] != "" {
					g = follow(t, style, block[1])
					continue
				}
				answer := guideAnswer.FindStringSubmatch(block[3])
				if g == nil || answer == nil {
					t.Fatalf("below the claims stands no answer, or above them no configuration: %s", block[2])
				}
				g.ask(t, block[2], answer[1], answer[2])
				answers++
			}
			if answers < 2 {
				t.Errorf("%d answers were checked: show what is admitted and what is not", answers)
			}
		})
	}
	if seen != len(styles) {
		t.Errorf("%d guides for %d providers", seen, len(styles))
	}
}

// follow loads a guide's configuration, beside an account APP, and starts its issuer.
func follow(t *testing.T, style devtest.Style, yaml string) *guided {
	t.Helper()
	g := &guided{fixture: newFixture(t)}
	urls := regexp.MustCompile(`(?m)^    url: (https://\S+)`).FindStringSubmatch(yaml)
	if urls == nil {
		t.Fatalf("the configuration names no issuer:\n%s", yaml)
	}
	g.issuer = devtest.StartIssuer(t, style, urls[1])
	g.write("pod/ca.crt", string(g.issuer.CA()))
	g.write("pod/token", devtest.IssuerToken)
	g.write("keys.json", string(g.issuer.JWKS()))
	yaml = strings.ReplaceAll(yaml, "/var/run/secrets/kubernetes.io/serviceaccount/", g.dir+"/pod/")
	g.config = g.mustLoad(connected + "accounts: { APP: { id: $APP, signing_key: keys/app.nk } }\n" + yaml)
	if len(g.config.Warnings) > 0 {
		t.Errorf("the configuration has warnings: %v", g.config.Warnings)
	}
	issuers := g.config.TokenIssuers()
	for n := range issuers {
		g.reach(t, &issuers[n])
	}
	var err error
	if g.tokens, err = oidc.New(oidc.Config{Logger: devtest.Log(t)}, issuers); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.tokens.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return g
}

// reach has the provider's name lead to the issuer of the test. A configured authority stays in
// force; without one the issuer's counts as one that the host trusts.
func (g *guided) reach(t *testing.T, is *oidc.Issuer) {
	if is.Client == nil {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(g.issuer.CA())
		is.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	}
	transport := is.Client.Transport.(*http.Transport)
	transport.DialContext = g.issuer.Dial
	t.Cleanup(transport.CloseIdleConnections)
}

// ask expects the answer that the guide gives for a token with the claims.
func (g *guided) ask(t *testing.T, text, reason, bindings string) {
	t.Helper()
	var claims map[string]any
	if err := json.Unmarshal([]byte(text), &claims); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for name, offset := range map[string]time.Duration{"iat": -time.Minute, "nbf": -time.Minute, "exp": time.Hour} {
		if _, ok := claims[name]; ok {
			claims[name] = time.Now().Add(offset).Unix()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	id, refusal := g.tokens.VerifyWait(ctx, g.issuer.Sign(t, claims))
	got := policy.Decision{Refusal: refusal}
	if refusal == nil {
		got = policy.Decide(&policy.Snapshot{Rules: g.config.Rules()}, id, policy.Connection{Type: policy.Standard}, time.Now(), nil)
	}
	if string(got.Reason()) != reason {
		t.Errorf("%s\nis answered %v, the guide says %s", text, got.Refusal, reason)
	}
	var want []string
	for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(bindings, -1) {
		want = append(want, quoted[1])
	}
	if !slices.Equal(got.Bindings, want) {
		t.Errorf("%s\ngets %v, the guide says %v", text, got.Bindings, want)
	}
}
