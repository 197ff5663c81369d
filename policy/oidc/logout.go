package oidc

import (
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
)

const (
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// maxLogoutAge is how long ago a logout token may have been issued: providers make one for each
	// request. Those that were used must be remembered for longer.
	maxLogoutAge = 5 * time.Minute
	// minLogoutLife is how long a logout is known at least: a server that is cut off for less is still
	// swept when it comes back.
	minLogoutLife = 24 * time.Hour
)

// judgeLogout returns what the claims of a verified logout token end, or why it is refused
// (Back-Channel Logout 1.0 section 2.6). Older releases of Keycloak send no exp: its age bounds such
// a token all the same.
func judgeLogout(issuer *Issuer, claims map[string]any, leeway time.Duration, now time.Time) (*policy.LogoutToken, *policy.Refusal) {
	if len(issuer.Logout.Audiences) == 0 {
		return nil, policy.Refuse(policy.AudienceRefused, "issuer %s may not log anybody out: name the client id in its logout.audiences", issuer.Name)
	}
	if !reportsLogout(claims["events"]) {
		return nil, policy.Refuse(policy.TokenPurpose, "the token is no logout token: its events hold no empty object %s", logoutEvent)
	}
	// Whoever has an ID token must not be able to pass it for a logout token.
	if _, found := claims["nonce"]; found {
		return nil, policy.Refuse(policy.TokenPurpose, "the token is no logout token: it has a nonce")
	}
	l, refusal := readLogout(issuer, claims)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := CheckAudience(claims["aud"], issuer.Logout.Audiences); refusal != nil {
		return nil, refusal
	}
	if refusal := checkLogoutTimes(l, claims, leeway, now); refusal != nil {
		return nil, refusal
	}
	// A token from before was issued, by a clock that may be ahead by the leeway, until now.
	l.Until = now.Add(max(issuer.MaxAge, minLogoutLife) + 2*leeway)
	if issuer.Logout.EndIdentity && l.Subject != "" {
		l.Session = ""
	}
	return l, nil
}

// reportsLogout reports whether an events claim says that somebody was logged out. Others may be
// beside it: Keycloak adds revoke_offline_access.
func reportsLogout(events any) bool {
	all, _ := events.(map[string]any)
	event, ok := all[logoutEvent].(map[string]any)
	return ok && len(event) == 0
}

func readLogout(issuer *Issuer, claims map[string]any) (*policy.LogoutToken, *policy.Refusal) {
	l := &policy.LogoutToken{Issuer: issuer.Name, Principal: policy.Principal{Issuer: issuer.URL}}
	var err error
	if l.Subject, err = text(claims, "sub"); err != nil {
		return nil, policy.Refuse(policy.SubjectInvalid, "%v", err)
	}
	if l.Session, err = text(claims, "sid"); err != nil {
		return nil, policy.Refuse(policy.ClaimsInvalid, "%v", err)
	}
	if l.TokenID, err = text(claims, "jti"); err != nil {
		return nil, policy.Refuse(policy.ClaimsInvalid, "%v", err)
	}
	if l.IssuedAt, err = requiredDate(claims, "iat"); err != nil {
		return nil, policy.Refuse(policy.ClaimsInvalid, "%v", err)
	}
	// What is made of a logout stays for long, and these share their text with the token.
	l.Subject, l.Session, l.TokenID = strings.Clone(l.Subject), strings.Clone(l.Session), strings.Clone(l.TokenID)
	switch {
	case l.TokenID == "":
		return nil, policy.Refuse(policy.ClaimsInvalid, "the logout token has no jti: it could be used again and again")
	case l.Subject == "" && l.Session == "":
		return nil, policy.Refuse(policy.SubjectInvalid, "the logout token has neither sub nor sid: it ends nothing")
	}
	return l, nil
}

func checkLogoutTimes(l *policy.LogoutToken, claims map[string]any, leeway time.Duration, now time.Time) *policy.Refusal {
	expires, err := date(claims, "exp")
	switch {
	case err != nil:
		return policy.Refuse(policy.ClaimsInvalid, "%v", err)
	case !expires.IsZero() && !now.Before(expires.Add(leeway)):
		return policy.Refuse(policy.TokenExpired, "the logout token expired %s ago", seconds(now.Sub(expires)))
	case l.IssuedAt.After(now.Add(leeway)):
		return policy.Refuse(policy.TokenNotYet, "the logout token was issued in %s from now (iat): compare the issuer's clock with this host's", seconds(l.IssuedAt.Sub(now)))
	case now.Sub(l.IssuedAt) > maxLogoutAge+leeway:
		return policy.Refuse(policy.TokenTooOld, "the logout token was issued %s ago, the most accepted is %s", seconds(now.Sub(l.IssuedAt)), maxLogoutAge)
	}
	return nil
}
