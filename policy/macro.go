package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Access is one way to use a thing of JetStream.
type Access string

// The ways; each macro says which it has and what they mean for it.
const (
	Read    Access = "read"
	Consume Access = "consume"
	Write   Access = "write"
	Purge   Access = "purge"
	List    Access = "list"
	Manage  Access = "manage"
)

// maxJetStreamName bounds the names of streams and consumers in bytes (nats-server server/stream.go, JSMaxNameLen).
const maxJetStreamName = 255

// MacroProblem is what keeps a macro from being expanded.
type MacroProblem struct {
	Field string // such as keys[1]; empty when it is the macro as a whole
	Text  string // what, and what to do
}

// manageIsAll is why no macro manages a single stream.
const manageIsAll = "manage is refused for a single %s: who makes or changes one chooses its subjects, what it copies from other streams and where it republishes to, " +
	"and so reads and writes everything in the account. Make it with another role, or give this one jetstream.allow manage, which is just that"

// expansion collects the subjects of a macro and what is wrong with it.
type expansion struct {
	apis        []string // prefixes of the API's subjects
	domain      string   // as acknowledgements name it
	allow, deny []string
	problems    []MacroProblem
}

func newExpansion(domain string) *expansion {
	e := &expansion{apis: []string{"$JS.API."}, domain: "_"}
	if domain == "" {
		return e
	}
	// In the domain itself nats-server turns its prefix into the plain one before it looks at
	// permissions; from a leaf node's domain the subject is left as it is.
	e.apis, e.domain = append(e.apis, "$JS."+domain+".API."), domain
	if strings.Contains(domain, "{{") || checkSubject(domain) != nil || strings.ContainsAny(domain, ".*>") {
		e.problem("domain", "%q is not a JetStream domain: write the servers' jetstream.domain, one word without dots and wildcards", domain)
	}
	return e
}

func (e *expansion) problem(field, format string, args ...any) {
	e.problems = append(e.problems, MacroProblem{field, fmt.Sprintf(format, args...)})
}

// call allows a request to JetStream's API.
func (e *expansion) call(tokens ...string) {
	for _, api := range e.apis {
		e.allow = append(e.allow, api+strings.Join(tokens, "."))
	}
}

// forbid denies a request to JetStream's API.
func (e *expansion) forbid(tokens ...string) {
	for _, api := range e.apis {
		e.deny = append(e.deny, api+strings.Join(tokens, "."))
	}
}

// publish allows a subject that is not of the API.
func (e *expansion) publish(tokens ...string) {
	e.allow = append(e.allow, strings.Join(tokens, "."))
}

// acknowledge allows to acknowledge what a consumer delivers, in both forms that nats-server
// knows: without and with domain and account (server/feature_flags.go, js_ack_fc_v2).
func (e *expansion) acknowledge(stream, consumer string) {
	e.publish("$JS.ACK", stream, consumer, "*.*.*.*.*")
	e.publish("$JS.ACK", e.domain, "{{"+accountHash+"}}", stream, consumer, "*.*.*.*.>")
}

// flow allows the answers to flow control that a push consumer waits for, in both forms.
func (e *expansion) flow(stream, consumer string) {
	e.publish("$JS.FC", stream, consumer, "*")
	e.publish("$JS.FC", e.domain, "{{"+accountHash+"}}", stream, consumer, "*")
}

// result returns the subjects to publish to, or the problems.
func (e *expansion) result() (PermissionRules, []MacroProblem) {
	var rules PermissionRules
	if len(e.problems) > 0 {
		return rules, e.problems
	}
	for _, part := range []struct {
		from []string
		to   *[]Template
	}{{e.allow, &rules.Allow}, {e.deny, &rules.Deny}} {
		for _, subject := range part.from {
			t, err := parseTemplate(subject, true)
			if err != nil {
				e.problem("", "%s", err)
				continue
			}
			*part.to = append(*part.to, t)
		}
	}
	if len(e.problems) > 0 {
		return PermissionRules{}, e.problems
	}
	return rules, nil
}

// bucket reports a name that no bucket can have (nats.go jetstream/kv.go, validBucketRe).
func (e *expansion) bucket(name string) {
	e.checkName("bucket", name, "a bucket's: use letters, digits, - and _", func(r rune) bool {
		return r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	})
}

// name reports a name that no stream or consumer can have.
func (e *expansion) name(field, name string) {
	e.checkName(field, name, "one of JetStream: leave out dots, wildcards, slashes and blanks", func(r rune) bool {
		return !strings.ContainsRune(`.*>/\`, r)
	})
}

func (e *expansion) checkName(field, name, rule string, allowed func(rune) bool) {
	t, err := ParseTemplate(name)
	if err != nil {
		e.problem(field, "%s", err)
		return
	}
	if len(name) > maxJetStreamName {
		e.problem(field, "the name has over %d bytes", maxJetStreamName)
	}
	for _, s := range t.segments {
		if s.kind == literal && strings.ContainsFunc(s.text, func(r rune) bool { return !allowed(r) }) {
			e.problem(field, "the name %q is not %s", name, rule)
			return
		}
	}
}

// stream reports a name that no stream can have, or that a claim could turn into that of a bucket.
func (e *expansion) stream(field, name string) {
	e.name(field, name)
	if t, err := ParseTemplate(name); err == nil && t.mayBecomeBucket() {
		e.problem(field, "the name %q begins with a claim, or with one after part of KV_ or OBJ_, which could name the stream of any bucket: begin it with other fixed text, such as TEAM-{{claim.team}}", name)
	}
}

// mayBecomeBucket reports whether a claim decides that the name begins as those of the streams of buckets do.
func (t Template) mayBecomeBucket() bool {
	fixed := ""
	first := t.segments[0]
	if first.kind == literal && len(t.segments) > 1 {
		fixed, first = first.text, t.segments[1]
	}
	return first.kind == placeClaim && slices.ContainsFunc([]string{"KV_", "OBJ_"}, func(prefix string) bool {
		return len(fixed) < len(prefix) && strings.HasPrefix(prefix, fixed)
	})
}

// subjects reports subjects or keys that a permission cannot be limited to.
func (e *expansion) subjects(field string, list []string) {
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		t, err := ParseTemplate(s)
		switch {
		case err != nil:
			e.problem(at, "%s", err)
		case s == ">":
			e.problem(at, "%q limits nothing: leave %s out", s, field)
		case slices.Contains(strings.Split(s, "."), "*"):
			// A permission's * stands for a > in the subject of a request too, which JetStream then takes for a wildcard.
			e.problem(at, "%q has the wildcard *, which does not limit a request to JetStream: it lets > through. Write > for all that follows, or whole names", s)
		case t.segments[0].kind == literal && strings.ContainsAny(s[:1], "$_"):
			e.problem(at, "%q begins with %s, which is kept for the server's own subjects: name a bucket under kv or objects", s, s[:1])
		}
	}
}

// asks tells whether a way is asked for, and reports a macro that asks for none.
func (e *expansion) asks(allow []Access) func(Access) bool {
	if len(allow) == 0 {
		e.problem("allow", "is missing: say what is allowed")
	}
	return func(a Access) bool { return slices.Contains(allow, a) }
}
