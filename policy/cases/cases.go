// Package cases decides on logins that nobody makes: those that a test of a policy describes, and
// those that were recorded, under the rules in force or under others. It says where a decision is
// not the expected one, and what a change of the rules does to whom.
//
// Like package policy it is pure. Blocks and logouts are no part of it: they are no policy.
package cases

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// life is how long the tokens of these logins last: longer than any credential.
const life = 60 * 24 * time.Hour

// Login is somebody who connects with a token that holds the claims.
type Login struct {
	IssuerURL string
	Subject   string
	Claims    map[string]any // numbers are json.Number
	Conn      policy.Connection
}

// Decide returns what the login gets by the rules at now, with a token issued then. An issuer that
// the rules do not know is refused. A login that would make an account is allowed what it would get there, since
// here are none; [policy.Decision.Create] stays set. The trace may be nil.
func (l Login) Decide(rules *policy.Rules, now time.Time, trace *policy.Trace) policy.Decision {
	for name, url := range rules.Issuers {
		if url == l.IssuerURL {
			id := &policy.Identity{
				Issuer: name, IssuerURL: url, Subject: l.Subject, Claims: l.Claims, IssuedAt: now, Expires: now.Add(life),
			}
			d := policy.Decide(&policy.Snapshot{Rules: rules}, id, l.Conn, now, trace)
			if d.Create != nil {
				d.Refusal = nil
			}
			return d
		}
	}
	return policy.Decision{Refusal: policy.Refuse(policy.IssuerUnknown, "issuer %s is not configured", l.IssuerURL)}
}

// Case is a login and what it should get.
type Case struct {
	Name string
	At   string // where it is written
	Login
	Expect Expect
}

// Expect is what a login should get. What is left empty may be anything.
type Expect struct {
	Refuse   policy.Reason // empty: it is to be allowed, and what follows is to hold
	Account  string
	Roles    []string // all of them
	Bindings []string // all that give the grant
	TTL      time.Duration

	Publish, Subscribe Probe
}

// Probe is what a user should be able to do, and what not. A subscription may name a queue group
// after a blank.
type Probe struct {
	Can, Cannot []string
}

// Result is what became of a case.
type Result struct {
	Case     Case
	Decision policy.Decision
	Verdicts []policy.Verdict
	// Failures says in what the decision differs from the expected one; none means that it does not.
	Failures []string
}

// Run decides on the case.
func Run(rules *policy.Rules, c Case, now time.Time) Result {
	var trace policy.Trace
	d := c.Decide(rules, now, &trace)
	return Result{Case: c, Decision: d, Verdicts: trace.Verdicts, Failures: c.Expect.failures(d)}
}

func (e Expect) failures(d policy.Decision) []string {
	switch {
	case e.Refuse == d.Reason():
		return nil
	case !d.Allowed() && e.Refuse != "":
		return []string{fmt.Sprintf("is refused as %s, wanted %s", reason(d), e.Refuse)}
	case !d.Allowed():
		return []string{fmt.Sprintf("is refused as %s, wanted allowed", reason(d))}
	case e.Refuse != "":
		return []string{fmt.Sprintf("is allowed into account %s by %s, wanted refused as %s", d.Account.Name, strings.Join(d.Bindings, ", "), e.Refuse)}
	}
	var failures []string
	differ := func(what, got, wanted string) {
		if wanted != "" && got != wanted {
			failures = append(failures, fmt.Sprintf("%s %s, wanted %s", what, got, wanted))
		}
	}
	differ("account is", d.Account.Name, e.Account)
	differ("roles are", names(d.Roles), names(e.Roles))
	differ("bindings are", names(d.Bindings), names(e.Bindings))
	if e.TTL != 0 {
		differ("ttl is", d.TTL.String(), e.TTL.String())
	}
	failures = append(failures, e.Publish.failures("publish to", d.Permissions.Publish, func(s string) bool { return d.Permissions.MayPublish(s) })...)
	failures = append(failures, e.Subscribe.failures("subscribe to", d.Permissions.Subscribe, func(s string) bool {
		subject, queue, _ := strings.Cut(s, " ")
		return d.Permissions.MaySubscribe(subject, queue)
	})...)
	return append(failures, e.Subscribe.heard(d.Permissions)...)
}

// heard says which subjects the user is delivered that it should not be and cannot name in a
// subscription.
func (p Probe) heard(held policy.Permissions) []string {
	var failures []string
	for _, s := range p.Cannot {
		subject, queue, _ := strings.Cut(s, " ")
		if !strings.ContainsAny(subject, "*>") && !held.MaySubscribe(subject, queue) && held.MayHear(subject, queue) {
			failures = append(failures, fmt.Sprintf("is delivered %s by a subscription that ends in >: %s", s, shown(held.Subscribe)))
		}
	}
	return failures
}

// failures says what the permissions do other than the probe wants.
func (p Probe) failures(what string, held policy.SubjectSet, may func(string) bool) []string {
	var failures []string
	for _, subject := range p.Can {
		if !may(subject) {
			failures = append(failures, fmt.Sprintf("cannot %s %s: %s", what, subject, shown(held)))
		}
	}
	for _, subject := range p.Cannot {
		if may(subject) {
			failures = append(failures, fmt.Sprintf("can %s %s: %s", what, subject, shown(held)))
		}
	}
	return failures
}

// shown writes a set for people.
func shown(s policy.SubjectSet) string {
	if len(s.Allow) == 0 {
		return "nothing is allowed"
	}
	text := "allowed is " + strings.Join(s.Allow, ", ")
	if len(s.Deny) > 0 {
		text += ", denied " + strings.Join(s.Deny, ", ")
	}
	return text
}

func reason(d policy.Decision) string { return d.Refusal.Error() }

// names joins names in their order.
func names(list []string) string {
	return strings.Join(slices.Sorted(slices.Values(list)), ", ")
}

// Unexercised returns the names of the bindings that give something in none of the results, sorted.
func Unexercised(rules *policy.Rules, results []Result) []string {
	gave := map[string]bool{}
	for _, r := range results {
		for _, v := range r.Verdicts {
			gave[v.Binding] = gave[v.Binding] || v.Applies
		}
	}
	var list []string
	for _, of := range []map[string][]*policy.Binding{rules.Bindings, rules.Creates} {
		for _, bindings := range of {
			for _, b := range bindings {
				if !gave[b.Name] {
					list = append(list, b.Name)
				}
			}
		}
	}
	slices.Sort(list)
	return list
}
