package policy

import "strings"

// Overlaps reports whether some subject may match both templates, whatever their placeholders
// stand for.
func (t Template) Overlaps(other Template) bool {
	a, b := t.tokens(), other.tokens()
	for i := 0; i < len(a) && i < len(b); i++ {
		switch {
		case a[i] == ">" || b[i] == ">":
			return true
		case a[i] != "*" && b[i] != "*" && a[i] != b[i]:
			return false
		}
	}
	return len(a) == len(b)
}

// tokens returns the tokens of the subject, with * for those that a placeholder is part of.
func (t Template) tokens() []string {
	tokens := strings.Split(t.join(func(segment) string { return "\x00" }), ".")
	for i, token := range tokens {
		if strings.Contains(token, "\x00") {
			tokens[i] = "*"
		}
	}
	return tokens
}
