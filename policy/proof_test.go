package policy

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/nats-io/nkeys"
)

const serverNonce = "PXoWU7zWAMt75FY" // as nats-server makes them

// signed returns the proof that a client sends which signs the nonce with the key.
func signed(t testing.TB, key nkeys.KeyPair, nonce string, encoding *base64.Encoding) Proof {
	t.Helper()
	signature, err := key.Sign([]byte(nonce))
	if err != nil {
		t.Fatal(err)
	}
	return Proof{Nonce: serverNonce, Signature: encoding.EncodeToString(signature)}
}

// An Ed25519 key and its thumbprint from RFC 8037, appendix A.
func TestThumbprint(t *testing.T) {
	public, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := thumbprint(public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("thumbprint %s, want %s", got, want)
	}
}

// jkt returns the thumbprint of a user public key.
func jkt(t testing.TB, user string) string {
	t.Helper()
	public, ok := decodeUserKey(user)
	if !ok {
		t.Fatalf("%s is no user key", user)
	}
	return thumbprint(public)
}

func TestBoundKey(t *testing.T) {
	_, user := publicKey(t, nkeys.PrefixByteUser)
	_, account := publicKey(t, nkeys.PrefixByteAccount)
	print := jkt(t, user)
	for _, c := range []struct {
		name   string
		claims map[string]any
		want   *BoundKey
	}{
		{"neither claim", map[string]any{}, nil},
		{"an ordinary nonce", map[string]any{"nonce": "n-0S6_WzA2Mj"}, nil},
		{"a nonce that is another kind of key", map[string]any{"nonce": account}, nil},
		{"a nonce that is a key with a broken checksum", map[string]any{"nonce": user[:55] + string(rotate(user[55]))}, nil},
		{"a nonce that is no text", map[string]any{"nonce": []any{user}}, nil},
		{"a nonce that is a user key", map[string]any{"nonce": user}, &BoundKey{User: user}},
		{"a thumbprint", map[string]any{"cnf": map[string]any{"jkt": print}}, &BoundKey{Thumbprint: print}},
		{"a thumbprint beside others", map[string]any{"cnf": map[string]any{"jkt": print, "x5t#S256": "x"}}, &BoundKey{Thumbprint: print}},
		{"both", map[string]any{"nonce": user, "cnf": map[string]any{"jkt": print}}, &BoundKey{User: user, Thumbprint: print}},
		{"a certificate", map[string]any{"cnf": map[string]any{"x5t#S256": "x"}}, &BoundKey{Uncheckable: true}},
		{"a certificate beside a user key", map[string]any{"nonce": user, "cnf": map[string]any{"x5t#S256": "x"}}, &BoundKey{User: user, Uncheckable: true}},
		{"an empty cnf", map[string]any{"cnf": map[string]any{}}, &BoundKey{Uncheckable: true}},
		{"a cnf that is null", map[string]any{"cnf": nil}, &BoundKey{Uncheckable: true}},
		{"a cnf that is a text", map[string]any{"cnf": print}, &BoundKey{Uncheckable: true}},
		{"a thumbprint that is no text", map[string]any{"cnf": map[string]any{"jkt": true}}, &BoundKey{Uncheckable: true}},
		{"a thumbprint that is no base64", map[string]any{"cnf": map[string]any{"jkt": print[:39] + "\x1b[1m"}}, &BoundKey{Thumbprint: print[:39] + "\x1b[1m", Uncheckable: true}},
		{"a thumbprint with a line break", map[string]any{"cnf": map[string]any{"jkt": print[:20] + "\n" + print[20:]}}, &BoundKey{Thumbprint: print[:20] + "\n" + print[20:], Uncheckable: true}},
		{"a thumbprint of the wrong size", map[string]any{"cnf": map[string]any{"jkt": print + "="}}, &BoundKey{Thumbprint: print + "=", Uncheckable: true}},
	} {
		got := (&Identity{Claims: c.claims}).BoundKey()
		if got != nil && strings.ContainsFunc(got.String(), unicode.IsControl) {
			t.Errorf("%s: %q cannot be printed", c.name, got)
		}
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// keyRules are a binding for every token and one for those that are bound to a key.
func keyRules() *Rules {
	app := &Account{Name: "APP", ID: "AAPP"}
	role := &Role{Name: "reader"}
	return &Rules{
		Leeway: 10 * time.Second, Accounts: map[string]*Account{"APP": app},
		Bindings: map[string][]*Binding{"corp": {
			{Name: "any", Issuer: "corp", Grant: Grant{app, role}, TTL: time.Hour, ConnectionTypes: []ConnectionType{Standard, MQTT}},
			{Name: "bound", Issuer: "corp", Grant: Grant{app, role}, TTL: time.Hour, ConnectionTypes: ConnectionTypes(), RequireKey: true},
		}},
	}
}

func TestDecideOnKeyBoundTokens(t *testing.T) {
	key, user := publicKey(t, nkeys.PrefixByteUser)
	other, otherUser := publicKey(t, nkeys.PrefixByteUser)
	byNonce := map[string]any{"nonce": user}
	byThumbprint := map[string]any{"cnf": map[string]any{"jkt": jkt(t, user)}}
	raw := base64.RawURLEncoding
	right := signed(t, key, serverNonce, raw)
	named := func(p Proof, name string) Proof { p.Key = name; return p }
	// Signatures differ in which characters they hold; one that holds both special ones shows that both alphabets are read.
	special := serverNonce
	for !strings.ContainsAny(signed(t, key, special, raw).Signature, "-") || !strings.ContainsAny(signed(t, key, special, raw).Signature, "_") {
		special += "x"
	}
	inSpecial := func(encoding *base64.Encoding) Proof {
		p := signed(t, key, special, encoding)
		p.Nonce = special
		return p
	}
	for _, c := range []struct {
		name   string
		claims map[string]any
		conn   Connection
		want   Reason
		gets   int // bindings
	}{
		{"unbound", map[string]any{}, Connection{Type: Standard}, Allowed, 1},
		{"unbound, signed", map[string]any{}, Connection{Type: Standard, Proof: right}, Allowed, 1},
		{"unbound where only bound ones may", map[string]any{}, Connection{Type: WebSocket, Proof: right}, KeyRequired, 0},
		{"a broken key is an ordinary nonce", map[string]any{"nonce": user[:55] + string(rotate(user[55]))}, Connection{Type: WebSocket, Proof: right}, KeyRequired, 0},
		{"bound and signed", byNonce, Connection{Type: Standard, Proof: right}, Allowed, 2},
		{"bound and signed, naming the key", byNonce, Connection{Type: Standard, Proof: named(right, user)}, Allowed, 2},
		{"bound and signed, naming another key", byNonce, Connection{Type: Standard, Proof: named(right, otherUser)}, Allowed, 2},
		{"on a leaf node", byNonce, Connection{Type: LeafNode, Proof: right}, Allowed, 1},
		{"raw URL base64", byNonce, Connection{Type: WebSocket, Proof: inSpecial(base64.RawURLEncoding)}, Allowed, 1},
		{"padded URL base64", byNonce, Connection{Type: WebSocket, Proof: inSpecial(base64.URLEncoding)}, Allowed, 1},
		{"raw standard base64", byNonce, Connection{Type: WebSocket, Proof: inSpecial(base64.RawStdEncoding)}, Allowed, 1},
		{"padded standard base64", byNonce, Connection{Type: WebSocket, Proof: inSpecial(base64.StdEncoding)}, Allowed, 1},
		{"nothing signed", byNonce, Connection{Type: Standard}, KeyProofMissing, 0},
		{"nothing signed, naming the key", byNonce, Connection{Type: Standard, Proof: Proof{Key: user}}, KeyProofMissing, 0},
		{"MQTT", byNonce, Connection{Type: MQTT, Proof: right}, KeyProofMissing, 0},
		{"another key", byNonce, Connection{Type: Standard, Proof: signed(t, other, serverNonce, raw)}, KeyProofInvalid, 0},
		{"another key, which the client names", byNonce, Connection{Type: Standard, Proof: named(signed(t, other, serverNonce, raw), otherUser)}, KeyProofInvalid, 0},
		{"another nonce", byNonce, Connection{Type: Standard, Proof: signed(t, key, "an older nonce", raw)}, KeyProofInvalid, 0},
		{"the empty nonce", byNonce, Connection{Type: Standard, Proof: Proof{Signature: signed(t, key, "", raw).Signature}}, KeyProofInvalid, 0},
		{"the empty nonce for another", byNonce, Connection{Type: Standard, Proof: signed(t, key, "", raw)}, KeyProofInvalid, 0},
		{"no base64", byNonce, Connection{Type: Standard, Proof: Proof{Nonce: serverNonce, Signature: strings.Repeat("!", 86)}}, KeyProofInvalid, 0},
		{"half a signature", byNonce, Connection{Type: Standard, Proof: Proof{Nonce: serverNonce, Signature: right.Signature[:43]}}, KeyProofInvalid, 0},
		{"a signature twice", byNonce, Connection{Type: Standard, Proof: Proof{Nonce: serverNonce, Signature: right.Signature + right.Signature}}, KeyProofInvalid, 0},
		{"a line break in it", byNonce, Connection{Type: Standard, Proof: Proof{Nonce: serverNonce, Signature: right.Signature[:85] + "\n"}}, KeyProofInvalid, 0},
		{"thumbprint", byThumbprint, Connection{Type: Standard, Proof: named(right, user)}, Allowed, 2},
		{"thumbprint, no key named", byThumbprint, Connection{Type: Standard, Proof: right}, KeyProofInvalid, 0},
		{"thumbprint, another key with its own signature", byThumbprint, Connection{Type: Standard, Proof: named(signed(t, other, serverNonce, raw), otherUser)}, KeyProofInvalid, 0},
		{"thumbprint, the key named and another's signature", byThumbprint, Connection{Type: Standard, Proof: named(signed(t, other, serverNonce, raw), user)}, KeyProofInvalid, 0},
		{"thumbprint, nothing signed", byThumbprint, Connection{Type: Standard, Proof: Proof{Key: user}}, KeyProofMissing, 0},
		{"thumbprint and nonce of two keys", map[string]any{"nonce": otherUser, "cnf": byThumbprint["cnf"]}, Connection{Type: Standard, Proof: named(signed(t, other, serverNonce, raw), otherUser)}, KeyProofInvalid, 0},
		{"thumbprint and nonce of one key", map[string]any{"nonce": user, "cnf": byThumbprint["cnf"]}, Connection{Type: Standard, Proof: right}, Allowed, 2},
		{"bound to a certificate", map[string]any{"cnf": map[string]any{"x5t#S256": "x"}}, Connection{Type: Standard, Proof: right}, KeyUncheckable, 0},
		{"bound to a certificate and a key", map[string]any{"nonce": user, "cnf": map[string]any{"x5t#S256": "x"}}, Connection{Type: Standard, Proof: right}, KeyUncheckable, 0},
		{"the proof taken as given", byNonce, Connection{Type: Standard, ProofGiven: true}, Allowed, 2},
		{"the proof taken as given of an unbound token", map[string]any{}, Connection{Type: WebSocket, ProofGiven: true}, KeyRequired, 0},
		{"the proof taken as given over MQTT", byNonce, Connection{Type: MQTT, ProofGiven: true}, KeyProofMissing, 0},
		{"the proof taken as given of what cannot be proved", map[string]any{"cnf": nil}, Connection{Type: Standard, ProofGiven: true}, KeyUncheckable, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := person(t, `{}`)
			id.Claims = c.claims
			d := Decide(&Snapshot{Rules: keyRules()}, id, c.conn, now, nil)
			if d.Reason() != c.want || len(d.Bindings) != c.gets {
				t.Errorf("%v by %v, want %s by %d bindings", d.Refusal, d.Bindings, c.want, c.gets)
			}
			if d.Refusal != nil && c.conn.Proof.Signature != "" && strings.Contains(d.Refusal.Detail, c.conn.Proof.Signature) {
				t.Errorf("the detail shows the signature: %s", d.Refusal.Detail)
			}
		})
	}
}

func TestTraceShowsWhatRequireKeyDoes(t *testing.T) {
	_, user := publicKey(t, nkeys.PrefixByteUser)
	id := person(t, `{}`)
	why := func() string {
		var trace Trace
		Decide(&Snapshot{Rules: keyRules()}, id, Connection{Type: Standard, ProofGiven: true}, now, &trace)
		return trace.Verdicts[1].Why
	}
	if got, want := why(), "the claims match, but require_key is set and the token is not bound to a key"; got != want {
		t.Errorf("unbound: %s", got)
	}
	id.Claims["nonce"] = user
	if got, want := why(), "gives role reader in account APP"; got != want {
		t.Errorf("bound: %s, want %s", got, want)
	}
}

func BenchmarkDecideOnKeyBoundToken(b *testing.B) {
	key, user := publicKey(b, nkeys.PrefixByteUser)
	id := person(b, `{}`)
	id.Claims["nonce"] = user
	s, conn := &Snapshot{Rules: keyRules()}, Connection{Type: Standard, Proof: signed(b, key, serverNonce, base64.RawURLEncoding)}
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(s, id, conn, now, nil); !d.Allowed() {
			b.Fatal(d.Refusal)
		}
	}
}
