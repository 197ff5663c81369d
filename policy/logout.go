package policy

import "time"

// LogoutToken is a verified logout token: its issuer has ended a login session, or all those of an
// identity. Only package policy/oidc makes one from a token.
type LogoutToken struct {
	Issuer    string    // the issuer's configured name
	Principal           // the exact iss, and the raw sub, which may be empty when there is a session
	Session   string    // sid, may be empty when there is a subject
	TokenID   string    // jti, never empty: the same one again is a replay
	IssuedAt  time.Time // when the issuer ended it, by its own clock
	// Until is when no token from before can be valid any more, so that the logout can be forgotten.
	Until time.Time
}

// Actor names the issuer for the audit trail.
func (l *LogoutToken) Actor() string { return "issuer:" + l.Issuer }

// Revocation returns the logout to store at now: of the session when there is one, else of the
// identity. Its time is by the issuer's clock, as the iat of the identity's tokens is, so that a logout
// that arrives late voids no login that came after it.
func (l *LogoutToken) Revocation(id string, now time.Time) Revocation {
	at := l.IssuedAt
	if at.After(now) {
		at = now
	}
	return Revocation{ID: id, Kind: Logout, At: at, Until: l.Until, Target: Target{Principal: l.Principal, Session: l.Session}}
}
