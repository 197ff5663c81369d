package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// around completes the examples of a page: each brings the roles and bindings that it is about.
const around = connected + `
issuers:
  - { name: corp, url: "https://login.example.com", audiences: [nats] }
accounts:
  APP: { id: $APP, signing_key: keys/app.nk }
`

// TestPolicyPage loads every example of docs/policy.md: none may be wrong, or draw a warning.
func TestPolicyPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(examples) < 4 {
		t.Fatalf("found %d examples, the page has more", len(examples))
	}
	f := newFixture(t)
	for _, example := range examples {
		text := example[1]
		if !strings.Contains(text, "roles:") {
			text = "roles:\n  app: { publish: { allow: [\"app.>\"] } }\n" + text
		}
		c, err := f.load(around + text)
		if err != nil {
			t.Errorf("%s\n%v", example[1], err)
			continue
		}
		if len(c.Warnings) > 0 {
			t.Errorf("%s\n%v", example[1], c.Warnings)
		}
	}
}
