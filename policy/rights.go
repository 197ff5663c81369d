package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Right is what an admin may do; each operation of administration needs one.
type Right string

// The rights.
const (
	RightRevoke   Right = "revoke"   // revoke, lift and list revocations; kick
	RightSessions Right = "sessions" // see who is connected
	RightAccounts Right = "accounts" // manage accounts of sign-up
	RightAudit    Right = "audit"    // read the audit trail
	RightExplain  Right = "explain"  // ask what anybody gets
)

// AllRights returns every right, in the order in which they are shown.
func AllRights() []Right {
	return []Right{RightRevoke, RightSessions, RightAccounts, RightAudit, RightExplain}
}

// Rights returns what the identity may do as an admin who calls from source at now: the rights of all
// bindings that hold for it, at least one, in the order of [AllRights]; or why it has none. The identity
// must be that of a token for administration, which only package policy/oidc can tell; of another one this
// says what such a token with the same claims would get. Another revocation never gives a right. The trace
// may be nil.
//
// A call cannot prove that it holds the key that a token is bound to, as a connection does. Such
// a token gets no rights: whoever stole it would have them as well.
func Rights(s *Snapshot, id *Identity, source netip.Addr, now time.Time, trace *Trace) ([]Right, *Refusal) {
	bindings, r := calls(s, s.Rules.Admins[id.Issuer], id, source, now, trace)
	if r != nil {
		if r.Reason == NoBinding {
			r = Refuse(NoRights, "no binding with grant.admin matches the claims")
		}
		return nil, r
	}
	var rights []Right
	for _, right := range AllRights() {
		if slices.ContainsFunc(bindings, func(b *Binding) bool { return slices.Contains(b.Rights, right) }) {
			rights = append(rights, right)
		}
	}
	if len(rights) == 0 {
		return nil, Refuse(NoRights, "the bindings that match let act for others and give no rights of their own")
	}
	return rights, nil
}

// joined lists rights for people.
func joined(rights []Right) string {
	texts := make([]string, len(rights))
	for i, r := range rights {
		texts[i] = string(r)
	}
	return strings.Join(texts, ", ")
}
