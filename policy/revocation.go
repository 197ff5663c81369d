package policy

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// RevocationKind says what a revocation does.
type RevocationKind string

// The kinds of revocation.
const (
	// Block denies whom it concerns until it is lifted or its end comes: an identity, an issuer, or
	// the identities of an issuer whose claims match.
	Block RevocationKind = "block"
	// Logout voids every token that was issued until a point in time: of an identity, an issuer or an
	// account. Of a login session or of one token it voids all, whenever they were issued.
	Logout RevocationKind = "logout"
	// UserKey voids the user JWTs of one key in an account.
	UserKey RevocationKind = "user_key"
	// SigningKey takes a signing key from an account, with all that was signed with it.
	SigningKey RevocationKind = "signing_key"
	// Activation voids the tokens by which an account imports what another exports.
	Activation RevocationKind = "activation"
	// Suspension closes an account to all its users.
	Suspension RevocationKind = "suspension"
)

// RevocationKinds lists the kinds.
func RevocationKinds() []RevocationKind {
	return []RevocationKind{Block, Logout, UserKey, SigningKey, Activation, Suspension}
}

// Principal is an identity as revocations know it: the exact iss and the raw sub.
type Principal struct {
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
}

// Target is whom or what a revocation concerns; which fields are set says the [Scope].
type Target struct {
	Principal        // an identity; the issuer alone: all of its identities
	Session   string `json:"session,omitempty"` // sid of a login session of the issuer
	Token     string `json:"token,omitempty"`   // jti of a token of the issuer
	Match     string `json:"match,omitempty"`   // what [FormatMatch] makes of claims; of the issuer
	Account   string `json:"account,omitempty"` // id of an account: its public key, or its name where there is no operator
	Key       string `json:"key,omitempty"`     // public key of a user, a signing key, or the account that imports
	Export    string `json:"export,omitempty"`  // subject of the export that the account imports
}

// Scope names what sort of thing a target is.
type Scope string

// The scopes.
const (
	OfIdentity   Scope = "identity"
	OfIssuer     Scope = "issuer"
	OfSession    Scope = "session"
	OfToken      Scope = "token"
	OfMatch      Scope = "match"
	OfAccount    Scope = "account"
	OfKey        Scope = "key"
	OfActivation Scope = "activation"
	OfNothing    Scope = ""
)

// Scope returns what sort of thing the target is.
func (t Target) Scope() Scope {
	switch {
	case t.Export != "":
		return OfActivation
	case t.Key != "":
		return OfKey
	case t.Match != "":
		return OfMatch
	case t.Session != "":
		return OfSession
	case t.Token != "":
		return OfToken
	case t.Subject != "":
		return OfIdentity
	case t.Issuer != "":
		return OfIssuer
	case t.Account != "":
		return OfAccount
	default:
		return OfNothing
	}
}

// String returns the target for people and for the audit trail, with every field that is set.
func (t Target) String() string {
	var parts []string
	for _, f := range []struct{ name, value string }{
		{"", t.Subject}, {"session ", t.Session}, {"token ", t.Token}, {"match ", t.Match}, {"key ", t.Key},
		{"export ", t.Export}, {"account ", t.Account}, {"issuer ", t.Issuer},
	} {
		if f.value != "" {
			parts = append(parts, f.name+f.value)
		}
	}
	if t.Scope() == OfIdentity && t.Account == "" {
		return t.Subject + " of " + t.Issuer
	}
	return strings.Join(parts, ", ")
}

// Revocation is a block, a logout or their like, as far as decisions need it.
type Revocation struct {
	ID     string         `json:"id"`
	Kind   RevocationKind `json:"kind"`
	Target                // whom or what it concerns
	At     time.Time      `json:"at"`             // of a logout: the point in time; otherwise when it was made
	Until  time.Time      `json:"until,omitzero"` // its end; zero means until lifted
	// Programs includes the programs that the identity owns: direct users with keys of their own.
	Programs bool `json:"programs,omitempty"`
}

// InForce reports whether the end of the revocation has not come at now.
func (r Revocation) InForce(now time.Time) bool { return r.Until.IsZero() || now.Before(r.Until) }

// kindScopes says what revocations of each kind can concern.
var kindScopes = map[RevocationKind][]Scope{
	Block: {OfIdentity, OfIssuer, OfMatch}, Logout: {OfIdentity, OfIssuer, OfSession, OfToken, OfAccount},
	UserKey: {OfKey}, SigningKey: {OfKey}, Activation: {OfActivation}, Suspension: {OfAccount},
}

// unfit says that a kind does not concern a scope, and which kinds do.
func unfit(kind RevocationKind, scope Scope) string {
	if scope == OfNothing {
		return "a " + string(kind) + " has to name what it concerns"
	}
	var fitting []string
	for _, k := range RevocationKinds() {
		if slices.Contains(kindScopes[k], scope) {
			fitting = append(fitting, string(k))
		}
	}
	return withArticle(string(kind)) + " does not concern " + withArticle(string(scope)) + ": use " + strings.Join(fitting, " or ")
}

func withArticle(noun string) string {
	if strings.ContainsAny(noun[:1], "aeio") { // a user_key is spoken with a consonant
		return "an " + noun
	}
	return "a " + noun
}

// Legal returns what is wrong with the combination of kind and target, "" when nothing is.
func (r Revocation) Legal() string {
	scopes := kindScopes[r.Kind]
	scope := r.Scope()
	switch {
	case scopes == nil:
		return "kind " + string(r.Kind) + " is not one"
	case !slices.Contains(scopes, scope):
		return unfit(r.Kind, scope)
	case scope == OfAccount || scope == OfKey || scope == OfActivation:
		if r.Account == "" || r.Issuer != "" || r.Session != "" || r.Token != "" || r.Match != "" || scope == OfActivation && r.Key == "" {
			return "a " + string(r.Kind) + " names an account and what is in it"
		}
	case r.Issuer == "":
		return "a " + string(r.Kind) + " of a " + string(scope) + " names its issuer"
	case scope != OfMatch && r.Account != "":
		return "a " + string(r.Kind) + " of a " + string(scope) + " holds in every account"
	}
	return ""
}

// Whole reports whether the revocation voids what it concerns whenever that was issued.
func (r Revocation) Whole() bool {
	return r.Kind != Logout || r.Scope() == OfSession || r.Scope() == OfToken
}

// foldAt is how many changed targets an index holds apart before it copies its base.
const foldAt = 1024

// place is where an index keeps the revocations of a target.
type place struct {
	scope       Scope
	owner, name string
}

func (t Target) place() place {
	p := place{scope: t.Scope(), owner: t.Issuer}
	switch p.scope {
	case OfIdentity:
		p.name = t.Subject
	case OfSession:
		p.name = t.Session
	case OfToken:
		p.name = t.Token
	case OfAccount:
		p.owner = t.Account
	case OfKey, OfActivation:
		p.owner, p.name = t.Account, t.Key
	}
	return p
}

// indexed is a revocation with its match compiled.
type indexed struct {
	Revocation
	match []Condition
}

func index(r Revocation) indexed {
	in := indexed{Revocation: r}
	if r.Match != "" {
		// One that cannot be read has no condition, and so concerns every identity of its issuer.
		in.match, _ = ParseMatch(r.Match)
	}
	return in
}

// meets reports whether claims are those that the revocation's match means.
func (in indexed) meets(claims map[string]any) bool {
	return !slices.ContainsFunc(in.match, func(c Condition) bool { return !c.Match(claims) })
}

// tally counts revocations by kind and scope, so that nobody is looked for where there is nothing.
type tally [7][9]int32

func (y *tally) of(kind RevocationKind, scope Scope) *int32 { return &y[kind.number()][scope.number()] }

// number numbers the kinds; 0 is none of them.
func (k RevocationKind) number() int {
	switch k {
	case Block:
		return 1
	case Logout:
		return 2
	case UserKey:
		return 3
	case SigningKey:
		return 4
	case Activation:
		return 5
	case Suspension:
		return 6
	}
	return 0
}

// number numbers the scopes; 0 is none of them.
func (s Scope) number() int {
	switch s {
	case OfIdentity:
		return 1
	case OfIssuer:
		return 2
	case OfSession:
		return 3
	case OfToken:
		return 4
	case OfMatch:
		return 5
	case OfAccount:
		return 6
	case OfKey:
		return 7
	case OfActivation:
		return 8
	}
	return 0
}

// Revocations is an immutable index of the revocations in force. Its zero value is empty;
// [Revocations.With] makes the next one at a cost that does not grow with its size.
type Revocations struct {
	base  map[place][]indexed // shared between generations, never written
	sieve sieve               // of base
	delta map[place][]indexed // what changed since base; an empty list means none
	count tally
}

// NewRevocations returns the index of all of rs.
func NewRevocations(rs []Revocation) *Revocations {
	x := &Revocations{base: make(map[place][]indexed, len(rs))}
	for _, r := range rs {
		p := r.place()
		x.base[p] = append(x.base[p], index(r))
		*x.count.of(r.Kind, p.scope)++
	}
	x.sift()
	return x
}

// sift makes the sieve of the base.
func (x *Revocations) sift() {
	x.sieve = newSieve(len(x.base))
	for p := range x.base {
		x.sieve.add(p)
	}
}

// RevocationChange is a revocation that was made or lifted.
type RevocationChange struct {
	Revocation Revocation
	Lifted     bool
}

// With returns the index after the changes, in order. A revocation that is in the index
// already is replaced; lifting one that is not there changes nothing.
func (x *Revocations) With(changes ...RevocationChange) *Revocations {
	next := &Revocations{base: x.base, sieve: x.sieve, delta: maps.Clone(x.delta), count: x.count}
	if next.delta == nil {
		next.delta = make(map[place][]indexed, len(changes))
	}
	for _, c := range changes {
		p := c.Revocation.place()
		list := slices.DeleteFunc(slices.Clone(next.at(p)), func(r indexed) bool {
			if r.ID != c.Revocation.ID {
				return false
			}
			*next.count.of(r.Kind, p.scope)--
			return true
		})
		if !c.Lifted {
			list = append(list, index(c.Revocation))
			*next.count.of(c.Revocation.Kind, p.scope)++
		}
		next.delta[p] = list
	}
	if len(next.delta) > foldAt {
		next.fold()
	}
	return next
}

func (x *Revocations) fold() {
	base := make(map[place][]indexed, len(x.base)+len(x.delta))
	maps.Copy(base, x.base)
	for p, list := range x.delta {
		if len(list) == 0 {
			delete(base, p)
		} else {
			base[p] = list
		}
	}
	x.base, x.delta = base, nil
	x.sift()
}

// Len returns how many revocations the index holds.
func (x *Revocations) Len() int {
	if x == nil {
		return 0
	}
	n := 0
	for _, scopes := range x.count {
		for _, count := range scopes {
			n += int(count)
		}
	}
	return n
}

// has reports whether there is any revocation of that kind and scope; x may be nil.
func (x *Revocations) has(kind RevocationKind, scope Scope) bool {
	return x != nil && *x.count.of(kind, scope) > 0
}

// All returns the revocations of the index for which keep is true, in no order.
func (x *Revocations) All(keep func(Revocation) bool) []Revocation {
	var all []Revocation
	if x == nil {
		return nil
	}
	add := func(list []indexed) {
		for _, r := range list {
			if keep(r.Revocation) {
				all = append(all, r.Revocation)
			}
		}
	}
	for p, list := range x.base {
		if _, changed := x.delta[p]; !changed {
			add(list)
		}
	}
	for _, list := range x.delta {
		add(list)
	}
	return all
}

// at returns the revocations at a place; x may be nil.
func (x *Revocations) at(p place) []indexed {
	if x == nil {
		return nil
	}
	if list, ok := x.delta[p]; ok {
		return list
	}
	if x.sieve.lacks(p) {
		return nil
	}
	return x.base[p]
}

// Holds reports whether the revocation with that id and target is in the index.
func (x *Revocations) Holds(r Revocation) bool {
	return slices.ContainsFunc(x.at(r.place()), func(in indexed) bool { return in.ID == r.ID })
}

// places returns where revocations of an identity may be, whatever account it goes to. An empty sid or
// jti is at a place where nothing can be.
func (id *Identity) places() [4]place {
	return [4]place{
		{OfIdentity, id.IssuerURL, id.Subject}, {OfIssuer, id.IssuerURL, ""},
		{OfSession, id.IssuerURL, id.SessionID}, {OfToken, id.IssuerURL, id.TokenID},
	}
}

// Blocked returns the block that denies the identity everywhere at now, if there is one.
func (x *Revocations) Blocked(id *Identity, now time.Time) (Revocation, bool) {
	for _, p := range id.places() {
		if !x.has(Block, p.scope) {
			continue
		}
		for _, r := range x.at(p) {
			if r.Kind == Block && r.InForce(now) {
				return r.Revocation, true
			}
		}
	}
	return x.matched(id, "", now)
}

// matched returns the block by claims that denies the identity in the account; an account of ""
// is for those that hold in every account.
func (x *Revocations) matched(id *Identity, account string, now time.Time) (Revocation, bool) {
	if !x.has(Block, OfMatch) {
		return Revocation{}, false
	}
	for _, r := range x.at(place{scope: OfMatch, owner: id.IssuerURL}) {
		if r.Kind == Block && r.Account == account && r.InForce(now) && r.meets(id.Claims) {
			return r.Revocation, true
		}
	}
	return Revocation{}, false
}

// LoggedOut returns the logout that voids the identity's token the longest, if there is one.
func (x *Revocations) LoggedOut(id *Identity, now time.Time) (Revocation, bool) {
	var latest Revocation
	found := false
	for _, p := range id.places() {
		if !x.has(Logout, p.scope) {
			continue
		}
		for _, r := range x.at(p) {
			if r.Kind != Logout || !r.InForce(now) {
				continue
			}
			if r.Whole() {
				return r.Revocation, true
			}
			if !found || r.At.After(latest.At) {
				latest, found = r.Revocation, true
			}
		}
	}
	return latest, found
}

// OfAccount returns the suspension of the account that is in force at now, or its latest logout;
// false when there is neither.
func (x *Revocations) OfAccount(account string, now time.Time) (suspension, logout Revocation, found bool) {
	if !x.has(Suspension, OfAccount) && !x.has(Logout, OfAccount) {
		return suspension, logout, false
	}
	for _, r := range x.at(place{scope: OfAccount, owner: account}) {
		switch {
		case !r.InForce(now):
		case r.Kind == Suspension:
			suspension, found = r.Revocation, true
		case r.Kind == Logout && r.At.After(logout.At):
			logout, found = r.Revocation, true
		}
	}
	return suspension, logout, found
}

// OfKey returns the revocation in force at now of a user's key or a signing key of the account, if
// there is one.
func (x *Revocations) OfKey(kind RevocationKind, account, key string, now time.Time) (Revocation, bool) {
	if !x.has(kind, OfKey) {
		return Revocation{}, false
	}
	for _, r := range x.at(place{OfKey, account, key}) {
		if r.Kind == kind && r.InForce(now) {
			return r.Revocation, true
		}
	}
	return Revocation{}, false
}
