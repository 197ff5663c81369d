package provision_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

const service = "https://gatehouse.example.com"

// known is a server whose answer about signing keys is given.
type known struct {
	key     string
	refusal *policy.Refusal
	asked   func(leafNodes bool)
}

func (k *known) ReadEverywhere(context.Context, *policy.Account) {}

func (k *known) SigningKeyOfAll(_ *policy.Account, _ string, leafNodes bool, _ time.Time) (string, *policy.Refusal) {
	if k.asked != nil {
		k.asked(leafNodes)
	}
	return k.key, k.refusal
}

// signupBed is a bed that signs everybody of corp up in APP, for an hour and two keys each, but for those whom
// the rules say more of.
type signupBed struct {
	*bed
	records *spooled
	servers *known
	state   *policy.Snapshot
}

func newSignupBed(t testing.TB, change ...func(*provision.Options)) *signupBed {
	t.Helper()
	seed, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := seed.Seed()
	if err != nil {
		t.Fatal(err)
	}
	key, err := mint.NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := &signupBed{records: &spooled{}, servers: &known{key: key.Public()}, state: &policy.Snapshot{Rules: rules(t)}}
	path, err := policy.ParseClaimPath("sub")
	if err != nil {
		t.Fatal(err)
	}
	s.state.Rules.Display = map[string][]policy.ClaimPath{"corp": {path}}
	for _, b := range s.state.Rules.Bindings["corp"] {
		// What signs a user JWT names its account by a public key.
		b.Grant.Account.ID = key.Public()
		b.Grant.Account.SigningKeys = []string{key.Public()}
		b.Direct = &policy.Direct{TTL: time.Hour, Keys: 2}
	}
	s.state.Rules.Bindings["corp"][0].When = nobody("dora")
	s.bed = newBed(t, append([]func(*provision.Options){func(o *provision.Options) {
		o.Records, o.Replica, o.State = s.records, "r1", func() *policy.Snapshot { return s.state }
		o.Direct = &provision.Direct{
			Audience: service, Servers: s.servers, Keys: func() *mint.Keyring { return mint.NewKeyring(key) }, UserKeys: o.Store,
		}
	}}, change...)...)
	return s
}

// nobody is a condition that all but one subject meet.
type nobody string

func (n nobody) Holds(claims map[string]any) (bool, error) { return claims["sub"] != string(n), nil }
func (n nobody) Reads() ([]policy.ClaimPath, bool)         { return nil, true }
func (n nobody) String() string                            { return "sub is not " + string(n) }

func newUserKey(t testing.TB) nkeys.KeyPair {
	t.Helper()
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signup is a request of now that the key has signed, into APP; the change comes before the signature.
func signup(t testing.TB, key nkeys.KeyPair, token string, at time.Time, change ...func(*api.UserSignupRequest)) api.UserSignupRequest {
	t.Helper()
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	req := api.UserSignupRequest{UserKey: public, Account: "APP", Proof: api.SignupProof{Audience: service, Time: at.UnixMilli()}}
	for _, f := range change {
		f(&req)
	}
	signature, err := key.Sign(api.SignupStatement(req, token))
	if err != nil {
		t.Fatal(err)
	}
	req.Proof.Signature = base64.RawURLEncoding.EncodeToString(signature)
	return req
}

func caller(token string) provision.Caller {
	return provision.Caller{Token: token, Transport: provision.HTTP, RequestID: "request-1", Source: netip.MustParseAddr("192.0.2.7")}
}

func TestSignup(t *testing.T) {
	t.Parallel()
	inSession := tokens(func(_ context.Context, token string) (*policy.Identity, *policy.Refusal) {
		id := person(token)
		id.SessionID, id.TokenID = "s1", "j1"
		return id, nil
	})
	b, key := newSignupBed(t, func(o *provision.Options) { o.Tokens = inSession }), newUserKey(t)
	b.servers.asked = func(leafNodes bool) {
		if leafNodes {
			t.Error("the key was asked for leaf nodes, which no binding names")
		}
	}
	got, err := b.UserSignup(t.Context(), caller("alice"), signup(t, key, "alice", now))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(got.JWT)
	if err != nil {
		t.Fatal(err)
	}
	public, _ := key.PublicKey()
	if claims.Subject != public || claims.Name != "corp-alice" || claims.Issuer != b.servers.key || claims.Expires != now.Add(time.Hour).Unix() {
		t.Errorf("claims %+v", claims)
	}
	if claims.AllowedConnectionTypes.Contains(jwt.ConnectionTypeLeafnode) || !claims.AllowedConnectionTypes.Contains(jwt.ConnectionTypeStandard) {
		t.Errorf("types %v", claims.AllowedConnectionTypes)
	}
	if got.UserKey != public || got.Name != "corp-alice" || got.Account != "APP" || got.Keys != 2 || got.RequestID != "request-1" || !got.Expires.Equal(now.Add(time.Hour).Truncate(time.Second)) {
		t.Errorf("answer %+v", got)
	}
	entries := b.records.taken()
	if len(entries) != 1 {
		t.Fatalf("%d entries", len(entries))
	}
	e := entries[0]
	if e.Kind != store.LoginEntry || e.Op != api.OpUserSignup || e.Outcome != "allowed" || e.UserKey != public || e.Account != "APP" || e.Subject != "alice" ||
		e.Source != "192.0.2.7" || !e.Expires.Equal(got.Expires) || e.Display["sub"] != "alice" || e.ID != "request-1" {
		t.Errorf("entry %+v", e)
	}
	keys, _, err := b.Store.UserKeys(t.Context(), store.UserKeyFilter{Key: public})
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if o := keys[0].Obtained; len(o) != 1 || o[0].Session != "s1" || o[0].Token != "j1" || !o[0].Issued.Equal(keys[0].Issued) || !o[0].Expires.Equal(got.Expires) {
		t.Errorf("obtained by %+v", o)
	}
	for target, want := range map[string]int{"s1": 1, "s2": 0} {
		ended, err := b.Revoke(t.Context(), admin, api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Session: target}, DryRun: true})
		if err != nil || ended.Affected.KeysFound != want {
			t.Errorf("a logout of %s would void %+v, %v", target, ended.Affected, err)
		}
	}
	if k := keys[0]; k.Issuer != corp || k.Subject != "alice" || k.AccountID != got.AccountID || k.Name != "corp-alice" || k.Program != "" || !k.Expires.Equal(got.Expires) {
		t.Errorf("key %+v", k)
	}
	// Neither the journal nor the trail has anything that could be used.
	for _, text := range []string{b.log.String(), e.Detail} {
		if strings.Contains(text, got.JWT) {
			t.Errorf("shows the user JWT: %s", text)
		}
	}
}

func TestSignupOfAProgram(t *testing.T) {
	t.Parallel()
	b, key := newSignupBed(t), newUserKey(t)
	got, err := b.UserSignup(t.Context(), caller("alice"), signup(t, key, "alice", now, func(r *api.UserSignupRequest) { r.Program = "nightly" }))
	if err != nil {
		t.Fatal(err)
	}
	want := policy.ProgramName("nightly", corp, "alice")
	claims, err := jwt.DecodeUserClaims(got.JWT)
	if err != nil || claims.Name != want || got.Name != want {
		t.Errorf("named %s, %v: want %s", claims.Name, err, want)
	}
	keys, _, err := b.Store.UserKeys(t.Context(), store.UserKeyFilter{Key: got.UserKey})
	if err != nil || len(keys) != 1 || keys[0].Program != "nightly" || keys[0].Subject != "alice" {
		t.Errorf("keys %+v, %v", keys, err)
	}
	if e := b.records.taken(); len(e) != 1 || e[0].Target != "nightly" {
		t.Errorf("entries %+v", e)
	}
}

// Each of these is what somebody could try who holds less than it takes.
func TestSignupRefusesProofs(t *testing.T) {
	t.Parallel()
	key, other := newUserKey(t), newUserKey(t)
	for name, c := range map[string]struct {
		request func(t *testing.T) api.UserSignupRequest
		token   string
		code    int
		reason  string
	}{
		"of another key": {request: func(t *testing.T) api.UserSignupRequest {
			req := signup(t, key, "alice", now)
			req.UserKey, _ = other.PublicKey()
			return req
		}, code: 403, reason: "signup_proof_invalid"},
		"for another token": {request: func(t *testing.T) api.UserSignupRequest { return signup(t, key, "bob", now) }, code: 403, reason: "signup_proof_invalid"},
		"for another service": {request: func(t *testing.T) api.UserSignupRequest {
			return signup(t, key, "alice", now, func(r *api.UserSignupRequest) { r.Proof.Audience = "https://rogue.example.com" })
		}, code: 403, reason: "signup_proof_invalid"},
		"for another service, passed on": {request: func(t *testing.T) api.UserSignupRequest {
			req := signup(t, key, "alice", now, func(r *api.UserSignupRequest) { r.Proof.Audience = "https://rogue.example.com" })
			req.Proof.Audience = service
			return req
		}, code: 403, reason: "signup_proof_invalid"},
		"for another account": {request: func(t *testing.T) api.UserSignupRequest {
			req := signup(t, key, "alice", now, func(r *api.UserSignupRequest) { r.Account = "OPS" })
			req.Account = "APP"
			return req
		}, code: 403, reason: "signup_proof_invalid"},
		"for another program": {request: func(t *testing.T) api.UserSignupRequest {
			req := signup(t, key, "alice", now, func(r *api.UserSignupRequest) { r.Program = "nightly" })
			req.Program = "daily"
			return req
		}, code: 403, reason: "signup_proof_invalid"},
		"for another time": {request: func(t *testing.T) api.UserSignupRequest {
			req := signup(t, key, "alice", now.Add(-time.Hour))
			req.Proof.Time = now.UnixMilli()
			return req
		}, code: 403, reason: "signup_proof_invalid"},
		"from a minute ago":    {request: func(t *testing.T) api.UserSignupRequest { return signup(t, key, "alice", now.Add(-time.Minute)) }, code: 403, reason: "signup_proof_stale"},
		"from in a minute":     {request: func(t *testing.T) api.UserSignupRequest { return signup(t, key, "alice", now.Add(time.Minute)) }, code: 403, reason: "signup_proof_stale"},
		"from before all time": {request: func(t *testing.T) api.UserSignupRequest { return signup(t, key, "alice", time.UnixMilli(-1<<62)) }, code: 403, reason: "signup_proof_stale"},
		"none": {request: func(t *testing.T) api.UserSignupRequest {
			r := signup(t, key, "alice", now)
			r.Proof.Signature = ""
			return r
		}, code: 403, reason: "signup_proof_invalid"},
		"of a key that is none": {request: func(t *testing.T) api.UserSignupRequest {
			r := signup(t, key, "alice", now)
			r.UserKey += "A"
			return r
		}, code: 400, reason: "bad_request"},
		"of an account's key": {request: func(t *testing.T) api.UserSignupRequest {
			r := signup(t, key, "alice", now)
			r.UserKey = "A" + r.UserKey[1:]
			return r
		}, code: 400, reason: "bad_request"},
		"with fields that shift": {request: func(t *testing.T) api.UserSignupRequest {
			return signup(t, key, "alice", now, func(r *api.UserSignupRequest) { r.Account = "APP\nnightly" })
		}, code: 400, reason: "bad_request"},
		"for a strange program": {request: func(t *testing.T) api.UserSignupRequest {
			return signup(t, key, "alice", now, func(r *api.UserSignupRequest) { r.Program = "a.>" })
		}, code: 400, reason: "bad_request"},
		"without a token":     {request: func(t *testing.T) api.UserSignupRequest { return signup(t, key, "", now) }, token: "-", code: 401, reason: "unauthenticated"},
		"with a forged token": {request: func(t *testing.T) api.UserSignupRequest { return signup(t, key, "forged", now) }, token: "forged", code: 401, reason: "signature_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newSignupBed(t, withTokens(func(ctx context.Context, token string) (*policy.Identity, *policy.Refusal) {
				if token == "forged" {
					return nil, policy.Refuse(policy.SignatureInvalid, "")
				}
				return issue(ctx, token)
			}))
			who := caller(map[string]string{"": "alice", "-": ""}[c.token])
			if c.token == "forged" {
				who.Token = c.token
			}
			got, err := b.UserSignup(t.Context(), who, c.request(t))
			wantError(t, err, c.code, c.reason)
			if got.JWT != "" {
				t.Error("a user JWT was given")
			}
			public, _ := key.PublicKey()
			if keys, _, err := b.Store.UserKeys(t.Context(), store.UserKeyFilter{Key: public}); err != nil || len(keys) > 0 {
				t.Errorf("keys %+v, %v: want none", keys, err)
			}
		})
	}
}

func TestSignupRefusesReplays(t *testing.T) {
	t.Parallel()
	b, key := newSignupBed(t), newUserKey(t)
	req := signup(t, key, "alice", now)
	if _, err := b.UserSignup(t.Context(), caller("alice"), req); err != nil {
		t.Fatal(err)
	}
	for _, written := range []string{req.Proof.Signature, req.Proof.Signature + "==", strings.NewReplacer("-", "+", "_", "/").Replace(req.Proof.Signature)} {
		req.Proof.Signature = written
		_, err := b.UserSignup(t.Context(), caller("alice"), req)
		wantError(t, err, http.StatusForbidden, "signup_proof_replayed")
	}
	if _, err := b.UserSignup(t.Context(), caller("alice"), signup(t, key, "alice", now.Add(time.Millisecond))); err != nil {
		t.Errorf("a new proof: %v", err)
	}
}

// As many keys as the grant says, however many ask at once; renewals take up none.
func TestSignupBoundsKeys(t *testing.T) {
	t.Parallel()
	b := newSignupBed(t)
	var mu sync.Mutex
	var signedUp []nkeys.KeyPair
	var group sync.WaitGroup
	for range 8 {
		key := newUserKey(t)
		req := signup(t, key, "alice", now)
		group.Go(func() {
			_, err := b.UserSignup(t.Context(), caller("alice"), req)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				signedUp = append(signedUp, key)
			} else if e, ok := errors.AsType[*api.Error](err); !ok || e.Reason != "too_many_keys" {
				t.Errorf("%v", err)
			}
		})
	}
	group.Wait()
	if len(signedUp) != 2 {
		t.Fatalf("%d keys, want 2", len(signedUp))
	}
	for i, key := range signedUp {
		if _, err := b.UserSignup(t.Context(), caller("alice"), signup(t, key, "alice", now.Add(time.Duration(i+1)*time.Second))); err != nil {
			t.Errorf("renewal: %v", err)
		}
	}
	if _, err := b.UserSignup(t.Context(), caller("bob"), signup(t, newUserKey(t), "bob", now)); err != nil {
		t.Errorf("another identity: %v", err)
	}
	_, err := b.UserSignup(t.Context(), caller("bob"), signup(t, signedUp[0], "bob", now))
	wantError(t, err, http.StatusForbidden, "user_key_taken")
}

func TestSignupRefusesWhoIsRevoked(t *testing.T) {
	t.Parallel()
	key := newUserKey(t)
	public, _ := key.PublicKey()
	alice := policy.Principal{Issuer: corp, Subject: "alice"}
	for reason, r := range map[string]policy.Revocation{
		"blocked":          {ID: "r", Kind: policy.Block, Target: policy.Target{Principal: alice}, At: now},
		"logged_out":       {ID: "r", Kind: policy.Logout, Target: policy.Target{Principal: alice}, At: now},
		"user_key_revoked": {ID: "r", Kind: policy.UserKey, Target: policy.Target{Key: public}, At: now},
	} {
		b := newSignupBed(t)
		if r.Key != "" {
			r.Account = b.state.Rules.Accounts["APP"].ID
		}
		b.state.Revocations = policy.NewRevocations([]policy.Revocation{r})
		_, err := b.UserSignup(t.Context(), caller("alice"), signup(t, key, "alice", now))
		wantError(t, err, http.StatusForbidden, reason)
		if e := b.records.taken(); len(e) != 1 || e[0].Reason != reason || e[0].UserKey != public || e[0].Outcome != "refused" {
			t.Errorf("%s: entries %+v", reason, e)
		}
	}
}

// A revocation that is stored while a key is being signed up either knows of the key, or is known before the user
// JWT is given away.
func TestSignupAndRevocationAtOnce(t *testing.T) {
	t.Parallel()
	var b *signupBed
	b = newSignupBed(t, func(o *provision.Options) {
		o.Refresh = func(context.Context) error {
			b.state = &policy.Snapshot{Rules: b.state.Rules, Revocations: policy.NewRevocations([]policy.Revocation{
				{ID: "r", Kind: policy.Block, Target: policy.Target{Principal: policy.Principal{Issuer: corp, Subject: "alice"}}, At: now},
			})}
			return nil
		}
	})
	key := newUserKey(t)
	got, err := b.UserSignup(t.Context(), caller("alice"), signup(t, key, "alice", now))
	wantError(t, err, http.StatusForbidden, "blocked")
	public, _ := key.PublicKey()
	if keys, _, err := b.Store.UserKeys(t.Context(), store.UserKeyFilter{Key: public}); got.JWT != "" || err != nil || len(keys) != 1 {
		t.Errorf("keys %+v, %v: want the one that a later revocation finds", keys, err)
	}
}

func TestSignupFailsClosed(t *testing.T) {
	t.Parallel()
	unready := policy.Refuse(policy.AccountUnready, "one of three servers has not answered")
	for name, c := range map[string]struct {
		change func(*signupBed)
		code   int
		reason string
	}{
		"a server does not know the signing key": {func(b *signupBed) { b.servers.key, b.servers.refusal = "", unready }, 503, "account_unready"},
		"the keyring lacks the signing key":      {func(b *signupBed) { b.servers.key = "AOTHER" }, 503, "account_unready"},
		"it cannot be recorded":                  {func(b *signupBed) { b.records.err = errors.New("disk full") }, 503, "record_unavailable"},
		"no state":                               {func(b *signupBed) { b.state = nil }, 503, "snapshot_stale"},
		"nothing stored can be read back":        {func(b *signupBed) { b.Refresh = func(context.Context) error { return errors.New("down") } }, 503, "snapshot_stale"},
		"the account is closed":                  {func(b *signupBed) { b.Direct.Closed = []string{b.state.Rules.Accounts["APP"].ID} }, 403, "account_not_granted"},
		"the store takes no key":                 {func(b *signupBed) { b.Direct.UserKeys = lost{} }, 503, "record_unavailable"},
		"it signs nobody up":                     {func(b *signupBed) { b.Direct = nil }, 404, "not_found"},
		"a binding does not permit it":           {func(b *signupBed) { b.state.Rules.Bindings["corp"][0].Direct = nil }, 403, "direct_not_granted"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newSignupBed(t)
			c.change(b)
			got, err := b.UserSignup(t.Context(), caller("alice"), signup(t, newUserKey(t), "alice", now))
			wantError(t, err, c.code, c.reason)
			if got.JWT != "" {
				t.Error("a user JWT was given")
			}
		})
	}
}

// lost is a store that is away.
type lost struct{}

func (lost) AddUserKey(context.Context, store.UserKey, int) error { return store.ErrUnavailable }

// Where bindings ask for an address, that of the caller counts, and the user JWT is good from there alone.
func TestSignupKeepsTheSource(t *testing.T) {
	t.Parallel()
	b, key := newSignupBed(t), newUserKey(t)
	ops := func(r *api.UserSignupRequest) { r.Account = "OPS" }
	b.state.Rules.Accounts["OPS"].Name = "OPS"
	_, err := b.UserSignup(t.Context(), caller("dora"), signup(t, key, "dora", now, ops))
	wantError(t, err, http.StatusForbidden, "source_refused")
	inside := caller("dora")
	inside.Source = netip.MustParseAddr("10.1.2.3")
	got, err := b.UserSignup(t.Context(), inside, signup(t, key, "dora", now, ops))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(got.JWT)
	if err != nil || !slices.Equal(claims.Src, []string{"10.0.0.0/8"}) {
		t.Errorf("src %v, %v: want the binding's", claims.Src, err)
	}
}

// The answer's form, with each of its fields.
func TestSignupOverHTTP(t *testing.T) {
	t.Parallel()
	b := newSignupBed(t)
	body, err := json.Marshal(signup(t, newUserKey(t), "alice", now))
	if err != nil {
		t.Fatal(err)
	}
	answer := call(t, b.Handler(), http.MethodPost, api.Path(api.OpUserSignup), "alice", string(body))
	if answer.Code != http.StatusOK {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	strict := json.NewDecoder(bytes.NewReader(answer.Body.Bytes()))
	strict.DisallowUnknownFields()
	var got api.UserSignup
	if err := strict.Decode(&got); err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(answer.Body.Bytes(), &tree); err != nil {
		t.Fatal(err)
	}
	shown := map[field]bool{}
	note(t, shown, reflect.TypeFor[api.UserSignup](), tree)
	for f, is := range shown {
		if !is {
			t.Errorf("the answer does not show %s", f.name)
		}
	}
	// What is made anew in each run.
	steady := regexp.MustCompile(`"(jwt|user_key|account_id|issued)":"[^"]+"`).ReplaceAll(answer.Body.Bytes(), []byte(`"$1":"…"`))
	golden(t, "user_signup", steady)
	conforms(t, api.OpUserSignup, string(body), 200, answer.Body.Bytes())
	call(t, b.Handler(), http.MethodPost, api.Path(api.OpUserSignup), "alice", string(body)).refused(t, http.StatusForbidden, "signup_proof_replayed")
}
