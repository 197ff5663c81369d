package oidc

import (
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy"
)

const maxKeyID = 512 // bytes of a kid

// token is a JWT whose signature has not been verified yet.
type token struct {
	jws       *jose.JSONWebSignature // nil once it has verified
	algorithm string                 // asymmetric
	keyID     string                 // may be empty
	issuer    string
	claims    map[string]any
}

// parse reads a signed JWT in its compact form (RFC 7515 section 7.1) of at most most bytes, made for
// the purpose as far as its header says. Everything it does costs time linear in the length.
func parse(raw string, most int, made purpose) (*token, *policy.Refusal) {
	switch {
	case raw == "":
		return nil, policy.Refuse(policy.TokenMissing, "the token is empty")
	case len(raw) > most:
		return nil, policy.Refuse(policy.TokenTooLarge, "the token has %d bytes, the most accepted are %d", len(raw), most)
	}
	if refusal := checkShape(raw); refusal != nil {
		return nil, refusal
	}
	t, refusal := parseHeader(raw[:strings.IndexByte(raw, '.')], made)
	if refusal != nil {
		return nil, refusal
	}
	var err error
	if t.jws, err = jose.ParseSignedCompact(raw, asymmetric); err != nil {
		return nil, policy.Refuse(policy.TokenMalformed, "the token is not a JWS: %v", err)
	}
	if t.claims, err = decodeObject(t.jws.UnsafePayloadWithoutVerification()); err != nil {
		return nil, policy.Refuse(policy.TokenMalformed, "the token's payload cannot be used: %v", err)
	}
	var ok bool
	if t.issuer, ok = t.claims["iss"].(string); !ok {
		return nil, policy.Refuse(policy.IssuerUnknown, "the token has no iss, or one that is not a text")
	}
	return t, nil
}

// checkShape refuses what is not three parts of base64url. The signature may be empty here:
// an unsigned token is better refused for its alg.
func checkShape(raw string) *policy.Refusal {
	dots := 0
	for i := range len(raw) {
		switch c := raw[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.':
			dots++
		default:
			return policy.Refuse(policy.TokenMalformed, "what was sent is not a JWT: byte %d is not base64url", i)
		}
	}
	switch {
	case dots == 4:
		return policy.Refuse(policy.TokenMalformed, "what was sent has five parts, as encrypted tokens (JWE) have: have the issuer sign without encrypting")
	case dots != 2 || raw[0] == '.' || strings.Contains(raw, ".."):
		return policy.Refuse(policy.TokenMalformed, "what was sent is not a JWT of three parts: it may be an opaque access token, or cut short")
	}
	for part := range strings.SplitSeq(raw, ".") {
		if !canonical(part) {
			return policy.Refuse(policy.TokenMalformed, "a part of the token is not base64url as an issuer writes it: it was cut short or changed")
		}
	}
	return nil
}

// canonical reports whether the last character of a base64url text holds no bits that decoding
// drops: a decoder that is not strict takes several texts for the same bytes, so that one
// signature would stand for several tokens.
func canonical(part string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if part == "" {
		return true
	}
	last := strings.IndexByte(alphabet, part[len(part)-1])
	switch len(part) % 4 {
	case 1:
		return false
	case 2:
		return last&15 == 0
	case 3:
		return last&3 == 0
	default:
		return true
	}
}

// parseHeader reads the protected header, given as base64url.
func parseHeader(encoded string, made purpose) (*token, *policy.Refusal) {
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nil, policy.Refuse(policy.TokenMalformed, "the token's header is not base64url")
	}
	header, err := decodeObject(data)
	if err != nil {
		return nil, policy.Refuse(policy.TokenMalformed, "the token's header cannot be used: %v", err)
	}
	t := new(token)
	var ok bool
	if t.algorithm, ok = header["alg"].(string); !ok {
		return nil, policy.Refuse(policy.TokenMalformed, "the token's header has no alg, or one that is not a text")
	}
	if !isAsymmetric(t.algorithm) {
		return nil, policy.Refuse(policy.AlgorithmRefused, "the token is signed with %q, which is accepted of nobody: have the issuer use RS256, ES256 or EdDSA", clip(t.algorithm))
	}
	// RFC 7515 section 4.1.11: what is critical must be understood, and no extension is.
	// Without crit, b64 (RFC 7797) would have to be ignored, which not every reader does.
	for _, name := range []string{"crit", "b64"} {
		if _, ok := header[name]; ok {
			return nil, policy.Refuse(policy.TokenMalformed, "the token's header holds %s, which is not supported", name)
		}
	}
	if typ, found := header["typ"]; found {
		name, ok := typ.(string)
		if !ok {
			return nil, policy.Refuse(policy.TokenMalformed, "the token's typ is not a text")
		}
		if !made.has(name) {
			return nil, policy.Refuse(policy.TokenPurpose, "the token is a %q: %s", clip(name), made.send)
		}
	}
	if kid, found := header["kid"]; found {
		if t.keyID, ok = kid.(string); !ok || len(t.keyID) > maxKeyID {
			return nil, policy.Refuse(policy.TokenMalformed, "the token's kid is not a text of at most %d bytes", maxKeyID)
		}
	}
	return t, nil
}

// purpose is what tokens are made for, as typ says.
type purpose struct {
	typ  string // the explicit type (RFC 8725 section 3.11)
	send string // what to send in place of a token of another purpose
}

var (
	forLogin  = purpose{"at+jwt", "send an ID token or a JWT access token"} // RFC 9068; ID tokens have no explicit type
	forLogout = purpose{"logout+jwt", "this is where logout tokens are sent"}
)

// has reports whether typ does not mark a JWT as one of another purpose. Those that bear an explicit
// type, such as secevent+jwt and dpop+jwt, were made for one purpose alone, so that an unknown one is
// refused as well. Of the providers that send logout tokens some give them none, or JWT.
func (p purpose) has(typ string) bool {
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/") // RFC 7515 section 4.1.9
	return !strings.HasSuffix(typ, "+jwt") || typ == p.typ
}
