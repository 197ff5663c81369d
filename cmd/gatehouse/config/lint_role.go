package config

import (
	"slices"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// direction is the publish or the subscribe of a role.
type direction struct {
	path    string
	written Permission // as in the file, without what macros add
	parse   func(string) (policy.Template, error)
	rules   func(*policy.Role) policy.PermissionRules
}

func directions(role *Role) []direction {
	return []direction{
		{"publish", role.Publish, policy.ParseTemplate, func(r *policy.Role) policy.PermissionRules { return r.Publish }},
		{"subscribe", role.Subscribe, policy.ParseSubscription, func(r *policy.Role) policy.PermissionRules { return r.Subscribe }},
	}
}

// templates returns the subjects of a list, which are valid.
func (d direction) templates(list []string) []policy.Template {
	all := make([]policy.Template, len(list))
	for i, s := range list {
		all[i], _ = d.parse(s)
	}
	return all
}

// lintRole warns of subjects that allow more than is likely meant.
func (r *report) lintRole(at string, role *Role) {
	for _, d := range directions(role) {
		deny := d.templates(d.written.Deny)
		for i, t := range d.templates(d.written.Allow) {
			if opens := tooBroad(d, t, deny, hasPrivateInbox(role)); opens != "" {
				r.warn(index(join(join(at, d.path), "allow"), i), "allows %s", opens)
			}
		}
	}
}

// tooBroad returns what a subject opens that is not just the application's, and what to write
// instead; empty when it opens no such thing that is not denied again.
func tooBroad(d direction, allowed policy.Template, deny []policy.Template, private bool) string {
	for _, b := range broad {
		what := b.publish
		if d.path == "subscribe" {
			what = b.subscribe
		}
		switch {
		case what == "" || !allowed.Covers(b.subject):
		case slices.ContainsFunc(deny, func(t policy.Template) bool { return t.Covers(b.subject) }):
		case b.inbox && private:
			// Clients can set their inbox prefix; the others are let in knowingly.
		default:
			return what
		}
	}
	return ""
}

// hasPrivateInbox reports whether the role allows replies that only the identity itself can read.
func hasPrivateInbox(role *Role) bool {
	return role.Inbox != "" || slices.Contains(role.Subscribe.Allow, "{{inbox}}.>")
}

// broad are subjects that hold more than one application's, the broadest first, and what it
// means to publish or subscribe there; empty where that is as good as harmless.
var broad = []struct {
	subject            policy.Template
	publish, subscribe string
	inbox              bool // a private inbox does instead
}{
	{subject: subject(">"),
		publish:   "every subject of the account, also JetStream's API and the inboxes of others: name the subjects that are needed",
		subscribe: "every subject of the account, also JetStream's API and the inboxes of others: name the subjects that are needed"},
	{subject: subject("*.>"),
		publish:   "every subject of two tokens or more, also JetStream's API and the inboxes of others: name the subjects that are needed",
		subscribe: "every subject of two tokens or more, also JetStream's API and the inboxes of others: name the subjects that are needed"},
	{subject: subject("$SYS.>"),
		publish:   "requests of every service of the servers: name the one that is needed, such as $SYS.REQ.USER.INFO",
		subscribe: "what servers say and are asked: name the subject that is needed"},
	{subject: subject("$JS.API.>"),
		publish:   "all of JetStream's API, which reads, changes and deletes every stream of the account: say what is needed with streams, consumers, kv and objects",
		subscribe: "reading what others ask of JetStream: leave it out, answers come to the inbox"},
	{subject: subject("$JS.API.STREAM.>"),
		publish: "reading, changing and deleting every stream of the account: say what is needed with streams"},
	{subject: subject("$JS.API.CONSUMER.>"),
		publish: "consumers on every stream of the account, which read all that is stored: say what is needed with streams and consumers"},
	{subject: subject("$KV.>"),
		publish: "writing to every key-value bucket of the account: name the buckets that are needed with kv"},
	{subject: subject("$O.>"),
		publish: "writing to every object store of the account: name the buckets that are needed with objects"},
	{subject: subject("_INBOX.>"), inbox: true,
		subscribe: "reading the replies to everybody in the account: say inbox: private and have clients set that inbox prefix"},
}

func subject(s string) policy.Template {
	t, err := policy.ParseTemplate(s)
	if err != nil {
		panic(err)
	}
	return t
}

// lintDenies warns of denied subjects that nobody was allowed, and of allowed ones that are denied again.
func (r *report) lintDenies(at string, role *Role, roles map[string]*policy.Role) {
	for _, d := range directions(role) {
		deny := d.templates(d.written.Deny)
		for i, t := range deny {
			path := index(join(join(at, d.path), "deny"), i)
			outer := -1
			for j := range deny {
				if j != i && deny[j].Covers(t) && (j < i || !t.Covers(deny[j])) {
					outer = j
					break
				}
			}
			switch {
			case outer >= 0:
				r.warn(path, "adds nothing to %s: remove it", d.written.Deny[outer])
			case !d.allowedSomewhere(t, roles):
				r.warn(path, "denies what no role allows: correct the subject, or remove it")
			}
		}
		for i, t := range d.templates(d.written.Allow) {
			if j := slices.IndexFunc(deny, func(outer policy.Template) bool { return outer.Covers(t) }); j >= 0 {
				r.warn(index(join(join(at, d.path), "allow"), i), "all of it is denied again by %s: remove one of the two", d.written.Deny[j])
			}
		}
	}
}

// lintEnds warns of subscriptions that end in * where the role allows something below: they let
// clients hear all that lies there.
func (r *report) lintEnds(at string, role *Role, compiled *policy.Role) {
	for i, s := range role.Subscribe.Allow {
		end, err := policy.ParseSubscription(s)
		if err != nil {
			continue // reported when it was compiled
		}
		if by, opens := compiled.OpensBelow(end); opens {
			r.warn(index(join(join(at, "subscribe"), "allow"), i),
				"also lets clients hear what lies below: nats-server takes the > of a subscription for a token that * stands for, and since %s is allowed there, not all the rest can be denied. Write the tokens out in the place of *, or begin the subject with one of its own",
				quoted(by.String()))
		}
	}
}

// allowedSomewhere reports whether any role allows some of the subject: roles are united, and a
// deny in one of them counts against all.
func (d direction) allowedSomewhere(t policy.Template, roles map[string]*policy.Role) bool {
	for _, role := range roles {
		if slices.ContainsFunc(d.rules(role).Allow, t.Overlaps) {
			return true
		}
	}
	return false
}
