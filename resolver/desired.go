package resolver

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Desired claims of an account are a base, which is what others made of it, with an overlay, which is what
// revocations ask for: desired = base ⊕ overlay. All of this file is pure.

// overlay is what revocations, and the record of an adopted account, ask of the claims of one account, by place. Of a list of
// revocations it is the second until which credentials are void, of ownLimit the limit; of everything else the value says nothing.
type overlay map[place]int64

// What the record of an adopted account asks for. What revocations ask at the same place comes before it.
const (
	ownKey   part = "own_key"   // that a signing key is there
	ownLimit part = "own_limit" // a limit
	// ownRevision says of which revision of the record all this is; it changes nothing in claims.
	ownRevision part = "own_revision"
)

// Closed are the accounts that Gatehouse itself is in, by id, with the public keys of its users there.
type Closed map[string][]string

// locksOut reports whether a change at the place would end Gatehouse itself, and so everybody's logins.
func (c Closed) locksOut(account string, p place) bool {
	own, closed := c[account]
	return closed && (p.part == limit || p.part == signingKey || p.name == everybody || slices.Contains(own, p.name))
}

// asks returns what the revocations in force at now ask of which account. Keys are those of direct users. What
// would lock Gatehouse out is left out, whoever asks for it.
func asks(revocations []store.Revocation, keys []store.UserKey, closed Closed, leeway time.Duration, now time.Time) map[string]overlay {
	all := map[string]overlay{}
	add := func(account string, p place, at time.Time) {
		if account == "" || closed.locksOut(account, p) {
			return
		}
		if all[account] == nil {
			all[account] = overlay{}
		}
		all[account][p] = max(all[account][p], at.Unix())
	}
	for _, r := range revocations {
		if !r.InForce(now) {
			continue
		}
		for _, p := range placesOf(r) {
			add(r.Account, p, r.At)
		}
		for _, k := range keys {
			if !alive(k, now) {
				continue
			}
			if at, ok := voidUntil(r, k, leeway); ok {
				add(k.AccountID, place{part: revocation, name: k.Key}, at)
			}
		}
	}
	return all
}

func alive(k store.UserKey, now time.Time) bool { return k.Expires.IsZero() || now.Before(k.Expires) }

// placesOf returns where in the claims of its account the revocation itself asks for something.
func placesOf(r store.Revocation) []place {
	switch {
	case r.Kind == policy.Suspension:
		// Both at once: with conn alone a leaf node comes back (measured).
		return []place{{part: limit, name: "conn"}, {part: limit, name: "leaf"}}
	case r.Kind == policy.UserKey:
		return []place{{part: revocation, name: r.Key}}
	case r.Kind == policy.SigningKey:
		return []place{{part: signingKey, name: r.Key}}
	case r.Kind == policy.Activation:
		return []place{{activation, r.Export, r.Key}}
	case r.Kind == policy.Logout && r.Scope() == policy.OfAccount:
		return []place{{part: revocation, name: everybody}}
	default:
		return nil
	}
}

// voidUntil returns until when the revocation voids the key's user JWTs; false when it does not, or itself has a place
// for them. Of a session or a token it voids up to the newest that was got with one: what the key has got since is good.
func voidUntil(r store.Revocation, k store.UserKey, leeway time.Duration) (at time.Time, ok bool) {
	if scope := r.Scope(); scope != policy.OfSession && scope != policy.OfToken {
		if !reaches(r, k) {
			return at, false
		}
		return voids(r, k, leeway)
	}
	for _, o := range k.ObtainedBy(r.Target) {
		if o.Issued.After(at) {
			at, ok = o.Issued, true
		}
	}
	return at, ok
}

// reaches reports whether the revocation concerns whoever obtained the key. Of a block by claims that is
// everybody of the issuer: which claims an owner has now nobody knows.
func reaches(r store.Revocation, k store.UserKey) bool {
	switch r.Scope() {
	case policy.OfIdentity:
		return r.Issuer == k.Issuer && r.Subject == k.Subject && (k.Program == "" || r.Programs)
	case policy.OfIssuer:
		return r.Issuer == k.Issuer
	case policy.OfMatch:
		return r.Issuer == k.Issuer && (r.Account == "" || r.Account == k.AccountID)
	case policy.OfAccount:
		return r.Kind == policy.Logout && r.Account == k.AccountID
	case policy.OfKey:
		return r.Kind == policy.UserKey && r.Account == k.AccountID && r.Key == k.Key
	default:
		return false
	}
}

// voids returns until when the key's user JWTs are void; false when the revocation itself has a place for them.
// Who is meant in person gets nothing any more, so that the newest is void too. Others may have a new one at
// once: what was issued within the leeway is void as a token of that moment is.
func voids(r store.Revocation, k store.UserKey, leeway time.Duration) (at time.Time, ok bool) {
	inLeeway := k.Issued.After(r.At) && !k.Issued.After(r.At.Add(leeway))
	switch {
	case r.Scope() == policy.OfAccount:
		return k.Issued, inLeeway
	case inLeeway, r.Whole() && r.Scope() != policy.OfMatch && k.Issued.After(r.At):
		return k.Issued, true
	default:
		return r.At, true
	}
}

// apply returns base ⊕ o. What revocations ask takes away and never gives: a revocation that base has for longer stays,
// and what one for everybody covers is not repeated.
func (o overlay) apply(base *document) *document {
	entries := maps.Clone(base.entries)
	star := place{part: revocation, name: everybody}
	covered := max(number(entries[star]), o[star])
	for p, at := range o {
		switch p.part {
		case limit:
			entries[p] = json.RawMessage("0")
		case ownLimit:
			if in := (place{part: limit, name: p.name}); !o.asks(in) {
				entries[in] = encoded(at)
			}
		case ownKey:
			if in := (place{part: signingKey, name: p.name}); !o.asks(in) && entries[in] == nil {
				entries[in] = encoded(p.name)
			}
		case signingKey:
			delete(entries, p)
		case revocation:
			if p == star || at > covered {
				entries[p] = later(entries[p], at)
			}
		case activation:
			for _, export := range base.exportsOf(p.of) {
				in := place{activation, export, p.name}
				entries[in] = later(entries[in], at)
			}
		}
	}
	return base.with(entries)
}

func (o overlay) asks(p place) bool {
	_, asked := o[p]
	return asked
}

// later returns the entry of a list of revocations with the later of both seconds.
func later(entry json.RawMessage, at int64) json.RawMessage {
	if entry != nil && number(entry) >= at {
		return entry
	}
	return encoded(at)
}

// holds reports whether claims do what is asked, whoever made them.
func (o overlay) holds(d *document) bool {
	return maps.EqualFunc(o.apply(d).entries, d.entries, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
}

// rebase returns the base that found, made by others while servers were to have desired, leads to: what found
// says, but for the entries in which it is as desired and desired is not as base. Those are ours, and lifting
// them must give what base had.
func rebase(base, desired, found *document) *document {
	entries := maps.Clone(found.entries)
	for _, from := range []*document{base, desired} {
		for p := range from.entries {
			was, wanted, is := base.entries[p], desired.entries[p], found.entries[p]
			if bytes.Equal(was, wanted) || !bytes.Equal(is, wanted) {
				continue
			}
			if was == nil {
				delete(entries, p)
			} else {
				entries[p] = was
			}
		}
	}
	return found.with(entries)
}

// history is what is known of the claims of an account that Gatehouse changes, or changed before; nil documents
// when it never did.
type history struct {
	base, desired *document
	revision      int64
}

// drift says how a server's claims are not those that it was to have.
type drift string

const (
	absent  drift = "absent"  // it has none
	older   drift = "older"   // it has some from before
	foreign drift = "foreign" // others made them
	stored  drift = "stored"  // it stores others than it has applied
)

// Drifts returns the ways in which a server's claims may not be those that it was to have.
func Drifts() []string {
	return []string{string(absent), string(older), string(foreign), string(stored)}
}

// compare says how found differs from the claims that servers were to have; "" when it does not.
func (h history) compare(found *document) drift {
	if found == nil {
		return absent
	}
	if h.desired.same(found) {
		return ""
	}
	if revision, ours := found.ours(); ours && revision <= h.revision {
		return older
	}
	if h.base.same(found) || found.issued() < h.base.issued() {
		return older
	}
	return foreign
}

// errNoClaims says that an account is to be changed that no server has.
var errNoClaims = errors.New("no server has its claims: push them first")

// decision is what becomes of an account's claims.
type decision struct {
	base, desired *document
	push          bool
	drifts        []drift // how servers differed from what they were to have, each once
}

// decide returns what the claims of an account become, from what is known of them, what each server has applied
// (nil: nothing), what others gave it that servers may not have (nil: nothing), and what is asked; nil when there is nothing to do
// with the account. The newest of what others made becomes the base; given counts while it is newer than the base.
func decide(h history, found []*document, given *document, o overlay) (*decision, error) {
	theirs := found
	if given != nil && (h.base == nil || given.issued() > h.base.issued()) {
		theirs = append(slices.Clone(found), given)
	}
	newest := func(keep func(*document) bool) (latest *document) {
		for _, d := range theirs {
			if d != nil && keep(d) && (latest == nil || d.issued() > latest.issued()) {
				latest = d
			}
		}
		return latest
	}
	out := &decision{base: h.base}
	switch {
	case h.base != nil:
		if theirs := newest(func(d *document) bool { return h.compare(d) == foreign }); theirs != nil {
			out.base = rebase(h.base, h.desired, theirs)
		}
		for _, d := range found {
			if how := h.compare(d); how != "" {
				out.drifts = append(out.drifts, how)
			}
		}
	case len(o) == 0:
		return nil, nil
	default:
		if out.base = newest(func(*document) bool { return true }); out.base == nil {
			return nil, errNoClaims
		}
	}
	out.desired = o.apply(out.base)
	out.push = slices.ContainsFunc(found, func(d *document) bool { return d == nil || !out.desired.same(d) })
	if h.base == nil && !out.push {
		return nil, nil // it says so already
	}
	return out, nil
}
