package policy

import "fmt"

// APIMacro allows what concerns all of an account's JetStream.
type APIMacro struct {
	Domain string
	// Allow: list (names and configurations of all streams, and the account's limits), manage (the whole API).
	Allow []Access
}

// Expand returns the subjects to publish to, or what is wrong.
func (m APIMacro) Expand() (PermissionRules, []MacroProblem) {
	e := newExpansion(m.Domain)
	for _, a := range m.Allow {
		switch a {
		case List:
			e.call("INFO")
			e.call("STREAM.NAMES")
			e.call("STREAM.LIST")
		case Manage:
			e.call(">")
		}
	}
	return e.result()
}

// StreamMacro allows the use of one stream.
type StreamMacro struct {
	Domain string
	Name   string
	// Allow: read (get single messages), consume (by consumers without a lasting name, which need no
	// acknowledgement), write (publish to Subjects), purge (remove messages).
	Allow []Access
	// Subjects limit reading and are where writing goes.
	Subjects []string
	// Protect names consumers of others, which consume would reach otherwise.
	Protect []string
}

// Expand returns the subjects to publish to, or what is wrong.
func (m StreamMacro) Expand() (PermissionRules, []MacroProblem) {
	e := newExpansion(m.Domain)
	e.stream("name", m.Name)
	e.subjects("subjects", m.Subjects)
	asks, limited := e.asks(m.Allow), len(m.Subjects) > 0
	if asks(Manage) {
		e.problem("allow", manageIsAll, "stream")
	}
	if asks(Read) {
		e.call("STREAM.INFO", m.Name)
		e.get(m.Name, m.Subjects)
	}
	switch {
	case asks(Consume) && limited:
		e.problem("subjects", "consume cannot be limited to subjects here: who may fetch from any consumer of the stream also fetches from those of others. "+
			"Write an entry under consumers with a name of its own, such as reader-{{name}}, with filter and allow: [consume, manage]")
	case asks(Consume):
		e.ephemeral(m.Name, m.Protect)
	case len(m.Protect) > 0:
		e.problem("protect", "protects consumers from consume, which is not allowed anyway: leave it out")
	}
	switch {
	case asks(Write) && !limited:
		e.problem("subjects", "is missing: write needs the subjects of the stream that may be published to")
	case asks(Write):
		for _, s := range m.Subjects {
			e.publish(s)
		}
	case limited && !asks(Read):
		e.problem("subjects", "limits nothing that is allowed: add read or write to allow, or leave it out")
	}
	switch {
	case asks(Purge) && limited:
		e.problem("subjects", "purge cannot be limited to subjects, which JetStream takes from the request's body: write an entry of its own for purge, without subjects")
	case asks(Purge):
		e.call("STREAM.PURGE", m.Name)
		e.call("STREAM.MSG.DELETE", m.Name)
	}
	return e.result()
}

// get allows to get messages, or those of the subjects only: a limit holds where the subject is
// part of the request's own, and nowhere else.
func (e *expansion) get(stream string, subjects []string) {
	if len(subjects) == 0 {
		e.call("STREAM.MSG.GET", stream)
		e.call("DIRECT.GET", stream)
		e.call("DIRECT.GET", stream, ">")
	}
	for _, s := range subjects {
		e.call("DIRECT.GET", stream, s)
	}
}

// ephemeral allows consumers whose names the client makes up, but for the protected ones.
func (e *expansion) ephemeral(stream string, protect []string) {
	e.call("STREAM.INFO", stream)
	e.call("CONSUMER.CREATE", stream, "*")
	e.call("CONSUMER.CREATE", stream, "*.>")
	e.call("CONSUMER.INFO", stream, "*")
	e.call("CONSUMER.MSG.NEXT", stream, "*")
	e.call("CONSUMER.DELETE", stream, "*")
	e.flow(stream, "*")
	for i, name := range protect {
		e.name(fmt.Sprintf("protect[%d]", i), name)
		e.forbid("CONSUMER.*", stream, name)
		e.forbid("CONSUMER.CREATE", stream, name, ">")
		e.forbid("CONSUMER.MSG.NEXT", stream, name)
	}
}

// ConsumerMacro allows the use of one consumer with a lasting name.
type ConsumerMacro struct {
	Domain string
	Stream string
	Name   string
	// Allow: consume (fetch and acknowledge), manage (create, change and delete).
	Allow []Access
	// Filter limits what manage can have the consumer deliver to one of these subjects.
	Filter []string
}

// Expand returns the subjects to publish to, or what is wrong.
func (m ConsumerMacro) Expand() (PermissionRules, []MacroProblem) {
	e := newExpansion(m.Domain)
	e.stream("stream", m.Stream)
	e.name("name", m.Name)
	e.subjects("filter", m.Filter)
	asks := e.asks(m.Allow)
	if asks(Consume) || asks(Manage) {
		e.call("CONSUMER.INFO", m.Stream, m.Name)
	}
	if asks(Consume) {
		e.call("CONSUMER.MSG.NEXT", m.Stream, m.Name)
		e.acknowledge(m.Stream, m.Name)
		e.flow(m.Stream, m.Name)
	}
	switch {
	case asks(Manage):
		if len(m.Filter) == 0 {
			e.call("CONSUMER.CREATE", m.Stream, m.Name)
			e.call("CONSUMER.CREATE", m.Stream, m.Name, ">")
		}
		for _, f := range m.Filter {
			e.call("CONSUMER.CREATE", m.Stream, m.Name, f)
		}
		e.call("CONSUMER.DELETE", m.Stream, m.Name)
	case len(m.Filter) > 0:
		e.problem("filter", "limits manage, which is not allowed: the filter of a consumer that exists is its own. Leave it out")
	}
	return e.result()
}
