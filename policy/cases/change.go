package cases

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// Kind says in what a decision changed.
type Kind string

// The kinds of changes, in the order in which people should see them.
const (
	Gains    Kind = "gains access"
	Loses    Kind = "loses access"
	Moves    Kind = "gets into another account"
	Wider    Kind = "may do more"
	Narrower Kind = "may do less"
	Lives    Kind = "logs in for another time"
	Refused  Kind = "is refused for another reason"
)

// Kinds lists the kinds in their order.
func Kinds() []Kind { return []Kind{Gains, Loses, Moves, Wider, Narrower, Lives, Refused} }

// Change is one thing that another decision gives or takes.
type Change struct {
	Kind Kind   `json:"kind"`
	What string `json:"what"` // for people
}

// Compare says what changes for a login that got before and would get after; nothing when it makes
// no difference to it, however the rules are written.
func Compare(before, after policy.Decision) []Change {
	switch {
	case !before.Allowed() && !after.Allowed():
		if before.Reason() == after.Reason() {
			return nil
		}
		return []Change{{Refused, fmt.Sprintf("%s, before %s", reason(after), before.Reason())}}
	case !before.Allowed():
		return []Change{{Gains, fmt.Sprintf("account %s as %s by %s, before %s", after.Account.Name, names(after.Roles), names(after.Bindings), before.Reason())}}
	case !after.Allowed():
		return []Change{{Loses, fmt.Sprintf("%s, before account %s as %s by %s", reason(after), before.Account.Name, names(before.Roles), names(before.Bindings))}}
	}
	var changes []Change
	if before.Account.ID != after.Account.ID || before.Create != nil && after.Create != nil && before.Create.Name != after.Create.Name {
		changes = append(changes, Change{Moves, fmt.Sprintf("account %s, before %s", account(after, before), account(before, after))})
	}
	for _, part := range []struct {
		verb          string
		before, after policy.SubjectSet
		queues        []string
	}{
		{"publish", before.Permissions.Publish, after.Permissions.Publish, []string{""}},
		{"subscribe", before.Permissions.Subscribe, after.Permissions.Subscribe, queues(before.Permissions.Subscribe, after.Permissions.Subscribe)},
	} {
		text := edits(part.verb, part.before, part.after)
		if part.verb == "subscribe" {
			part.before, part.after = part.before.Heard(), part.after.Heard()
		}
		if example, more := exceeds(part.after, part.before, part.queues); more {
			changes = append(changes, Change{Wider, text + such("now", example)})
		}
		if example, less := exceeds(part.before, part.after, part.queues); less {
			changes = append(changes, Change{Narrower, text + such("no longer", example)})
		}
	}
	changes = append(changes, replies(before.Permissions.Respond, after.Permissions.Respond)...)
	changes = append(changes, ownKeys(before.Direct, after.Direct)...)
	if before.TTL != after.TTL {
		changes = append(changes, Change{Lives, fmt.Sprintf("ttl %s, before %s", after.TTL, before.TTL)})
	}
	return changes
}

// replies says what changes in the right to reply.
func replies(before, after policy.Respond) []Change {
	var changes []Change
	text := fmt.Sprintf("respond %s, before %s", bounds(after), bounds(before))
	if after.Max > before.Max || after.TTL > before.TTL {
		changes = append(changes, Change{Wider, text})
	}
	if after.Max < before.Max || after.TTL < before.TTL {
		changes = append(changes, Change{Narrower, text})
	}
	return changes
}

// ownKeys says what changes in the user JWTs that the identity may hold as a direct user.
func ownKeys(before, after *policy.Direct) []Change {
	var none policy.Direct
	b, a := none, none
	if before != nil {
		b = *before
	}
	if after != nil {
		a = *after
	}
	var changes []Change
	text := fmt.Sprintf("direct users %s, before %s", held(a), held(b))
	if a.Keys > b.Keys || a.TTL > b.TTL {
		changes = append(changes, Change{Wider, text})
	}
	if a.Keys < b.Keys || a.TTL < b.TTL {
		changes = append(changes, Change{Narrower, text})
	}
	return changes
}

func held(d policy.Direct) string {
	if d == (policy.Direct{}) {
		return "none"
	}
	return fmt.Sprintf("by %d keys for %s each", d.Keys, d.TTL)
}

func bounds(r policy.Respond) string {
	if r == (policy.Respond{}) {
		return "never"
	}
	return fmt.Sprintf("%d times within %s", r.Max, r.TTL)
}

// account names the account of a decision, with its key where the other one has the same name.
func account(d, other policy.Decision) string {
	if d.Account.Name == other.Account.Name {
		return d.Account.Name + " (" + d.Account.ID + ")"
	}
	return d.Account.Name
}

// exceeds reports whether s admits what other does not, to a subscriber in any of the queue groups.
func exceeds(s, other policy.SubjectSet, queues []string) (example string, exceeds bool) {
	for _, queue := range queues {
		if subject, found := s.Exceeds(other, queue); found {
			return strings.TrimSpace(subject + " " + queue), true
		}
	}
	return "", false
}

// queues returns those queue groups to which the sets may make a difference: none, the named ones, and
// one that is not named.
func queues(sets ...policy.SubjectSet) []string {
	found := []string{""}
	for _, s := range sets {
		for _, subject := range slices.Concat(s.Allow, s.Deny) {
			if _, queue, ok := strings.Cut(subject, " "); ok {
				found = append(found, strings.NewReplacer("*", "x", ">", "x").Replace(queue))
			}
		}
	}
	if len(found) > 1 {
		found = append(found, "another-group")
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// edits writes in what two sets differ.
func edits(verb string, before, after policy.SubjectSet) string {
	parts := []string{verb}
	for _, list := range []struct {
		sign, deny string
		in, out    []string
	}{
		{"+", "", after.Allow, before.Allow}, {"-", "", before.Allow, after.Allow},
		{"+", "deny ", after.Deny, before.Deny}, {"-", "deny ", before.Deny, after.Deny},
	} {
		for _, s := range list.in {
			if !slices.Contains(list.out, s) {
				parts = append(parts, list.sign+list.deny+s)
			}
		}
	}
	return strings.Join(parts, " ")
}

func such(when, example string) string {
	if example == "" {
		return ""
	}
	return fmt.Sprintf(" (%s %s)", when, example)
}
