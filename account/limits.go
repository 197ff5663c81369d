package account

// NoLimit is what claims say where there is no limit.
const NoLimit = -1

// Limits are an account's limits, [NoLimit] where there is none.
type Limits struct {
	Connections   int64 `json:"connections"`
	LeafNodes     int64 `json:"leaf_nodes"`
	Subscriptions int64 `json:"subscriptions"`
	Payload       int64 `json:"payload"` // bytes of one message
	Data          int64 `json:"data"`    // bytes; servers do not hold to it
	Imports       int64 `json:"imports"`
	Exports       int64 `json:"exports"`
	// JetStream is flat, or by replica tier (R1, R3) in Tiers, never both; neither means none.
	JetStream *JetStream           `json:"jetstream,omitempty"`
	Tiers     map[string]JetStream `json:"tiers,omitempty"`
}

// JetStream limits what an account may store, [NoLimit] where there is none.
type JetStream struct {
	Memory    int64 `json:"memory"`
	Disk      int64 `json:"disk"`
	Streams   int64 `json:"streams"`
	Consumers int64 `json:"consumers"`
}

// LimitsPatch replaces some limits; what is nil stays.
type LimitsPatch struct {
	Connections   *int64               `json:"connections,omitempty"`
	LeafNodes     *int64               `json:"leaf_nodes,omitempty"`
	Subscriptions *int64               `json:"subscriptions,omitempty"`
	Payload       *int64               `json:"payload,omitempty"`
	Data          *int64               `json:"data,omitempty"`
	Imports       *int64               `json:"imports,omitempty"`
	Exports       *int64               `json:"exports,omitempty"`
	JetStream     *JetStream           `json:"jetstream,omitempty"`
	Tiers         map[string]JetStream `json:"tiers,omitempty"`
}

// With returns the limits with what the patch replaces; a nil patch replaces nothing.
func (l Limits) With(p *LimitsPatch) Limits {
	if p == nil {
		return l
	}
	for _, f := range []struct {
		to   *int64
		from *int64
	}{
		{&l.Connections, p.Connections}, {&l.LeafNodes, p.LeafNodes}, {&l.Subscriptions, p.Subscriptions},
		{&l.Payload, p.Payload}, {&l.Data, p.Data}, {&l.Imports, p.Imports}, {&l.Exports, p.Exports},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if p.JetStream != nil || p.Tiers != nil {
		l.JetStream, l.Tiers = p.JetStream, p.Tiers
	}
	return l
}

// Plan is what the configuration lets the accounts of sign-up have.
type Plan struct {
	Name   string
	Limits Limits
	// Roles are the roles that members may have, beside [OwnerRole] if it is one of them.
	Roles []string
	// PerSubject is how many accounts of the plan an identity may own; 0 is none.
	PerSubject int
	// Approval says that an admin must approve each.
	Approval bool
	// Pattern is what names must look like, with * for any characters; empty: any.
	Pattern string
}
