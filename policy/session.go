package policy

import (
	"slices"
	"strings"
	"time"
)

// Session is a live connection of a user as a server shows it.
type Session struct {
	ServerID   string
	Server     string // its name
	CID        uint64
	Name       string // as the server shows the user: a principal name, or a direct user's public key
	Account    string // id
	SigningKey string // that signed the user JWT
	Source     string // the client's address
	Type       ConnectionType
	Client     string // its library and version
	Since      time.Time
	Login      *Login // what is recorded of it; nil when nothing is
}

// Direct reports whether the user holds a user JWT of its own rather than having logged in by a token.
func (s *Session) Direct() bool { return IsUserKey(s.Name) }

// Login is what is recorded of how a session began: of a callout user its login, of a direct user
// how its key was obtained.
type Login struct {
	RequestID string
	Replica   string // that decided
	Principal
	Session  string    // sid of the token
	Token    string    // jti of the token
	Issued   time.Time // iat of the token, of a direct user its JWT's; zero when that is not recorded
	Expires  time.Time // of the credential
	Bindings []string
	Roles    []string
	Program  string            // of a direct user that is a program
	Display  map[string]string // claims that people are known by
	Claims   map[string]any    // those that are recorded; nil when none are
}

// Ends reports whether the session must be closed for the revocation, where issuer is the configured name
// of the revocation's issuer ("" when it has none any more). A callout user of whom nothing is recorded that
// tells it apart is taken for one who is meant: whoever is not comes back, and is decided on anew.
func (r Revocation) Ends(s *Session, issuer string, leeway time.Duration) bool {
	if !r.means(s, issuer) {
		return false
	}
	if r.Whole() || s.Login == nil || s.Login.Issued.IsZero() {
		return true
	}
	return !s.Login.Issued.After(r.At.Add(leeway))
}

// means reports whether the session is one of the revocation's target, whenever it began.
func (r Revocation) means(s *Session, issuer string) bool {
	switch r.Kind {
	case UserKey:
		return s.Account == r.Account && s.Name == r.Key
	case SigningKey:
		return s.Account == r.Account && s.SigningKey == r.Key
	case Activation:
		return false
	}
	scope := r.Scope()
	if scope == OfAccount {
		return s.Account == r.Account
	}
	if !s.of(r.Issuer, issuer) || r.Account != "" && r.Account != s.Account {
		return false
	}
	if r.Subject != "" && !s.ofSubject(r.Subject, issuer) {
		return false
	}
	if scope == OfIdentity && !r.Programs && s.Login != nil && s.Login.Program != "" {
		return false // its key is not revoked either
	}
	l := s.Login
	// A login that a release before recorded says nothing of its session.
	untold := l == nil || l.Issued.IsZero()
	switch scope {
	case OfSession:
		return untold || l.Session == r.Session
	case OfToken:
		return untold || l.Token == r.Token
	case OfMatch:
		return untold || index(r).mayMeet(l.Claims)
	default:
		return true
	}
}

// of reports whether the session is of an identity of the issuer, given by its URL and its configured name.
func (s *Session) of(url, name string) bool {
	if s.Login != nil && s.Login.Issuer == url {
		return true
	}
	return name != "" && strings.HasPrefix(s.Name, name+"-")
}

func (s *Session) ofSubject(subject, issuer string) bool {
	if s.Login != nil && s.Login.Subject == subject {
		return true
	}
	return issuer != "" && s.Name == PrincipalName(issuer, subject)
}

// mayMeet reports whether claims of which only some are recorded may be those that the match means.
func (in indexed) mayMeet(recorded map[string]any) bool {
	return !slices.ContainsFunc(in.match, func(c Condition) bool {
		v, known := c.Claim.Lookup(recorded)
		return known && !c.matchValue(v)
	})
}
