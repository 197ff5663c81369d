package policy

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Glob is a pattern in which * stands for any run of characters and \ takes the next
// character literally. Matching takes time linear in pattern × text at worst.
type Glob struct {
	raw   string
	parts []string // the literal texts between the stars
}

// ParseGlob returns the pattern written as s, or an error when it ends in a lone \.
func ParseGlob(s string) (Glob, error) {
	g := Glob{raw: s}
	var lit strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '*':
			g.parts = append(g.parts, lit.String())
			lit.Reset()
		case '\\':
			if i++; i == len(s) {
				return Glob{}, fmt.Errorf("pattern %q ends in a backslash: double it for a literal one", s)
			}
			lit.WriteByte(s[i])
		default:
			lit.WriteByte(s[i])
		}
	}
	g.parts = append(g.parts, lit.String())
	return g, nil
}

// String returns the pattern as it was written.
func (g Glob) String() string { return g.raw }

// Match reports whether the whole of s fits the pattern; case matters.
func (g Glob) Match(s string) bool {
	first, last := g.parts[0], g.parts[len(g.parts)-1]
	if len(g.parts) == 1 {
		return s == first
	}
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range g.parts[1 : len(g.parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}

// Value is one value that a condition accepts: a pattern for text, a truth value, or a
// number. Exactly one field is set; a value of one kind never matches a claim of another.
type Value struct {
	Text   *Glob
	Bool   *bool
	Number *big.Rat
}

// String returns the value as JSON writes it.
func (v Value) String() string {
	switch {
	case v.Text != nil:
		return strconv.Quote(v.Text.String())
	case v.Bool != nil:
		return strconv.FormatBool(*v.Bool)
	case v.Number != nil:
		return v.Number.RatString()
	default:
		return "nothing"
	}
}

// maxNumber bounds the digits and exponent of a number that is compared: a claim such
// as 1e999999999 must not cost memory.
const maxNumber = 40

// ParseNumber returns the exact value of a JSON number of at most 40 characters with a
// decimal exponent of at most two digits; false when s is none.
func ParseNumber(s string) (*big.Rat, bool) {
	if s == "" || len(s) > maxNumber {
		return nil, false
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 && len(strings.TrimLeft(s[i+1:], "+-")) > 2 {
		return nil, false
	}
	for _, c := range s {
		if !strings.ContainsRune("0123456789+-.eE", c) {
			return nil, false
		}
	}
	return new(big.Rat).SetString(s)
}

// Condition is one entry of a binding's match: a claim and the values it may have.
type Condition struct {
	Claim  ClaimPath
	Values []Value
}

// Match reports whether the claim is present and is, or as a list holds, one of the
// values. Objects and null never match; neither does a list inside a list.
func (c Condition) Match(claims map[string]any) bool {
	v, ok := c.Claim.Lookup(claims)
	return ok && c.matchValue(v)
}

func (c Condition) matchValue(v any) bool {
	if list, ok := v.([]any); ok {
		for _, e := range list {
			if c.matchScalar(e) {
				return true
			}
		}
		return false
	}
	return c.matchScalar(v)
}

// why says what keeps the condition from holding, with the claim's value: it is for admins.
func (c Condition) why(claims map[string]any) string {
	v, ok := c.Claim.Lookup(claims)
	if !ok && c.Claim.leftOut(claims) {
		return "claim " + c.Claim.String() + " is not in the token: the issuer left it out, since it is too long (groups overage)"
	}
	if !ok {
		return "claim " + c.Claim.String() + " is not in the token"
	}
	is, err := json.Marshal(v)
	if err != nil {
		is = []byte(kindOf(v))
	}
	var wanted []string
	for _, v := range c.Values {
		wanted = append(wanted, v.String())
	}
	return fmt.Sprintf("claim %s is %s, wanted %s", c.Claim, clip(string(is)), strings.Join(wanted, " or "))
}

func (c Condition) matchScalar(claim any) bool {
	switch claim := claim.(type) {
	case string:
		for _, v := range c.Values {
			if v.Text != nil && v.Text.Match(claim) {
				return true
			}
		}
	case bool:
		for _, v := range c.Values {
			if v.Bool != nil && *v.Bool == claim {
				return true
			}
		}
	case json.Number:
		n, ok := ParseNumber(string(claim))
		if !ok {
			return false
		}
		for _, v := range c.Values {
			if v.Number != nil && v.Number.Cmp(n) == 0 {
				return true
			}
		}
	}
	return false
}
