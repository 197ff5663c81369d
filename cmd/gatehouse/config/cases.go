package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/cases"
)

// CaseFile is what a file of cases for gatehouse policy test says. Its tags are those of [File].
type CaseFile struct {
	// Logins, and what each should get.
	Cases []*Case `yaml:"cases" required:"the cases, each with name, claims and expect"`
}

// Case is a login and what it should get.
type Case struct {
	// What the case shows; each has its own.
	Name string `yaml:"name" required:"what the case shows"`
	// Name or URL of the issuer; without it the claim iss, or the only one that is configured.
	Issuer string `yaml:"issuer"`
	// The token's claims, sub among them.
	Claims Claims `yaml:"claims"`
	// JSON file with the claims, in place of them.
	ClaimsFile Path `yaml:"claims_file"`
	// The connection.
	From From `yaml:"from"`
	// What the login should get: allow or refuse.
	Expect Expect `yaml:"expect"`
}

// From is how a client connects.
type From struct {
	// Its address; without it one that is not known.
	Source Source `yaml:"source"`
	// How it connects.
	ConnectionType string `yaml:"connection_type" default:"standard" enum:"standard websocket mqtt leafnode"`
	// The account that it names.
	Account string `yaml:"account"`
}

// Expect is what a login should get.
type Expect struct {
	// That it is allowed, and with what. What is left out may be anything.
	Allow *Allowed `yaml:"allow"`
	// The reason code with which it is refused.
	Refuse string `yaml:"refuse"`
}

// Allowed is what a login should get that is allowed.
type Allowed struct {
	// Name of the account.
	Account string `yaml:"account"`
	// Names of all the roles.
	Roles []string `yaml:"roles"`
	// Names of all the bindings that give something.
	Bindings []string `yaml:"bindings"`
	// Longest life of the credential.
	TTL Duration `yaml:"ttl"`
	// Where it may publish, and where not.
	Publish Probe `yaml:"publish"`
	// What it may subscribe to, and what not; a queue group stands after a blank.
	Subscribe Probe `yaml:"subscribe"`
}

// Probe lists subjects to try.
type Probe struct {
	// Subjects that must be possible.
	Can []string `yaml:"can"`
	// Subjects that must not.
	Cannot []string `yaml:"cannot"`
}

// Source is the address of a client.
type Source struct{ netip.Addr }

func (s *Source) parse(text string, _ form) error {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return fmt.Errorf("%s is not an address: write one such as 10.1.2.3", quoted(text))
	}
	s.Addr = a
	return nil
}

// Claims are the claims of a token, as JSON has them.
type Claims map[string]any

func (c *Claims) decode(r *report, path string, n ast.Node) {
	m, ok := n.(ast.MapNode)
	if !ok {
		r.problem(path, "holds %s: write the claims, such as sub: alice", describe(n))
		return
	}
	*c = r.object(path, m)
}

// object returns the mapping as JSON has it.
func (r *report) object(path string, m ast.MapNode) map[string]any {
	object := map[string]any{}
	for _, e := range r.entries(path, m) {
		object[e.key] = r.value(e.path, e.value)
	}
	return object
}

func (r *report) value(path string, n ast.Node) any {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return nil
	case ast.MapNode:
		return r.object(path, n)
	case *ast.SequenceNode:
		list := []any{}
		for i, element := range n.Values {
			at := index(path, i)
			r.where[at] = r.placeOf(element, r.where[path])
			list = append(list, r.value(at, element))
		}
		return list
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		text := n.GetToken().Value
		if !json.Valid([]byte(text)) {
			r.problem(path, "%s is not a number to JSON: write it as JSON does, or as text in quotes", quoted(text))
		}
		return json.Number(text)
	case *ast.StringNode:
		return r.publicText(path, n.Value)
	case *ast.LiteralNode:
		return r.publicText(path, n.Value.Value)
	default:
		r.problem(path, "holds %s: write a value as JSON has them", describe(n))
		return nil
	}
}

// publicText returns a text that holds no secret.
func (r *report) publicText(path, text string) string {
	if secret.MatchString(text) {
		r.problem(path, "there is a secret in the file: remove it, and replace it wherever it is in use")
	}
	return text
}

// named is what cases may name.
type named struct {
	issuers                   []*Issuer
	accounts, roles, bindings []string
	creates                   bool // logins make accounts, whose names are in no configuration
}

func namesOf(configurations []*Config) named {
	var n named
	for _, c := range configurations {
		n.issuers = append(n.issuers, c.Issuers...)
		n.accounts = append(n.accounts, sorted(c.Accounts)...)
		n.roles = append(n.roles, sorted(c.Roles)...)
		for _, b := range c.Bindings {
			n.bindings = append(n.bindings, b.Name)
			n.creates = n.creates || b.Grant.Create.Name != ""
		}
	}
	return n
}

// ReadCases reads a file of cases. What they name must be in one of the configurations. The error
// is of type [Errors].
func ReadCases(path string, configurations ...*Config) ([]cases.Case, error) {
	against := namesOf(configurations)
	r, f := newReport(path), &CaseFile{}
	r.such = "cases:"
	data, err := readBounded(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.whole("there is no such file: name one with cases")
		return nil, r.err()
	case err != nil:
		r.whole("cannot be read: %s", err)
		return nil, r.err()
	}
	root := parseYAML(data, r)
	if root != nil {
		r.decodeBlock("", root, reflect.ValueOf(f).Elem())
	}
	if len(r.problems) == 0 || root != nil {
		r.missing(f, "")
	}
	all := make([]cases.Case, 0, len(f.Cases))
	names := map[string]int{}
	for i, c := range f.Cases {
		at := index("cases", i)
		r.unique(names, join(at, "name"), c.Name, i)
		all = append(all, r.compileCase(at, c, filepath.Dir(path), against))
	}
	return all, r.err()
}

// compileCase checks a case and returns what to run, which is whole only when nothing was reported.
func (r *report) compileCase(at string, c *Case, dir string, against named) cases.Case {
	where := r.where[at]
	out := cases.Case{
		Name: c.Name, At: fmt.Sprintf("%s:%d:%d", where.source, where.line, where.column),
		Expect: r.expectation(join(at, "expect"), c.Expect, against),
	}
	out.Conn = policy.Connection{Source: c.From.Source.Addr, Type: policy.ConnectionType(c.From.ConnectionType), Account: c.From.Account, ProofGiven: true}
	claimsAt := join(at, "claims")
	out.Claims = c.Claims
	switch file := join(at, "claims_file"); {
	case c.ClaimsFile != "" && c.Claims != nil:
		r.problem(file, "is given beside claims: keep one of them")
	case c.ClaimsFile != "":
		claimsAt = file
		out.Claims = r.claimsFile(file, (&loader{dir: dir}).path(string(c.ClaimsFile)))
	case !r.given(claimsAt) && !r.given(file):
		r.problem(claimsAt, "is missing: give the claims, sub among them, or claims_file")
	}
	out.Subject, _ = out.Claims["sub"].(string)
	if out.Claims != nil && out.Subject == "" {
		r.problem(claimsAt, "has no sub, or one that is no text: give the subject, as in sub: alice")
	}
	out.IssuerURL = r.caseIssuer(at, c.Issuer, out.Claims, against)
	if iss, given := out.Claims["iss"]; given && out.IssuerURL != "" && iss != out.IssuerURL {
		r.problem(claimsAt, "has another iss than its issuer %s: correct one of them", out.IssuerURL)
	} else if out.Claims != nil {
		out.Claims["iss"] = out.IssuerURL // as in every token
	}
	r.caseAccount(join(join(at, "from"), "account"), c.From.Account, against)
	return out
}

// caseAccount reports the name of an account that there cannot be.
func (r *report) caseAccount(at, name string, against named) {
	if against.creates && account.CheckName(name) == nil {
		return
	}
	r.refer(at, "account", name, against.accounts)
}

// claimsFile returns the claims in a JSON file.
func (r *report) claimsFile(at, path string) map[string]any {
	data, err := readBounded(path)
	if err != nil {
		r.problem(at, "%s cannot be read: make it, or correct the path (relative ones start at the file of cases)", path)
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var claims map[string]any
	if len(data) > maxFile || dec.Decode(&claims) != nil || claims == nil {
		r.problem(at, "%s is not a JSON object of claims of at most %d KiB", path, maxFile>>10)
	}
	return claims
}

// caseIssuer returns the URL of the issuer that a case is of.
func (r *report) caseIssuer(at, issuer string, claims map[string]any, against named) string {
	iss, _ := claims["iss"].(string)
	if issuer == "" {
		issuer = iss
	}
	known := slices.Compact(slices.Sorted(slices.Values(issuerNames(against.issuers))))
	if issuer == "" && len(known) == 1 {
		issuer = known[0]
	}
	for _, i := range against.issuers {
		if issuer != "" && (i.Name == issuer || i.URL == issuer) {
			return i.URL
		}
	}
	if issuer == "" && len(known) > 0 {
		r.problem(join(at, "issuer"), "is missing, and there are several: use %s", orList(known))
		return ""
	}
	r.refer(join(at, "issuer"), "issuer", issuer, known)
	return ""
}

func (r *report) expectation(at string, e Expect, against named) cases.Expect {
	switch {
	case e.Allow != nil && e.Refuse != "":
		r.problem(at, "has both allow and refuse: keep one of them")
	case e.Allow == nil && !r.given(join(at, "allow")) && !r.given(join(at, "refuse")):
		r.problem(at, "is missing: give allow, or refuse with a reason code")
	case e.Allow == nil:
		r.refer(join(at, "refuse"), "reason", e.Refuse, reasonCodes())
		return cases.Expect{Refuse: policy.Reason(e.Refuse)}
	}
	if e.Allow == nil {
		return cases.Expect{}
	}
	a, at := e.Allow, join(at, "allow")
	r.caseAccount(join(at, "account"), a.Account, against)
	r.referEach(join(at, "roles"), "role", a.Roles, against.roles)
	r.referEach(join(at, "bindings"), "binding", a.Bindings, against.bindings)
	return cases.Expect{
		Account: a.Account, Roles: a.Roles, Bindings: a.Bindings, TTL: time.Duration(a.TTL),
		Publish:   r.probe(join(at, "publish"), a.Publish, false),
		Subscribe: r.probe(join(at, "subscribe"), a.Subscribe, true),
	}
}

func (r *report) referEach(at, kind string, names, defined []string) {
	for i, name := range names {
		r.refer(index(at, i), kind, name, defined)
	}
}

// probe checks that the subjects are such as can be published or subscribed to.
func (r *report) probe(at string, p Probe, subscribe bool) cases.Probe {
	for name, list := range map[string][]string{"can": p.Can, "cannot": p.Cannot} {
		for i, s := range list {
			var err error
			switch {
			case s == "": // reported when it was decoded
			case subscribe:
				_, err = policy.ParseSubscription(s)
			case strings.ContainsAny(s, "*>"):
				err = fmt.Errorf("%s has a wildcard, and nobody publishes to one: name a subject", quoted(s))
			default:
				_, err = policy.ParseTemplate(s)
			}
			if err == nil && strings.Contains(s, "{{") {
				err = fmt.Errorf("%s has a placeholder: write out what it would be for these claims", quoted(s))
			}
			if err != nil {
				r.problem(index(join(at, name), i), "%s", err)
			}
		}
	}
	return cases.Probe(p)
}

func reasonCodes() []string {
	var codes []string
	for _, reason := range api.Reasons() {
		codes = append(codes, reason.Code)
	}
	slices.Sort(codes)
	return codes
}
