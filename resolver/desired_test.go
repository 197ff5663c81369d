package resolver

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// newKey returns a key pair and its public part.
func newKey(t testing.TB, prefix nkeys.PrefixByte) (nkeys.KeyPair, string) {
	t.Helper()
	kp, err := nkeys.CreatePair(prefix)
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return kp, public
}

// world is what random claims and overlays are made of: few names, so that they meet often.
type claimsWorld struct {
	operator nkeys.KeyPair
	account  string
	users    []string
	signers  []string
}

func newClaimsWorld(t testing.TB) *claimsWorld {
	w := &claimsWorld{}
	w.operator, _ = newKey(t, nkeys.PrefixByteOperator)
	_, w.account = newKey(t, nkeys.PrefixByteAccount)
	for range 3 {
		_, user := newKey(t, nkeys.PrefixByteUser)
		_, signer := newKey(t, nkeys.PrefixByteAccount)
		w.users, w.signers = append(w.users, user), append(w.signers, signer)
	}
	return w
}

var exports = []jwt.Subject{"a.x", "b.x"}

// edit changes one thing of the claims as others might.
func (w *claimsWorld) edit(c *jwt.AccountClaims, random *rand.Rand) {
	switch random.IntN(9) {
	case 0:
		c.Revocations[w.users[random.IntN(3)]] = random.Int64N(20)
	case 1:
		c.Revocations[jwt.All] = random.Int64N(20)
	case 2:
		delete(c.Revocations, w.users[random.IntN(3)])
	case 3:
		c.Limits.Conn = random.Int64N(3) - 1
	case 4:
		c.Limits.LeafNodeConn = random.Int64N(3) - 1
	case 5:
		key := w.signers[random.IntN(3)]
		if _, ok := c.SigningKeys[key]; ok {
			delete(c.SigningKeys, key)
		} else if random.IntN(2) == 0 {
			c.SigningKeys.Add(key)
		} else {
			c.SigningKeys.AddScopedSigner(&jwt.UserScope{Kind: jwt.UserScopeType, Key: key, Role: fmt.Sprint(random.IntN(3))})
		}
	case 6:
		e := c.Exports[random.IntN(len(c.Exports))]
		if e.Revocations == nil {
			e.Revocations = jwt.RevocationList{}
		}
		e.Revocations[w.signers[random.IntN(3)]] = random.Int64N(20)
	case 7:
		c.Tags = jwt.TagList{fmt.Sprint(random.IntN(100))}
	case 8:
		c.Limits.MaxAckPending = random.Int64N(100)
	}
}

func (w *claimsWorld) claims(random *rand.Rand) *jwt.AccountClaims {
	c := jwt.NewAccountClaims(w.account)
	c.Name = "APP"
	c.Revocations = jwt.RevocationList{}
	for _, subject := range exports {
		c.Exports.Add(&jwt.Export{Subject: subject, Type: jwt.Service, TokenReq: true})
	}
	for range random.IntN(12) {
		w.edit(c, random)
	}
	return c
}

func (w *claimsWorld) document(t testing.TB, c *jwt.AccountClaims) *document {
	t.Helper()
	token, err := c.Encode(w.operator)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, token)
}

func parsed(t testing.TB, token string) *document {
	t.Helper()
	d, err := parseDocument(token)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (w *claimsWorld) overlay(random *rand.Rand) overlay {
	o := overlay{}
	for range random.IntN(6) {
		p := []place{
			{part: revocation, name: w.users[random.IntN(3)]}, {part: revocation, name: everybody},
			{part: limit, name: "conn"}, {part: limit, name: "leaf"},
			{part: signingKey, name: w.signers[random.IntN(3)]},
			{activation, string(exports[random.IntN(2)]), w.signers[random.IntN(3)]},
		}[random.IntN(6)]
		o[p] = random.Int64N(20)
	}
	return o
}

// decoded returns what the library, and so nats-server, understands of the document.
func (w *claimsWorld) decoded(t testing.TB, d *document) *jwt.AccountClaims {
	t.Helper()
	token, err := d.sign(w.operator, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := jwt.DecodeAccountClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const properties = 500

// forAll calls f with random worlds; the seed is in the name of the failing case.
func forAll(t *testing.T, f func(t *testing.T, w *claimsWorld, random *rand.Rand)) {
	t.Helper()
	w := newClaimsWorld(t)
	for seed := range uint64(properties) {
		f(t, w, rand.New(rand.NewPCG(seed, 1)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestOverlayIsIdempotent(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, w *claimsWorld, random *rand.Rand) {
		base, o := w.document(t, w.claims(random)), w.overlay(random)
		once := o.apply(base)
		if !o.apply(once).same(once) || !o.holds(once) {
			t.Errorf("applied twice %s, once %s", o.apply(once).render(nil), once.render(nil))
		}
	})
}

// Merging what is ours into what nobody has changed gives the base again, and lifting everything gives what
// others made of it.
func TestLiftingGivesTheBase(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, w *claimsWorld, random *rand.Rand) {
		base := w.document(t, w.claims(random))
		desired := w.overlay(random).apply(base)
		if again := rebase(base, desired, desired); !again.same(base) {
			t.Errorf("base %s, after lifting %s", base.render(nil), again.render(nil))
		}
		// Others who know nothing of ours push what they have.
		if again := rebase(base, desired, base); !again.same(base) {
			t.Errorf("base %s, after a push of it %s", base.render(nil), again.render(nil))
		}
	})
}

// What others change is the base, whether or not they saw what is ours, and merging it is idempotent.
func TestForeignChangeIsKept(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, w *claimsWorld, random *rand.Rand) {
		claims := w.claims(random)
		base := w.document(t, claims)
		o := w.overlay(random)
		desired := o.apply(base)
		from, to := base, w.decoded(t, base)
		if random.IntN(2) == 0 {
			from, to = desired, w.decoded(t, desired)
		}
		if to.Revocations == nil {
			to.Revocations = jwt.RevocationList{}
		}
		w.edit(to, random)
		found := w.document(t, to)
		next := rebase(base, desired, found)
		for p := range union(from, found) {
			is, was := string(found.entries[p]), string(from.entries[p])
			if is != was && is != string(desired.entries[p]) && string(next.entries[p]) != is {
				t.Errorf("%v: others made %s of %s, the base has %s", p, is, was, next.entries[p])
			}
		}
		if string(next.body["tags"]) != string(found.body["tags"]) || string(next.limits["max_ack_pending"]) != string(found.limits["max_ack_pending"]) {
			t.Error("a field that is not ours was not kept")
		}
		if again := rebase(next, o.apply(next), o.apply(next)); !again.same(next) {
			t.Errorf("base %s, then %s", next.render(nil), again.render(nil))
		}
	})
}

func union(a, b *document) map[place]bool {
	all := map[place]bool{}
	for p := range a.entries {
		all[p] = true
	}
	for p := range b.entries {
		all[p] = true
	}
	return all
}

// Whatever is asked, nobody gets more than the base gives: by what nats-server reads.
func TestOverlayNeverWidens(t *testing.T) {
	t.Parallel()
	forAll(t, func(t *testing.T, w *claimsWorld, random *rand.Rand) {
		base, o := w.document(t, w.claims(random)), w.overlay(random)
		before, after := w.decoded(t, base), w.decoded(t, o.apply(base))
		for at := range int64(21) {
			for _, user := range w.users {
				if moment := time.Unix(at, 0); before.Revocations.IsRevoked(user, moment) && !after.Revocations.IsRevoked(user, moment) {
					t.Errorf("user %s of second %d is not revoked any more", user, at)
				}
			}
			for i, e := range before.Exports {
				for _, importer := range w.signers {
					if moment := time.Unix(at, 0); e.Revocations.IsRevoked(importer, moment) && !after.Exports[i].Revocations.IsRevoked(importer, moment) {
						t.Errorf("activation of %s of second %d is not revoked any more", importer, at)
					}
				}
			}
		}
		for key := range after.SigningKeys {
			if _, ok := before.SigningKeys[key]; !ok {
				t.Errorf("signing key %s was added", key)
			}
		}
		for name, limits := range map[string][2]int64{"conn": {before.Limits.Conn, after.Limits.Conn}, "leaf": {before.Limits.LeafNodeConn, after.Limits.LeafNodeConn}} {
			if limits[1] != limits[0] && limits[1] != 0 {
				t.Errorf("%s was %d and is %d", name, limits[0], limits[1])
			}
		}
		if before.Limits.JetStreamLimits != after.Limits.JetStreamLimits {
			t.Error("JetStream limits were touched")
		}
	})
}

// A document comes out as it went in, also what this release does not know, and the library reads it.
func TestDocumentKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	w := newClaimsWorld(t)
	d := w.document(t, w.claims(rand.New(rand.NewPCG(1, 1))))
	d.body["later_field"] = json.RawMessage(`{"deny":[1.50,"é"]}`)
	d.limits["later_limit"] = json.RawMessage(`7`)
	d.exports[0]["later_option"] = json.RawMessage(`true`)
	d.claims["exp"] = json.RawMessage(`4000000000`)
	token, err := d.sign(w.operator, 4_000, 12)
	if err != nil {
		t.Fatal(err)
	}
	again := parsed(t, token)
	if !again.same(d) || again.issued() != 4_000 {
		t.Errorf("%s became %s", d.render(d.content()), again.render(again.content()))
	}
	for name, raw := range map[string]json.RawMessage{`{"deny":[1.50,"é"]}`: again.body["later_field"], "7": again.limits["later_limit"], "true": again.exports[0]["later_option"]} {
		if string(raw) != name {
			t.Errorf("%s became %s", name, raw)
		}
	}
	if revision, ok := again.ours(); !ok || revision != 12 {
		t.Errorf("ours: %d %t", revision, ok)
	}
	c, err := jwt.DecodeAccountClaims(token)
	if err != nil || c.Expires != 4_000_000_000 || c.Name != "APP" {
		t.Fatalf("the library reads %+v, %v", c, err)
	}
	// Made by another from ours, with our aud.
	if _, ok := w.document(t, c).ours(); ok {
		t.Error("what another signed is taken for ours")
	}
	other := d.with(maps.Clone(d.entries))
	other.entries[place{part: limit, name: "conn"}] = json.RawMessage("5")
	if second, err := other.sign(w.operator, 4_000, 12); err != nil || text(parsed(t, second).claims["jti"]) == text(again.claims["jti"]) {
		t.Errorf("two claims of one second have one jti (%v)", err)
	}
}

func TestParseDocumentRefuses(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{
		"nothing": "", "two parts": "a.b", "no base64": "a.%.c", "no JSON": "a.YQ.c", "no nats": "a.e30.c",
		"nats is a list": "a.eyJuYXRzIjpbXX0.c", "a list of numbers": "a.eyJuYXRzIjp7InNpZ25pbmdfa2V5cyI6WzFdfX0.c",
	} {
		if d, err := parseDocument(token); err == nil {
			t.Errorf("%s: got %v", name, d)
		}
	}
}

// asked returns a revocation of 100 seconds after the epoch.
func asked(kind policy.RevocationKind, target policy.Target, edit func(*store.Revocation)) store.Revocation {
	r := store.Revocation{Revocation: policy.Revocation{ID: "r", Kind: kind, Target: target, At: time.Unix(100, 0)}}
	if edit != nil {
		edit(&r)
	}
	return r
}

func TestAsks(t *testing.T) {
	t.Parallel()
	const corp = "https://corp"
	alice := policy.Target{Principal: policy.Principal{Issuer: corp, Subject: "alice"}}
	issuer := policy.Target{Principal: policy.Principal{Issuer: corp}}
	account, callout := policy.Target{Account: "A"}, policy.Target{Account: "CALLOUT"}
	of := func(t policy.Target, key string) policy.Target { t.Key = key; return t }
	key := func(name string, issued int64, edit func(*store.UserKey)) store.UserKey {
		k := store.UserKey{Key: name, AccountID: "A", Issuer: corp, Subject: "alice", Issued: time.Unix(issued, 0), Expires: time.Unix(10_000, 0)}
		if edit != nil {
			edit(&k)
		}
		return k
	}
	revoked := func(name string) place { return place{part: revocation, name: name} }
	one := func(p place, at int64) map[string]overlay { return map[string]overlay{"A": {p: at}} }
	program := func(k *store.UserKey) { k.Program = "p" }
	obtained := func(list ...store.Obtained) func(*store.UserKey) {
		return func(k *store.UserKey) { k.Obtained = list }
	}
	first, second := store.Obtained{Session: "s", Token: "t", Issued: time.Unix(50, 0)}, store.Obtained{Session: "s2", Token: "t2", Issued: time.Unix(500, 0)}
	token, session := policy.Target{Principal: issuer.Principal, Token: "t"}, policy.Target{Principal: issuer.Principal, Session: "s"}
	for name, c := range map[string]struct {
		revocation store.Revocation
		keys       []store.UserKey
		want       map[string]overlay
	}{
		"a user key":             {asked(policy.UserKey, of(account, "U"), nil), nil, one(revoked("U"), 100)},
		"a user key, renewed":    {asked(policy.UserKey, of(account, "U"), nil), []store.UserKey{key("U", 130, nil)}, one(revoked("U"), 130)},
		"a user key, ended":      {asked(policy.UserKey, of(account, "U"), func(r *store.Revocation) { r.Until = time.Unix(1000, 0) }), nil, nil},
		"an account":             {asked(policy.Logout, account, nil), nil, one(revoked(everybody), 100)},
		"an account and clocks":  {asked(policy.Logout, account, nil), []store.UserKey{key("U", 105, nil), key("V", 120, nil), key("W", 90, nil)}, map[string]overlay{"A": {revoked(everybody): 100, revoked("U"): 105}}},
		"suspension":             {asked(policy.Suspension, account, nil), []store.UserKey{key("U", 1, nil)}, map[string]overlay{"A": {{part: limit, name: "conn"}: 100, {part: limit, name: "leaf"}: 100}}},
		"signing key":            {asked(policy.SigningKey, of(account, "K"), nil), nil, one(place{part: signingKey, name: "K"}, 100)},
		"activation":             {asked(policy.Activation, policy.Target{Account: "A", Export: "x.y", Key: "B"}, nil), nil, one(place{activation, "x.y", "B"}, 100)},
		"suspension, callout":    {asked(policy.Suspension, callout, nil), nil, nil},
		"logout, callout":        {asked(policy.Logout, callout, nil), nil, nil},
		"signing key, callout":   {asked(policy.SigningKey, of(callout, "K"), nil), nil, nil},
		"our user, callout":      {asked(policy.UserKey, of(callout, "OWN"), nil), nil, nil},
		"another user, callout":  {asked(policy.UserKey, of(callout, "U"), nil), nil, map[string]overlay{"CALLOUT": {revoked("U"): 100}}},
		"identity without keys":  {asked(policy.Block, alice, nil), nil, nil},
		"identity":               {asked(policy.Block, alice, nil), []store.UserKey{key("U", 90, nil), key("V", 1, func(k *store.UserKey) { k.Subject = "bob" }), key("W", 1, func(k *store.UserKey) { k.Issuer += "/" })}, one(revoked("U"), 100)},
		"identity, signed later": {asked(policy.Block, alice, nil), []store.UserKey{key("U", 500, nil)}, one(revoked("U"), 500)},
		"identity, key ended":    {asked(policy.Block, alice, nil), []store.UserKey{key("U", 1, func(k *store.UserKey) { k.Expires = time.Unix(1000, 0) })}, nil},
		"identity, no end":       {asked(policy.Block, alice, nil), []store.UserKey{key("U", 1, func(k *store.UserKey) { k.Expires = time.Time{} })}, one(revoked("U"), 100)},
		"not its programs":       {asked(policy.Block, alice, nil), []store.UserKey{key("U", 1, program)}, nil},
		"its programs":           {asked(policy.Block, alice, func(r *store.Revocation) { r.Programs = true }), []store.UserKey{key("U", 1, program)}, one(revoked("U"), 100)},
		"issuer":                 {asked(policy.Block, issuer, nil), []store.UserKey{key("U", 1, program)}, one(revoked("U"), 100)},
		"logout, renewed since":  {asked(policy.Logout, alice, nil), []store.UserKey{key("U", 500, nil)}, one(revoked("U"), 100)},
		"logout, within leeway":  {asked(policy.Logout, alice, nil), []store.UserKey{key("U", 110, nil)}, one(revoked("U"), 110)},
		"match":                  {asked(policy.Block, policy.Target{Principal: issuer.Principal, Match: `{"groups":["x"]}`}, nil), []store.UserKey{key("U", 500, nil)}, one(revoked("U"), 100)},
		"match in an account":    {asked(policy.Block, policy.Target{Principal: issuer.Principal, Match: `{"groups":["x"]}`, Account: "B"}, nil), []store.UserKey{key("U", 1, nil)}, nil},
		"a token":                {asked(policy.Logout, token, nil), []store.UserKey{key("U", 50, obtained(first))}, one(revoked("U"), 50)},
		"another token":          {asked(policy.Logout, token, nil), []store.UserKey{key("U", 500, obtained(second)), key("V", 1, nil)}, nil},
		"a session":              {asked(policy.Logout, session, nil), []store.UserKey{key("U", 50, obtained(first))}, one(revoked("U"), 50)},
		"a session's program":    {asked(policy.Logout, session, nil), []store.UserKey{key("U", 50, func(k *store.UserKey) { program(k); k.Obtained = []store.Obtained{first} })}, one(revoked("U"), 50)},
		"a session, later":       {asked(policy.Logout, policy.Target{Principal: issuer.Principal, Session: "s2"}, nil), []store.UserKey{key("U", 500, obtained(first, second))}, one(revoked("U"), 500)},
		"session, renewed since": {asked(policy.Logout, session, nil), []store.UserKey{key("U", 500, obtained(first, second))}, one(revoked("U"), 50)},
		"session and a token":    {asked(policy.Logout, policy.Target{Principal: issuer.Principal, Session: "t"}, nil), []store.UserKey{key("U", 50, obtained(first))}, nil},
		"session, another's":     {asked(policy.Logout, policy.Target{Principal: policy.Principal{Issuer: corp, Subject: "bob"}, Session: "s"}, nil), []store.UserKey{key("U", 50, obtained(first))}, nil},
		"session, other issuer":  {asked(policy.Logout, policy.Target{Principal: policy.Principal{Issuer: corp + "/"}, Session: "s"}, nil), []store.UserKey{key("U", 50, obtained(first))}, nil},
		"session, untold":        {asked(policy.Logout, session, nil), []store.UserKey{key("U", 500, obtained(store.Obtained{Untold: true, Issued: time.Unix(70, 0)}, second))}, one(revoked("U"), 70)},
	} {
		got := asks([]store.Revocation{c.revocation}, c.keys, Closed{"CALLOUT": {"OWN"}}, 10*time.Second, time.Unix(1000, 0))
		if !maps.EqualFunc(got, c.want, func(a, b overlay) bool { return maps.Equal(a, b) }) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// An entry that one for everybody covers is not repeated, so that logging an account out makes room.
func TestCoveredEntriesAreLeftOut(t *testing.T) {
	t.Parallel()
	w := newClaimsWorld(t)
	base := w.document(t, jwt.NewAccountClaims(w.account))
	o := overlay{{part: revocation, name: "U"}: 5, {part: revocation, name: "V"}: 9, {part: revocation, name: everybody}: 7}
	got := w.decoded(t, o.apply(base)).Revocations
	if want := (jwt.RevocationList{"V": 9, everybody: 7}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	w := newClaimsWorld(t)
	made := func(issued int64, edit func(*jwt.AccountClaims)) *document {
		c := jwt.NewAccountClaims(w.account)
		if edit != nil {
			edit(c)
		}
		d := w.document(t, c)
		d.claims["iat"] = encoded(issued)
		return d
	}
	tagged := func(tag string) func(*jwt.AccountClaims) {
		return func(c *jwt.AccountClaims) { c.Tags = jwt.TagList{tag} }
	}
	o := overlay{{part: limit, name: "conn"}: 1}
	base := made(100, nil)
	old, err := o.apply(made(90, tagged("old"))).sign(w.operator, 105, 3)
	if err != nil {
		t.Fatal(err)
	}
	desired := o.apply(base)
	h := history{base: base, desired: desired, revision: 4}
	for name, c := range map[string]struct {
		history history
		found   []*document
		given   *document
		overlay overlay
		push    bool
		tags    string // of the base
		drifts  []drift
		nothing bool
	}{
		"nothing asked":         {history{}, []*document{base}, nil, nil, false, "", nil, true},
		"asked for and so":      {history{}, []*document{desired, desired}, nil, o, false, "", nil, true},
		"first":                 {history{}, []*document{base, made(120, tagged("new"))}, nil, o, true, `["new"]`, nil, false},
		"settled":               {h, []*document{desired, desired}, nil, o, false, "", nil, false},
		"lifted":                {h, []*document{desired, desired}, nil, nil, true, "", nil, false},
		"lifted everywhere":     {history{base, base, 5}, []*document{base, base}, nil, nil, false, "", nil, false},
		"a server lacks it":     {h, []*document{desired, nil}, nil, o, true, "", []drift{absent}, false},
		"a server has the base": {h, []*document{desired, base}, nil, o, true, "", []drift{older}, false},
		"an older one of ours":  {h, []*document{desired, parsed(t, old)}, nil, o, true, "", []drift{older}, false},
		"from before the base":  {h, []*document{made(99, tagged("ancient")), desired}, nil, o, true, "", []drift{older}, false},
		"others' edit":          {h, []*document{made(101, tagged("theirs")), desired}, nil, o, true, `["theirs"]`, []drift{foreign}, false},
		"others' latest":        {h, []*document{made(101, tagged("theirs")), made(102, tagged("last"))}, nil, o, true, `["last"]`, []drift{foreign, foreign}, false},
		"others', when lifted":  {history{base, base, 5}, []*document{made(101, tagged("theirs")), made(101, tagged("theirs"))}, nil, nil, false, `["theirs"]`, []drift{foreign, foreign}, false},
		"given, and newer":      {h, []*document{desired}, made(101, tagged("given")), o, true, `["given"]`, nil, false},
		"given, as the base":    {h, []*document{desired}, made(100, tagged("given")), o, false, "", nil, false},
		"given, and of ours":    {h, []*document{desired}, parsed(t, old), o, false, "", nil, false},
		"given, older than one": {h, []*document{made(102, tagged("last"))}, made(101, tagged("given")), o, true, `["last"]`, []drift{foreign}, false},
		"given alone":           {history{}, []*document{nil}, made(101, tagged("given")), o, true, `["given"]`, nil, false},
		"given, nothing asked":  {history{}, []*document{base}, made(101, tagged("given")), nil, false, "", nil, true},
	} {
		d, err := decide(c.history, c.found, c.given, c.overlay)
		if err != nil || (d == nil) != c.nothing {
			t.Errorf("%s: %v, %v", name, d, err)
			continue
		}
		if d == nil {
			continue
		}
		if d.push != c.push || string(d.base.body["tags"]) != c.tags || !slices.Equal(d.drifts, c.drifts) || !d.desired.same(c.overlay.apply(d.base)) {
			t.Errorf("%s: push %t, tags %s, drifts %v", name, d.push, d.base.body["tags"], d.drifts)
		}
	}
	if _, err := decide(history{}, []*document{nil, nil}, nil, o); err == nil {
		t.Error("an account that no server has was decided on")
	}
}
