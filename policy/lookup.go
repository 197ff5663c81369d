package policy

// manyBindings is from how many bindings on a decision remembers the claims that they ask for: for
// fewer it costs more than it saves.
const manyBindings = 16

// lookup answers conditions on the claims of one identity. For many bindings it looks each claim up
// once, and searches lists as sets: 1,000 bindings beside 1,000 groups would be compared for
// 25 ms otherwise.
type lookup struct {
	claims map[string]any
	known  map[string]claim // by path; nil when nothing is to be remembered
}

// claim is what a path leads to.
type claim struct {
	value any
	found bool
	texts map[string]bool // of a list
}

func newLookup(claims map[string]any, bindings int) *lookup {
	l := &lookup{claims: claims}
	if bindings >= manyBindings {
		l.known = map[string]claim{}
	}
	return l
}

// meets reports what [Condition.Match] does.
func (l *lookup) meets(c *Condition) bool {
	if l.known == nil {
		return c.Match(l.claims)
	}
	claim := l.claim(c.Claim)
	if claim.texts == nil || !c.literal() {
		return claim.found && c.matchValue(claim.value)
	}
	for _, v := range c.Values {
		if claim.texts[v.Text.parts[0]] {
			return true
		}
	}
	return false
}

func (l *lookup) claim(path ClaimPath) claim {
	if c, ok := l.known[path.raw]; ok {
		return c
	}
	var c claim
	c.value, c.found = path.Lookup(l.claims)
	if list, ok := c.value.([]any); ok {
		c.texts = make(map[string]bool, len(list))
		for _, e := range list {
			if s, ok := e.(string); ok {
				c.texts[s] = true
			}
		}
	}
	l.known[path.raw] = c
	return c
}

// literal reports whether all values are texts without wildcards.
func (c *Condition) literal() bool {
	for _, v := range c.Values {
		if v.Text == nil || len(v.Text.parts) != 1 {
			return false
		}
	}
	return true
}
