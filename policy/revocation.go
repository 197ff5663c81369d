package policy

import (
	"maps"
	"slices"
	"time"
)

// RevocationKind tells a block from a logout.
type RevocationKind string

// The kinds of revocation.
const (
	// Block denies an identity until it is lifted or its end comes.
	Block RevocationKind = "block"
	// Logout voids every token that was issued until a point in time.
	Logout RevocationKind = "logout"
)

// Principal is what revocations are keyed on: the exact iss and the raw sub.
type Principal struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// Revocation is a block or a logout of an identity, as far as decisions need it.
type Revocation struct {
	ID        string         `json:"id"`
	Kind      RevocationKind `json:"kind"`
	Principal                // whom it concerns
	At        time.Time      `json:"at"`             // of a logout: the point in time; of a block: when it was made
	Until     time.Time      `json:"until,omitzero"` // of a block: its end; zero means until lifted
}

// foldAt is how many changed principals an index holds apart before it copies its base.
const foldAt = 1024

// Revocations is an immutable index of the revocations in force. Its zero value is empty;
// [Revocations.With] makes the next one at a cost that does not grow with its size.
type Revocations struct {
	base  map[Principal][]Revocation // shared between generations, never written
	delta map[Principal][]Revocation // what changed since base; an empty list means none
	count int
}

// NewRevocations returns the index of all of rs.
func NewRevocations(rs []Revocation) *Revocations {
	base := make(map[Principal][]Revocation, len(rs))
	for _, r := range rs {
		base[r.Principal] = append(base[r.Principal], r)
	}
	return &Revocations{base: base, count: len(rs)}
}

// RevocationChange is a revocation that was made or lifted.
type RevocationChange struct {
	Revocation Revocation
	Lifted     bool
}

// With returns the index after the changes, in order. A revocation that is in the index
// already is replaced; lifting one that is not there changes nothing.
func (x *Revocations) With(changes ...RevocationChange) *Revocations {
	next := &Revocations{base: x.base, delta: maps.Clone(x.delta), count: x.count}
	if next.delta == nil {
		next.delta = make(map[Principal][]Revocation, len(changes))
	}
	for _, c := range changes {
		old := next.of(c.Revocation.Principal)
		list := slices.DeleteFunc(slices.Clone(old), func(r Revocation) bool { return r.ID == c.Revocation.ID })
		if !c.Lifted {
			list = append(list, c.Revocation)
		}
		next.count += len(list) - len(old)
		next.delta[c.Revocation.Principal] = list
	}
	if len(next.delta) > foldAt {
		next.fold()
	}
	return next
}

func (x *Revocations) fold() {
	base := make(map[Principal][]Revocation, len(x.base)+len(x.delta))
	maps.Copy(base, x.base)
	for p, list := range x.delta {
		if len(list) == 0 {
			delete(base, p)
		} else {
			base[p] = list
		}
	}
	x.base, x.delta = base, nil
}

// Len returns how many revocations the index holds.
func (x *Revocations) Len() int { return x.count }

// of returns the revocations of p; x may be nil.
func (x *Revocations) of(p Principal) []Revocation {
	if x == nil {
		return nil
	}
	if list, ok := x.delta[p]; ok {
		return list
	}
	return x.base[p]
}

// Blocked returns the block that denies p at now, if there is one.
func (x *Revocations) Blocked(p Principal, now time.Time) (Revocation, bool) {
	for _, r := range x.of(p) {
		if r.Kind == Block && (r.Until.IsZero() || now.Before(r.Until)) {
			return r, true
		}
	}
	return Revocation{}, false
}

// LoggedOut returns the latest logout of p, if there is one.
func (x *Revocations) LoggedOut(p Principal) (Revocation, bool) {
	var latest Revocation
	found := false
	for _, r := range x.of(p) {
		if r.Kind == Logout && (!found || r.At.After(latest.At)) {
			latest, found = r, true
		}
	}
	return latest, found
}
