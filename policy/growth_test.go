package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// TestDecisionsDoNotGrowWithWhatTheyDoNotTouch counts allocations: times belong to the machine.
func TestDecisionsDoNotGrowWithWhatTheyDoNotTouch(t *testing.T) {
	for _, g := range growths {
		if g.touched {
			continue
		}
		var least float64
		for i, n := range g.sizes {
			s, id := g.build(t, n)
			made := testing.AllocsPerRun(20, func() { g.decide(t, s, id) })
			if i == 0 {
				least = made
			}
			if made > least+2 { // where maps grow is up to their seeds
				t.Errorf("with %d %s a decision makes %v allocations, with %d %v", n, g.name, made, g.sizes[0], least)
			}
		}
	}
}

// TestDecisionsLookAtNothingOfOthers puts in the place of what a decision has no business with what it
// would fail on: bindings and accounts that are nil.
func TestDecisionsLookAtNothingOfOthers(t *testing.T) {
	t.Parallel()
	s, id := scene{bindings: 20, groups: 10}.build(t)
	s.Rules.Accounts = map[string]*policy.Account{}
	for i := range 100 {
		name := fmt.Sprintf("other%d", i)
		for _, bindings := range []*map[string][]*policy.Binding{&s.Rules.Bindings, &s.Rules.Lobby, &s.Rules.Admins} {
			if *bindings == nil {
				*bindings = map[string][]*policy.Binding{}
			}
			(*bindings)[name] = make([]*policy.Binding, 10)
		}
		s.Rules.Accounts[name] = nil
	}
	decideOnce(t, s, id, "")
	refused := *id
	refused.Claims = nil
	d := policy.Decide(s, &refused, policy.Connection{Type: policy.Standard}, start, nil)
	if d.Allowed() || d.Refusal.Reason != policy.NoBinding {
		t.Errorf("an identity without claims: %v", d.Refusal)
	}
}

// TestDecisionsLookAtNoOtherBindings takes away all bindings of the identity's issuer that cannot match, after the index was
// made: a decision that looked at one would fail on it.
func TestDecisionsLookAtNoOtherBindings(t *testing.T) {
	t.Parallel()
	const many = 1000
	s, id := scene{bindings: many, groups: 10}.build(t)
	list := s.Rules.Bindings[id.Issuer]
	for _, b := range list {
		b.Match = append(b.Match, conditionOn("env", "prod"))
	}
	s.Rules.Index()
	id.Claims["env"] = "prod"
	first := list[0]
	clear(list[:many-1])
	decideOnce(t, s, id, "")
	for name, c := range map[string]struct {
		claims map[string]any
		want   policy.Reason
	}{
		"without claims":              {nil, policy.NoBinding},
		"of other groups":             {map[string]any{"groups": []any{"other"}, "env": "prod"}, policy.NoBinding},
		"groups left out":             {map[string]any{"hasgroups": true, "env": "dev"}, policy.NoBinding},
		"groups left out, all else":   {map[string]any{"hasgroups": true, "env": "prod"}, policy.GroupsOverage},
		"groups and more is left out": {map[string]any{"_claim_names": map[string]any{"groups": "src1", "env": "src1"}}, policy.GroupsOverage},
	} {
		list[0] = nil
		if strings.HasPrefix(name, "groups") {
			list[0] = first // it stands for all that ask for another group and nothing else besides
		}
		refused := *id
		refused.Claims = c.claims
		d := policy.Decide(s, &refused, policy.Connection{Type: policy.Standard}, start, nil)
		if d.Reason() != c.want {
			t.Errorf("%s: %s, want %s", name, d.Reason(), c.want)
		}
	}
}

// counted is an expression that counts how often it is asked.
type counted struct{ asked *int }

func (c counted) Holds(map[string]any) (bool, error) { *c.asked++; return true, nil }
func (c counted) Reads() ([]policy.ClaimPath, bool)  { return nil, false }
func (c counted) String() string                     { return "true" }

// TestExpressionsAreAskedWhereTheMatchHolds: of many bindings with expressions, a decision runs those whose
// match holds and no other.
func TestExpressionsAreAskedWhereTheMatchHolds(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 1000} {
		s, id := scene{bindings: n, groups: 100, others: n}.build(t)
		asked := 0
		for _, bindings := range s.Rules.Bindings {
			for _, b := range bindings {
				b.When, b.TTL = counted{&asked}, time.Hour
			}
		}
		decideOnce(t, s, id, "")
		if asked != 1 {
			t.Errorf("%d bindings, one of which matches: %d expressions were run", n, asked)
		}
	}
}
