package config

import (
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// auditStream checks what says where audit entries are copied to.
func (r *report) auditStream(a *AuditStream, n *NATS) {
	const at = "audit.stream"
	given, key := a.Creds.Account() != "", "creds"
	if n.without() {
		given, key = a.Nkey.Given(), "nkey"
	}
	key = join(at, key)
	switch {
	case a.Name == "" && given:
		r.problem(key, "has no effect without audit.stream.name: name the stream")
	case a.Name == "" && a.Create:
		r.problem(join(at, "create"), "has no effect without audit.stream.name: name the stream")
	case a.Name == "":
		return
	case !given && !r.given(key):
		r.problem(key, "is missing: give a user of the account that the stream is in")
	case given && !n.without() && n.closed()[a.Creds.Account()] != "":
		r.problem(key, "is a user of %s: keep the stream in an account of its own", n.closed()[a.Creds.Account()])
	}
	if len(a.Name) > 255 || strings.ContainsAny(a.Name, "*>./\\ \t\r\n") {
		r.problem(join(at, "name"), "%s is no name of a stream: leave out dots, blanks, slashes and wildcards", quoted(a.Name))
	}
	if s, err := policy.ParseTemplate(a.Subject); err != nil || !s.Static() || strings.ContainsAny(a.Subject, "*>") || strings.HasPrefix(a.Subject, "$") {
		r.problem(join(at, "subject"), "%s is no subject without wildcards: write one such as gatehouse.audit", quoted(a.Subject))
	}
}

// AuditStreamUser returns how to connect to the account that audit entries are copied into; nil when they are not.
func (c *Config) AuditStreamUser() nats.Option {
	switch {
	case c.Audit.Stream.Name == "":
		return nil
	case c.NATS.without():
		return c.Audit.Stream.Nkey.Option()
	default:
		return c.Audit.Stream.Creds.Option()
	}
}
