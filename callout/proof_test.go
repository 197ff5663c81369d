package callout

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// withClaims returns the answer for a developer's token with more claims.
func withClaims(more map[string]any) func() (*policy.Identity, *policy.Refusal, <-chan struct{}) {
	id, _, _ := valid("alice", "dev")()
	for name, value := range more {
		id.Claims[name] = value
	}
	return func() (*policy.Identity, *policy.Refusal, <-chan struct{}) { return id, nil, nil }
}

// holder is a user key and the tokens of a system that are bound to it.
type holder struct {
	nkeys.KeyPair
	public string
}

// By the claim nonce, and by cnf.jkt.
const (
	boundToken  = secret + "bound"
	thumbprints = secret + "thumbprint"
)

// newHolder makes a key to which two tokens of the system are bound.
func newHolder(t *testing.T, s *system) holder {
	t.Helper()
	var h holder
	h.KeyPair, h.public = pair(t, nkeys.PrefixByteUser)
	s.tokens.set(boundToken, withClaims(map[string]any{"nonce": h.public}))
	s.tokens.set(thumbprints, withClaims(map[string]any{"cnf": map[string]any{"jkt": jkt(t, h.public)}}))
	return h
}

// jkt returns the JWK thumbprint of a user public key.
func jkt(t *testing.T, user string) string {
	t.Helper()
	raw, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(user))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"Ed25519","kty":"OKP","x":%q}`, base64.RawURLEncoding.EncodeToString(raw[:ed25519.PublicKeySize])))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// wire is a client that says exactly what a test has it say.
type wire struct {
	net.Conn
	lines *bufio.Reader
	nonce string
}

// dialWire returns a client that has got the server's greeting.
func (s *system) dialWire(t *testing.T) *wire {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.server.ClientURL(), "nats://"), soon)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	w := &wire{Conn: conn, lines: bufio.NewReader(conn)}
	line, err := w.lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil || info.Nonce == "" {
		t.Fatalf("greeting %s: %v", line, err)
	}
	w.nonce = info.Nonce
	return w
}

// connect is what a client's CONNECT says, as far as these tests need it.
type connect struct {
	Token     string `json:"auth_token"`
	Nkey      string `json:"nkey,omitempty"`
	Signature string `json:"sig,omitempty"`
}

// send sends the CONNECT and reports whether the server lets the client in.
func (w *wire) send(t *testing.T, c connect) bool {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(w, "CONNECT %s\r\nPING\r\n", data); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := w.lines.ReadString('\n')
		switch {
		case strings.HasPrefix(line, "PONG"):
			return true
		case strings.HasPrefix(line, "-ERR 'Authorization Violation'"):
			return false
		case err != nil:
			t.Fatalf("neither admitted nor refused: %v", err)
		}
	}
}

// sign signs a nonce, in the base64 of nats.go.
func (h holder) sign(t *testing.T, nonce string) string {
	t.Helper()
	signature, err := h.Sign([]byte(nonce))
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(signature)
}

// standard turns the base64 of nats.go into that of nats.js.
func standard(t *testing.T, signature string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// Everything that a thief of a key-bound token can send to a real server, and what its owner sends.
func TestKeyBoundToken(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	h := newHolder(t, s)
	var thief holder
	thief.KeyPair, thief.public = pair(t, nkeys.PrefixByteUser)
	older := s.dialWire(t).nonce
	for _, c := range []struct {
		name    string
		connect func(nonce string) connect
		want    policy.Reason
	}{
		{"the owner", func(n string) connect { return connect{boundToken, "", h.sign(t, n)} }, policy.Allowed},
		{"the owner, in the base64 of nats.js", func(n string) connect { return connect{boundToken, h.public, standard(t, h.sign(t, n))} }, policy.Allowed},
		{"the owner, by thumbprint", func(n string) connect { return connect{thumbprints, h.public, h.sign(t, n)} }, policy.Allowed},
		{"an unbound token is as it was", func(n string) connect { return connect{secret + "alice", "", h.sign(t, n)} }, policy.Allowed},
		{"stolen", func(string) connect { return connect{boundToken, "", ""} }, policy.KeyProofMissing},
		{"stolen, with the owner's public key", func(string) connect { return connect{boundToken, h.public, ""} }, policy.KeyProofMissing},
		{"stolen, signed by another key", func(n string) connect { return connect{boundToken, "", thief.sign(t, n)} }, policy.KeyProofInvalid},
		{"stolen, with the thief's own key and signature", func(n string) connect { return connect{boundToken, thief.public, thief.sign(t, n)} }, policy.KeyProofInvalid},
		{"stolen, with the owner's key and the thief's signature", func(n string) connect { return connect{boundToken, h.public, thief.sign(t, n)} }, policy.KeyProofInvalid},
		{"stolen, with a signature of an older nonce", func(string) connect { return connect{boundToken, h.public, h.sign(t, older)} }, policy.KeyProofInvalid},
		{"stolen, with a signature of the empty nonce", func(string) connect { return connect{boundToken, h.public, h.sign(t, "")} }, policy.KeyProofInvalid},
		{"stolen, with a signature that is none", func(string) connect { return connect{boundToken, h.public, "AAAA"} }, policy.KeyProofInvalid},
		{"by thumbprint, stolen", func(string) connect { return connect{thumbprints, h.public, ""} }, policy.KeyProofMissing},
		{"by thumbprint, with the thief's own key and signature", func(n string) connect { return connect{thumbprints, thief.public, thief.sign(t, n)} }, policy.KeyProofInvalid},
		{"by thumbprint, with the owner's key and the thief's signature", func(n string) connect { return connect{thumbprints, h.public, thief.sign(t, n)} }, policy.KeyProofInvalid},
	} {
		before := len(s.records.of(c.want))
		w := s.dialWire(t)
		said := c.connect(w.nonce)
		if got := w.send(t, said); got != (c.want == policy.Allowed) {
			t.Errorf("%s: let in %v", c.name, got)
		}
		entries := s.records.of(c.want)
		if len(entries) != before+1 {
			t.Fatalf("%s: not recorded as %s: %+v", c.name, c.want, s.records.all())
		}
		if e := entries[before]; said.Signature != "" && strings.Contains(fmt.Sprint(e)+s.log.String(), said.Signature) {
			t.Errorf("%s: the signature was recorded or logged", c.name)
		}
	}
	// The record tells key-bound logins apart.
	var details []string
	for _, e := range s.records.of(policy.Allowed) {
		details = append(details, e.Detail)
	}
	byKey, byPrint := "the client signed with the token's key "+h.public, "the client signed with the token's key with thumbprint "+jkt(t, h.public)
	if got, want := strings.Join(details, "\n"), strings.Join([]string{byKey, byKey, byPrint, ""}, "\n"); got != want {
		t.Errorf("details of the admitted:\n%s\nwant:\n%s", got, want)
	}
}

// What was overheard of an honest login opens no other connection.
func TestOverheardConnectIsRefused(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	h := newHolder(t, s)
	honest := s.dialWire(t)
	overheard := connect{boundToken, h.public, h.sign(t, honest.nonce)}
	if !honest.send(t, overheard) {
		t.Fatal("the owner was refused")
	}
	if s.dialWire(t).send(t, overheard) {
		t.Error("the overheard CONNECT was let in on another connection")
	}
	s.records.only(t, policy.KeyProofInvalid)
}

// nats.go signs through a sentinel of its own or the server's default one, over TCP and WebSocket.
func TestKeyBoundTokenOfClients(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	h := newHolder(t, s)
	sentinel := func() (string, error) { return s.SentinelJWT, nil }
	for name, opts := range map[string][]nats.Option{
		"default sentinel": {nats.Nkey(h.public, h.Sign)}, "own sentinel": {nats.UserJWT(sentinel, h.Sign)},
	} {
		for _, url := range []string{s.server.ClientURL(), s.server.WebSocketURL()} {
			if _, err := dialURL(t, url, append(opts, nats.Token(boundToken))...); err != nil {
				t.Errorf("%s, %s: %v", name, url, err)
			}
		}
	}
	if _, err := s.dial(t, nats.Token(boundToken)); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("without the key: %v", err)
	}
}

// Without require_key only tokens that are bound need a proof; with it the others get nothing.
func TestRequireKey(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	h := newHolder(t, s)
	s.tokens.set(secret+"broken", withClaims(map[string]any{"nonce": h.public[:55] + "!"}))
	s.tokens.set(secret+"certificate", withClaims(map[string]any{"cnf": map[string]any{"x5t#S256": "x"}}))
	rules := s.rules(t)
	for _, b := range rules.Bindings["corp"] {
		b.RequireKey = true
	}
	s.state.Store(&policy.Snapshot{Rules: rules})
	s.login(t, nats.Nkey(h.public, h.Sign), nats.Token(boundToken))
	for token, want := range map[string]policy.Reason{
		secret + "alice": policy.KeyRequired, secret + "broken": policy.KeyRequired, secret + "certificate": policy.KeyUncheckable,
	} {
		before := len(s.records.of(want))
		if _, err := s.dial(t, nats.Nkey(h.public, h.Sign), nats.Token(token)); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", token, err)
		}
		if got := len(s.records.of(want)); got != before+1 {
			t.Errorf("%s: %d entries for %s, want %d", token, got, want, before+1)
		}
	}
}

// An MQTT client cannot sign, so a bound token is of no use to it, and the record says so.
func TestKeyBoundTokenOverMQTT(t *testing.T) {
	t.Parallel()
	port := devtest.Ports(t, 1)[0]
	s := startSystem(t, func(s *system, so *setup.Options, _ *Options) {
		so.NoJetStream = false
		s.serverConf = fmt.Sprintf("\nmqtt { listen: \"127.0.0.1:%d\" }\n", port)
	})
	newHolder(t, s)
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), soon)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(mqttConnect("device", boundToken)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	// MQTT 3.1.1, section 3.2: CONNACK, not authorized; then the server closes.
	if len(answer) < 4 || answer[0] != 0x20 || answer[3] != 5 {
		t.Errorf("the server answered % x", answer)
	}
	if e := s.records.only(t, policy.KeyProofMissing); e.ConnType != string(policy.MQTT) || !strings.Contains(e.Detail, "MQTT clients cannot sign") {
		t.Errorf("entry %+v", e)
	}
}

// mqttConnect returns a CONNECT packet (MQTT 3.1.1, section 3.1).
func mqttConnect(user, password string) []byte {
	text := func(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }
	body := append(text("MQTT"), 4, 0b1100_0010, 0, 60) // level, user and password and a clean session, keep alive
	for _, s := range []string{"client-1", user, password} {
		body = append(body, text(s)...)
	}
	return append([]byte{0x10, byte(len(body))}, body...)
}
