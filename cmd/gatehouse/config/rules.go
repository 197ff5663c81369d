package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/expr"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
)

// maxName bounds the names of accounts, roles and bindings in bytes.
const maxName = 64

// compile checks what single values cannot show and returns the rules and the keys. They are
// whole only when nothing was reported.
func (r *report) compile(f *File) (*policy.Rules, *mint.Keyring) {
	r.check("nats.url", f.NATS.URL, checkServers)
	r.http(&f.HTTP)
	r.public(f)
	r.modeRules(&f.NATS)
	r.auditStream(&f.Audit.Stream, &f.NATS)
	r.webhooks(f)
	r.resolver(f)
	rules := &policy.Rules{
		Leeway:   time.Duration(f.Leeway),
		Display:  r.issuers(f.Issuers),
		Issuers:  map[string]string{},
		Accounts: map[string]*policy.Account{},
		Bindings: map[string][]*policy.Binding{},
		Admins:   map[string][]*policy.Binding{},
		Lobby:    map[string][]*policy.Binding{},
		SignUps:  map[string][]*policy.Binding{},
		Creates:  map[string][]*policy.Binding{},
	}
	lobby, lobbyKey := r.lobby(f)
	for _, i := range f.Issuers {
		if i != nil {
			rules.Issuers[i.Name] = i.URL
		}
	}
	var keys []*mint.Key
	if lobbyKey != nil {
		keys = append(keys, lobbyKey)
	}
	for _, name := range sorted(f.Accounts) {
		account, own := r.account(name, f)
		rules.Accounts[name] = account
		keys = append(keys, own...)
	}
	r.distinctAccounts(f.Accounts)
	r.distinctKeys(f)
	r.distinctScopes(f)
	roles := map[string]*policy.Role{}
	for _, name := range sorted(f.Roles) {
		roles[name] = r.role(name, f.Roles[name], rules.Accounts)
		if k := f.Roles[name].ScopedKey.Key(); k != nil {
			keys = append(keys, k)
		}
	}
	rules.Plans = r.plans(f, roles)
	var bindings []*policy.Binding // in the order of the file
	var places []int               // where they stand
	names := map[string]int{}
	for i, b := range f.Bindings {
		at := index("bindings", i)
		r.unique(names, join(at, "name"), b.Name, i)
		r.check(join(at, "name"), b.Name, checkName)
		binding := r.binding(at, f, b, rules.Accounts, roles)
		if binding == nil {
			continue
		}
		bindings, places = append(bindings, binding), append(places, i)
		if len(binding.SignUp) > 0 && !binding.OnBehalf {
			rules.SignUps[b.Issuer] = append(rules.SignUps[b.Issuer], binding)
		}
		switch {
		case binding.Create != nil:
			rules.Creates[b.Issuer] = append(rules.Creates[b.Issuer], binding)
			continue
		case binding.Grant.Role != nil:
			rules.Bindings[b.Issuer] = append(rules.Bindings[b.Issuer], binding)
			continue
		case len(binding.Rights) > 0 || binding.OnBehalf:
			rules.Admins[b.Issuer] = append(rules.Admins[b.Issuer], binding)
		case !b.Grant.Lobby:
			continue // who may only sign up is let in nowhere by that
		}
		if lobby != nil {
			rules.Lobby[b.Issuer] = append(rules.Lobby[b.Issuer], intoLobby(binding, lobby))
		}
	}
	r.founding(f)
	r.sameAccounts(bindings, places)
	if f.Audit.Claims == "policy" {
		rules.Recorded = map[string]*policy.ClaimSet{}
		for name := range rules.Issuers {
			rules.Recorded[name] = policy.NewClaimSet(slices.Concat(rules.Bindings[name], rules.Admins[name], rules.Lobby[name], rules.SignUps[name], rules.Creates[name]))
		}
	}
	if len(r.problems) == 0 {
		r.lint(f, rules, bindings, roles)
		rules.Index()
	}
	rules.Version = version(f)
	return rules, mint.NewKeyring(keys...)
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// version returns 12 hex digits of a hash of everything that a decision depends on.
func version(f *File) string {
	relevant, err := json.Marshal(File{
		Leeway: f.Leeway, MaxTokenSize: f.MaxTokenSize,
		NATS: NATS{Lobby: f.NATS.Lobby}, Issuers: f.Issuers, Accounts: f.Accounts, Roles: f.Roles, Bindings: f.Bindings, Plans: f.Plans,
	})
	if err != nil {
		panic("configuration does not marshal: " + err.Error())
	}
	sum := sha256.Sum256(relevant)
	return hex.EncodeToString(sum[:6])
}

func checkName(name string) error {
	if len(name) > maxName || strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return fmt.Errorf("%s is not a name: use up to %d printable characters without blanks around them", quoted(name), maxName)
	}
	return nil
}

// checkServers checks the URLs of nats-servers, joined by commas.
func checkServers(list string) error {
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
			// What was written may hold a password.
			return fmt.Errorf("not the URL of a server: write one such as nats://127.0.0.1:4222, several joined by commas")
		case u.User != nil:
			return fmt.Errorf("%s has credentials: remove them, Gatehouse connects with those of nats.callout and nats.system", quoted("nats://"+u.Host))
		}
	}
	return nil
}

func (r *report) account(name string, f *File) (*policy.Account, []*mint.Key) {
	at, a := join("accounts", name), f.Accounts[name]
	r.check(at, name, checkName)
	if f.NATS.without() {
		return namedAccount(name, f.NATS.Callout.SigningKey)
	}
	account := &policy.Account{Name: name, ID: a.ID}
	r.check(join(at, "id"), a.ID, checkAccountID)
	var keys []*mint.Key
	for i, k := range a.SigningKey {
		switch {
		case k.Key() == nil: // reported when it was loaded
		case slices.Contains(account.SigningKeys, k.Public()):
			r.problem(index(join(at, "signing_key"), i), "is the same key as one before it: name each once")
		default:
			account.SigningKeys = append(account.SigningKeys, k.Public())
			keys = append(keys, k.Key())
		}
	}
	return account, keys
}

func checkAccountID(id string) error {
	switch {
	case nkeys.IsValidPublicAccountKey(id):
		return nil
	case nkeys.IsValidPublicKey(id):
		return fmt.Errorf("%s is the public key of %s: give the account's (A…)", id, article(nkeys.Prefix(id).String()))
	default:
		return fmt.Errorf("%s is not a public key: give the account's (A…), 56 characters", quoted(id))
	}
}

// distinctKeys reports a key or creds file of one account that stands in the place of another's.
func (r *report) distinctKeys(f *File) {
	if own := f.NATS.Callout.Creds.Account(); own != "" && f.NATS.System.Creds.Account() == own {
		r.problem("nats.system.creds", "is of a user of the callout account: give the creds file of a user of the system account")
	}
	callout := f.NATS.Callout.SigningKey.Public()
	for _, name := range sorted(f.Accounts) {
		for i, k := range f.Accounts[name].SigningKey {
			if k.Given() && k.Public() == callout {
				r.problem(index(join(join("accounts", name), "signing_key"), i), "is the callout's signing key: give one of account %s", name)
			}
		}
	}
}

// distinctScopes reports a scoped signing key that stands in the place of another key: what one
// template allows would be granted by another name.
func (r *report) distinctScopes(f *File) {
	owner := map[string]string{}
	for _, name := range sorted(f.Accounts) {
		owner[f.Accounts[name].ID] = "the identity key of account " + name
		for _, k := range f.Accounts[name].SigningKey {
			owner[k.Public()] = "a plain signing key of account " + name
		}
	}
	owner[f.NATS.Callout.SigningKey.Public()] = "the callout's signing key"
	for _, name := range sorted(f.Roles) {
		k := f.Roles[name].ScopedKey
		if !k.Given() {
			continue
		}
		if other, twice := owner[k.Public()]; twice {
			r.problem(join(join("roles", name), "scoped_key"), "is %s: give each its own key, and this role the one with its template", other)
			continue
		}
		owner[k.Public()] = "that of role " + name
	}
}

// distinctAccounts reports names for one account, which would make a grant of both ambiguous.
func (r *report) distinctAccounts(accounts map[string]*Account) {
	names := map[string]string{}
	for _, name := range sorted(accounts) {
		a := accounts[name]
		if a.ID == "" {
			continue
		}
		if other, twice := names[a.ID]; twice {
			r.problem(join(join("accounts", name), "id"), "is that of account %s too: keep one of them", other)
		}
		names[a.ID] = name
	}
}

func (r *report) role(name string, role *Role, accounts map[string]*policy.Account) *policy.Role {
	at := join("roles", name)
	r.check(at, name, checkName)
	out := &policy.Role{
		Name:      name,
		Respond:   r.respond(join(at, "respond"), role.Respond),
		Publish:   r.permission(join(at, "publish"), role.Publish, policy.ParseTemplate),
		Subscribe: r.permission(join(at, "subscribe"), role.Subscribe, policy.ParseSubscription),
		Scoped:    r.scoped(at, role, accounts),
	}
	r.macros(at, role, out)
	if len(out.Publish.Allow) == 0 && len(out.Subscribe.Allow) == 0 && out.Scoped == nil {
		r.warn(at, "allows nothing: add subjects to publish.allow or subscribe.allow")
	}
	r.lintRespond(at, out)
	return out
}

// lintRespond warns of a role that may ask itself: whoever does chooses the reply subject, and
// may then publish to it, whatever the role denies.
func (r *report) lintRespond(at string, role *policy.Role) {
	if role.Respond.Max == 0 {
		return
	}
	for _, publish := range role.Publish.Allow {
		for _, subscribe := range role.Subscribe.Allow {
			if publish.Overlaps(subscribe) {
				r.warn(join(at, "respond"), "the role may publish %s and hears it as %s: with a request to itself it can name any reply subject and publish there. Split it into a role that asks and one that answers",
					quoted(publish.String()), quoted(subscribe.String()))
				return
			}
		}
	}
}

func (r *report) respond(at string, p Respond) policy.Respond {
	if p.Max == 0 {
		if r.given(at) && !r.given(join(at, "max")) && !r.wrong[at] {
			r.problem(join(at, "max"), "is missing, so that no reply is allowed: give the replies to one message, such as 1, or leave respond out")
		}
		return policy.Respond{}
	}
	return policy.Respond{Max: p.Max, TTL: time.Duration(p.TTL)}
}

// scoped returns the scoped signing key of a role, nil when it has none.
func (r *report) scoped(at string, role *Role, accounts map[string]*policy.Account) *policy.ScopedKey {
	if !r.given(join(at, "scoped_key")) {
		for _, key := range []string{"account", "tags"} {
			if r.given(join(at, key)) {
				r.problem(join(at, key), "goes with a scoped_key only: take it out, a binding's grant names the account")
			}
		}
		return nil
	}
	for _, key := range []string{"publish", "subscribe", "respond", "inbox", "jetstream", "streams", "consumers", "kv", "objects"} {
		if r.given(join(at, key)) {
			r.problem(join(at, key), "cannot stand beside scoped_key: the permissions are those of the key's template in the account's claims")
		}
	}
	if role.Account == "" && !r.given(join(at, "account")) {
		r.problem(at, "has a scoped_key and no account: name the account that the key belongs to")
	}
	r.refer(join(at, "account"), "account", role.Account, sorted(accounts))
	return &policy.ScopedKey{Key: role.ScopedKey.Public(), Account: accounts[role.Account], Tags: r.tags(join(at, "tags"), role.Tags)}
}

// tags returns the tags of a scoped role: NAME:VALUE, whose fixed text nats-server would not fold.
func (r *report) tags(at string, list []string) []policy.Template {
	for i, tag := range list {
		fixed := placeholders.ReplaceAllString(tag, "")
		name, value, found := strings.Cut(tag, ":")
		switch {
		case tag == "": // reported when it was decoded
		case !found || name == "" || value == "" || strings.Contains(name, "{{"):
			r.problem(index(at, i), "%s is not a tag: write NAME:VALUE, such as team:{{claim.team}}", quoted(tag))
		case strings.ToLower(fixed) != fixed:
			r.problem(index(at, i), "%s has a capital letter, which nats-server folds: write it small", quoted(tag))
		case strings.ContainsAny(fixed, ".*>"):
			r.problem(index(at, i), "%s would bring a dot or wildcard into a subject: leave it out", quoted(tag))
		}
	}
	return r.subjects(at, list, policy.ParseTemplate)
}

// placeholders matches those of a subject.
var placeholders = regexp.MustCompile(`\{\{[^}]*\}\}`)

func (r *report) permission(at string, p Permission, parse func(string) (policy.Template, error)) policy.PermissionRules {
	return policy.PermissionRules{
		Allow: r.subjects(join(at, "allow"), p.Allow, parse),
		Deny:  r.subjects(join(at, "deny"), p.Deny, parse),
	}
}

func (r *report) subjects(at string, list []string, parse func(string) (policy.Template, error)) []policy.Template {
	var templates []policy.Template
	for i, s := range list {
		if s == "" {
			continue // reported when it was decoded
		}
		t, err := parse(s)
		if err != nil {
			r.problem(index(at, i), "%s", err)
			continue
		}
		templates = append(templates, t)
	}
	return templates
}

// binding returns the compiled binding; nil when what it refers to is not there.
func (r *report) binding(at string, f *File, b *Binding, accounts map[string]*policy.Account, roles map[string]*policy.Role) *policy.Binding {
	r.refer(join(at, "issuer"), "issuer", b.Issuer, issuerNames(f.Issuers))
	grant := join(at, "grant")
	binding := &policy.Binding{
		Name: b.Name, Issuer: b.Issuer, TTL: time.Duration(b.TTL),
		Match: r.conditions(join(at, "match"), b.Match), RequireKey: b.RequireKey,
		When: r.expression(join(at, "when"), b.When),
	}
	for _, n := range b.Source {
		binding.Source = append(binding.Source, n.Prefix)
	}
	for _, t := range b.ConnectionTypes {
		binding.ConnectionTypes = append(binding.ConnectionTypes, policy.ConnectionType(t))
	}
	if b.RequireKey && len(b.ConnectionTypes) > 0 && !slices.ContainsFunc(b.ConnectionTypes, func(t string) bool { return t != string(policy.MQTT) }) {
		r.problem(join(at, "require_key"), "nobody can meet it: MQTT clients, for which alone this binding is, cannot sign with a key: name other connection_types, or leave it out")
	}
	r.signUp(at, f, b, binding)
	switch {
	case r.given(join(grant, "create")):
		return r.create(at, f, b, binding, roles)
	case r.given(join(grant, "admin")) || b.Grant.OnBehalfOf:
		return r.admin(at, f, b, binding)
	case b.Grant.Lobby:
		return r.newcomers(at, f, binding)
	case len(b.Grant.SignUp) > 0 && !r.given(join(grant, "account")) && !r.given(join(grant, "role")):
		return binding
	}
	r.giveIfMissing(join(grant, "account"), "the name of an account")
	r.giveIfMissing(join(grant, "role"), "the name of a role")
	r.refer(join(grant, "account"), "account", b.Grant.Account, sorted(accounts))
	r.refer(join(grant, "role"), "role", b.Grant.Role, sorted(roles))
	binding.Grant = policy.Grant{Account: accounts[b.Grant.Account], Role: roles[b.Grant.Role]}
	if binding.Grant.Account == nil || binding.Grant.Role == nil {
		return nil
	}
	switch s := binding.Grant.Role.Scoped; {
	case s != nil && s.Account != nil && s.Account != binding.Grant.Account:
		r.problem(join(grant, "role"), "%s has a scoped signing key of account %s: grant it there, or another role here", b.Grant.Role, s.Account.Name)
	case s == nil && !f.NATS.without() && !r.given(join(join("accounts", b.Grant.Account), "signing_key")):
		r.problem(join(grant, "account"), "%s has no signing_key, which users of role %s are signed with: give it one under accounts", b.Grant.Account, b.Grant.Role)
	}
	binding.Direct = r.direct(at, b, binding)
	if what, closed := f.NATS.closed()[binding.Grant.Account.ID]; closed {
		r.problem(join(grant, "account"), "%s is %s: grant an application's account", b.Grant.Account, what)
	}
	return binding
}

// refer reports a name that is not among those that are defined.
func (r *report) refer(path, kind, name string, defined []string) {
	if name == "" || slices.Contains(defined, name) || r.wrong[kind+"s"] {
		return
	}
	if len(defined) == 0 {
		r.problem(path, "there is no %s %s, nor any other: define it under %ss", kind, quoted(name), kind)
		return
	}
	r.problem(path, "there is no %s %s: %s", kind, quoted(name), didYouMean(name, defined))
}

func issuerNames(list []*Issuer) []string {
	var names []string
	for _, i := range list {
		if i.Name != "" {
			names = append(names, i.Name)
		}
	}
	return names
}

func (r *report) conditions(at string, match map[string][]MatchValue) []policy.Condition {
	var all []policy.Condition
	for _, claim := range sorted(match) {
		path, err := policy.ParseClaimPath(claim)
		if err != nil {
			r.problem(join(at, claim), "%s: write the name of a claim, with dots for inner objects", err)
			continue
		}
		if match[claim] == nil {
			r.problem(join(at, claim), "has no value, which nothing would match: give the values that the claim may have")
		}
		c := policy.Condition{Claim: path}
		for _, v := range match[claim] {
			c.Values = append(c.Values, v.Value)
		}
		all = append(all, c)
	}
	return all
}

// expression returns the compiled expression; nil when there is none, or none that compiles.
func (r *report) expression(path, source string) policy.Expression {
	if source == "" {
		return nil
	}
	e, err := expr.Compile(source)
	if err == nil {
		return e
	}
	wrong, ok := errors.AsType[*expr.Error](err)
	switch {
	case !ok || wrong.Line == 0:
		r.problem(path, "%s", err)
	case r.where[path].text > 0 && wrong.Line == 1:
		r.problem(path, "%s", wrong.Message)
		r.problems[len(r.problems)-1].Column = r.where[path].text + wrong.Column - 1
	default:
		r.problem(path, "in line %d, column %d of the expression: %s", wrong.Line, wrong.Column, wrong.Message)
	}
	return nil
}
