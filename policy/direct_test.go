package policy

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"
)

// signUp returns a request of now for a user JWT of the key, with its proof.
func signUp(t testing.TB, key nkeys.KeyPair) *SignUp {
	t.Helper()
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	statement := []byte("what the service made of the request")
	signature, err := key.Sign(statement)
	if err != nil {
		t.Fatal(err)
	}
	return &SignUp{Key: public, Statement: statement, Signature: base64.RawURLEncoding.EncodeToString(signature), At: now}
}

// directWorld has bindings that permit direct users, by the groups that they match, and one that does not.
func directWorld(t testing.TB) *Rules {
	app, ops := &Account{Name: "APP", ID: "AAPP", SigningKeys: []string{"ASIGN"}}, &Account{Name: "OPS", ID: "AOPS", SigningKeys: []string{"AOPSSIGN"}}
	named := &Account{Name: "NAMED", ID: "NAMED", ByName: true, SigningKeys: []string{"AISSUER"}}
	role := &Role{Name: "app", Publish: PermissionRules{Allow: templates(t, "app.>")}}
	narrow := &Role{Name: "narrow", Publish: PermissionRules{Deny: templates(t, "app.secret")}}
	scoped := &Role{Name: "scoped", Scoped: &ScopedKey{Key: "ASCOPED", Account: ops}}
	net := func(list ...string) (all []netip.Prefix) {
		for _, s := range list {
			all = append(all, netip.MustParsePrefix(s))
		}
		return all
	}
	day := &Direct{TTL: 24 * time.Hour, Keys: 3}
	bindings := []*Binding{
		{Name: "jobs", Match: []Condition{condition(t, "groups", "jobs")}, Grant: Grant{app, role}, Direct: day},
		{Name: "strict", Match: []Condition{condition(t, "groups", "strict")}, Grant: Grant{app, narrow}, Direct: &Direct{TTL: time.Hour, Keys: 5}},
		{Name: "few", Match: []Condition{condition(t, "groups", "few")}, Grant: Grant{app, narrow}, Direct: &Direct{TTL: 48 * time.Hour, Keys: 1}},
		{Name: "callout only", Match: []Condition{condition(t, "groups", "people")}, Grant: Grant{app, narrow}},
		{Name: "office", Match: []Condition{condition(t, "groups", "office")}, Grant: Grant{app, role}, Direct: day, Source: net("10.0.0.0/8", "2001:db8::/32")},
		{Name: "site", Match: []Condition{condition(t, "groups", "site")}, Grant: Grant{app, role}, Direct: day, Source: net("10.7.0.0/16", "192.0.2.0/24")},
		{Name: "web", Match: []Condition{condition(t, "groups", "web")}, Grant: Grant{app, role}, Direct: day, ConnectionTypes: []ConnectionType{WebSocket, LeafNode}},
		{Name: "phones", Match: []Condition{condition(t, "groups", "phones")}, Grant: Grant{app, role}, Direct: day, ConnectionTypes: []ConnectionType{MQTT}},
		{Name: "held", Match: []Condition{condition(t, "groups", "held")}, Grant: Grant{app, role}, Direct: day, RequireKey: true},
		{Name: "scoped", Match: []Condition{condition(t, "groups", "scoped")}, Grant: Grant{ops, scoped}, Direct: day},
		{Name: "scoped here", Match: []Condition{condition(t, "groups", "here")}, Grant: Grant{ops, scoped}, Direct: day, Source: net("10.0.0.0/8")},
		{Name: "scoped web", Match: []Condition{condition(t, "groups", "scoped-web")}, Grant: Grant{ops, scoped}, Direct: day, ConnectionTypes: []ConnectionType{WebSocket}},
		{Name: "by name", Match: []Condition{condition(t, "groups", "named")}, Grant: Grant{named, role}, Direct: day},
	}
	for _, b := range bindings {
		b.Issuer, b.TTL = "corp", 10*time.Minute
	}
	return &Rules{
		Leeway: 10 * time.Second, Issuers: map[string]string{"corp": "https://login.example.com"},
		Accounts: map[string]*Account{"APP": app, "OPS": ops, "NAMED": named}, Bindings: map[string][]*Binding{"corp": bindings},
	}
}

var usual = []ConnectionType{Standard, WebSocket, MQTT}

func TestDecideOnSignUp(t *testing.T) {
	key, user := publicKey(t, nkeys.PrefixByteUser)
	other, otherUser := publicKey(t, nkeys.PrefixByteUser)
	_, account := publicKey(t, nkeys.PrefixByteAccount)
	inside := netip.MustParseAddr("10.7.1.2")
	revoked := func(at Target) *Revocations {
		return NewRevocations([]Revocation{{ID: "r1", Kind: UserKey, Target: at, At: now}})
	}
	for _, c := range []struct {
		name   string
		groups string
		conn   Connection
		mod    func(*Snapshot, *Identity, *SignUp)
		want   Reason
		ttl    time.Duration
		keys   int
		types  []ConnectionType
		source []string
	}{
		{name: "permitted", groups: `"jobs"`, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual},
		{name: "whatever the connection would be", groups: `"jobs"`, conn: Connection{Type: LeafNode}, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual},
		{name: "the shorter ttl of two", groups: `"jobs", "strict"`, want: Allowed, ttl: time.Hour, keys: 3, types: usual},
		{name: "the fewer keys of two", groups: `"jobs", "few"`, want: Allowed, ttl: 24 * time.Hour, keys: 1, types: usual},
		{name: "not permitted", groups: `"people"`, want: DirectNotGranted},
		{name: "one that applies too does not permit it", groups: `"jobs", "people"`, want: DirectNotGranted},
		{name: "nothing granted", groups: `"nobody"`, want: NoBinding},
		{name: "two accounts and none named", groups: `"jobs", "scoped"`, want: AccountAmbiguous},
		{name: "two accounts and one named", groups: `"jobs", "scoped"`, conn: Connection{Account: "APP"}, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual},
		{name: "an account that is not granted", groups: `"jobs"`, conn: Connection{Account: "OPS"}, want: AccountNotGranted},
		{name: "from where it may connect", groups: `"office"`, conn: Connection{Source: inside}, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual, source: []string{"10.0.0.0/8", "2001:db8::/32"}},
		{name: "from where two may connect", groups: `"office", "site"`, conn: Connection{Source: inside}, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual, source: []string{"10.7.0.0/16"}},
		{name: "from where one may connect of two", groups: `"jobs", "site"`, conn: Connection{Source: inside}, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual, source: []string{"10.7.0.0/16", "192.0.2.0/24"}},
		{name: "from elsewhere", groups: `"office"`, conn: Connection{Source: netip.MustParseAddr("198.51.100.1")}, want: SourceRefused},
		{name: "from nobody knows where", groups: `"office"`, want: SourceRefused},
		{name: "types of connection", groups: `"web"`, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: []ConnectionType{WebSocket, LeafNode}},
		{name: "types that two have in common", groups: `"web", "jobs"`, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: []ConnectionType{WebSocket}},
		{name: "no type in common", groups: `"web", "phones"`, want: ConnectionTypeRefused},
		{name: "a scoped signing key", groups: `"scoped"`, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual},
		{name: "a scoped signing key that cannot carry a source", groups: `"here"`, conn: Connection{Source: inside}, want: DirectNotGranted},
		{name: "a scoped signing key that cannot carry a type", groups: `"scoped-web"`, want: DirectNotGranted},
		{name: "no operator", groups: `"named"`, want: DirectNotGranted},

		{name: "longer than the token", groups: `"jobs"`, mod: func(_ *Snapshot, id *Identity, _ *SignUp) { id.Expires = now.Add(time.Second) }, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual},
		{name: "blocked", groups: `"jobs"`, mod: func(s *Snapshot, id *Identity, _ *SignUp) {
			s.Revocations = NewRevocations([]Revocation{{ID: "b", Kind: Block, Target: Target{Principal: Principal{id.IssuerURL, id.Subject}}, At: now}})
		}, want: Blocked},
		{name: "logged out", groups: `"jobs"`, mod: func(s *Snapshot, id *Identity, _ *SignUp) {
			s.Revocations = NewRevocations([]Revocation{{ID: "l", Kind: Logout, Target: Target{Principal: Principal{id.IssuerURL, id.Subject}}, At: now}})
		}, want: LoggedOut},
		{name: "suspended account", groups: `"jobs"`, mod: func(s *Snapshot, _ *Identity, _ *SignUp) {
			s.Revocations = NewRevocations([]Revocation{{ID: "s", Kind: Suspension, Target: Target{Account: "AAPP"}, At: now}})
		}, want: AccountSuspended},
		{name: "stale", groups: `"jobs"`, mod: func(s *Snapshot, _ *Identity, _ *SignUp) { s.FreshUntil = now.Add(-time.Second) }, want: SnapshotStale},
		{name: "the key is revoked", groups: `"jobs"`, mod: func(s *Snapshot, _ *Identity, _ *SignUp) { s.Revocations = revoked(Target{Account: "AAPP", Key: user}) }, want: UserKeyRevoked},
		{name: "another key is revoked", groups: `"jobs"`, mod: func(s *Snapshot, _ *Identity, _ *SignUp) {
			s.Revocations = revoked(Target{Account: "AAPP", Key: otherUser})
		}, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual},
		{name: "the key is revoked in another account", groups: `"jobs"`, mod: func(s *Snapshot, _ *Identity, _ *SignUp) { s.Revocations = revoked(Target{Account: "AOPS", Key: user}) }, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual},
		{name: "every signing key is revoked", groups: `"jobs"`, mod: func(s *Snapshot, _ *Identity, _ *SignUp) {
			s.Revocations = NewRevocations([]Revocation{{ID: "k", Kind: SigningKey, Target: Target{Account: "AAPP", Key: "ASIGN"}, At: now}})
		}, want: AccountUnready},

		{name: "a proof from 30 s ago", groups: `"jobs"`, mod: func(_ *Snapshot, _ *Identity, s *SignUp) { s.At = now.Add(-ProofWindow) }, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual},
		{name: "an older proof", groups: `"jobs"`, mod: func(_ *Snapshot, _ *Identity, s *SignUp) { s.At = now.Add(-ProofWindow - time.Millisecond) }, want: SignUpProofStale},
		{name: "a proof from the future", groups: `"jobs"`, mod: func(_ *Snapshot, _ *Identity, s *SignUp) { s.At = now.Add(ProofWindow + time.Millisecond) }, want: SignUpProofStale},
		{name: "another key's proof", groups: `"jobs"`, mod: func(_ *Snapshot, _ *Identity, s *SignUp) { s.Signature = signUp(t, other).Signature }, want: SignUpProofInvalid},
		{name: "a proof of something else", groups: `"jobs"`, mod: func(_ *Snapshot, _ *Identity, s *SignUp) { s.Statement = []byte("another") }, want: SignUpProofInvalid},
		{name: "no proof", groups: `"jobs"`, mod: func(_ *Snapshot, _ *Identity, s *SignUp) { s.Signature = "" }, want: SignUpProofInvalid},
		{name: "no key", groups: `"jobs"`, mod: func(_ *Snapshot, _ *Identity, s *SignUp) { s.Key = "" }, want: SignUpProofInvalid},
		{name: "an account's key", groups: `"jobs"`, mod: func(_ *Snapshot, _ *Identity, s *SignUp) { s.Key = account }, want: SignUpProofInvalid},

		{name: "bound to the key", groups: `"held"`, mod: func(_ *Snapshot, id *Identity, _ *SignUp) { id.Claims["nonce"] = user }, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual},
		{name: "bound to the key by its thumbprint", groups: `"held"`, mod: func(_ *Snapshot, id *Identity, _ *SignUp) { id.Claims["cnf"] = map[string]any{"jkt": jkt(t, user)} }, want: Allowed, ttl: 24 * time.Hour, keys: 3, types: usual},
		{name: "bound to another key", groups: `"held"`, mod: func(_ *Snapshot, id *Identity, _ *SignUp) { id.Claims["nonce"] = otherUser }, want: KeyProofInvalid},
		{name: "bound to another key by its thumbprint", groups: `"jobs"`, mod: func(_ *Snapshot, id *Identity, _ *SignUp) {
			id.Claims["cnf"] = map[string]any{"jkt": jkt(t, otherUser)}
		}, want: KeyProofInvalid},
		{name: "bound to a certificate", groups: `"jobs"`, mod: func(_ *Snapshot, id *Identity, _ *SignUp) { id.Claims["cnf"] = map[string]any{"x5t#S256": "x"} }, want: KeyUncheckable},
		{name: "not bound where it must be", groups: `"held"`, want: KeyRequired},
		{name: "the word of a caller is no proof", groups: `"jobs"`, conn: Connection{ProofGiven: true}, mod: func(_ *Snapshot, _ *Identity, s *SignUp) { s.Signature = "" }, want: SignUpProofInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			snapshot, id, request := &Snapshot{Rules: directWorld(t)}, person(t, `{"groups": [`+c.groups+`]}`), signUp(t, key)
			if c.mod != nil {
				c.mod(snapshot, id, request)
			}
			c.conn.SignUp = request
			d := Decide(snapshot, id, c.conn, now, nil)
			if d.Reason() != c.want {
				t.Fatalf("%v, want %s", d.Refusal, c.want)
			}
			if !d.Allowed() {
				return
			}
			var source []string
			for _, p := range d.Source {
				source = append(source, p.String())
			}
			if d.TTL != c.ttl || !d.Expires.Equal(now.Add(c.ttl)) || d.Key != user || d.Direct == nil || d.Direct.Keys != c.keys || !slices.Equal(d.Types, c.types) || !slices.Equal(source, c.source) {
				t.Errorf("ttl %s, ends in %s, terms %+v, types %v, source %v", d.TTL, d.Expires.Sub(now), d.Direct, d.Types, source)
			}
		})
	}
}

// A login gets nothing of what is for direct users alone.
func TestLoginsAreNotDirect(t *testing.T) {
	d := Decide(&Snapshot{Rules: directWorld(t)}, person(t, `{"groups": ["jobs"]}`), Connection{Type: Standard}, now, nil)
	if !d.Allowed() || d.Key != "" || d.Types != nil || d.TTL != 10*time.Minute {
		t.Errorf("%v: key %q, types %v, ttl %s", d.Refusal, d.Key, d.Types, d.TTL)
	}
	if d.Direct == nil || *d.Direct != (Direct{TTL: 24 * time.Hour, Keys: 3}) {
		t.Errorf("terms %+v, want those of a sign-up", d.Direct)
	}
	d = Decide(&Snapshot{Rules: directWorld(t)}, person(t, `{"groups": ["jobs", "people"]}`), Connection{Type: Standard}, now, nil)
	if !d.Allowed() || d.Direct != nil {
		t.Errorf("%v: terms %+v, where one binding does not permit it", d.Refusal, d.Direct)
	}
}

// Whatever connection a direct user may make, a login on it would get the same permissions.
func TestDirectUsersGetWhatALoginGets(t *testing.T) {
	key, _ := publicKey(t, nkeys.PrefixByteUser)
	addresses := []netip.Addr{{}, netip.MustParseAddr("10.7.1.2"), netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("198.51.100.1")}
	rapid.Check(t, func(rt *rapid.T) {
		groups := rapid.SliceOfN(rapid.SampledFrom([]string{"jobs", "strict", "few", "people", "office", "site", "web", "phones"}), 1, 4).Draw(rt, "groups")
		id := person(t, `{"groups": ["`+strings.Join(groups, `", "`)+`"]}`)
		state := &Snapshot{Rules: directWorld(t)}
		from := rapid.SampledFrom(addresses).Draw(rt, "from")
		d := Decide(state, id, Connection{Source: from, SignUp: signUp(t, key)}, now, nil)
		if !d.Allowed() {
			return
		}
		typ := rapid.SampledFrom(d.Types).Draw(rt, "type")
		login := Decide(state, id, Connection{Source: from, Type: typ}, now, nil)
		if diff := cmp.Diff(login.Permissions, d.Permissions, cmpopts.EquateEmpty()); !login.Allowed() || diff != "" {
			rt.Fatalf("%v by %s (-login +direct):\n%s", login.Refusal, typ, diff)
		}
	})
}

func TestLongest(t *testing.T) {
	t.Parallel()
	b := func(ttl time.Duration, d *Direct) map[string][]*Binding {
		return map[string][]*Binding{"corp": {{TTL: ttl, Direct: d}}}
	}
	for name, c := range map[string]struct {
		rules              Rules
		credential, direct time.Duration
	}{
		"none":          {Rules{}, 0, 0},
		"a binding":     {Rules{Bindings: b(time.Hour, &Direct{TTL: 2 * time.Hour}), Lobby: b(time.Minute, nil)}, time.Hour, 2 * time.Hour},
		"the lobby":     {Rules{Lobby: b(time.Hour, nil)}, time.Hour, 0},
		"a first login": {Rules{Creates: b(time.Hour, nil)}, time.Hour, 0},
		"a plan":        {Rules{Bindings: b(time.Hour, nil), Plans: map[string]*Plan{"a": {TTL: 3 * time.Hour, Direct: &Direct{TTL: 4 * time.Hour}}, "b": {}}}, 3 * time.Hour, 4 * time.Hour},
	} {
		if credential, direct := c.rules.Longest(); credential != c.credential || direct != c.direct {
			t.Errorf("%s: %s and %s", name, credential, direct)
		}
	}
}

func TestProgramNames(t *testing.T) {
	for name, want := range map[string]bool{
		"nightly": true, "a": true, "a-b_9": true, strings.Repeat("x", 32): true,
		"": false, strings.Repeat("x", 33): false, "A": false, "a.b": false, "a b": false, "a*": false, ">": false, "ä": false, "a\n": false,
	} {
		if IsProgram(name) != want {
			t.Errorf("%q is a program: %v", name, !want)
		}
	}
	name := ProgramName("nightly", "https://login.example.com", "alice")
	if _, refusal := safeToken("program", name); refusal != nil || !strings.HasPrefix(name, "prog-nightly-") {
		t.Errorf("name %s: %v", name, refusal)
	}
	seen := map[string]bool{name: true}
	for _, other := range []string{
		ProgramName("nightly", "https://login.example.com", "bob"), ProgramName("nightly", "https://other.example.com", "alice"),
		ProgramName("daily", "https://login.example.com", "alice"), PrincipalName("prog", "nightly"),
	} {
		if seen[other] {
			t.Errorf("%s is twice", other)
		}
		seen[other] = true
	}
}
