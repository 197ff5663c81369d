package store

import (
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// UserKey is the key of a direct user: somebody holds a user JWT for it.
type UserKey struct {
	Key       string // public key
	Account   string // name of the account
	AccountID string
	Issuer    string // exact iss of the identity whose it is
	Subject   string
	Name      string // principal name
	Program   string // of the identity, when the key is a program's
	Issued    time.Time
	Expires   time.Time // of the user JWT; zero: never
	// Obtained says by which sign-ups the identity got the user JWTs that have not ended, the oldest first. [Store.AddUserKey]
	// is given the one that is made, and adds it to those that are kept.
	Obtained []Obtained
}

// Obtained is a sign-up by which a user JWT was got.
type Obtained struct {
	Session string    `json:"session,omitempty"` // sid of the token
	Token   string    `json:"token,omitempty"`   // jti of the token
	Untold  bool      `json:"untold,omitempty"`  // it stands for several, whose sessions and tokens are not kept
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires,omitzero"` // of the user JWT; zero: never
}

// maxObtained bounds the sign-ups that are told apart. A key is renewed a few times in the life of its user JWT.
const maxObtained = 16

// After returns the sign-ups of a key that are kept after those before: whose user JWTs have ended when the newest was issued
// leave, and the oldest ones beyond 16 become a single one that is not told apart.
func (k UserKey) After(before []Obtained) []Obtained {
	list := slices.DeleteFunc(slices.Clone(before), func(o Obtained) bool { return !o.Expires.IsZero() && !o.Expires.After(k.Issued) })
	for _, o := range k.Obtained {
		list = slices.DeleteFunc(list, func(b Obtained) bool {
			same := !b.Untold && b.Session == o.Session && b.Token == o.Token
			if same {
				o.Expires = laterEnd(b.Expires, o.Expires)
			}
			return same
		})
		list = append(list, o)
	}
	for len(list) > maxObtained {
		list[1] = Obtained{Untold: true, Issued: list[1].Issued, Expires: laterEnd(list[0].Expires, list[1].Expires)}
		list = list[1:]
	}
	return list
}

// ObtainedBy returns the sign-ups of the key that were made in the login session or with the token that the target is, or
// of which that is not known. The key may be a program's: whoever signed it up said so.
func (k UserKey) ObtainedBy(t policy.Target) (list []Obtained) {
	if t.Issuer != k.Issuer || t.Subject != "" && t.Subject != k.Subject {
		return nil
	}
	scope := t.Scope()
	for _, o := range k.Obtained {
		if scope == policy.OfSession && (o.Untold || o.Session == t.Session) || scope == policy.OfToken && (o.Untold || o.Token == t.Token) {
			list = append(list, o)
		}
	}
	return list
}

// laterEnd returns the later of both ends, where zero is never.
func laterEnd(a, b time.Time) time.Time {
	if a.IsZero() || b.IsZero() {
		return time.Time{}
	}
	if a.After(b) {
		return a
	}
	return b
}

// UserKeyFilter chooses user keys; zero fields do not filter.
type UserKeyFilter struct {
	Principal policy.Principal // issuer URL and subject, or the issuer URL alone
	AccountID string
	Key       string
	Program   string
	ValidAt   time.Time // only those that have not expired then
	Limit     int
	Cursor    string
}
