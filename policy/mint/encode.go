package mint

import (
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/base32"
	"encoding/base64"
	"time"

	"github.com/nats-io/jwt/v2"
)

// The library (jwt/v2, claims.go) marshals by reflection, twice, and copies the text five times, which costs half
// of a signature and most of a login's garbage. What is here writes the same bytes into one buffer.

// header is the first part of every JWT, with its dot.
var header = base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`)) + "."

var unpadded = base32.StdEncoding.WithPadding(base32.NoPadding)

// version of the JWTs: jwt/v2 writes no other, and does not export it.
const version = 2

// usual is room for the claims of most logins, so that they need no memory of their own.
const usual = 4096

// AppendResponse appends the authorization response as a JWT, issued now by the key. It sets the claims' issuer, time
// of issue, id, type and version, as the library's Encode does.
func AppendResponse(to []byte, c *jwt.AuthorizationResponseClaims, key *Key) []byte {
	c.Type, c.Version = jwt.AuthorizationResponseClaim, version
	var room [usual]byte
	b := append(appendRegistered(room[:0], &c.ClaimsData, key), `,"nats":{`...)
	b = appendString(b, "jwt", c.Jwt)
	b = appendString(b, "error", c.Error)
	b = appendString(b, "issuer_account", c.IssuerAccount)
	b = appendGeneric(b, &c.GenericFields)
	return key.appendSigned(to, append(b, "}}"...))
}

// appendUser appends the user JWT, as [AppendResponse] does.
func appendUser(to []byte, c *jwt.UserClaims, key *Key) []byte {
	c.Type, c.Version = jwt.UserClaim, version
	var room [usual]byte
	b := append(appendRegistered(room[:0], &c.ClaimsData, key), `,"nats":{`...)
	b = appendPermission(b, "pub", &c.Pub)
	b = appendPermission(b, "sub", &c.Sub)
	b = appendResponses(b, "resp", c.Resp)
	b = appendList(b, "src", c.Src)
	b = appendTimes(b, "times", c.Times)
	b = appendString(b, "times_location", c.Locale)
	b = appendNumber(b, "subs", c.Subs)
	b = appendNumber(b, "data", c.Data)
	b = appendNumber(b, "payload", c.NatsLimits.Payload)
	b = appendBool(b, "bearer_token", c.BearerToken)
	b = appendBool(b, "proxy_required", c.ProxyRequired)
	b = appendList(b, "allowed_connection_types", c.AllowedConnectionTypes)
	b = appendString(b, "issuer_account", c.IssuerAccount)
	b = appendGeneric(b, &c.GenericFields)
	return key.appendSigned(to, append(b, "}}"...))
}

// appendRegistered appends the object of the registered claims, without its end, and sets those that are not the
// caller's. The id is the digest of the others.
func appendRegistered(b []byte, c *jwt.ClaimsData, key *Key) []byte {
	c.Issuer, c.IssuedAt, c.ID = key.public, time.Now().Unix(), ""
	var room [usual / 4]byte
	digest := sha512.Sum512_256(append(appendClaims(room[:0], c), '}'))
	c.ID = unpadded.EncodeToString(digest[:])
	return appendClaims(b, c)
}

func appendClaims(b []byte, c *jwt.ClaimsData) []byte {
	b = append(b, '{')
	b = appendString(b, "aud", c.Audience)
	b = appendNumber(b, "exp", c.Expires)
	b = appendString(b, "jti", c.ID)
	b = appendNumber(b, "iat", c.IssuedAt)
	b = appendString(b, "iss", c.Issuer)
	b = appendString(b, "name", c.Name)
	b = appendNumber(b, "nbf", c.NotBefore)
	b = appendString(b, "sub", c.Subject)
	return b
}

// appendSigned appends the JWT of the body.
func (k *Key) appendSigned(to, body []byte) []byte {
	start := len(to)
	to = append(to, header...)
	to = base64.RawURLEncoding.AppendEncode(to, body)
	signature := ed25519.Sign(k.private, to[start:])
	to = append(to, '.')
	return base64.RawURLEncoding.AppendEncode(to, signature)
}
