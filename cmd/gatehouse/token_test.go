package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// TestBadTokens logs in with what should never be let in. Each is refused for its own reason,
// and the service goes on.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: `roles:
  team:
    publish: { allow: ["team.{{claim.team}}.>"] }
bindings:
  - name: teams
    issuer: demo
    grant: { account: APP, role: team }
`})
	r := w.serve(serveOptions{process: true})
	now := time.Now()
	good := func(claims map[string]any) string {
		all := map[string]any{"team": "blue"}
		for k, v := range claims {
			all[k] = v
		}
		return w.token("alice", all)
	}
	signed := good(nil)
	parts := strings.Split(signed, ".")
	w.login(signed)
	for name, c := range map[string]struct{ token, reason string }{
		"no JWT":               {"let me in", "token_malformed"},
		"cut":                  {signed[:len(signed)-2], "signature_invalid"},
		"two parts":            {parts[0] + "." + parts[1], "token_malformed"},
		"none":                 {encode(`{"alg":"none"}`) + "." + parts[1] + ".", "algorithm_refused"},
		"public key as secret": {hmacSigned(t, w.provider, parts[1]), "algorithm_refused"},
		"payload of another":   {parts[0] + "." + strings.Split(good(map[string]any{"sub": "root"}), ".")[1] + "." + parts[2], "signature_invalid"},
		"oversized":            {good(map[string]any{"fat": strings.Repeat("x", 17<<10)}), "token_too_large"},
		"issuer with slash":    {good(map[string]any{"iss": w.provider.Issuer() + "/"}), "issuer_unknown"},
		"other audience":       {good(map[string]any{"aud": "mail"}), "audience_refused"},
		"no audience":          {good(map[string]any{"aud": nil}), "audience_refused"},
		"expired":              {good(map[string]any{"iat": now.Add(-2 * time.Hour).Unix(), "exp": now.Add(-time.Hour).Unix()}), "token_expired"},
		"not yet":              {good(map[string]any{"nbf": now.Add(time.Hour).Unix()}), "token_not_yet_valid"},
		"from the future":      {good(map[string]any{"iat": now.Add(time.Hour).Unix()}), "token_not_yet_valid"},
		"logout token":         {good(map[string]any{"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}), "token_purpose"},
		"empty sub":            {good(map[string]any{"sub": ""}), "subject_invalid"},
		"sub of a number":      {good(map[string]any{"sub": 42}), "subject_invalid"},
		"long sub":             {good(map[string]any{"sub": strings.Repeat("s", 10000)}), "subject_invalid"},
		"exp of a text":        {good(map[string]any{"exp": "tomorrow"}), "claims_invalid"},
		"dot in a claim":       {good(map[string]any{"team": "blue.secret"}), "claim_unsafe"},
		"wildcard":             {good(map[string]any{"team": "*"}), "claim_unsafe"},
		"rest of a subject":    {good(map[string]any{"team": ">"}), "claim_unsafe"},
		"blank":                {good(map[string]any{"team": "a b"}), "claim_unsafe"},
		"line":                 {good(map[string]any{"team": "a\r\nPUB x 0"}), "claim_unsafe"},
		"NUL":                  {good(map[string]any{"team": "a\x00b"}), "claim_unsafe"},
		"no claim":             {good(map[string]any{"team": nil}), "claim_unsafe"},
		"list in a claim":      {good(map[string]any{"team": []string{"blue"}}), "claim_unsafe"},
		"bad envelope":         {`{"token":"` + signed + `","acount":"APP"}`, "envelope_malformed"},
		"other account":        {`{"token":"` + signed + `","account":"OTHER"}`, "account_not_granted"},
	} {
		t.Run(name, func(t *testing.T) {
			w, r := w.in(t), *r
			r.world = w
			before := r.metric("gatehouse_logins_total", `outcome="refused"`, fmt.Sprintf("reason=%q", c.reason))
			w.mustBeRefused(c.token)
			if after := r.metric("gatehouse_logins_total", `outcome="refused"`, fmt.Sprintf("reason=%q", c.reason)); after != before+1 {
				t.Errorf("it was not refused for %s:\n%s", c.reason, r.log.String())
			}
		})
	}
	w.login(signed)
	// Somebody else's key of the right algorithm, and a token of an issuer that nobody knows.
	stranger := devtest.StartProvider(t, devstack.ProviderOptions{})
	w.mustBeRefused(devtest.Token(t, stranger, "alice", nil))
	if r.metric("gatehouse_logins_total", `reason="issuer_unknown"`) != 2 {
		t.Error("the token of a strange issuer was not refused for that")
	}
	if strings.Contains(r.log.String(), "panic") {
		t.Error("the service panicked")
	}
}

func encode[T string | []byte](part T) string {
	return base64.RawURLEncoding.EncodeToString([]byte(part))
}

// hmacSigned returns a token that is signed with the provider's public key as if it were a
// shared secret, which a verifier that trusts the header's alg would accept.
func hmacSigned(t testing.TB, p *devstack.Provider, payload string) string {
	t.Helper()
	resp, err := web.Get(p.Issuer() + "/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil || resp.StatusCode != http.StatusOK || len(set.Keys) == 0 {
		t.Fatalf("no keys: %v", err)
	}
	var key struct {
		ID string `json:"kid"`
	}
	if err := json.Unmarshal(set.Keys[0], &key); err != nil {
		t.Fatal(err)
	}
	signed := encode(fmt.Sprintf(`{"alg":"HS256","kid":%q}`, key.ID)) + "." + payload
	mac := hmac.New(sha256.New, set.Keys[0])
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

// TestSubjectsOfAllKinds: whatever a provider calls people, NATS shows a name that is safe in
// subjects and different for each.
func TestSubjectsOfAllKinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{})
	r := w.serve(serveOptions{process: true})
	for subject, name := range map[string]string{
		"7f3a":                   "demo-7f3a",
		"auth0|5f7c8ec7c33c6c00": "demo-auth0=7C5f7c8ec7c33c6c00",
		"alice@example.com":      "demo-alice=40example=2Ecom",
		"Jörg":                   "demo-J=C3=B6rg",
		"*.>":                    "demo-=2A=2E=3E",
		"a b":                    "demo-a=20b",
	} {
		nc := w.login(w.token("alice", developer(subject)))
		if got := w.connection(nc).AuthorizedUser; got != name {
			t.Errorf("the server shows %q as %q, want %q", subject, got, name)
		}
		if e := r.auditOf(nc); e.Subject != subject || e.Name != name {
			t.Errorf("the audit entry of %q is %q, %q", subject, e.Subject, e.Name)
		}
	}
}

// TestWaysToConnect: over WebSocket, and with the account named in either place.
func TestWaysToConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: `roles:
  member:
    publish: { allow: ["app.>"] }
bindings:
  - name: web
    issuer: demo
    match: { groups: web }
    connection_types: [websocket]
    grant: { account: APP, role: member }
  - name: developers
    issuer: demo
    match: { groups: dev }
    grant: { account: APP, role: member }
`})
	r := w.serve(serveOptions{process: true})
	page := w.token("alice", map[string]any{"sub": someone(), "groups": []string{"web"}})
	nc, err := dial(w.servers[0].WebSocketURL(), page)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if e := r.auditOf(nc); e.ConnType != "websocket" {
		t.Errorf("the audit entry is of type %q", e.ConnType)
	}
	w.mustBeRefused(page) // over TCP

	token := w.token("alice", nil)
	for name, options := range map[string][]nats.Option{
		"envelope":            {nats.Token(`{"token":"` + token + `","account":"APP"}`)},
		"user":                {nats.Token(""), nats.UserInfo("account:APP", token)},
		"user of no meaning":  {nats.Token(""), nats.UserInfo("mqtt-device-7", token)},
		"user and its token":  {nats.UserInfo("account:APP", "")},
		"envelope over user":  {nats.Token(""), nats.UserInfo("account:OTHER", `{"token":"`+token+`","account":"APP"}`)},
		"sentinel of its own": {nats.UserCredentials(w.dir + "/creds/sentinel.creds")},
	} {
		nc, err := w.dial(token, options...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if at := w.connection(nc); at.Account != w.set.App.ID {
			t.Errorf("%s leads into account %s", name, at.Account)
		}
		nc.Close()
	}
	nc, err = w.dial(token, nats.Token(""), nats.UserInfo("account:OTHER", token))
	if err == nil {
		nc.Close()
		t.Error("an account that is not granted was entered")
	}
}
