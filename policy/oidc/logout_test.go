package oidc_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutConfig is config of an issuer that may log people out.
func (i *issuer) logoutConfig() oidc.Issuer {
	config := i.config()
	config.MaxAge = 48 * time.Hour
	config.Logout.Audiences = []string{"gatehouse-cli"}
	return config
}

// logoutClaims returns those of a good logout token with changes; nil takes a claim away.
func (i *issuer) logoutClaims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	claims := map[string]any{
		"iss": i.url, "sub": "alice", "sid": "s1", "aud": "gatehouse-cli", "iat": now, "exp": now + 120, "jti": "j1",
		"events": map[string]any{logoutEvent: map[string]any{}},
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

func (i *issuer) logoutToken(changes map[string]any) string {
	return sign(jose.EdDSA, "ed", edKey(), i.logoutClaims(changes))
}

func TestVerifyLogoutAccepts(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	v := start(t, oidc.Config{}, i.logoutConfig())
	admit(t, v, i.token(nil))
	payload := string(must(json.Marshal(i.logoutClaims(nil))))
	session := policy.LogoutToken{Principal: policy.Principal{Issuer: i.url, Subject: "alice"}, Session: "s1"}
	for name, test := range map[string]struct {
		raw  string
		want policy.LogoutToken
	}{
		"as Keycloak and Auth0 send it":   {i.logoutToken(map[string]any{"events": map[string]any{logoutEvent: map[string]any{}, "revoke_offline_access": true}}), session},
		"as oidc-provider sends it":       {craft(`{"alg":"EdDSA","kid":"ed","typ":"logout+jwt"}`, payload), session},
		"its type in full":                {craft(`{"alg":"EdDSA","kid":"ed","typ":"application/Logout+JWT"}`, payload), session},
		"no type":                         {craft(`{"alg":"EdDSA","kid":"ed"}`, payload), session},
		"no end, as Keycloak 18 sends it": {i.logoutToken(map[string]any{"exp": nil}), session},
		"several audiences":               {i.logoutToken(map[string]any{"aud": []string{"other", "gatehouse-cli"}}), session},
		"a session alone": {i.logoutToken(map[string]any{"sub": nil}),
			policy.LogoutToken{Principal: policy.Principal{Issuer: i.url}, Session: "s1"}},
		"an identity alone": {i.logoutToken(map[string]any{"sid": nil}),
			policy.LogoutToken{Principal: policy.Principal{Issuer: i.url, Subject: "alice"}}},
		"five minutes old": {i.logoutToken(map[string]any{"iat": time.Now().Add(-5 * time.Minute).Unix()}), session},
	} {
		t.Run(name, func(t *testing.T) {
			l, refusal, pending := v.VerifyLogout("corp", test.raw)
			if refusal != nil || pending != nil {
				t.Fatalf("refused: %v", refusal)
			}
			if l.IssuedAt.IsZero() {
				t.Error("it has no time")
			}
			// A token from before may have been issued by a clock that is ahead, and be accepted by one behind.
			if left := time.Until(l.Until); left < 48*time.Hour+10*time.Second || left > 48*time.Hour+21*time.Second {
				t.Errorf("it ends in %s", left)
			}
			l.IssuedAt, l.Until = time.Time{}, time.Time{}
			test.want.Issuer, test.want.TokenID = "corp", "j1"
			if diff := cmp.Diff(test.want, *l); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestVerifyLogoutRefuses(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	other := newIssuer().listen(t)
	silent := newIssuer().listen(t)
	otherConfig, silentConfig := other.logoutConfig(), silent.config()
	otherConfig.Name, silentConfig.Name = "other", "silent"
	v := start(t, oidc.Config{}, i.logoutConfig(), otherConfig, silentConfig)
	for _, i := range []*issuer{i, other, silent} {
		admit(t, v, i.token(nil))
	}
	unix := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	events := func(v any) string { return i.logoutToken(map[string]any{"events": v}) }
	payload := string(must(json.Marshal(i.logoutClaims(nil))))
	for name, test := range map[string]struct {
		raw  string
		want policy.Reason
	}{
		"nothing":                     {"", policy.TokenMissing},
		"an ID token":                 {i.token(map[string]any{"aud": "gatehouse-cli", "jti": "j1"}), policy.TokenPurpose},
		"an access token by typ":      {craft(`{"alg":"EdDSA","kid":"ed","typ":"at+jwt"}`, payload), policy.TokenPurpose},
		"a security event by typ":     {craft(`{"alg":"EdDSA","kid":"ed","typ":"secevent+jwt"}`, payload), policy.TokenPurpose},
		"no events":                   {events(nil), policy.TokenPurpose},
		"events that are a list":      {events([]string{logoutEvent}), policy.TokenPurpose},
		"events that are a text":      {events(logoutEvent), policy.TokenPurpose},
		"another event":               {events(map[string]any{"https://schemas.openid.net/secevent/risc/event-type/account-disabled": map[string]any{}}), policy.TokenPurpose},
		"an event that is not empty":  {events(map[string]any{logoutEvent: map[string]any{"a": 1}}), policy.TokenPurpose},
		"an event that is a list":     {events(map[string]any{logoutEvent: []any{}}), policy.TokenPurpose},
		"an event that is null":       {events(map[string]any{logoutEvent: json.RawMessage("null")}), policy.TokenPurpose},
		"a nonce":                     {i.logoutToken(map[string]any{"nonce": "n"}), policy.TokenPurpose},
		"an empty nonce":              {i.logoutToken(map[string]any{"nonce": ""}), policy.TokenPurpose},
		"of another issuer":           {other.logoutToken(nil), policy.IssuerUnknown},
		"of an issuer that may not":   {silent.logoutToken(nil), policy.IssuerUnknown},
		"of nobody":                   {i.logoutToken(map[string]any{"iss": "https://elsewhere.test"}), policy.IssuerUnknown},
		"another signature":           {sign(jose.EdDSA, "ed", otherKey(), i.logoutClaims(nil)), policy.SignatureInvalid},
		"no signature":                {encode(`{"alg":"none"}`) + "." + encode(payload) + ".", policy.AlgorithmRefused},
		"a symmetric signature":       {signHMAC(i.logoutClaims(nil)), policy.AlgorithmRefused},
		"for logins":                  {i.logoutToken(map[string]any{"aud": "nats"}), policy.AudienceRefused},
		"for nobody":                  {i.logoutToken(map[string]any{"aud": nil}), policy.AudienceRefused},
		"neither subject nor session": {i.logoutToken(map[string]any{"sub": nil, "sid": nil}), policy.SubjectInvalid},
		"empty subject and session":   {i.logoutToken(map[string]any{"sub": "", "sid": ""}), policy.SubjectInvalid},
		"a subject that is a number":  {i.logoutToken(map[string]any{"sub": 7}), policy.SubjectInvalid},
		"a session of 2 kB":           {i.logoutToken(map[string]any{"sid": strings.Repeat("s", 2048)}), policy.ClaimsInvalid},
		"no jti":                      {i.logoutToken(map[string]any{"jti": nil}), policy.ClaimsInvalid},
		"an empty jti":                {i.logoutToken(map[string]any{"jti": ""}), policy.ClaimsInvalid},
		"no iat":                      {i.logoutToken(map[string]any{"iat": nil}), policy.ClaimsInvalid},
		"an iat of long ago":          {i.logoutToken(map[string]any{"iat": unix(-5*time.Minute - 12*time.Second)}), policy.TokenTooOld},
		"long ago and valid for long": {i.logoutToken(map[string]any{"iat": unix(-time.Hour), "exp": unix(time.Hour)}), policy.TokenTooOld},
		"an iat to come":              {i.logoutToken(map[string]any{"iat": unix(15 * time.Second)}), policy.TokenNotYet},
		"expired":                     {i.logoutToken(map[string]any{"exp": unix(-12 * time.Second)}), policy.TokenExpired},
		"an end that is a text":       {i.logoutToken(map[string]any{"exp": "soon"}), policy.ClaimsInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			l, refusal, pending := v.VerifyLogout("corp", test.raw)
			if pending != nil || l != nil || refusal == nil || refusal.Reason != test.want {
				t.Errorf("%v, %v, want %s", l, refusal, test.want)
			}
		})
	}
	if _, refusal, _ := v.VerifyLogout("silent", silent.logoutToken(nil)); refusal == nil || refusal.Reason != policy.AudienceRefused {
		t.Errorf("an issuer without audiences for it logs out: %v", refusal)
	}
	if got := now(t, v, i.logoutToken(map[string]any{"aud": []string{"nats", "gatehouse-cli"}})); got != policy.TokenPurpose {
		t.Errorf("a logout token logs in: %s", got)
	}
}

func TestLogoutOfIssuerWithoutSessions(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	config := i.logoutConfig()
	config.Logout.EndIdentity, config.MaxAge = true, time.Hour
	v := start(t, oidc.Config{}, config)
	admit(t, v, i.token(nil))
	l, refusal, _ := v.VerifyLogout("corp", i.logoutToken(nil))
	if refusal != nil || l.Subject != "alice" || l.Session != "" {
		t.Errorf("%+v, %v", l, refusal)
	}
	// A server that was cut off for a while has to be swept, however short tokens live.
	if left := time.Until(l.Until); left < 24*time.Hour {
		t.Errorf("it ends in %s", left)
	}
	if l, refusal, _ := v.VerifyLogout("corp", i.logoutToken(map[string]any{"sub": nil})); refusal != nil || l.Session != "s1" {
		t.Errorf("a session of nobody: %+v, %v", l, refusal)
	}
}

func TestLogoutWaitsForKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer()
		i.delay = time.Second
		v := start(t, oidc.Config{}, i.logoutConfig())
		_, _, pending := v.VerifyLogout("corp", i.logoutToken(nil))
		if pending == nil {
			t.Fatal("the keys cannot be there yet")
		}
		<-pending
		if l, refusal, _ := v.VerifyLogout("corp", i.logoutToken(nil)); refusal != nil || l.Session != "s1" {
			t.Errorf("%v, %v", l, refusal)
		}
	})
}

func TestLogoutsMustEnd(t *testing.T) {
	t.Parallel()
	config := newIssuer().logoutConfig()
	config.MaxAge = 0
	if _, err := oidc.New(oidc.Config{}, []oidc.Issuer{config}); !errors.Is(err, oidc.ErrIssuer) {
		t.Errorf("an issuer whose logouts never end: %v", err)
	}
}

// FuzzLogout expects of any claims that an issuer signs that what is accepted names whom it ends, by
// what token, and an end that is bounded.
func FuzzLogout(f *testing.F) {
	ed := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	i := newIssuer()
	i.keys = []jose.JSONWebKey{public("ed", ed)}
	issued := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	v := start(f, oidc.Config{Now: func() time.Time { return issued }}, i.logoutConfig())
	times := map[string]any{"iat": issued.Unix(), "exp": issued.Add(time.Hour).Unix()}
	admit(f, v, sign(jose.EdDSA, "ed", ed, i.claims(times)))
	for _, changes := range []map[string]any{nil, {"sid": nil}, {"sub": nil}, {"events": []any{}}, {"nonce": "n"}, {"exp": nil}, {"aud": []any{1}}} {
		claims := i.logoutClaims(times)
		maps.Copy(claims, changes)
		f.Add(string(must(json.Marshal(claims))))
	}
	f.Fuzz(func(t *testing.T, payload string) {
		input := encode(`{"alg":"EdDSA","kid":"ed"}`) + "." + encode(payload)
		raw := input + "." + encode(string(ed25519.Sign(ed, []byte(input))))
		l, refusal, pending := v.VerifyLogout("corp", raw)
		switch {
		case pending != nil || (l == nil) == (refusal == nil):
			t.Fatalf("%v, %v, pending %v", l, refusal, pending != nil)
		case refusal != nil && (refusal.Reason == "" || refusal.Detail == ""):
			t.Errorf("refused without a reason: %v", refusal)
		case l == nil:
		case l.TokenID == "" || l.Principal.Issuer != i.url || l.Subject == "" && l.Session == "":
			t.Errorf("it ends nothing: %+v", l)
		case !l.Until.After(issued) || l.Until.After(issued.Add(50*time.Hour)) || l.IssuedAt.After(issued.Add(time.Minute)):
			t.Errorf("its times: %+v", l)
		}
		if id, _, _ := v.Verify(raw); l != nil && id != nil {
			t.Errorf("a logout token logs %q in", id.Subject)
		}
	})
}
