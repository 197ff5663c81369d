package policy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/expr"
)

// scene is rules with n bindings of issuer corp, each for one group, and others of another issuer,
// and an identity of corp with some groups, of which the last is that of the last binding.
type scene struct {
	bindings, others, groups int
	when                     string
}

func (s scene) build(b testing.TB) (*policy.Snapshot, *policy.Identity) {
	b.Helper()
	path, err := policy.ParseClaimPath("groups")
	if err != nil {
		b.Fatal(err)
	}
	subject, err := policy.ParseTemplate("app.>")
	if err != nil {
		b.Fatal(err)
	}
	account := &policy.Account{Name: "APP"}
	role := &policy.Role{Name: "app", Publish: policy.PermissionRules{Allow: []policy.Template{subject}}}
	list := func(issuer string, n int) []*policy.Binding {
		all := make([]*policy.Binding, n)
		for i := range all {
			glob, err := policy.ParseGlob(fmt.Sprintf("team-%05d", i+1))
			if err != nil {
				b.Fatal(err)
			}
			all[i] = &policy.Binding{
				Name: fmt.Sprintf("b%d", i), Issuer: issuer, TTL: time.Hour, Grant: policy.Grant{Account: account, Role: role},
				Match: []policy.Condition{{Claim: path, Values: []policy.Value{{Text: &glob}}}},
			}
			if s.when != "" {
				if all[i].When, err = expr.Compile(s.when); err != nil {
					b.Fatal(err)
				}
			}
		}
		return all
	}
	groups := make([]any, s.groups)
	for i := range groups {
		groups[i] = fmt.Sprintf("other-%04d", i)
	}
	groups[len(groups)-1] = fmt.Sprintf("team-%05d", s.bindings)
	rules := &policy.Rules{Bindings: map[string][]*policy.Binding{"corp": list("corp", s.bindings), "ci": list("ci", s.others)}}
	return &policy.Snapshot{Rules: rules}, &policy.Identity{
		Issuer: "corp", IssuerURL: "https://login.example.com", Subject: "alice", IssuedAt: start, Expires: start.Add(time.Hour),
		Claims: map[string]any{"groups": groups, "amr": []any{"pwd", "mfa"}},
	}
}

var start = time.Unix(1_800_000_000, 0)

// BenchmarkDecisions shows what bindings, groups and expressions cost.
func BenchmarkDecisions(b *testing.B) {
	for _, s := range []scene{
		{bindings: 4, groups: 10}, {bindings: 4, groups: 10, when: `claims.amr.exists(m, m == "mfa")`}, {bindings: 4, groups: 1000},
		{bindings: 1000, groups: 10},
		{bindings: 1000, groups: 1000, others: 1}, {bindings: 1000, groups: 1000, others: 10_000},
		{bindings: 1000, groups: 1000, when: `claims.amr.exists(m, m == "mfa")`},
	} {
		name := fmt.Sprintf("bindings=%d/groups=%d/others=%d", s.bindings, s.groups, s.others)
		if s.when != "" {
			name += "/when"
		}
		b.Run(name, func(b *testing.B) {
			snapshot, id := s.build(b)
			snapshot.Rules.Index()
			b.ReportAllocs()
			for b.Loop() {
				if d := policy.Decide(snapshot, id, policy.Connection{Type: policy.Standard}, start, nil); !d.Allowed() {
					b.Fatal(d.Refusal)
				}
			}
		})
	}
}

// BenchmarkIndex shows what it costs to make the index of an issuer's bindings, and to keep it.
func BenchmarkIndex(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("bindings=%d", n), func(b *testing.B) {
			snapshot, _ := scene{bindings: n, groups: 1}.build(b)
			before := heap()
			snapshot.Rules.Index()
			kept := heap() - before
			for b.Loop() {
				snapshot.Rules.Index()
			}
			b.ReportMetric(float64(kept)/float64(n), "bytes-kept/binding")
		})
	}
}
