package policy

import (
	"slices"
	"strings"
)

// MayPublish reports whether nats-server lets a user with these permissions publish to the subject.
func (p Permissions) MayPublish(subject string) bool { return p.Publish.admits(subject, "") }

// MaySubscribe reports whether nats-server lets a user with these permissions subscribe to the
// subject, which may have wildcards, in the queue group or, when that is empty, in none.
//
// It says what nats-server does, which is more than one would think in one case: a > at the end of
// a subscription passes where the last token of what is allowed is a *, so that app.* lets
// subscribe to app.> too (server/sublist.go, matchLevel). Messages on denied subjects are not
// delivered even where a subscription that holds them is let through; others are, see MayHear.
func (p Permissions) MaySubscribe(subject, queue string) bool {
	return p.Subscribe.admits(subject, queue)
}

// MayHear reports whether nats-server delivers messages on the subject, which has no wildcards, to a
// user with these permissions, by whatever subscription.
func (p Permissions) MayHear(subject, queue string) bool {
	return p.Subscribe.Heard().admits(subject, queue)
}

func (s SubjectSet) admits(subject, queue string) bool {
	tokens := strings.Split(subject, ".")
	matching := func(list []string) []entry {
		return slices.DeleteFunc(entries(list), func(e entry) bool { return !e.matches(tokens) })
	}
	return admitted(matching(s.Allow), matching(s.Deny), queue)
}

// admitted says what nats-server makes of the entries that match a subject, for a subscriber in
// a queue group or, as for a publisher, in none (server/client.go, canSubscribeInternal): once an
// allowed entry with a queue group matches, a subscriber in a group needs one of its group.
func admitted(allow, deny []entry, queue string) bool {
	allowed := slices.ContainsFunc(allow, entry.plain)
	if queue != "" && slices.ContainsFunc(allow, entry.queued) {
		allowed = slices.ContainsFunc(allow, func(e entry) bool { return e.names(queue) })
	}
	return allowed && !slices.ContainsFunc(deny, func(e entry) bool { return e.plain() || queue != "" && e.names(queue) })
}

// entry is one subject of a set, with the queue group that it is limited to.
type entry struct {
	tokens []string
	queue  string
}

func entries(list []string) []entry {
	all := make([]entry, 0, len(list))
	for _, s := range list {
		subject, queue, _ := strings.Cut(s, " ")
		all = append(all, entry{strings.Split(subject, "."), queue})
	}
	return all
}

func (e entry) plain() bool  { return e.queue == "" }
func (e entry) queued() bool { return e.queue != "" }

// names reports whether the entry's queue group is, or stands for, that one.
func (e entry) names(queue string) bool {
	return e.queued() && (e.queue == queue || matchTokens(strings.Split(e.queue, "."), strings.Split(queue, ".")))
}

func (e entry) matches(subject []string) bool { return matchTokens(e.tokens, subject) }

// matchTokens reports whether the subject fits the pattern, in which * stands for one token and >
// for one or more. Wildcards in the subject are tokens like others.
func matchTokens(pattern, subject []string) bool {
	for i, token := range pattern {
		switch {
		case i == len(subject):
			return false
		case token == ">":
			return true
		case token != "*" && token != subject[i]:
			return false
		}
	}
	return len(pattern) == len(subject)
}

// maxSteps bounds the search of [SubjectSet.Exceeds], which sets made for it could drag out.
const maxSteps = 100_000

// Exceeds reports whether s admits a subject that other does not, to a subscriber in the queue
// group or, when that is empty, in none, and gives one such subject, without wildcards. When it
// could not be ruled out within a bounded time, it counts as so, and the subject is empty.
func (s SubjectSet) Exceeds(other SubjectSet, queue string) (subject string, exceeds bool) {
	search := search{queue: queue, steps: maxSteps}
	lists := [sides]progress{
		ours: {open: entries(s.Allow)}, oursDenied: {open: entries(s.Deny)},
		theirs: {open: entries(other.Allow)}, theirsDenied: {open: entries(other.Deny)},
	}
	found := search.from(nil, lists)
	return strings.Join(found, "."), found != nil || search.steps <= 0
}

// The lists that a search goes through side by side.
const (
	ours = iota
	oursDenied
	theirs
	theirsDenied
	sides
)

// progress is how far the entries of a list match the tokens so far.
type progress struct {
	open []entry // match as far as that, with tokens of their own to come
	rest []entry // ended in >, and match whatever comes
}

// step returns the progress after one more token, and the entries that match if it is the last.
func (p progress) step(depth int, token string) (next progress, matching []entry) {
	next.rest = slices.Clip(p.rest)
	for _, e := range p.open {
		switch t := e.tokens[depth]; {
		case t == ">":
			next.rest = append(next.rest, e)
		case t != "*" && t != token:
		case len(e.tokens) == depth+1:
			matching = append(matching, e)
		default:
			next.open = append(next.open, e)
		}
	}
	return next, append(matching, next.rest...)
}

// search looks for a subject that we admit and they do not, a token at a time. Only tokens that an
// entry names make a difference, and one that none names.
type search struct {
	queue string
	steps int
}

func (s *search) from(prefix []string, lists [sides]progress) []string {
	for _, token := range choices(len(prefix), lists) {
		if s.steps--; s.steps <= 0 {
			return nil
		}
		var next [sides]progress
		var matching [sides][]entry
		open := false
		for i := range lists {
			next[i], matching[i] = lists[i].step(len(prefix), token)
			open = open || len(next[i].open) > 0 || len(matching[i]) > len(next[i].rest)
		}
		subject := append(slices.Clip(prefix), token)
		if admitted(matching[ours], matching[oursDenied], s.queue) && !admitted(matching[theirs], matching[theirsDenied], s.queue) {
			return subject
		}
		// Where every entry has ended, longer subjects fare like one that is a token longer.
		if !open || len(next[ours].open) == 0 && len(next[ours].rest) == 0 {
			continue
		}
		if found := s.from(subject, next); found != nil {
			return found
		}
	}
	return nil
}

// choices returns the tokens that the open entries name next, and one that none of them does.
func choices(depth int, lists [sides]progress) []string {
	var tokens []string
	for _, list := range lists {
		for _, e := range list.open {
			if t := e.tokens[depth]; t != "*" && t != ">" && !slices.Contains(tokens, t) {
				tokens = append(tokens, t)
			}
		}
	}
	other := "x"
	for slices.Contains(tokens, other) {
		other += "x"
	}
	return append(tokens, other)
}

// endsInStar reports whether the last token of a subject, which a queue group may follow, is a *.
func endsInStar(subject string) bool {
	subject, _, _ = strings.Cut(subject, " ")
	return strings.HasSuffix(subject, "*")
}

// withClosedEnds denies what lies below allowed subjects that end in *. To nats-server a subscription
// that ends in > passes where a * stands last, so that app.* would let a client read all of app.>;
// with app.*.> denied it still subscribes, and is delivered what is allowed. On a level where another
// entry allows something below nothing is denied, since a deny would win over that too: what is left
// open there [SubjectSet.Heard] tells, and [Role.OpensBelow] foretells.
func (s SubjectSet) withClosedEnds() SubjectSet {
	if !slices.ContainsFunc(s.Allow, endsInStar) {
		return s
	}
	allowed := entries(s.Allow)
	for i, e := range allowed {
		if endsInStar(s.Allow[i]) {
			s.Deny = append(s.Deny, closings(e.tokens, allowed)...)
		}
	}
	return s
}

// closings returns subjects that hold what is deeper than the tokens, but for the levels on which
// something is allowed.
func closings(tokens []string, allowed []entry) (deny []string) {
	apart := func(subject []string) bool {
		return !slices.ContainsFunc(allowed, func(e entry) bool { return overlap(e.tokens, subject) })
	}
	deepest := 0
	for _, e := range allowed {
		deepest = max(deepest, len(e.tokens))
	}
	for level := slices.Clip(tokens); ; {
		if all := append(level, ">"); apart(all) {
			return append(deny, strings.Join(all, "."))
		}
		if len(level) >= deepest { // what is allowed ends in >, and so on every level from here on
			return deny
		}
		if level = slices.Clip(append(level, "*")); apart(level) {
			deny = append(deny, strings.Join(level, "."))
		}
	}
}

// Heard returns the set of the subjects whose messages a subscriber with s can be delivered: also
// those below a subject that ends in * which are not denied, see withClosedEnds.
func (s SubjectSet) Heard() SubjectSet {
	allow := slices.Clone(s.Allow)
	for _, a := range s.Allow {
		if endsInStar(a) {
			subject, queue, queued := strings.Cut(a, " ")
			subject = strings.TrimSuffix(subject, "*") + ">"
			if queued {
				subject += " " + queue
			}
			allow = append(allow, subject)
		}
	}
	return SubjectSet{Allow: allow, Deny: s.Deny}
}

// OpensBelow returns what the role allows to subscribe to below a subject that ends in *, and
// thereby keeps the rest below from being denied; false when the rest is denied, or all allowed.
func (r *Role) OpensBelow(end Template) (by Template, opens bool) {
	if !endsInStar(end.raw) {
		return Template{}, false
	}
	subject, _, _ := strings.Cut(end.raw, " ")
	below, err := ParseTemplate(subject + ".>")
	if err != nil {
		return Template{}, false // too long for anything to lie below
	}
	covers := func(t Template) bool { return t.queue == "" && t.Covers(below) }
	if slices.ContainsFunc(r.Subscribe.Allow, covers) || slices.ContainsFunc(r.Subscribe.Deny, covers) {
		return Template{}, false
	}
	i := slices.IndexFunc(r.Subscribe.Allow, below.Overlaps)
	if i < 0 {
		return Template{}, false
	}
	return r.Subscribe.Allow[i], true
}
