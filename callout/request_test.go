package callout

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

func unproven(string) bool { return false }

// same reports whether ours has what the library has.
func (r *request) same(c *jwt.AuthorizationRequestClaims) bool {
	return r.Audience == c.Audience && r.Issuer == c.Issuer && r.Subject == c.Subject && r.IssuedAt == c.IssuedAt && r.Expires == c.Expires &&
		r.Server.ID == c.Server.ID && r.Server.Name == c.Server.Name && r.Server.XKey == c.Server.XKey && r.UserNkey == c.UserNkey &&
		r.Client.Host == c.ClientInformation.Host && r.Client.ID == c.ClientInformation.ID && r.Client.Kind == c.ClientInformation.Kind &&
		r.Client.Type == c.ClientInformation.Type && r.Client.Nonce == c.ClientInformation.Nonce &&
		r.Connect.Nkey == c.ConnectOptions.Nkey && r.Connect.SignedNonce == c.ConnectOptions.SignedNonce && r.Connect.Token == c.ConnectOptions.Token &&
		r.Connect.Username == c.ConnectOptions.Username && r.Connect.Password == c.ConnectOptions.Password &&
		r.Connect.Lang == c.ConnectOptions.Lang && r.Connect.Version == c.ConnectOptions.Version
}

// What this decoder takes, the library takes, and both read the same of it; and the other way around,
// but for what nats-server does not write: other versions, other ways to name the algorithm.
func FuzzDecodeRequest(f *testing.F) {
	server, err := nkeys.CreateServer()
	if err != nil {
		f.Fatal(err)
	}
	id, err := server.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	c := jwt.NewAuthorizationRequestClaims(otherAccount)
	c.Audience, c.UserNkey, c.Server = requestAudience, mustPublic(nkeys.PrefixByteUser), jwt.ServerID{ID: id, Name: "n1", XKey: otherXKey, Tags: jwt.TagList{"a"}}
	c.ClientInformation = jwt.ClientInformation{Host: "192.0.2.7", ID: 1 << 63, Kind: "Client", Type: "mqtt", Nonce: "n", Name: "x"}
	c.ConnectOptions = jwt.ConnectOptions{Token: secret, Username: "u", Password: "p", Nkey: "k", SignedNonce: "s", Lang: "go", Version: "1", JWT: "j"}
	c.TLS = &jwt.ClientTLS{Version: "1.3", VerifiedChains: []jwt.StringList{{"pem"}}}
	whole, err := c.Encode(server)
	if err != nil {
		f.Fatal(err)
	}
	body, err := json.Marshal(c)
	if err != nil {
		f.Fatal(err)
	}
	usual := `{"typ":"JWT","alg":"ed25519-nkey"}`
	f.Add(usual, string(body), "")
	f.Add(`{"alg":"ED25519-NKEY","typ":"JWT"}`, string(body), "")
	f.Add(usual, strings.Replace(string(body), `"version":2`, `"version":1`, 1), "")
	f.Add(usual, `{"iss":"`+id+`","IAT":1,"nats":{"type":"authorization_request","version":2,"server_id":null,"connect_opts":{"PASS":"x","protocol":1}}}`, "")
	f.Add(usual, string(body), whole)
	f.Add(usual, string(body), whole[:len(whole)-2])
	f.Add(usual, string(body), whole+"=")
	f.Fuzz(func(t *testing.T, header, body, raw string) {
		if raw == "" { // sign it, as a server can anything
			input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(body))
			signature, err := server.Sign([]byte(input))
			if err != nil {
				t.Fatal(err)
			}
			raw = input + "." + base64.RawURLEncoding.EncodeToString(signature)
		}
		ours, err := new(buffers).decodeRequest([]byte(raw), unproven)
		theirs, errTheirs := jwt.DecodeAuthorizationRequestClaims(raw)
		switch {
		case err == nil && errTheirs == nil && !ours.same(theirs):
			t.Fatalf("read %+v, the library %+v", ours, theirs)
		case err == nil && errTheirs != nil && !readsMore(body, raw):
			t.Fatalf("took what the library does not: %v", errTheirs)
		case err != nil && errTheirs == nil && theirs.Version == 2 && strings.HasPrefix(raw, string(usualHeader)+"."):
			t.Fatalf("did not take what the library takes: %+v", theirs)
		}
	})
}

// readsMore reports whether the library may be stopped by parts that are not read here.
func readsMore(body, raw string) bool {
	if parts := strings.Split(raw, "."); len(parts) == 3 {
		if plain, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			body = string(plain)
		}
	}
	var all jwt.AuthorizationRequestClaims
	return json.Unmarshal([]byte(body), &all) != nil
}

// A proof by the xkey stands in for the signature, and for nothing else.
func TestDecodeRequestProven(t *testing.T) {
	t.Parallel()
	s, err := nkeys.CreateServer()
	if err != nil {
		t.Fatal(err)
	}
	c := jwt.NewAuthorizationRequestClaims(otherAccount)
	c.UserNkey = mustPublic(nkeys.PrefixByteUser)
	whole, err := c.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := s.PublicKey()
	unsigned := whole[:strings.LastIndexByte(whole, '.')] + ".AAAA"
	proven := func(issuer string) bool { return issuer == id }
	if _, err := new(buffers).decodeRequest([]byte(unsigned), unproven); err == nil {
		t.Error("a wrong signature is taken without a proof")
	}
	if r, err := new(buffers).decodeRequest([]byte(unsigned), proven); err != nil || r.Issuer != id {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := new(buffers).decodeRequest([]byte(unsigned), func(issuer string) bool { return issuer == otherServer }); err == nil {
		t.Error("a proof for another server is taken")
	}
	for _, broken := range []string{"", ".", "a.b.c", "." + unsigned, strings.Replace(unsigned, ".", "", 1)} {
		if _, err := new(buffers).decodeRequest([]byte(broken), func(string) bool { return true }); err == nil {
			t.Errorf("%.20q is taken", broken)
		}
	}
}

func BenchmarkDecodeRequest(b *testing.B) {
	s, err := nkeys.CreateServer()
	if err != nil {
		b.Fatal(err)
	}
	c := jwt.NewAuthorizationRequestClaims(otherAccount)
	c.UserNkey, c.ConnectOptions.Token, c.ConnectOptions.JWT = otherAccount, strings.Repeat("t", 1000), strings.Repeat("j", 600)
	whole, err := c.Encode(s)
	if err != nil {
		b.Fatal(err)
	}
	for name, authentic := range map[string]func(string) bool{"signed": unproven, "proven": func(string) bool { return true }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buffers := new(buffers)
			for b.Loop() {
				if _, err := buffers.decodeRequest([]byte(whole), authentic); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
