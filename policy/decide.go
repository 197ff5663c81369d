package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// MinLife is the shortest life of a credential that is worth minting; a login that
// would get less is refused.
const MinLife = 5 * time.Second

// Snapshot is everything that a decision reads besides the login itself. It is immutable;
// the store's mirror makes a new one for every change.
type Snapshot struct {
	Rules       *Rules
	Revocations *Revocations
	// Accounts are those of sign-up; their names give way to those of the configuration.
	Accounts *Directory
	// FreshUntil is when the snapshot must no longer be used unless the store has confirmed it
	// again; the zero time means that nothing confirms it (offline explain).
	FreshUntil time.Time
}

// Connection is what a decision needs to know of the client's connection.
type Connection struct {
	Source  netip.Addr     // the client's address; the zero Addr when unknown
	Type    ConnectionType // how it reached the server
	Account string         // the account that the client named; empty when none
	Proof   Proof          // that it holds a key, for tokens that are bound to one
	// ProofGiven takes the proof as given. It is for questions without a connection: explain and whoami.
	ProofGiven bool
	// SignUp is set where a user JWT for an own key is asked for. There is no connection then: Type and
	// Proof say nothing.
	SignUp *SignUp
}

// Permissions are the rendered permissions of a decision. An empty Allow allows nothing.
type Permissions struct {
	Publish   SubjectSet `json:"publish"`
	Subscribe SubjectSet `json:"subscribe"`
	Respond   Respond    `json:"respond,omitzero"`
}

// SubjectSet is a list of allowed subjects less the denied ones, each sorted and unique.
type SubjectSet struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny,omitempty"`
}

// Decision is what a login gets, or why it gets nothing.
type Decision struct {
	// Refusal is nil when the login is allowed; all else below is then set.
	Refusal *Refusal
	// Create is set beside a refusal that ends once the account is made that the login leads to; all else below says
	// what the identity gets there.
	Create *Creation

	Account     *Account
	Roles       []string // names, sorted
	Bindings    []string // names of the bindings that gave the grant, sorted
	Permissions Permissions
	// Expires is the latest end of the credential: the shortest ttl from now on, never past the end of a grant, and of
	// one for a single connection never past the token's own end plus the leeway. The minter takes its jitter off that one.
	Expires time.Time
	// TTL is the shortest ttl of the bindings.
	TTL time.Duration
	// RestrictType says that a binding was limited to connection types, so that the
	// credential must be too.
	RestrictType bool
	// Direct are the terms on which the identity may hold user JWTs for own keys in the account, the
	// strictest of the bindings'; nil when it may hold none.
	Direct *Direct
	// Key is set in a decision on [SignUp]: the user public key that a user JWT is for. It is good for Types and
	// Source alone, which servers see to; no Source stands for everywhere.
	Key    string
	Types  []ConnectionType
	Source []netip.Prefix
	// ScopedKey is the public key of the scoped signing key whose template holds the permissions;
	// when it is not empty, Permissions are and the credential must be signed with that key.
	ScopedKey string
	Tags      []string // of the user, for the template; sorted
}

// Allowed reports whether the login is admitted.
func (d *Decision) Allowed() bool { return d.Refusal == nil }

// Reason returns the reason code of the decision.
func (d *Decision) Reason() Reason {
	if d.Refusal == nil {
		return Allowed
	}
	return d.Refusal.Reason
}

// Verdict says what became of one binding while deciding; [Trace] collects them.
type Verdict struct {
	Binding string `json:"binding"`
	Applies bool   `json:"applies"`
	// Why names the condition that failed, or the grant that the binding gives.
	Why string `json:"why"`
}

// Trace collects how a decision came about, for explain. A nil *Trace collects nothing.
type Trace struct {
	Verdicts []Verdict
}

func (t *Trace) add(b *Binding, applies bool, why string) {
	if t != nil {
		t.Verdicts = append(t.Verdicts, Verdict{Binding: b.Name, Applies: applies, Why: why})
	}
}

// amend puts another verdict in the place of the newest one of the binding.
func (t *Trace) amend(b *Binding, applies bool, why string) {
	if t == nil {
		return
	}
	for i := len(t.Verdicts) - 1; i >= 0; i-- {
		if t.Verdicts[i].Binding == b.Name {
			t.Verdicts[i].Applies, t.Verdicts[i].Why = applies, why
			return
		}
	}
}

// Decide returns what the identity gets on this connection at now. The order of the
// bindings does not matter, and another revocation never admits anybody. The trace may be nil.
func Decide(s *Snapshot, id *Identity, conn Connection, now time.Time, trace *Trace) Decision {
	if r := Standing(s, id, now); r != nil {
		return refused(r)
	}
	key := id.BoundKey()
	if r := conn.proven(key, now); r != nil {
		return refused(r)
	}
	grants, create, r := s.offers(id, key != nil, conn, now, trace)
	if r != nil {
		return refused(r)
	}
	account, r := chooseAccount(s.Rules, grants, conn.Account)
	if r != nil {
		return refused(r)
	}
	if r := revokedIn(s, account, id, now); r != nil {
		return refused(r)
	}
	if create == nil && len(s.Rules.Creates[id.Issuer]) > 0 {
		if e := s.Accounts.ID(account.ID); e != nil && e.unready() != nil {
			return refused(e.unready())
		}
	}
	grants = slices.DeleteFunc(grants, func(b *Binding) bool { return b.Grant.Account != account })
	d, r := unite(account, grants, id)
	if r != nil {
		return refused(r)
	}
	if conn.SignUp != nil {
		r = d.permit(conn.SignUp, s, grants, now)
	} else {
		d.tell(grants)
		r = d.end(grants, id, s.Rules.Leeway, now)
	}
	if r != nil {
		return refused(r)
	}
	if create != nil && account == create.account {
		d.pending(create, conn)
		return d
	}
	if d.Account, r = usable(s, account, d.ScopedKey, now); r != nil {
		return refused(r)
	}
	return d
}

// together returns what two lists of bindings give together, or the refusal of the one that came closer: refused are those
// that give nothing, other may be nil where there is no such list.
func together(grants []*Binding, refusal *Refusal, more []*Binding, other *Refusal) ([]*Binding, *Refusal) {
	if len(grants)+len(more) > 0 {
		return append(slices.Clip(grants), more...), nil
	}
	if refusal == nil || other != nil && closeness(other) > closeness(refusal) {
		return nil, other
	}
	return nil, refusal
}

// closeness orders refusals: the higher, the closer a binding came to give something.
func closeness(r *Refusal) int {
	if i := slices.Index(misses, r.Reason); i >= 0 {
		return i
	}
	return len(misses)
}

// offers returns all that the identity may have on this connection, one account or several, and the account that has to be made
// for that, nil when all are there; or why it gets nothing. bound says that its token is bound to a key.
func (s *Snapshot) offers(id *Identity, bound bool, conn Connection, now time.Time, trace *Trace) ([]*Binding, *Creation, *Refusal) {
	grants, r := applicable(s.Rules, s.Rules.Bindings[id.Issuer], id, bound, conn, trace)
	leads, none := s.leads(id, bound, conn, trace)
	if len(leads) > 0 {
		led, create, none := s.follow(leads, id, now, trace)
		if conn.Account != "" {
			return led, create, none // the configuration has no account of that name
		}
		grants, r = together(grants, r, led, none)
		return grants, create, r
	}
	if e := s.selfService(conn.Account); e != nil {
		grants, r = e.grants(s.Rules.Plans, id, now, trace)
		return grants, nil, r
	}
	grants, r = together(grants, r, nil, none)
	if conn.mayWait(r) {
		if lobby, none := applicable(s.Rules, s.Rules.Lobby[id.Issuer], id, bound, conn, trace); none == nil {
			grants, r = lobby, nil
		}
	}
	return grants, nil, r
}

// selfService returns the account of sign-up that the client named, nil when it named none.
func (s *Snapshot) selfService(named string) *Entry {
	if named == "" || named == LobbyName || s.Rules.Accounts[named] != nil {
		return nil
	}
	return s.Accounts.Named(named)
}

// proven returns nil when the client has given every proof that is asked of it: that it holds the key that
// its token is bound to, nil when that is bound to none, and the one that it signs up.
func (c *Connection) proven(bound *BoundKey, now time.Time) *Refusal {
	switch {
	case c.SignUp != nil:
		return c.SignUp.proven(bound, now)
	case bound != nil:
		return bound.proven(*c)
	default:
		return nil
	}
}

// mayWait reports whether the connection may be placed in the lobby when r, nil or not, is what comes of all
// other bindings: it gets no account by them and names none, or it names the lobby. Nobody signs up there.
func (c *Connection) mayWait(r *Refusal) bool {
	return c.SignUp == nil && (c.Account == LobbyName || c.Account == "" && r != nil)
}

// Standing says why the identity gets nothing at all, whatever it asks for: the snapshot cannot be
// used, or a stored revocation denies it everywhere. Nil when nothing does.
func Standing(s *Snapshot, id *Identity, now time.Time) *Refusal {
	// By the wall clock as well: the monotonic one stands still while a virtual machine is suspended.
	if until := s.FreshUntil; !until.IsZero() && (now.After(until) || now.Round(0).After(until.Round(0))) {
		return Refuse(SnapshotStale, "the store has not confirmed the state since too long")
	}
	// A reload may give an issuer's name to another URL while a token is being verified, or have it take
	// tokens of another audience together with bindings that tell them apart.
	url, ok := s.Rules.Issuers[id.Issuer]
	if ok && url != id.IssuerURL || id.Rules != "" && id.Rules != s.Rules.Version {
		return Refuse(SnapshotStale, "the issuer was configured anew while the token was verified")
	}
	return revoked(s, id, now)
}

func refused(r *Refusal) Decision { return Decision{Refusal: r} }

// revoked says why the identity is denied in every account by a stored revocation, nil when it is not.
func revoked(s *Snapshot, id *Identity, now time.Time) *Refusal {
	if b, ok := s.Revocations.Blocked(id, now); ok {
		return blocked(b, now)
	}
	if l, ok := s.Revocations.LoggedOut(id, now); ok {
		return loggedOut(l, id, s.Rules.Leeway, now)
	}
	return nil
}

// revokedIn says why the identity is denied in the account by a stored revocation, nil when it is not.
func revokedIn(s *Snapshot, account *Account, id *Identity, now time.Time) *Refusal {
	suspension, logout, found := s.Revocations.OfAccount(account.ID, now)
	if found && suspension.ID != "" {
		r := Refuse(AccountSuspended, "account %s is suspended by %s", account.Name, suspension.ID)
		r.RetryAfter = until(suspension, now)
		return r
	}
	if b, ok := s.Revocations.matched(id, account.ID, now); ok {
		return blocked(b, now)
	}
	if found {
		return loggedOut(logout, id, s.Rules.Leeway, now)
	}
	return nil
}

func blocked(b Revocation, now time.Time) *Refusal {
	r := Refuse(Blocked, "blocked by %s", b.ID)
	r.RetryAfter = until(b, now)
	return r
}

// until returns how long the revocation is still in force; 0 when that is not known.
func until(r Revocation, now time.Time) time.Duration {
	if r.Until.IsZero() {
		return 0
	}
	return r.Until.Sub(now)
}

// loggedOut says that the logout voids the identity's token, nil when it was issued later.
func loggedOut(l Revocation, id *Identity, leeway time.Duration, now time.Time) *Refusal {
	if l.Whole() {
		return Refuse(LoggedOut, "the token or its login session was ended by the logout %s", l.ID)
	}
	// The issuer's clock may run ahead of ours by the leeway: a token from before the logout may
	// say that it was issued that much later.
	void := l.At.Add(leeway)
	if id.IssuedAt.After(void) {
		return nil
	}
	r := Refuse(LoggedOut, "the token was issued before the logout %s", l.ID)
	// iat has whole seconds, so the first token that is surely later carries the next one.
	r.RetryAfter = max(0, void.Truncate(time.Second).Add(time.Second).Sub(now))
	return r
}

// usable returns the account without the signing keys that are revoked: what they sign would be void
// as soon as the servers know.
func usable(s *Snapshot, account *Account, scoped string, now time.Time) (*Account, *Refusal) {
	void := func(key string) bool {
		_, ok := s.Revocations.OfKey(SigningKey, account.ID, key, now)
		return ok
	}
	if scoped != "" && void(scoped) {
		return nil, Refuse(AccountUnready, "the scoped signing key %s of account %s is revoked: replace it in the claims and in the configuration", scoped, account.Name)
	}
	if scoped != "" || !slices.ContainsFunc(account.SigningKeys, void) {
		return account, nil
	}
	left := *account
	left.SigningKeys = slices.DeleteFunc(slices.Clone(account.SigningKeys), void)
	if len(left.SigningKeys) == 0 {
		return nil, Refuse(AccountUnready, "every signing key of account %s is revoked: add one to the claims and to the configuration", account.Name)
	}
	return &left, nil
}

// applicable returns those of a list of the rules that give the identity something on this connection, or the
// refusal of the one that came closest. bound says that the token is bound to a key, which the client
// has proved to hold. A trace hears of every binding, which therefore are all looked at.
func applicable(rules *Rules, list []*Binding, id *Identity, bound bool, conn Connection, trace *Trace) ([]*Binding, *Refusal) {
	var grants []*Binding
	closest := miss{reason: NoBinding, detail: "no binding matches the claims"}
	bindings, x := list, rules.index(list)
	if x != nil && trace == nil {
		var few [manyBindings]*Binding
		bindings = x.candidates(few[:0], id.Claims, false)
	}
	l := newLookup(id.Claims, len(bindings))
	for _, b := range bindings {
		m := b.miss(l, bound, conn, trace != nil)
		if m.reason == "" {
			trace.add(b, true, b.gives())
			grants = append(grants, b)
			continue
		}
		trace.add(b, false, m.why)
		if slices.Index(misses, m.reason) > slices.Index(misses, closest.reason) {
			closest = m
		}
	}
	if len(grants) > 0 {
		return grants, nil
	}
	if closest.reason == NoBinding || closest.reason == ExpressionFailed {
		if b := overage(list, x, id.Claims); b != nil {
			return nil, Refuse(GroupsOverage, "binding %s asks for a claim that the issuer left out of the token because it is too long (_claim_names or hasgroups stand in its place): "+
				"at Entra ID use app roles, or emit only the groups assigned to the application", b.Name)
		}
	}
	return nil, Refuse(closest.reason, "%s", closest.detail)
}

// misses are the reasons for which a binding does not apply: the later, the closer it came.
var misses = []Reason{NoBinding, ExpressionFailed, ConnectionTypeRefused, KeyRequired, SourceRefused}

// miss is why a binding does not apply.
type miss struct {
	reason Reason // empty when it does
	detail string // for a refusal
	why    string // for the trace: it may show claims
}

// miss returns why the binding does not apply; what it says for the trace is complete only when
// explain is set.
func (b *Binding) miss(l *lookup, bound bool, conn Connection, explain bool) miss {
	if c := b.mismatch(l); c != nil {
		m := miss{reason: NoBinding}
		if explain {
			m.why = c.why(l.claims)
		}
		return m
	}
	if b.When != nil {
		switch holds, err := b.When.Holds(l.claims); {
		case err != nil:
			return miss{ExpressionFailed, fmt.Sprintf("when of binding %s has no answer: %s", b.Name, err), "when has no answer: " + err.Error()}
		case !holds:
			return miss{reason: NoBinding, why: "when is false: " + b.When.String()}
		}
	}
	switch {
	case !b.Admits(conn.Source):
		return miss{SourceRefused, "a binding matches, but not for the client's address", "the claims match, but the client's address is not in source"}
	case conn.SignUp == nil && !b.Accepts(conn.Type):
		return miss{ConnectionTypeRefused, "a binding matches, but not for this type of connection", "the claims match, but " + string(conn.Type) + " is not in connection_types"}
	case b.RequireKey && !bound:
		return miss{KeyRequired, "a binding matches, but only for tokens that are bound to a key", "the claims match, but require_key is set and the token is not bound to a key"}
	}
	return miss{}
}

// mismatch returns the first condition that the identity does not meet; nil when all are met.
func (b *Binding) mismatch(l *lookup) *Condition {
	for i := range b.Match {
		if !l.meets(&b.Match[i]) {
			return &b.Match[i]
		}
	}
	return nil
}

// chooseAccount returns the account that the login leads to.
func chooseAccount(rules *Rules, grants []*Binding, named string) (*Account, *Refusal) {
	if named != "" {
		for _, b := range grants {
			if b.Grant.Account.Name == named {
				return b.Grant.Account, nil
			}
		}
		return nil, Refuse(AccountNotGranted, "the client named account %q, which none of its bindings grants", clip(named))
	}
	account := grants[0].Grant.Account
	for _, b := range grants[1:] {
		if b.Grant.Account != account {
			return nil, Refuse(AccountAmbiguous, "the bindings grant several accounts (%s) and the client named none: connect with user account:NAME",
				strings.Join(accountNames(grants), ", "))
		}
	}
	return account, nil
}

func accountNames(grants []*Binding) []string {
	var names []string
	for _, b := range grants {
		names = append(names, b.Grant.Account.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// clip bounds text that a client chose before it is shown.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// unite joins the grants to one account: permissions together, deny wins, the most replies and
// the longest time for them, the shortest ttl.
func unite(account *Account, grants []*Binding, id *Identity) (Decision, *Refusal) {
	d := Decision{Account: account}
	scoped, r := chooseScope(account, grants)
	if r != nil {
		return d, r
	}
	for _, b := range grants {
		d.Bindings = append(d.Bindings, b.Name)
		d.Roles = append(d.Roles, b.Grant.Role.Name)
		if d.TTL == 0 || b.TTL < d.TTL {
			d.TTL = b.TTL
		}
		d.RestrictType = d.RestrictType || len(b.ConnectionTypes) > 0
		if r := d.Permissions.add(b.Grant.Role, id, account); r != nil {
			return d, r
		}
	}
	if scoped != nil {
		d.ScopedKey = scoped.Key
		if d.Tags, r = scoped.tags(id, account); r != nil {
			return d, r
		}
	}
	d.Permissions.Subscribe = d.Permissions.Subscribe.withClosedEnds()
	d.Permissions.Subscribe.Allow = withAnyQueue(d.Permissions.Subscribe.Allow)
	for _, set := range []*[]string{
		&d.Bindings, &d.Roles, &d.Tags,
		&d.Permissions.Publish.Allow, &d.Permissions.Publish.Deny,
		&d.Permissions.Subscribe.Allow, &d.Permissions.Subscribe.Deny,
	} {
		slices.Sort(*set)
		*set = slices.Compact(*set)
	}
	return d, nil
}

// end sets the end of a credential for one connection: the ttl, and never past the end of a grant or the token's own end
// plus the leeway.
func (d *Decision) end(grants []*Binding, id *Identity, leeway time.Duration, now time.Time) *Refusal {
	d.Expires = earliest(now.Add(d.TTL), grants)
	if end := id.Expires.Add(leeway); end.Before(d.Expires) {
		d.Expires = end
	}
	if d.Expires.Sub(now) < MinLife {
		return Refuse(ExpiresTooSoon, "the token ends in %s: get a new one before connecting", id.Expires.Sub(now).Round(time.Second))
	}
	return nil
}

// earliest returns the end, or that of the grant that ends first.
func earliest(end time.Time, grants []*Binding) time.Time {
	for _, b := range grants {
		if !b.Until.IsZero() && b.Until.Before(end) {
			end = b.Until
		}
	}
	return end
}

// withAnyQueue keeps plain subscriptions whole beside some that are limited to a queue group:
// where one of those matches, nats-server looks at queue groups alone (server/client.go,
// canSubscribeInternal), so that the plain ones must name every group.
func withAnyQueue(allow []string) []string {
	if !slices.ContainsFunc(allow, hasQueue) {
		return allow
	}
	for _, subject := range slices.Clone(allow) {
		if !hasQueue(subject) {
			allow = append(allow, subject+" >")
		}
	}
	return allow
}

func hasQueue(subject string) bool { return strings.Contains(subject, " ") }

func (p *Permissions) add(role *Role, id *Identity, account *Account) *Refusal {
	p.Respond = p.Respond.unite(role.Respond)
	for _, part := range []struct {
		from []Template
		to   *[]string
	}{
		{role.Publish.Allow, &p.Publish.Allow},
		{role.Publish.Deny, &p.Publish.Deny},
		{role.Subscribe.Allow, &p.Subscribe.Allow},
		{role.Subscribe.Deny, &p.Subscribe.Deny},
	} {
		for _, t := range part.from {
			subject, r := t.render(id, account)
			if r != nil {
				return r
			}
			*part.to = append(*part.to, subject)
		}
	}
	return nil
}
