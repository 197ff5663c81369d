package callout

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"
)

// wholeRequest has every field that nats-server can set.
func wholeRequest() *jwt.AuthorizationRequestClaims {
	c := jwt.NewAuthorizationRequestClaims(otherAccount)
	c.Audience, c.Expires, c.ID, c.IssuedAt, c.Issuer, c.Name, c.NotBefore = requestAudience, 1_800_000_002, "ID", 1_800_000_000, otherServer, "name", 1
	c.Type, c.Version, c.UserNkey, c.RequestNonce = jwt.AuthorizationRequestClaim, 2, mustPublic(nkeys.PrefixByteUser), "nonce"
	c.AuthorizationRequest.Tags = jwt.TagList{"t"}
	c.Server = jwt.ServerID{ID: otherServer, Name: "n1", Host: "0.0.0.0", Version: "2.15.3", Cluster: "c", XKey: otherXKey, Tags: jwt.TagList{"a", "b"}}
	c.ClientInformation = jwt.ClientInformation{Host: "192.0.2.7", ID: 7, Kind: "Client", Type: "mqtt", Nonce: "n", Name: "x", User: "u", Tags: jwt.TagList{"c"}, NameTag: "t", MQTT: "m"}
	c.ConnectOptions = jwt.ConnectOptions{Token: secret, Username: "account:<A>", Password: `{"token":"é"}`, Nkey: "k", SignedNonce: "s", Lang: "go", Version: "1", JWT: "j", Name: "n", Protocol: 1}
	c.TLS = &jwt.ClientTLS{Version: "1.3", Cipher: "c", Certs: jwt.StringList{"-----BEGIN\n"}, VerifiedChains: []jwt.StringList{{"a\n", "b\n"}, {}}}
	return c
}

// Without this the other decoder would quietly do all the work.
func TestReadsWhatServersWrite(t *testing.T) {
	t.Parallel()
	whole := wholeRequest()
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	q, ok := readRequest(string(text))
	if !ok || !q.same(whole) {
		t.Fatalf("read %+v, %t of %s", q, ok, text)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.Make[jwt.AuthorizationRequestClaims]().Draw(t, "request")
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if q, ok := readRequest(string(text)); ok && !q.same(&c) {
			t.Fatalf("read %+v of %s", q, text)
		}
	})
}

// FuzzReadRequest finds texts that are read as encoding/json does not.
func FuzzReadRequest(f *testing.F) {
	whole, err := json.Marshal(wholeRequest())
	if err != nil {
		f.Fatal(err)
	}
	text := string(whole)
	f.Add(text)
	for _, change := range [][2]string{
		{`"iat":`, `"IAT":`},
		{`"iat":1`, `"iat":01`},
		{`"iat":1`, `"iat":-1`},
		{`"iat":1800000000`, `"iat":18000000000000000000`},
		{`"version":2`, `"version":2.5`},
		{`"id":7`, `"id":null`},
		{`"name":"n1"`, `"name":"\ud800"`},
		{`"host":"0.0.0.0"`, `"host":[[[[{"a":{}}]]]]`},
		{`"lang":"go"`, `"lang":"go","lang":"\x"`},
		{`"type":"mqtt"`, `"type":"mqtt","type":"x"`},
		{`"server_id":{`, `"server_id":{"extra":1,`},
		{`}}`, `}} `},
		{`}}`, `},"nats":{"connect_opts":{"pass":"other"}}}`},
	} {
		if !strings.Contains(text, change[0]) {
			f.Fatalf("%s is not in %s", change[0], text)
		}
		f.Add(strings.Replace(text, change[0], change[1], 1))
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, ok := readRequest(text)
		if !ok {
			return
		}
		var want request
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatalf("read %q, which is no request: %v", text, err)
		}
		if *q != want {
			t.Fatalf("read %+v of %q, want %+v", *q, text, want)
		}
	})
}
