package policy

import "strings"

// Overlaps reports whether some subject may match both templates, whatever their placeholders
// stand for.
func (t Template) Overlaps(other Template) bool {
	return !t.inboxApartFrom(other) && !other.inboxApartFrom(t) && overlap(t.tokens(), other.tokens())
}

// inboxApartFrom reports whether t is below a private inbox and other surely elsewhere: an inbox
// begins with _, and no placeholder for something else that stands first may.
func (t Template) inboxApartFrom(other Template) bool {
	if t.segments[0].kind != placeInbox {
		return false
	}
	first := other.segments[0]
	return first.kind != placeInbox && (first.kind != literal || !strings.ContainsAny(first.text[:1], "_*>"))
}

// overlap reports whether some subject may match both patterns.
func overlap(a, b []string) bool {
	for i := range min(len(a), len(b)) {
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
