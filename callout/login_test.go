package callout

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

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
		{name: "largest", raw: strings.Repeat("x", 16<<10), token: strings.Repeat("x", 16<<10)},
		{name: "one byte too large", raw: strings.Repeat("x", 16<<10+1), want: policy.TokenTooLarge},
		{name: "largest in an envelope", raw: `{"token":"` + strings.Repeat("x", 16<<10) + `"}`, token: strings.Repeat("x", 16<<10)},
		{name: "too large in an envelope", raw: `{"token":"` + strings.Repeat("x", 16<<10+1) + `"}`, want: policy.TokenTooLarge},
		{name: "not JSON", raw: "{", want: policy.EnvelopeMalformed},
		{name: "no token", raw: "{}", want: policy.EnvelopeMalformed},
		{name: "empty token", raw: `{"token":""}`, want: policy.EnvelopeMalformed},
		{name: "null token", raw: `{"token":null}`, want: policy.EnvelopeMalformed},
		{name: "empty account", raw: `{"token":"a.b.c","account":""}`, want: policy.EnvelopeMalformed},
		{name: "long account", raw: `{"token":"a.b.c","account":"` + strings.Repeat("a", 257) + `"}`, want: policy.EnvelopeMalformed},
		{name: "unknown field", raw: `{"token":"a.b.c","acount":"APP"}`, want: policy.EnvelopeMalformed},
		{name: "number", raw: `{"token":1}`, want: policy.EnvelopeMalformed},
		{name: "a bracket more", raw: `{"token":"a.b.c"}]`, want: policy.EnvelopeMalformed},
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

// rawRequest is a request that holds data and nothing else.
type rawRequest struct {
	micro.Request
	data []byte
}

// Data implements micro.Request.
func (r rawRequest) Data() []byte { return r.data }

// Whatever a request holds, signed or not, it is opened or turned away in silence.
func FuzzOpen(f *testing.F) {
	server, err := nkeys.CreateServer()
	if err != nil {
		f.Fatal(err)
	}
	id, err := server.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(true, `"aud":"nats-authorization-request","sub":"`+otherAccount+`","exp":2,"nats":{"type":"authorization_request","version":2,"user_nkey":"`+
		mustPublic(nkeys.PrefixByteUser)+`","server_id":{"id":"`+id+`"}}`)
	f.Add(true, `"nats":null`)
	f.Add(true, `"exp":-9223372036854775808,"iat":9223372036854775807,"nats":{"type":"authorization_request","version":2}`)
	f.Add(false, "a.b.c")
	s := &Service{Options: Options{Account: otherAccount, MaxToken: 16 << 10}}
	f.Fuzz(func(t *testing.T, signed bool, text string) {
		data := []byte(text)
		if signed {
			header := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`))
			input := header + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+id+`",`+text+`}`))
			signature, err := server.Sign([]byte(input))
			if err != nil {
				t.Fatal(err)
			}
			data = []byte(input + "." + base64.RawURLEncoding.EncodeToString(signature))
		}
		now := time.Now()
		l := &login{req: rawRequest{data: data}, arrived: now, deadline: now.Add(patience)}
		r := s.open(l)
		switch {
		case (r == nil) != l.opened:
			t.Fatalf("opened %t, %v", l.opened, r)
		case r != nil && !r.Reason.Silent():
			t.Fatalf("answered: %v", r)
		case r == nil && (!signed || l.claims.Server.ID != id || l.claims.Subject != otherAccount || !nkeys.IsValidPublicUserKey(l.claims.UserNkey)):
			t.Fatalf("opened a request that is not authentic: %+v", l.claims)
		case l.deadline.After(now.Add(patience)):
			t.Fatalf("the deadline is %s away", l.deadline.Sub(now))
		}
	})
}
