package policy

import (
	"crypto/ed25519"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// ProofWindow is how far the time in a proof of sign-up may be from the service's, either way.
const ProofWindow = 30 * time.Second

// maxProgram bounds the name of a program in bytes.
const maxProgram = 32

// Direct lets those who get a grant hold user JWTs for own keys, with which servers admit them without
// asking anybody.
type Direct struct {
	TTL  time.Duration // longest life of a user JWT
	Keys int           // the most keys at a time with a user JWT that has not ended, for each identity in the account
}

// SignUp asks for a user JWT for an own key rather than for one connection.
type SignUp struct {
	Key string // the public key: of a user (U…), or of an account (A…) that is asked for
	// Statement is what the proof has to be a signature of, as the service itself makes it of what it
	// was sent; its time is At.
	Statement []byte
	Signature string // in base64; made with the key
	At        time.Time
}

// proven returns nil when the proof is of now and was made with the key that a user JWT is asked for,
// which must also be the one that the token is bound to, where it is bound.
func (s *SignUp) proven(bound *BoundKey, now time.Time) *Refusal {
	public, ok := decodeUserKey(s.Key)
	if !ok {
		return Refuse(SignUpProofInvalid, "%q is not a user public key (U…)", clip(s.Key))
	}
	if r := s.Signed(public, now); r != nil {
		return r
	}
	switch {
	case bound == nil:
		return nil
	case bound.Uncheckable:
		return Refuse(KeyUncheckable, "the token is bound to %s", bound)
	}
	if own, ok := bound.public(s.Key); !ok || !own.Equal(public) {
		return Refuse(KeyProofInvalid, "the token is bound to %s, and a user JWT is asked for key %s", bound, s.Key)
	}
	return nil
}

// Signed returns nil when the proof is of now and was made with the public key.
func (s *SignUp) Signed(public ed25519.PublicKey, now time.Time) *Refusal {
	signature, ok := decodeSignature(s.Signature)
	if !ok || !ed25519.Verify(public, s.Statement, signature) {
		return Refuse(SignUpProofInvalid, "the proof is not key %s's signature of this request", s.Key)
	}
	if off := now.Sub(s.At); off > ProofWindow || off < -ProofWindow {
		return Refuse(SignUpProofStale, "the proof was made at %s, and it is %s here: at most %s may lie between", s.At.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), ProofWindow)
	}
	return nil
}

// terms returns on what terms, and for which connections, the identity may hold user JWTs by the decision, or why
// it may hold none. Every binding that grants something has to permit it: one that does not may be there to deny.
func (d *Decision) terms(grants []*Binding) (Direct, []netip.Prefix, []ConnectionType, *Refusal) {
	terms := Direct{}
	source, anywhere, types := []netip.Prefix(nil), true, ConnectionTypes()
	for _, b := range grants {
		if b.Direct == nil {
			return terms, nil, nil, Refuse(DirectNotGranted, "binding %s, which matches too, does not permit direct users in account %s: its grant has no direct", b.Name, d.Account.Name)
		}
		if terms.TTL == 0 || b.Direct.TTL < terms.TTL {
			terms.TTL = b.Direct.TTL
		}
		if terms.Keys == 0 || b.Direct.Keys < terms.Keys {
			terms.Keys = b.Direct.Keys
		}
		if len(b.Source) > 0 {
			source, anywhere = meet(source, b.Source, anywhere), false
		}
		types = slices.DeleteFunc(types, func(t ConnectionType) bool { return !b.Accepts(t) })
	}
	switch {
	case d.Account.ByName:
		return terms, nil, nil, Refuse(DirectNotGranted, "servers without an operator know no direct users")
	case len(types) == 0:
		return terms, nil, nil, Refuse(ConnectionTypeRefused, "the bindings have no type of connection in common")
	case d.ScopedKey != "" && (d.RestrictType || !anywhere):
		return terms, nil, nil, Refuse(DirectNotGranted, "a user of a scoped signing key cannot be limited to addresses or types of connection, as a binding asks")
	}
	return terms, source, types, nil
}

// permit makes the decision one for a user JWT of the key, or says why there is none.
func (d *Decision) permit(signUp *SignUp, s *Snapshot, grants []*Binding, now time.Time) *Refusal {
	terms, source, types, refusal := d.terms(grants)
	if refusal != nil {
		return refusal
	}
	if r, ok := s.Revocations.OfKey(UserKey, d.Account.ID, signUp.Key, now); ok {
		refusal := Refuse(UserKeyRevoked, "key %s is revoked in account %s by %s", signUp.Key, d.Account.Name, r.ID)
		refusal.RetryAfter = until(r, now)
		return refusal
	}
	d.Key, d.Direct, d.Source, d.Types = signUp.Key, &terms, source, types
	d.TTL, d.Expires = terms.TTL, earliest(now.Add(terms.TTL), grants)
	return nil
}

// tell says in a decision on a login what the identity would get at sign-up.
func (d *Decision) tell(grants []*Binding) {
	if slices.ContainsFunc(grants, func(b *Binding) bool { return b.Direct == nil }) {
		return // nearly every login
	}
	if terms, _, _, refusal := d.terms(grants); refusal == nil {
		d.Direct = &terms
	}
}

// meet returns the addresses that are in both lists, where anywhere stands for a first list of all of them.
func meet(a, b []netip.Prefix, anywhere bool) []netip.Prefix {
	if anywhere {
		return slices.Clone(b)
	}
	var both []netip.Prefix
	for _, p := range a {
		for _, q := range b {
			switch {
			case Holds(p, q):
				both = append(both, q)
			case Holds(q, p):
				both = append(both, p)
			}
		}
	}
	slices.SortFunc(both, netip.Prefix.Compare)
	return slices.Compact(both)
}

// Longest returns the longest lives that the rules give to credentials of connections, and to user JWTs of direct users; zero
// where there are none.
func (r *Rules) Longest() (credential, direct time.Duration) {
	of := func(ttl time.Duration, d *Direct) {
		credential = max(credential, ttl)
		if d != nil {
			direct = max(direct, d.TTL)
		}
	}
	for _, lists := range []map[string][]*Binding{r.Bindings, r.Creates, r.Lobby} {
		for _, bindings := range lists {
			for _, b := range bindings {
				of(b.TTL, b.Direct)
			}
		}
	}
	for _, p := range r.Plans {
		of(p.TTL, p.Direct)
	}
	return credential, direct
}

// IsProgram reports whether the text can name a program: 1 to 32 of a-z, 0-9, _ and -.
func IsProgram(name string) bool {
	return name != "" && len(name) <= maxProgram && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// ProgramName returns the name of an identity's program, `prog-<program>-<26 characters of a-z2-7>`, which
// no program of another identity has: a single safe NATS subject token.
func ProgramName(program, issuerURL, subject string) string {
	return "prog-" + program + "-" + digest("gatehouse program\n", issuerURL, subject)
}
