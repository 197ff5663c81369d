package config

import (
	"slices"
	"strings"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// macro is a short form for the subjects that a use of JetStream needs.
type macro interface {
	Expand() (policy.PermissionRules, []policy.MacroProblem)
}

// macros adds what the macros of a role stand for to its permissions.
func (r *report) macros(at string, role *Role, out *policy.Role) {
	if role.Inbox == "private" {
		inbox, err := policy.ParseSubscription("{{inbox}}.>")
		if err != nil {
			panic("the private inbox: " + err.Error())
		}
		out.Subscribe.Allow = append(out.Subscribe.Allow, inbox)
	}
	domain := role.JetStream.Domain
	if !r.expand(join(at, "jetstream"), policy.APIMacro{Domain: domain, Allow: accesses(role.JetStream.Allow)}, out) {
		domain = "" // reported once
	}
	for i, s := range role.Streams {
		r.expand(index(join(at, "streams"), i), policy.StreamMacro{Domain: domain, Name: s.Name, Allow: accesses(s.Allow), Subjects: s.Subjects, Protect: s.Protect}, out)
	}
	for i, c := range role.Consumers {
		r.expand(index(join(at, "consumers"), i), policy.ConsumerMacro{Domain: domain, Stream: c.Stream, Name: c.Name, Allow: accesses(c.Allow), Filter: c.Filter}, out)
	}
	for i, k := range role.KV {
		r.expand(index(join(at, "kv"), i), policy.KVMacro{Domain: domain, Bucket: k.Bucket, Allow: accesses(k.Allow), Keys: k.Keys, NoRollup: k.NoRollup}, out)
	}
	for i, o := range role.Objects {
		r.expand(index(join(at, "objects"), i), policy.ObjectMacro{Domain: domain, Bucket: o.Bucket, Allow: accesses(o.Allow)}, out)
	}
}

// expand adds what one macro stands for, or reports what is wrong with it.
func (r *report) expand(at string, m macro, out *policy.Role) bool {
	if r.wrong[at] {
		return false
	}
	rules, problems := m.Expand()
	for _, p := range problems {
		path := at
		if p.Field != "" {
			path = at + "." + p.Field
		}
		if !r.wrong[path] {
			r.problem(path, "%s", p.Text)
		}
	}
	out.Publish.Allow = append(out.Publish.Allow, rules.Allow...)
	out.Publish.Deny = append(out.Publish.Deny, rules.Deny...)
	return len(problems) == 0
}

func accesses(words []string) []policy.Access {
	var all []policy.Access
	for _, w := range words {
		all = append(all, policy.Access(w))
	}
	return all
}

// lintMacros warns of roles whose consume reaches consumers that others use by name.
func (r *report) lintMacros(f *File) {
	type consumer struct{ domain, stream, name string }
	users := map[consumer]string{}
	for _, name := range sorted(f.Roles) {
		for _, c := range f.Roles[name].Consumers {
			if strings.Contains(c.Name, "{{") {
				continue // each user has another, which protect cannot name
			}
			users[consumer{f.Roles[name].JetStream.Domain, c.Stream, c.Name}] = name
		}
	}
	for _, name := range sorted(f.Roles) {
		role := f.Roles[name]
		if role.Inbox == "" && len(role.Subscribe.Allow) == 0 && len(role.Streams)+len(role.Consumers)+len(role.KV)+len(role.Objects) > 0 {
			r.warn(join("roles", name), "may ask JetStream but not hear its answers: add inbox: private, unless another role of the same users has it")
		}
		for i, s := range role.Streams {
			if !slices.Contains(s.Allow, "consume") {
				continue
			}
			for c, user := range users {
				if c.domain == role.JetStream.Domain && c.stream == s.Name && user != name && !slices.Contains(s.Protect, c.name) {
					r.warn(index(join(join("roles", name), "streams"), i), "consume reaches consumer %s of role %s too, to change, delete and fetch from it: add it to protect", quoted(c.name), user)
				}
			}
		}
	}
}
