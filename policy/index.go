package policy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// indexedFrom is from how many bindings on a list gets an index: for fewer it saves less than it may cost, where
// all match.
const indexedFrom = 8

// Index prepares the rules for decisions that look only at bindings that may match, whatever their number. Call it
// once, after the last change of the rules and before they decide. Without it, and for a list that was put in the place
// of another since, decisions are the same and look at every binding of the issuer.
func (r *Rules) Index() { r.indexFrom(indexedFrom) }

// indexFrom makes an index for each list of so many bindings or more.
func (r *Rules) indexFrom(many int) {
	r.indexes = map[**Binding]*bindingIndex{}
	for _, lists := range []map[string][]*Binding{r.Bindings, r.Admins, r.Lobby, r.SignUps, r.Creates} {
		for _, list := range lists {
			if len(list) == 0 || len(list) < many {
				continue
			}
			all := make([]int32, len(list))
			for i := range all {
				all[i] = int32(i)
			}
			r.indexes[&list[0]] = newIndex(list, all, nil)
		}
	}
}

// index returns the index of one of the rules' lists; nil when there is none.
func (r *Rules) index(list []*Binding) *bindingIndex {
	if len(list) == 0 {
		return nil
	}
	if x := r.indexes[&list[0]]; x != nil && len(x.list) == len(list) {
		return x
	}
	return nil
}

// bindingIndex finds the bindings of a list that may match an identity. Each is kept under the texts that one of
// its conditions accepts, the one that it shares with fewest; one without a condition on nothing but whole texts may
// match always. Positions are those in the list, ascending. An index is immutable.
type bindingIndex struct {
	list   []*Binding
	always []int32      // kept under no claim
	claims []claimIndex // one for each path
}

// claimIndex is the part of an index that keeps bindings under the texts of one claim.
type claimIndex struct {
	path ClaimPath
	with map[string][]int32 // by text
	// without is an index of the same bindings by what else they ask for, to be used where the issuer left the claim
	// out. Of those that ask for the same else, it has the first alone.
	without *bindingIndex
}

// candidates returns the bindings that may match the claims, in the order of the list: all that do match, and few
// others. With leftOut there are, besides, those that [overage] may return, which never matches. They are appended to buf, or
// they are the list itself.
func (x *bindingIndex) candidates(buf []*Binding, claims map[string]any, leftOut bool) []*Binding {
	var few [manyBindings]int32
	found := x.find(few[:0], claims, leftOut)
	if len(found) > len(x.list) {
		return x.list
	}
	slices.Sort(found)
	always := x.always
	for _, at := range slices.Compact(found) {
		n, _ := slices.BinarySearch(always, at)
		for _, before := range always[:n] {
			buf = append(buf, x.list[before])
		}
		always, buf = always[n:], append(buf, x.list[at])
	}
	for _, at := range always {
		buf = append(buf, x.list[at])
	}
	return buf
}

// find appends the positions of bindings that are kept under what the claims hold, in no order, some repeatedly. It
// may stop when there are more than the list has: a token that repeats a group must not cost more than a search.
func (x *bindingIndex) find(found []int32, claims map[string]any, leftOut bool) []int32 {
	for i := range x.claims {
		c := &x.claims[i]
		switch v, _ := c.path.Lookup(claims); v := v.(type) {
		case string:
			found = append(found, c.with[v]...)
		case []any:
			for _, e := range v {
				if text, ok := e.(string); ok {
					found = append(found, c.with[text]...)
				}
				if len(found) > len(x.list) {
					return found
				}
			}
		case nil:
			if leftOut && c.path.leftOut(claims) {
				found = c.without.find(append(found, c.without.always...), claims, leftOut)
			}
		}
	}
	return found
}

// newIndex returns an index of the bindings at some positions of the list, by their conditions on other claims
// than those aside.
func newIndex(list []*Binding, positions []int32, aside []string) *bindingIndex {
	x := &bindingIndex{list: list}
	asked := demandOf(list, positions)
	under := map[string]int{} // where in x.claims a path is
	var kept [][]int32        // positions under each of x.claims
	for _, at := range positions {
		c := asked.rarest(list[at], aside)
		if c == nil {
			x.always = append(x.always, at)
			continue
		}
		i, ok := under[c.Claim.raw]
		if !ok {
			i = len(x.claims)
			under[c.Claim.raw] = i
			x.claims = append(x.claims, claimIndex{path: c.Claim, with: map[string][]int32{}})
			kept = append(kept, nil)
		}
		kept[i] = append(kept[i], at)
		with := x.claims[i].with
		for _, v := range c.Values {
			text := v.Text.parts[0]
			if n := len(with[text]); n == 0 || with[text][n-1] != at { // the condition may name a text twice
				with[text] = append(with[text], at)
			}
		}
	}
	for i := range x.claims {
		c := &x.claims[i]
		others := append(slices.Clip(aside), c.path.raw)
		c.without = newIndex(list, unlike(list, kept[i], others), others)
	}
	return x
}

// demand counts what the literal conditions of bindings ask for.
type demand struct {
	of    map[[2]string]int // by path and text
	paths map[string]int
}

func demandOf(list []*Binding, positions []int32) demand {
	t := demand{of: map[[2]string]int{}, paths: map[string]int{}}
	for _, at := range positions {
		for i := range list[at].Match {
			c := &list[at].Match[i]
			if !c.literal() {
				continue
			}
			t.paths[c.Claim.raw]++
			for _, v := range c.Values {
				t.of[[2]string{c.Claim.raw, v.Text.parts[0]}]++
			}
		}
	}
	return t
}

// rarest returns the binding's literal condition, on another claim than those aside, whose texts are asked for
// least; nil when it has none. Among equals it is the one on the claim that most bindings ask for: each claim
// of an index costs every decision.
func (t demand) rarest(b *Binding, aside []string) *Condition {
	var rarest *Condition
	least := 0
	for i := range b.Match {
		c := &b.Match[i]
		if !c.literal() || slices.Contains(aside, c.Claim.raw) {
			continue
		}
		n := 0
		for _, v := range c.Values {
			n += t.of[[2]string{c.Claim.raw, v.Text.parts[0]}]
		}
		if rarest == nil || cmp.Or(n-least, t.paths[rarest.Claim.raw]-t.paths[c.Claim.raw], strings.Compare(c.Claim.raw, rarest.Claim.raw)) < 0 {
			rarest, least = c, n
		}
	}
	return rarest
}

// unlike returns the first position of those whose bindings ask for the same, their conditions on the claims aside not counted.
func unlike(list []*Binding, positions []int32, aside []string) []int32 {
	var firsts []int32
	seen := map[string]bool{}
	for _, at := range positions {
		if asks := list[at].asks(aside); !seen[asks] {
			seen[asks] = true
			firsts = append(firsts, at)
		}
	}
	return firsts
}

// asks returns the same text for bindings only that ask for the same of claims, their conditions on those aside not counted.
func (b *Binding) asks(aside []string) string {
	var conditions []string
	for i := range b.Match {
		c := &b.Match[i]
		if slices.Contains(aside, c.Claim.raw) {
			continue
		}
		text := strconv.Quote(c.Claim.raw)
		for _, v := range c.Values {
			text += " " + v.String()
		}
		conditions = append(conditions, text)
	}
	slices.Sort(conditions)
	if b.When != nil {
		conditions = append(conditions, "when "+b.When.String())
	}
	return strings.Join(conditions, "\n")
}
