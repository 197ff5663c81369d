package store

import (
	"encoding/json"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// Revocation is a block, a logout or their like, with who made it and why, and how far it is carried out.
type Revocation struct {
	policy.Revocation
	Reason   string
	Actor    string
	LiftedAt time.Time // zero: not lifted
	LiftedBy string
	LiftNote string // why it was lifted

	// Position is where the feed says that it was made, or that it was lifted when it was. The zero
	// value is of one that a release before has made.
	Position Position
	DoneAt   time.Time       // when it was carried out; zero: not yet
	Progress json.RawMessage // what whoever carries it out has saved last, at most [MaxProgress] bytes
}

// InForce reports whether the revocation has an effect at now.
func (r Revocation) InForce(now time.Time) bool {
	return r.LiftedAt.IsZero() && r.Revocation.InForce(now)
}

// Lift ends a revocation before its time.
type Lift struct {
	ID    string
	At    time.Time
	Actor string
	Note  string
}

// MaxPage is the most entries of one page; a filter's limit of 0 or more than that means it.
const MaxPage = 1000

// MaxProgress bounds the progress of a revocation in bytes of JSON.
const MaxProgress = 256 << 10

// RevocationFilter chooses revocations; zero fields do not filter.
type RevocationFilter struct {
	ID        string
	Target    policy.Target // each field that is set must be equal
	Kind      policy.RevocationKind
	Actor     string
	InForceAt time.Time // only those in force at that time
	Since     time.Time // made then or later
	Before    time.Time // made before
	Limit     int
	Cursor    string
}
