package oidc_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/oidc"
)

func TestVerifyAccepts(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	v := startLoaded(t, oidc.Config{}, i)
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	payload := string(must(json.Marshal(i.claims(nil))))
	for name, raw := range map[string]string{
		"RS256":                          sign(jose.RS256, "rsa", rsaKey(), i.claims(nil)),
		"PS256":                          sign(jose.PS256, "rsa", rsaKey(), i.claims(nil)),
		"ES256":                          sign(jose.ES256, "ec", ecKey(), i.claims(nil)),
		"EdDSA":                          sign(jose.EdDSA, "ed", edKey(), i.claims(nil)),
		"no kid and one fitting key":     sign(jose.EdDSA, "", edKey(), i.claims(nil)),
		"no typ":                         craft(`{"alg":"EdDSA","kid":"ed"}`, payload),
		"an access token":                craft(`{"alg":"EdDSA","kid":"ed","typ":"application/at+jwt"}`, payload),
		"a header with ignored parts":    craft(`{"alg":"EdDSA","kid":"ed","x5t":"AAAA","jku":"https://elsewhere.test/keys"}`, payload),
		"several audiences":              i.token(map[string]any{"aud": []string{"other", "nats"}}),
		"expired within the leeway":      i.token(map[string]any{"exp": ago(8 * time.Second)}),
		"issued ahead within the leeway": i.token(map[string]any{"iat": ago(-8 * time.Second), "nbf": ago(-8 * time.Second)}),
		"fractions of a second":          i.token(map[string]any{"iat": float64(ago(time.Second)) + 0.25}),
		"a sub at its bound":             i.token(map[string]any{"sub": strings.Repeat("s", 1024)}),
		"claims nested at their bound":   i.token(map[string]any{"deep": nested(31)}),
	} {
		t.Run(name, func(t *testing.T) {
			if got := now(t, v, raw); got != policy.Allowed {
				_, refusal, _ := v.Verify(raw)
				t.Errorf("refused: %v", refusal)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	config := i.config()
	config.Algorithms = []string{"EdDSA", "ES256"}
	config.MaxAge = time.Hour
	v := start(t, oidc.Config{}, config)
	good := i.token(nil)
	admit(t, v, good)

	unix := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	payload := string(must(json.Marshal(i.claims(nil))))
	const header = `{"alg":"EdDSA","kid":"ed"}`
	part := strings.Split(good, ".")

	for name, test := range map[string]struct {
		raw  string
		want policy.Reason
		// known is set where the token is truly of its identity, and only not valid here or now.
		known bool
	}{
		"nothing":                    {raw: "", want: policy.TokenMissing},
		"an opaque token":            {raw: "ya29.a0AfH6SMBx", want: policy.TokenMalformed},
		"not a JWT":                  {raw: "hello there", want: policy.TokenMalformed},
		"two parts":                  {raw: part[0] + "." + part[1], want: policy.TokenMalformed},
		"four parts":                 {raw: good + ".AAAA", want: policy.TokenMalformed},
		"an encrypted token":         {raw: "a.b.c.d.e", want: policy.TokenMalformed},
		"no header":                  {raw: "." + part[1] + "." + part[2], want: policy.TokenMalformed},
		"no payload":                 {raw: part[0] + ".." + part[2], want: policy.TokenMalformed},
		"cut short in the payload":   {raw: part[0] + "." + part[1][:20] + "." + part[2], want: policy.TokenMalformed},
		"cut short in the signature": {raw: good[:len(good)-2], want: policy.SignatureInvalid},
		"cut short within a byte":    {raw: good[:len(good)-1], want: policy.TokenMalformed},
		"bits that decoding drops":   {raw: good[:len(good)-1] + next(good[len(good)-1]), want: policy.TokenMalformed},
		"no signature":               {raw: part[0] + "." + part[1] + ".", want: policy.SignatureInvalid},
		"a blank before":             {raw: " " + good, want: policy.TokenMalformed},
		"a newline after":            {raw: good + "\n", want: policy.TokenMalformed},
		"a newline within":           {raw: good[:30] + "\n" + good[30:], want: policy.TokenMalformed},
		"padded base64":              {raw: part[0] + "=." + part[1] + "." + part[2], want: policy.TokenMalformed},
		"standard base64":            {raw: part[0] + "." + part[1] + "+/." + part[2], want: policy.TokenMalformed},
		"the JSON serialization":     {raw: `{"payload":"` + part[1] + `"}`, want: policy.TokenMalformed},
		"one byte over the bound":    {raw: strings.Repeat("a", 16<<10+1), want: policy.TokenTooLarge},
		"10,000 groups":              {raw: i.token(map[string]any{"groups": groups(10_000)}), want: policy.TokenTooLarge},

		"a header that is not JSON":    {raw: craft(`nope`, payload), want: policy.TokenMalformed},
		"a header that is a list":      {raw: craft(`["alg"]`, payload), want: policy.TokenMalformed},
		"no alg":                       {raw: craft(`{"kid":"ed"}`, payload), want: policy.TokenMalformed},
		"alg that is not a text":       {raw: craft(`{"alg":1,"kid":"ed"}`, payload), want: policy.TokenMalformed},
		"alg twice":                    {raw: craft(`{"alg":"EdDSA","kid":"ed","alg":"none"}`, payload), want: policy.TokenMalformed},
		"kid that is not a text":       {raw: craft(`{"alg":"EdDSA","kid":7}`, payload), want: policy.TokenMalformed},
		"kid too long":                 {raw: craft(`{"alg":"EdDSA","kid":"`+strings.Repeat("k", 513)+`"}`, payload), want: policy.TokenMalformed},
		"crit":                         {raw: craft(`{"alg":"EdDSA","kid":"ed","crit":["exp"],"exp":1}`, payload), want: policy.TokenMalformed},
		"b64":                          {raw: craft(`{"alg":"EdDSA","kid":"ed","b64":false}`, payload), want: policy.TokenMalformed},
		"typ that is not a text":       {raw: craft(`{"alg":"EdDSA","kid":"ed","typ":[]}`, payload), want: policy.TokenMalformed},
		"a logout token by typ":        {raw: craft(`{"alg":"EdDSA","kid":"ed","typ":"logout+jwt"}`, payload), want: policy.TokenPurpose},
		"a security event by typ":      {raw: craft(`{"alg":"EdDSA","kid":"ed","typ":"application/SecEvent+JWT"}`, payload), want: policy.TokenPurpose},
		"a proof of possession by typ": {raw: craft(`{"alg":"EdDSA","kid":"ed","typ":"dpop+jwt"}`, payload), want: policy.TokenPurpose},

		"alg none":                     {raw: encode(`{"alg":"none"}`) + "." + part[1] + ".", want: policy.AlgorithmRefused},
		"alg None with a kid":          {raw: encode(`{"alg":"None","kid":"ed"}`) + "." + part[1] + "." + part[2], want: policy.AlgorithmRefused},
		"HS256 with the public key":    {raw: signHMAC(i.claims(nil)), want: policy.AlgorithmRefused},
		"an algorithm not pinned":      {raw: sign(jose.RS256, "rsa", rsaKey(), i.claims(nil)), want: policy.AlgorithmRefused},
		"the kid of another kind":      {raw: craft(`{"alg":"EdDSA","kid":"ec"}`, payload), want: policy.AlgorithmRefused},
		"the signature of another key": {raw: sign(jose.EdDSA, "ed", otherKey(), i.claims(nil)), want: policy.SignatureInvalid},
		"another payload":              {raw: part[0] + "." + encode(strings.Replace(payload, "alice", "root1", 1)) + "." + part[2], want: policy.SignatureInvalid},
		"a key that it brings itself":  {raw: signEmbedded(otherKey(), i.claims(nil)), want: policy.SignatureInvalid},
		"an unknown kid":               {raw: sign(jose.EdDSA, "new", otherKey(), i.claims(nil)), want: policy.KeysUnavailable},

		"a payload that is not JSON":   {raw: craft(header, "hello"), want: policy.TokenMalformed},
		"a payload that is a list":     {raw: craft(header, "["+payload+"]"), want: policy.TokenMalformed},
		"a payload with more after it": {raw: craft(header, payload+"{}"), want: policy.TokenMalformed},
		"a payload that is not UTF-8":  {raw: craft(header, strings.Replace(payload, "alice", "al\xffce", 1)), want: policy.TokenMalformed},
		"a claim twice":                {raw: craft(header, strings.Replace(payload, "{", `{"sub":"root",`, 1)), want: policy.TokenMalformed},
		"a claim twice, once escaped":  {raw: craft(header, strings.Replace(payload, "{", `{"\u0073ub":"root",`, 1)), want: policy.TokenMalformed},
		"a nested claim twice":         {raw: craft(header, strings.Replace(payload, "{", `{"realm":{"a":1,"a":2},`, 1)), want: policy.TokenMalformed},
		"claims nested too deep":       {raw: i.token(map[string]any{"deep": nested(32)}), want: policy.TokenMalformed},
		"lists nested thousands deep":  {raw: craft(header, `{"deep":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`}`), want: policy.TokenMalformed},

		"no iss":                 {raw: i.token(map[string]any{"iss": nil}), want: policy.IssuerUnknown},
		"iss that is not a text": {raw: i.token(map[string]any{"iss": []string{i.url}}), want: policy.IssuerUnknown},
		"another iss":            {raw: i.token(map[string]any{"iss": "https://elsewhere.test"}), want: policy.IssuerUnknown},
		"iss with a slash more":  {raw: i.token(map[string]any{"iss": i.url + "/"}), want: policy.IssuerUnknown},
		"iss in capitals":        {raw: i.token(map[string]any{"iss": strings.ToUpper(i.url)}), want: policy.IssuerUnknown},
		"ISS instead of iss":     {raw: i.token(map[string]any{"iss": nil, "ISS": i.url}), want: policy.IssuerUnknown},

		"no aud":                  {raw: i.token(map[string]any{"aud": nil}), want: policy.AudienceRefused, known: true},
		"an empty list of aud":    {raw: i.token(map[string]any{"aud": []string{}}), want: policy.AudienceRefused, known: true},
		"another aud":             {raw: i.token(map[string]any{"aud": "nats-admin"}), want: policy.AudienceRefused, known: true},
		"other auds":              {raw: i.token(map[string]any{"aud": []string{"a", "b", "c", "d", "e", "f"}}), want: policy.AudienceRefused, known: true},
		"aud that is a number":    {raw: i.token(map[string]any{"aud": 1}), want: policy.ClaimsInvalid, known: true},
		"aud that holds a number": {raw: i.token(map[string]any{"aud": []any{"nats", 1}}), want: policy.ClaimsInvalid, known: true},
		"too many auds":           {raw: i.token(map[string]any{"aud": append(groups(64), "nats")}), want: policy.ClaimsInvalid, known: true},

		"no exp":                {raw: i.token(map[string]any{"exp": nil}), want: policy.ClaimsInvalid},
		"exp that is a text":    {raw: i.token(map[string]any{"exp": "tomorrow"}), want: policy.ClaimsInvalid},
		"exp without end":       {raw: i.token(map[string]any{"exp": json.Number("1e999")}), want: policy.ClaimsInvalid},
		"exp in the year 10000": {raw: i.token(map[string]any{"exp": 253402300800}), want: policy.ClaimsInvalid},
		"exp before 1970":       {raw: i.token(map[string]any{"exp": -1}), want: policy.ClaimsInvalid},
		"expired":               {raw: i.token(map[string]any{"exp": unix(-11 * time.Second)}), want: policy.TokenExpired, known: true},
		"no iat":                {raw: i.token(map[string]any{"iat": nil}), want: policy.ClaimsInvalid},
		"iat that is a text":    {raw: i.token(map[string]any{"iat": "now"}), want: policy.ClaimsInvalid},
		"iat in the future":     {raw: i.token(map[string]any{"iat": unix(15 * time.Second)}), want: policy.TokenNotYet, known: true},
		"not yet valid":         {raw: i.token(map[string]any{"nbf": unix(15 * time.Second)}), want: policy.TokenNotYet, known: true},
		"nbf that is a text":    {raw: i.token(map[string]any{"nbf": "later"}), want: policy.ClaimsInvalid, known: true},
		"too old":               {raw: i.token(map[string]any{"iat": unix(-time.Hour - 11*time.Second)}), want: policy.TokenTooOld, known: true},

		"a logout token":          {raw: i.token(map[string]any{"sub": nil, "events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}), want: policy.TokenPurpose},
		"no sub":                  {raw: i.token(map[string]any{"sub": nil}), want: policy.SubjectInvalid},
		"an empty sub":            {raw: i.token(map[string]any{"sub": ""}), want: policy.SubjectInvalid},
		"sub that is a number":    {raw: i.token(map[string]any{"sub": 7}), want: policy.SubjectInvalid},
		"sub that is a list":      {raw: i.token(map[string]any{"sub": []string{"alice"}}), want: policy.SubjectInvalid},
		"a sub of 10 kB":          {raw: i.token(map[string]any{"sub": strings.Repeat("s", 10<<10)}), want: policy.SubjectInvalid},
		"NUL in sub":              {raw: i.token(map[string]any{"sub": "al\x00ice"}), want: policy.SubjectInvalid},
		"half a character in sub": {raw: craft(header, strings.Replace(payload, "alice", `\ud800`, 1)), want: policy.SubjectInvalid},
		"jti that is a number":    {raw: i.token(map[string]any{"jti": 1}), want: policy.ClaimsInvalid},
		"a jti of 10 kB":          {raw: i.token(map[string]any{"jti": strings.Repeat("j", 10<<10)}), want: policy.ClaimsInvalid},
		"sid that is a list":      {raw: i.token(map[string]any{"sid": []string{}}), want: policy.ClaimsInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			id, refusal := v.VerifyWait(t.Context(), test.raw)
			if refusal == nil {
				t.Fatalf("accepted as %q", id.Subject)
			}
			if refusal.Reason != test.want {
				t.Errorf("refused for %v, want %s", refusal, test.want)
			}
			if (id != nil) != test.known {
				t.Errorf("came with identity %v", id)
			}
			if refusal.Detail == "" || len(refusal.Detail) > 1000 {
				t.Errorf("the detail has %d bytes: %s", len(refusal.Detail), refusal.Detail)
			}
			if test.raw != "" && (strings.Contains(refusal.Detail, part[2]) || len(test.raw) > 100 && strings.Contains(refusal.Detail, test.raw[:100])) {
				t.Errorf("the detail holds token material: %s", refusal.Detail)
			}
		})
	}
}

// nested returns an object that is depth objects deep.
func nested(depth int) map[string]any {
	object := map[string]any{}
	for range depth - 1 {
		object = map[string]any{"a": object}
	}
	return object
}

func groups(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("group-%d", i)
	}
	return names
}

// signHMAC returns a token that is signed with HMAC under the bytes of the RSA public key, which
// a verifier that trusts alg would take for a shared secret.
func signHMAC(claims map[string]any) string {
	der := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	secret := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	input := encode(`{"alg":"HS256","kid":"rsa","typ":"JWT"}`) + "." + encode(string(must(json.Marshal(claims))))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(input))
	return input + "." + encode(string(mac.Sum(nil)))
}

// signEmbedded returns a token that names the issuer's kid and brings the key that signed it.
func signEmbedded(key any, claims map[string]any) string {
	options := &jose.SignerOptions{EmbedJWK: true}
	options.WithHeader("kid", "ed")
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, options))
	return must(must(signer.Sign(must(json.Marshal(claims)))).CompactSerialize())
}

// Administration takes tokens that are made for it and nothing that could be used to log in; logins
// take none that are for administration alone.
func TestVerifyAdmin(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	config := i.config()
	config.Audiences, config.AdminAudiences, config.MaxAge = []string{"nats", "nats-web"}, []string{"gatehouse-admin", "ops"}, time.Hour
	v := start(t, oidc.Config{}, config)
	admit(t, v, i.token(nil))
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	for name, c := range map[string]struct {
		raw         string
		admin, user policy.Reason
	}{
		"for administration":             {i.token(map[string]any{"aud": "gatehouse-admin"}), policy.Allowed, policy.AudienceRefused},
		"for administration, in a list":  {i.token(map[string]any{"aud": []any{"ops"}}), policy.Allowed, policy.AudienceRefused},
		"for administration and another": {i.token(map[string]any{"aud": []any{"web", "ops"}}), policy.Allowed, policy.AudienceRefused},
		"for logins":                     {i.token(nil), policy.LoginToken, policy.Allowed},
		"for both":                       {i.token(map[string]any{"aud": []any{"gatehouse-admin", "nats"}}), policy.LoginToken, policy.Allowed},
		"for both, the other way round":  {i.token(map[string]any{"aud": []any{"nats-web", "ops"}}), policy.LoginToken, policy.Allowed},
		"for neither":                    {i.token(map[string]any{"aud": "web"}), policy.AdminAudienceRefused, policy.AudienceRefused},
		"with blanks around":             {i.token(map[string]any{"aud": " ops"}), policy.AdminAudienceRefused, policy.AudienceRefused},
		"without aud":                    {i.token(map[string]any{"aud": nil}), policy.AdminAudienceRefused, policy.AudienceRefused},
		"aud of another type":            {i.token(map[string]any{"aud": []any{"ops", 7}}), policy.ClaimsInvalid, policy.ClaimsInvalid},
		"expired":                        {i.token(map[string]any{"aud": "ops", "exp": ago(time.Minute)}), policy.TokenExpired, policy.AudienceRefused},
		"issued too long ago":            {i.token(map[string]any{"aud": "ops", "iat": ago(2 * time.Hour)}), policy.TokenTooOld, policy.AudienceRefused},
		"a logout token":                 {i.token(map[string]any{"aud": "ops", "events": map[string]any{}}), policy.TokenPurpose, policy.TokenPurpose},
		"signed by somebody else":        {sign(jose.EdDSA, "ed", otherKey(), i.claims(map[string]any{"aud": "ops"})), policy.SignatureInvalid, policy.SignatureInvalid},
	} {
		reason := func(r *policy.Refusal) policy.Reason {
			if r == nil {
				return policy.Allowed
			}
			return r.Reason
		}
		if _, r := v.VerifyAdmin(t.Context(), c.raw); reason(r) != c.admin {
			t.Errorf("%s, for administration: %v, want %s", name, r, c.admin)
		}
		if _, r, _ := v.Verify(c.raw); reason(r) != c.user {
			t.Errorf("%s, for a login: %v, want %s", name, r, c.user)
		}
	}
	plain := i.config()
	if err := v.SetIssuers([]oidc.Issuer{plain}); err != nil {
		t.Fatal(err)
	}
	admit(t, v, i.token(nil))
	for aud, want := range map[string]policy.Reason{"nats": policy.LoginToken, "gatehouse-admin": policy.AdminAudienceRefused} {
		if _, r := v.VerifyAdmin(t.Context(), i.token(map[string]any{"aud": aud})); r == nil || r.Reason != want {
			t.Errorf("an issuer without admin audiences, aud %s: %v", aud, r)
		}
	}
}

func TestLargeTokenWhenAllowed(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	v := startLoaded(t, oidc.Config{MaxTokenSize: 1 << 20}, i)
	id := admit(t, v, i.token(map[string]any{"groups": groups(10_000)}))
	if got := len(id.Claims["groups"].([]any)); got != 10_000 {
		t.Errorf("the identity has %d groups", got)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	config := i.config()
	config.Rules = "1a2b"
	v := start(t, oidc.Config{}, config)
	claims := i.claims(map[string]any{"jti": "t1", "sid": "s1", "level": json.Number("12345678901234567890"), "realm": map[string]any{"roles": []string{"dev"}}})
	id := admit(t, v, sign(jose.ES256, "ec", ecKey(), claims))
	want := &policy.Identity{
		Issuer: "corp", IssuerURL: i.url, Rules: "1a2b", Subject: "alice", TokenID: "t1", SessionID: "s1",
		IssuedAt: time.Unix(claims["iat"].(int64), 0).UTC(),
		Expires:  time.Unix(claims["exp"].(int64), 0).UTC(),
		Claims: map[string]any{
			"iss": i.url, "sub": "alice", "aud": "nats", "jti": "t1", "sid": "s1",
			"iat":   json.Number(fmt.Sprint(claims["iat"])),
			"exp":   json.Number(fmt.Sprint(claims["exp"])),
			"level": json.Number("12345678901234567890"),
			"realm": map[string]any{"roles": []any{"dev"}},
		},
	}
	if diff := cmp.Diff(want, id); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
}

func TestRefusedIdentityIsKnown(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	v := startLoaded(t, oidc.Config{}, i)
	id, refusal := v.VerifyWait(t.Context(), i.token(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}))
	if refusal == nil || refusal.Reason != policy.TokenExpired {
		t.Fatalf("refused for %v", refusal)
	}
	if id == nil || id.Subject != "alice" || id.Issuer != "corp" {
		t.Errorf("the identity is %v", id)
	}
}

func TestLeewayIsConfigured(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	v := startLoaded(t, oidc.Config{Leeway: time.Minute}, i)
	at := func(d time.Duration) map[string]any { return map[string]any{"exp": time.Now().Add(d).Unix()} }
	if got := now(t, v, i.token(at(-50*time.Second))); got != policy.Allowed {
		t.Errorf("within the leeway: %s", got)
	}
	if got := now(t, v, i.token(at(-70*time.Second))); got != policy.TokenExpired {
		t.Errorf("beyond the leeway: %s", got)
	}
}

func TestTokenWithoutKidAndSeveralKeys(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	i.keys = append(i.keys, public("ed2", otherKey()))
	v := startLoaded(t, oidc.Config{}, i)
	for name, key := range map[string]any{"the first": edKey(), "the second": otherKey()} {
		if got := wait(t, v, sign(jose.EdDSA, "", key, i.claims(nil))); got != policy.KeyUnknown {
			t.Errorf("signed with %s: %s", name, got)
		}
	}
	if got := now(t, v, sign(jose.ES256, "", ecKey(), i.claims(nil))); got != policy.Allowed {
		t.Errorf("of the kind that has one key: %s", got)
	}
}

func TestAlgorithmsOfDiscovery(t *testing.T) {
	t.Parallel()
	i := newIssuer().listen(t)
	i.algorithms = []string{"HS256", "EdDSA"}
	v := startLoaded(t, oidc.Config{}, i)
	if got := now(t, v, sign(jose.ES256, "ec", ecKey(), i.claims(nil))); got != policy.AlgorithmRefused {
		t.Errorf("one that discovery does not name: %s", got)
	}
	if got := now(t, v, signHMAC(i.claims(nil))); got != policy.AlgorithmRefused {
		t.Errorf("a symmetric one that discovery names: %s", got)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*oidc.Issuer){
		"no name":                   func(i *oidc.Issuer) { i.Name = "" },
		"a name with a dash":        func(i *oidc.Issuer) { i.Name = "corp-eu" },
		"a name too long":           func(i *oidc.Issuer) { i.Name = strings.Repeat("c", 17) },
		"no url":                    func(i *oidc.Issuer) { i.URL = "" },
		"a relative url":            func(i *oidc.Issuer) { i.URL = "login.example.com" },
		"another scheme":            func(i *oidc.Issuer) { i.URL = "ftp://login.example.com" },
		"no host":                   func(i *oidc.Issuer) { i.URL = "https:///path" },
		"http elsewhere":            func(i *oidc.Issuer) { i.URL = "http://login.example.com" },
		"a password":                func(i *oidc.Issuer) { i.URL = "https://me:s3cret@login.example.com" },
		"a query":                   func(i *oidc.Issuer) { i.URL = "https://login.example.com?tenant=1" },
		"a fragment":                func(i *oidc.Issuer) { i.URL = "https://login.example.com#a" },
		"a url that does not parse": func(i *oidc.Issuer) { i.URL = "https://me:s3cret@login.example.com:port" },
		"no audience":               func(i *oidc.Issuer) { i.Audiences = nil },
		"an empty audience":         func(i *oidc.Issuer) { i.Audiences = []string{"nats", ""} },
		"an empty admin audience":   func(i *oidc.Issuer) { i.AdminAudiences = []string{""} },
		"a shared admin audience":   func(i *oidc.Issuer) { i.AdminAudiences = []string{"ops", "nats"} },
		"alg none":                  func(i *oidc.Issuer) { i.Algorithms = []string{"none"} },
		"a symmetric algorithm":     func(i *oidc.Issuer) { i.Algorithms = []string{"RS256", "HS256"} },
		"an unknown algorithm":      func(i *oidc.Issuer) { i.Algorithms = []string{"RS257"} },
		"a negative age":            func(i *oidc.Issuer) { i.MaxAge = -time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := oidc.Issuer{Name: "corp", URL: "https://login.example.com", Audiences: []string{"nats"}}
			if _, err := oidc.New(oidc.Config{}, []oidc.Issuer{i}); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			change(&i)
			_, err := oidc.New(oidc.Config{}, []oidc.Issuer{i})
			if !errors.Is(err, oidc.ErrIssuer) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error holds a password: %v", err)
			}
		})
	}
}

func TestNewAcceptsHTTPWhereAllowed(t *testing.T) {
	t.Parallel()
	for _, i := range []oidc.Issuer{
		{URL: "http://127.0.0.1:5556/dex"},
		{URL: "http://[::1]:5556"},
		{URL: "http://localhost:5556"},
		{URL: "http://dex:5556", AllowHTTP: true},
	} {
		i.Name, i.Audiences = "corp", []string{"nats"}
		if _, err := oidc.New(oidc.Config{}, []oidc.Issuer{i}); err != nil {
			t.Errorf("%s: %v", i.URL, err)
		}
	}
}

func TestNewTellsAllErrors(t *testing.T) {
	t.Parallel()
	_, err := oidc.New(oidc.Config{}, []oidc.Issuer{
		{Name: "corp", URL: "https://a.test", Audiences: []string{"nats"}},
		{Name: "corp", URL: "https://a.test", Algorithms: []string{"none"}},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"same name", "same url", "needs audiences", `"none"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestNewRefusesNegativeBounds(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]oidc.Config{
		"leeway": {Leeway: -1}, "size": {MaxTokenSize: -1}, "interval": {RefreshInterval: -1},
		"age": {RefreshAfter: -1}, "timeout": {FetchTimeout: -1}, "parked": {MaxParked: -1},
	} {
		if _, err := oidc.New(cfg, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// next returns the character that stands for the same bits and one more at the end.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)+1:][:1]
}
