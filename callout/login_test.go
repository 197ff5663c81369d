package callout

import (
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/policy"
)

func TestParseEnvelope(t *testing.T) {
	for _, c := range []struct {
		name, raw, token, account string
		want                      policy.Reason
	}{
		{name: "raw", raw: "a.b.c", token: "a.b.c"},
		{name: "envelope", raw: `{"token":"a.b.c","account":"APP"}`, token: "a.b.c", account: "APP"},
		{name: "envelope without account", raw: `{"token":"a.b.c"}`, token: "a.b.c"},
		{name: "envelope with blanks", raw: "{ \"token\": \"a.b.c\" }\n", token: "a.b.c"},
		{name: "nothing", raw: "", want: policy.TokenMissing},
		{name: "too large", raw: strings.Repeat("x", 17<<10), want: policy.TokenTooLarge},
		{name: "not JSON", raw: "{", want: policy.EnvelopeMalformed},
		{name: "no token", raw: "{}", want: policy.EnvelopeMalformed},
		{name: "empty token", raw: `{"token":""}`, want: policy.EnvelopeMalformed},
		{name: "null token", raw: `{"token":null}`, want: policy.EnvelopeMalformed},
		{name: "empty account", raw: `{"token":"a.b.c","account":""}`, want: policy.EnvelopeMalformed},
		{name: "long account", raw: `{"token":"a.b.c","account":"` + strings.Repeat("a", 257) + `"}`, want: policy.EnvelopeMalformed},
		{name: "unknown field", raw: `{"token":"a.b.c","acount":"APP"}`, want: policy.EnvelopeMalformed},
		{name: "number", raw: `{"token":1}`, want: policy.EnvelopeMalformed},
		{name: "two values", raw: `{"token":"a.b.c"} {}`, want: policy.EnvelopeMalformed},
	} {
		token, account, r := ParseEnvelope(c.raw, 16<<10)
		switch {
		case c.want != "" && (r == nil || r.Reason != c.want):
			t.Errorf("%s: %v, want %s", c.name, r, c.want)
		case c.want == "" && (r != nil || token != c.token || account != c.account):
			t.Errorf("%s: token %q account %q, %v", c.name, token, account, r)
		case r != nil && strings.Contains(r.Detail, "a.b.c"):
			t.Errorf("%s: the detail shows the token: %s", c.name, r.Detail)
		}
	}
}

func FuzzParseEnvelope(f *testing.F) {
	f.Add(`{"token":"a.b.c","account":"APP"}`)
	f.Add("a.b.c")
	f.Add("{")
	f.Fuzz(func(t *testing.T, raw string) {
		token, account, r := ParseEnvelope(raw, 1024)
		if r == nil && token == "" {
			t.Fatalf("%q gave an empty token", raw)
		}
		if len(account) > maxAccountName {
			t.Fatalf("%q gave an account of %d bytes", raw, len(account))
		}
	})
}
