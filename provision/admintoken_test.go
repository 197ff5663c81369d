package provision_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// newKey returns a new account key.
func newKey(t testing.TB) *mint.Key {
	t.Helper()
	kp, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := kp.Seed()
	if err != nil {
		t.Fatal(err)
	}
	key, err := mint.NewKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// withoutIssuers has an installation with that key, of whose issuers no keys are loaded.
func withoutIssuers(key *mint.Key) func(*provision.Options) {
	return func(o *provision.Options) {
		o.Signer, o.Tokens = key, tokens(func(context.Context, string) (*policy.Identity, *policy.Refusal) {
			return nil, policy.Refuse(policy.KeysUnavailable, "the provider is down")
		})
	}
}

func (b *bed) adminToken(t testing.TB, req api.AdminTokenRequest) api.AdminToken {
	t.Helper()
	out, err := b.MakeAdminToken(t.Context(), admin, req)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var breakGlass = api.AdminTokenRequest{Rights: []string{"revoke"}, Reason: "the provider is down"}

// An admin token administers on every replica that has the key while no issuer's keys are loaded, and leaves traces
// where it is made and at each use.
func TestAdminToken(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	b, records, _ := newAdminBed(t, withoutIssuers(key))
	other, theirs, _ := newAdminBed(t, withoutIssuers(key))
	token := b.adminToken(t, breakGlass)
	if !token.Expires.Equal(now.Add(15*time.Minute).Truncate(time.Second)) || token.Actor != "local:admin" {
		t.Errorf("%+v", token)
	}
	made := records.taken()
	if len(made) != 1 || made[0].Op != api.OpAdminToken || made[0].Actor != "local:admin" || made[0].Target != token.ID || made[0].Reason != breakGlass.Reason {
		t.Errorf("recorded %+v", made)
	}
	a := call(t, other.Handler(), http.MethodPost, api.Path(api.OpRevoke), token.Token, needs[1].body)
	if a.Code != http.StatusOK {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if list := other.list(t); len(list) != 1 || list[0].Actor != "admin-token:local:admin" {
		t.Errorf("stored %+v", list)
	}
	used := theirs.taken()
	if len(used) != 1 || used[0].TokenID != token.ID || used[0].Actor != "admin-token:local:admin" || used[0].Issuer != provision.AdminTokenIssuer || used[0].Name != "" {
		t.Errorf("recorded %+v", used)
	}
	for _, log := range []string{b.log.String(), other.log.String()} {
		if !strings.Contains(log, "level=WARN") || !strings.Contains(log, token.ID) || strings.Contains(log, token.Token) {
			t.Errorf("log %s", log)
		}
	}
	call(t, other.Handler(), http.MethodPost, api.Path(api.OpAudit), token.Token, "").refused(t, http.StatusForbidden, api.ReasonForbidden)
	call(t, other.Handler(), http.MethodPost, whoamiPath, token.Token, "").refused(t, http.StatusServiceUnavailable, string(policy.KeysUnavailable))
	call(t, other.Handler(), http.MethodPost, api.Path(api.OpAdminToken), token.Token, `{"rights":["audit"],"reason":"more"}`).refused(t, http.StatusForbidden, api.ReasonForbidden)
	b.at(token.Expires)
	e := call(t, b.Handler(), http.MethodPost, api.Path(api.OpRevoke), token.Token, needs[1].body).refused(t, http.StatusUnauthorized, string(policy.TokenExpired))
	if !strings.Contains(e.Message, "gatehouse admin-token") {
		t.Errorf("message %s", e.Message)
	}
}

// An admin token is void once it is logged out, its maker is blocked, or all of them are. While a block is in force no other is
// made, which nobody would take.
func TestAdminTokensAreRevocable(t *testing.T) {
	t.Parallel()
	b, _, state := newAdminBed(t, withoutIssuers(newKey(t)))
	token := b.adminToken(t, breakGlass)
	of := policy.Principal{Issuer: provision.AdminTokenIssuer}
	for name, test := range map[string]struct {
		revocation policy.Revocation
		want       policy.Reason
	}{
		"the token": {policy.Revocation{Kind: policy.Logout, Target: policy.Target{Principal: of, Token: token.ID}}, policy.LoggedOut},
		"the maker": {policy.Revocation{Kind: policy.Block, Target: policy.Target{Principal: policy.Principal{Issuer: of.Issuer, Subject: "local:admin"}}}, policy.Blocked},
		"all":       {policy.Revocation{Kind: policy.Block, Target: policy.Target{Principal: of}}, policy.Blocked},
	} {
		test.revocation.ID, test.revocation.At = "r", now
		state.Revocations = policy.NewRevocations([]policy.Revocation{test.revocation})
		call(t, b.Handler(), http.MethodPost, api.Path(api.OpRevocations), token.Token, "").refused(t, http.StatusForbidden, string(test.want))
		_, err := b.MakeAdminToken(t.Context(), admin, breakGlass)
		if useless := test.want == policy.Blocked; useless != (err != nil) || useless && refusal(t, err).Reason != string(policy.Blocked) {
			t.Errorf("%s, another token: %v", name, err)
		}
		state.Revocations = nil
		if a := call(t, b.Handler(), http.MethodPost, api.Path(api.OpRevocations), token.Token, ""); a.Code != http.StatusOK {
			t.Errorf("%s, lifted: %d %s", name, a.Code, a.Body)
		}
	}
	if _, err := b.Revoke(t.Context(), admin, api.RevokeRequest{Target: api.Target{Issuer: "admin-token", Subject: "local:admin"}, Reason: "misused"}); err != nil {
		t.Error(err)
	}
}

func TestAdminTokenRequests(t *testing.T) {
	t.Parallel()
	b, records, _ := newAdminBed(t, withoutIssuers(newKey(t)))
	for name, change := range map[string]func(*api.AdminTokenRequest){
		"no right":         func(r *api.AdminTokenRequest) { r.Rights = nil },
		"an unknown right": func(r *api.AdminTokenRequest) { r.Rights = []string{"revoke", "everything"} },
		"too many rights":  func(r *api.AdminTokenRequest) { r.Rights = slices.Repeat(r.Rights, 9) },
		"no reason":        func(r *api.AdminTokenRequest) { r.Reason = "" },
		"a long reason":    func(r *api.AdminTokenRequest) { r.Reason = strings.Repeat("x", provision.MaxReason+1) },
		"too long":         func(r *api.AdminTokenRequest) { r.TTL = "1h1s" },
		"no time":          func(r *api.AdminTokenRequest) { r.TTL = "0s" },
		"a past one":       func(r *api.AdminTokenRequest) { r.TTL = "-1h" },
		"no duration":      func(r *api.AdminTokenRequest) { r.TTL = "tomorrow" },
	} {
		req := breakGlass
		change(&req)
		_, err := b.MakeAdminToken(t.Context(), admin, req)
		if message := wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest); message == "" {
			t.Error(name)
		}
	}
	_, err := b.MakeAdminToken(t.Context(), provision.Caller{Token: "admin:root"}, breakGlass)
	wantError(t, err, http.StatusForbidden, api.ReasonForbidden)
	if list := records.taken(); len(list) != 0 {
		t.Errorf("recorded %+v", list)
	}
	records.err = errors.New("full")
	out, err := b.MakeAdminToken(t.Context(), admin, breakGlass)
	wantError(t, err, http.StatusServiceUnavailable, string(policy.RecordUnavailable))
	if strings.Contains(b.log.String(), out.Token) {
		t.Error("the token is in the log")
	}
}

// Whoever has not the key, or something else that it signed, has no admin token.
func TestForgedAdminTokens(t *testing.T) {
	t.Parallel()
	key, foreign := newKey(t), newKey(t)
	b, _, _ := newAdminBed(t, withoutIssuers(key))
	good := b.adminToken(t, breakGlass).Token
	part := strings.Split(good, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(part[1])
	encode := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	signed := func(key *mint.Key, header, payload string) string {
		signature, _ := key.Sign([]byte(header + "." + payload))
		return header + "." + payload + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	with := func(name string, value any) string {
		var claims map[string]any
		if err := json.Unmarshal(raw, &claims); err != nil {
			t.Fatal(err)
		}
		claims[name] = value
		return signed(key, part[0], encode(claims))
	}
	header := func(alg, typ string) string {
		return encode(map[string]any{"alg": alg, "typ": typ, "kid": key.Public()})
	}
	for name, test := range map[string]struct {
		token string
		want  policy.Reason
	}{
		"another installation's":  {signed(foreign, strings.Split(adminTokenOf(t, foreign), ".")[0], part[1]), policy.KeyUnknown},
		"signed by another key":   {signed(foreign, part[0], part[1]), policy.SignatureInvalid},
		"alg none":                {header("none", "gatehouse-admin+jwt") + "." + part[1] + ".", policy.KeyUnknown},
		"no signature":            {part[0] + "." + part[1] + ".", policy.SignatureInvalid},
		"another payload":         {part[0] + "." + encode(map[string]any{"iss": provision.AdminTokenIssuer}) + "." + part[2], policy.SignatureInvalid},
		"four parts":              {good + ".x", policy.TokenMalformed},
		"padding":                 {good + "=", policy.TokenMalformed},
		"too long":                {part[0] + "." + strings.Repeat("A", 9000) + "." + part[2], policy.TokenMalformed},
		"a longer life":           {with("exp", now.Add(2*time.Hour).Unix()), policy.TokenMalformed},
		"another issuer":          {with("iss", corp), policy.TokenMalformed},
		"another audience":        {with("aud", "nats"), policy.TokenMalformed},
		"no id":                   {with("jti", ""), policy.TokenMalformed},
		"an unknown right":        {with("rights", []string{"revoke", "everything"}), policy.TokenMalformed},
		"no rights":               {with("rights", nil), policy.TokenMalformed},
		"an unknown claim":        {with("admin", true), policy.TokenMalformed},
		"from the future":         {with("iat", now.Add(11*time.Second).Unix()), policy.TokenNotYet},
		"a NATS JWT of the key":   {signed(key, header("ed25519-nkey", "JWT"), part[1]), policy.KeysUnavailable}, // taken for an OIDC token
		"an OIDC token's type":    {signed(key, header("EdDSA", "JWT"), part[1]), policy.KeysUnavailable},
		"a header in other order": {signed(key, base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"gatehouse-admin+jwt","alg":"EdDSA","kid":"`+key.Public()+`"}`)), part[1]), policy.KeyUnknown},
	} {
		a := call(t, b.Handler(), http.MethodPost, api.Path(api.OpRevoke), test.token, needs[1].body)
		var e api.Error
		if err := json.Unmarshal(a.Body.Bytes(), &e); err != nil || e.Reason != string(test.want) || a.Code < 400 {
			t.Errorf("%s: %d %s, want %s", name, a.Code, a.Body, test.want)
		}
	}
	if list := b.list(t); len(list) != 0 {
		t.Errorf("stored %+v", list)
	}
}

// adminTokenOf returns an admin token of an installation with that key.
func adminTokenOf(t testing.TB, key *mint.Key) string {
	t.Helper()
	b, _, _ := newAdminBed(t, withoutIssuers(key))
	return b.adminToken(t, breakGlass).Token
}

// Without a service, making an admin token is recorded in the store itself.
func TestAdminTokenWithoutService(t *testing.T) {
	t.Parallel()
	b := newBed(t, withoutIssuers(newKey(t)))
	token := b.adminToken(t, breakGlass)
	page, _, err := b.Store.Audit(t.Context(), store.AuditFilter{Kind: store.AdminEntry})
	if err != nil || len(page) != 1 || page[0].Target != token.ID {
		t.Errorf("%+v, %v", page, err)
	}
}
