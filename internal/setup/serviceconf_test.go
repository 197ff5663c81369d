package setup_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

// example matches a setting that is commented out in the way that the head of the file explains.
var example = regexp.MustCompile(`(?m)^( *)#((?:  )*[^ #].*)$`)

// keysOfYAML returns a YAML document and its top-level keys, sorted.
func keysOfYAML(t *testing.T, text string) (map[string]any, []string) {
	t.Helper()
	var doc map[string]any
	if err := yaml.UnmarshalWithOptions([]byte(text), &doc, yaml.Strict()); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var names []string
	for k := range doc {
		names = append(names, k)
	}
	slices.Sort(names)
	return doc, names
}

func TestServiceConfig(t *testing.T) {
	t.Parallel()
	issuer := &setup.Issuer{Name: "corp", URL: "https://login.example.com/", Audiences: []string{"nats", "true"}, ClientID: "cli: x"}
	for name, c := range map[string]struct {
		options setup.Options
		active  []string // top-level keys as written
	}{
		"plain":     {setup.Options{}, []string{"accounts", "audit", "http", "metrics", "nats", "operator", "roles", "seal", "socket", "store"}},
		"three":     {setup.Options{Servers: 3, NoXKey: true}, []string{"accounts", "audit", "http", "metrics", "nats", "operator", "roles", "seal", "socket", "store"}},
		"an issuer": {setup.Options{Service: setup.Service{Issuer: issuer}}, []string{"accounts", "audit", "bindings", "http", "issuers", "metrics", "nats", "operator", "roles", "seal", "socket", "store"}},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := setup.New(c.options)
			if err != nil {
				t.Fatal(err)
			}
			text := set.ServiceConfig()
			doc, names := keysOfYAML(t, text)
			if !slices.Equal(names, c.active) {
				t.Errorf("keys %v, want %v", names, c.active)
			}
			callout := doc["nats"].(map[string]any)["callout"].(map[string]any)
			if _, has := callout["xkey"]; has == c.options.NoXKey {
				t.Errorf("xkey present: %t", has)
			}
			account := doc["accounts"].(map[string]any)["APP"].(map[string]any)
			if account["id"] != set.App.ID || account["signing_key"] != "file:keys/app.nk" {
				t.Errorf("account APP: %v", account)
			}

			if operator := doc["operator"].(map[string]any); operator["signing_key"] != "file:keys/operator-signing.nk" {
				t.Errorf("operator: %v", operator)
			}

			// With every example made to count the file is still whole.
			full, names := keysOfYAML(t, example.ReplaceAllString(text, "$1$2"))
			if want := []string{"accounts", "audit", "bindings", "http", "issuers", "metrics", "nats", "operator", "plans", "roles", "seal", "socket", "store"}; !slices.Equal(names, want) {
				t.Errorf("keys with examples %v, want %v", names, want)
			}
			first := full["issuers"].([]any)[0].(map[string]any)
			for _, key := range []string{"name", "url", "audiences", "algorithms", "login"} {
				if first[key] == nil {
					t.Errorf("issuer lacks %s: %v", key, first)
				}
			}
			if got := len(full["bindings"].([]any)); got != 4 {
				t.Errorf("%d bindings, want 4", got)
			}
			if full["roles"].(map[string]any)["team"] == nil || full["nats"].(map[string]any)["tls"] == nil {
				t.Error("an example is not commented out in the way that the head of the file explains")
			}
		})
	}
	set, err := setup.New(setup.Options{Service: setup.Service{Issuer: issuer}})
	if err != nil {
		t.Fatal(err)
	}
	doc, _ := keysOfYAML(t, set.ServiceConfig())
	got := doc["issuers"].([]any)[0].(map[string]any)
	if got["url"] != issuer.URL || got["audiences"].([]any)[1] != "true" || got["login"].(map[string]any)["client_id"] != "cli: x" {
		t.Errorf("issuer came out as %v", got)
	}
}

func TestPolicyReplacesExamples(t *testing.T) {
	t.Parallel()
	set, err := setup.New(setup.Options{Service: setup.Service{Policy: "roles: { mine: {} }\nbindings: []\n"}})
	if err != nil {
		t.Fatal(err)
	}
	doc, _ := keysOfYAML(t, set.ServiceConfig())
	if roles := doc["roles"].(map[string]any); len(roles) != 1 || roles["mine"] == nil {
		t.Errorf("roles %v, want mine alone", roles)
	}
}

// TestOddFolder shows that a path with blanks, quotes and backslashes survives both
// configuration languages.
func TestOddFolder(t *testing.T) {
	t.Parallel()
	set, err := setup.New(setup.Options{Ports: freePorts(t, 1)})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), `a "b" \c 'd' # {e} $f`)
	if err := set.Write(dir); err != nil {
		t.Fatal(err)
	}
	startInProcess(t, filepath.Join(dir, set.ServerFile(0)))
	if got := snapshot(t, filepath.Join(dir, "jwt")); len(got) < 2 {
		t.Errorf("the server did not keep its claims in the set's folder: %v", got)
	}
	if err := set.Write("a\nb"); err == nil || !strings.Contains(err.Error(), "control character") {
		t.Errorf("a folder with a newline in its name: got %v", err)
	}
}
