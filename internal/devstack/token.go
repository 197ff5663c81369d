package devstack

import (
	"crypto/rand"
	"maps"
	"time"
)

// MintToken returns a token like the ID token that the provider would give user at login, but for one audience (the
// empty one means Audience) and valid from now for ttl (negative: expired already). Entries of extra replace or join the
// claims, and a nil one removes the claim of its name.
func (k *Keys) MintToken(user User, audience string, ttl time.Duration, extra map[string]any) (string, error) {
	if audience == "" {
		audience = Audience
	}
	now := time.Now()
	claims := user.claims()
	maps.Copy(claims, map[string]any{
		"iss":       k.Issuer(),
		"sub":       user.Name,
		"aud":       []string{audience},
		"azp":       ClientID,
		"iat":       now.Unix(),
		"auth_time": now.Unix(),
		"exp":       now.Add(ttl).Unix(),
		"jti":       rand.Text(),
	})
	maps.Copy(claims, extra)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return k.Sign(nil, claims)
}
