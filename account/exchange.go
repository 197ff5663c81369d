package account

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/jwt/v2"
)

// MaxLabel bounds the name of an export or an import in bytes, MaxExchanges how many of either an account has.
const (
	MaxLabel     = 64
	MaxExchanges = 500
)

// Problem is what is wrong with an export or an import of an account.
type Problem struct {
	List  string // exports or imports; claims says that it concerns all that servers are given
	Index int    // in that list; -1 says that it concerns the whole list
	Name  string // of the export or import
	Field string // of it; empty: all of it
	Text  string // what is wrong, and what to do
	// Warning says that servers do what they are told, which may not be what was meant.
	Warning bool
}

func (p Problem) String() string {
	where := p.List
	if p.Index >= 0 {
		where = fmt.Sprintf("%s %q", strings.TrimSuffix(p.List, "s"), p.Name)
	}
	return where + ": " + p.Text
}

// same reports whether two problems are one, wherever in its list the export or import stands.
func (p Problem) same(q Problem) bool { p.Index = q.Index; return p == q }

// Fresh returns the problems of after that before does not have: what a change brings.
func Fresh(before, after []Problem) []Problem {
	var fresh []Problem
next:
	for _, p := range after {
		for _, q := range before {
			if p.same(q) {
				continue next
			}
		}
		fresh = append(fresh, p)
	}
	return fresh
}

// CheckExchange returns what is wrong with the exports and imports of an account, under its limits and as accounts are
// at now. others knows the accounts that imports name, those of the configuration too ([FromClaims]). Servers
// tell nobody of an import that they drop, so nothing here may be left to them.
func CheckExchange(a *Account, others func(id string) (*Account, bool), limits Limits, now time.Time) []Problem {
	c := &exchange{account: a, others: others, now: now}
	c.count("exports", len(a.Exports), limits.Exports)
	c.count("imports", len(a.Imports), limits.Imports)
	if c.problems == nil { // what is bounded
		for i := range a.Exports {
			c.export(i)
		}
		for i := range a.Imports {
			c.imported(i)
		}
		c.cycles()
	}
	if !slices.ContainsFunc(c.problems, func(p Problem) bool { return !p.Warning }) {
		c.claims(limits)
	}
	return c.problems
}

// maxClaims bounds what exports and imports make of an account's JWT, in bytes. Servers take 1 MiB, and what revocations put
// there must fit beside: whoever could fill it, or have servers refuse it, could not be suspended any more.
const maxClaims = 512 << 10

func (c *exchange) claims(limits Limits) {
	all := Problem{List: "claims", Index: -1}
	claims := Claims(c.account, limits)
	data, err := json.Marshal(claims)
	if err != nil || base64.RawURLEncoding.EncodedLen(len(data)) > maxClaims {
		c.add(all, "the account's JWT would have over %d bytes: export and import less, or write shorter descriptions", maxClaims)
		return
	}
	vr := jwt.CreateValidationResults()
	claims.Validate(vr)
	for _, err := range vr.Errors() {
		c.add(all, "servers would refuse the account's JWT: %v", err)
	}
}

// exchange is one check.
type exchange struct {
	account  *Account
	others   func(id string) (*Account, bool)
	now      time.Time
	problems []Problem
}

// known returns an account that imports name, the one that is checked as it shall be.
func (c *exchange) known(id string) (*Account, bool) {
	if id == c.account.ID {
		return c.account, true
	}
	return c.others(id)
}

func (c *exchange) count(list string, n int, limit int64) {
	switch {
	case n > MaxExchanges:
		c.problems = append(c.problems, Problem{List: list, Index: -1, Text: fmt.Sprintf("there are %d, more than the %d that an account may have", n, MaxExchanges)})
	case limit != NoLimit && int64(n) > limit:
		c.problems = append(c.problems, Problem{List: list, Index: -1, Text: fmt.Sprintf("there are %d, and the account's limit is %d: remove some, or ask an admin for more", n, limit)})
	}
}

func (c *exchange) add(p Problem, format string, args ...any) {
	p.Text = fmt.Sprintf(format, args...)
	c.problems = append(c.problems, p)
}

func (c *exchange) export(i int) {
	e := &c.account.Exports[i]
	at := func(field string) Problem { return Problem{List: "exports", Index: i, Name: e.Name, Field: field} }
	if err := checkLabel(e.Name); err != "" {
		c.add(at("name"), "%s", err)
	}
	c.kind(at("type"), e.Type)
	switch jwt.ResponseType(e.Response) {
	case "":
	case jwt.ResponseTypeSingleton, jwt.ResponseTypeStream, jwt.ResponseTypeChunked:
		if e.Type == StreamType {
			c.add(at("response"), "a stream has no responses: leave it out")
		}
	default:
		c.add(at("response"), "%q is none: use Singleton, Stream or Chunked", e.Response)
	}
	if err := CheckTexts(e.Description, nil); err != nil {
		c.add(at("description"), "%v", err)
	}
	if err := checkOwnSubject(e.Subject); err != "" {
		c.add(at("subject"), "%s", err)
		return
	}
	for j := range i {
		other := &c.account.Exports[j]
		if other.Name == e.Name {
			c.add(at("name"), "another export has the same name")
		}
		if !collide(split(other.Subject), split(e.Subject)) {
			continue
		}
		if other.Type == e.Type {
			c.add(at("subject"), "%s overlaps %s of export %q: which of the two an import is held to would be chance", e.Subject, other.Subject, other.Name)
		} else {
			warning := at("subject")
			warning.Warning = true
			c.add(warning, "%s overlaps %s of export %q: who imports the stream reads the requests to the service", e.Subject, other.Subject, other.Name)
		}
	}
}

func (c *exchange) kind(at Problem, t ExportType) {
	if t != StreamType && t != ServiceType {
		c.add(at, "%q is none: use %s or %s", t, StreamType, ServiceType)
	}
}

// checkLabel says what is wrong with the name of an export or an import.
func checkLabel(name string) string {
	switch {
	case name == "" || len(name) > MaxLabel:
		return fmt.Sprintf("the name has %d bytes, use 1 to %d", len(name), MaxLabel)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.TrimSpace(name) != name:
		return "the name has characters that cannot be seen, or begins or ends with a space"
	}
	return ""
}
