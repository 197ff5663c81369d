package oidc

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-nats/gatehouse/policy"
)

const (
	maxText      = 1024 // bytes of sub, jti and sid
	maxAudiences = 64   // entries of aud
	// maxDate is the last second of the year 9999, after which times have no RFC 3339 form.
	maxDate = 253402300799
)

// judge returns the identity that the claims of a verified token speak of, and why it is
// refused all the same. The identity is nil when the claims do not make one.
func judge(issuer *Issuer, use use, claims map[string]any, leeway time.Duration, now time.Time) (*policy.Identity, *policy.Refusal) {
	// Security event tokens of which logout tokens are a kind (RFC 8417, Back-Channel Logout
	// 1.0 section 2.4) need not bear a typ, but they all have this claim.
	if _, ok := claims["events"]; ok {
		return nil, policy.Refuse(policy.TokenPurpose, "the token reports an event such as a logout (it has an events claim): send an ID token or a JWT access token")
	}
	id, refusal := identify(issuer, claims)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := use(issuer, claims["aud"]); refusal != nil {
		return id, refusal
	}
	return id, checkTimes(id, issuer.MaxAge, claims, leeway, now)
}

func identify(issuer *Issuer, claims map[string]any) (*policy.Identity, *policy.Refusal) {
	id := &policy.Identity{Issuer: issuer.Name, IssuerURL: issuer.URL, Rules: issuer.Rules, Claims: claims}
	var err error
	if id.Subject, err = text(claims, "sub"); err != nil {
		return nil, policy.Refuse(policy.SubjectInvalid, "%v", err)
	}
	if id.Subject == "" {
		return nil, policy.Refuse(policy.SubjectInvalid, "the token has no sub, or an empty one")
	}
	if id.TokenID, err = text(claims, "jti"); err != nil {
		return nil, policy.Refuse(policy.ClaimsInvalid, "%v", err)
	}
	if id.SessionID, err = text(claims, "sid"); err != nil {
		return nil, policy.Refuse(policy.ClaimsInvalid, "%v", err)
	}
	if id.Expires, err = requiredDate(claims, "exp"); err != nil {
		return nil, policy.Refuse(policy.ClaimsInvalid, "%v", err)
	}
	if id.IssuedAt, err = requiredDate(claims, "iat"); err != nil {
		return nil, policy.Refuse(policy.ClaimsInvalid, "%v", err)
	}
	return id, nil
}

// text returns a claim that is a text of at most [maxText] bytes, empty when there is none.
func text(claims map[string]any, name string) (string, error) {
	v, ok := claims[name]
	if !ok {
		return "", nil
	}
	s, ok := v.(string)
	switch {
	case !ok:
		return "", fmt.Errorf("the token's %s is not a text", name)
	case len(s) > maxText:
		return "", fmt.Errorf("the token's %s has %d bytes, the most accepted are %d", name, len(s), maxText)
	// What JSON escapes to half a surrogate pair decodes to the replacement character: two
	// different texts would become one.
	case strings.ContainsRune(s, 0), strings.ContainsRune(s, utf8.RuneError):
		return "", fmt.Errorf("the token's %s holds a character that is not text", name)
	}
	return s, nil
}

// date returns a claim that is a NumericDate (RFC 7519 section 2), the zero time when there is none.
func date(claims map[string]any, name string) (time.Time, error) {
	v, ok := claims[name]
	if !ok {
		return time.Time{}, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, fmt.Errorf("the token's %s is not a number", name)
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil || f < 0 || f > maxDate {
		return time.Time{}, fmt.Errorf("the token's %s is not a number of seconds since 1970", name)
	}
	seconds, fraction := math.Modf(f)
	return time.Unix(int64(seconds), int64(fraction*1e9)).UTC(), nil
}

func requiredDate(claims map[string]any, name string) (time.Time, error) {
	at, err := date(claims, name)
	if err == nil && at.IsZero() {
		err = fmt.Errorf("the token has no %s", name)
	}
	return at, err
}

// use says why a token whose aud claim this is cannot be used for something; nil when it can.
type use func(issuer *Issuer, aud any) *policy.Refusal

// toLogIn takes tokens for logins, also those that are for something else besides.
func toLogIn(issuer *Issuer, aud any) *policy.Refusal { return CheckAudience(aud, issuer.Audiences) }

// toAdminister takes tokens that are made for administration and not for logins: those pass through the
// hands of programs that are trusted with less.
func toAdminister(issuer *Issuer, aud any) *policy.Refusal {
	if CheckAudience(aud, issuer.Audiences) == nil {
		return policy.Refuse(policy.LoginToken, "the token is one for logins, its aud holds one of %s: administration takes tokens for %s alone",
			quoted(issuer.Audiences), orNone(issuer.AdminAudiences))
	}
	r := CheckAudience(aud, issuer.AdminAudiences)
	if r != nil && r.Reason == policy.AudienceRefused {
		return policy.Refuse(policy.AdminAudienceRefused, "the token is not for administration, its aud must name one of %s", orNone(issuer.AdminAudiences))
	}
	return r
}

func orNone(audiences []string) string {
	if len(audiences) == 0 {
		return "the issuer's admin_audiences, of which none are configured"
	}
	return quoted(audiences)
}

// CheckAudience refuses a token whose aud claim, a text or a list of texts, names none of the accepted audiences.
func CheckAudience(aud any, accepted []string) *policy.Refusal {
	var named []any
	switch aud := aud.(type) {
	case nil:
	case string:
		named = []any{aud}
	case []any:
		named = aud
	default:
		return policy.Refuse(policy.ClaimsInvalid, "the token's aud is neither a text nor a list of texts")
	}
	switch {
	case len(named) == 0:
		return policy.Refuse(policy.AudienceRefused, "the token has no aud, it must name one of %s", quoted(accepted))
	case len(named) > maxAudiences:
		return policy.Refuse(policy.ClaimsInvalid, "the token's aud has %d entries, the most accepted are %d", len(named), maxAudiences)
	}
	texts := make([]string, len(named))
	for i, a := range named {
		var ok bool
		if texts[i], ok = a.(string); !ok {
			return policy.Refuse(policy.ClaimsInvalid, "the token's aud is neither a text nor a list of texts")
		}
	}
	if !slices.ContainsFunc(texts, func(a string) bool { return slices.Contains(accepted, a) }) {
		return policy.Refuse(policy.AudienceRefused, "the token is for %s, it must name one of %s", quoted(texts), quoted(accepted))
	}
	return nil
}

// quoted returns the first few texts for an operator to read.
func quoted(texts []string) string {
	const most = 4
	var quotes []string
	for i, s := range texts {
		if i == most {
			quotes = append(quotes, "…")
			break
		}
		quotes = append(quotes, strconv.Quote(clip(s)))
	}
	return strings.Join(quotes, ", ")
}

func checkTimes(id *policy.Identity, maxAge time.Duration, claims map[string]any, leeway time.Duration, now time.Time) *policy.Refusal {
	notBefore, err := date(claims, "nbf")
	latest := now.Add(leeway)
	switch {
	case err != nil:
		return policy.Refuse(policy.ClaimsInvalid, "%v", err)
	case !now.Before(id.Expires.Add(leeway)):
		return policy.Refuse(policy.TokenExpired, "the token expired %s ago", seconds(now.Sub(id.Expires)))
	case notBefore.After(latest):
		return policy.Refuse(policy.TokenNotYet, "the token is valid in %s (nbf)", seconds(notBefore.Sub(now)))
	case id.IssuedAt.After(latest):
		return policy.Refuse(policy.TokenNotYet, "the token was issued in %s from now (iat): compare the issuer's clock with this host's", seconds(id.IssuedAt.Sub(now)))
	case maxAge > 0 && now.Sub(id.IssuedAt) > maxAge+leeway:
		return policy.Refuse(policy.TokenTooOld, "the token was issued %s ago, the most accepted is %s", seconds(now.Sub(id.IssuedAt)), maxAge)
	}
	return nil
}

func seconds(d time.Duration) time.Duration { return d.Round(time.Second) }
