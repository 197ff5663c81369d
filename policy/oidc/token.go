package oidc

import (
	"bytes"
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/gatehouse-nats/gatehouse/policy"
)

const maxKeyID = 512 // bytes of a kid

// token is a JWT whose signature has not been verified yet.
type token struct {
	input     []byte // what is signed; nil once it has verified
	signature []byte // nil once it has verified
	algorithm string // asymmetric
	keyID     string // may be empty
	issuer    string
	claims    map[string]any
}

// parse reads a signed JWT in its compact form (RFC 7515 section 7.1) of at most most bytes, made for
// the purpose as far as its header says. Everything it does costs time linear in the length.
func parse(raw []byte, most int, made purpose) (*token, *policy.Refusal) {
	switch {
	case len(raw) == 0:
		return nil, policy.Refuse(policy.TokenMissing, "the token is empty")
	case len(raw) > most:
		return nil, policy.Refuse(policy.TokenTooLarge, "the token has %d bytes, the most accepted are %d", len(raw), most)
	}
	if refusal := checkShape(raw); refusal != nil {
		return nil, refusal
	}
	header, payload, signature, err := decodeParts(raw)
	if err != nil {
		return nil, policy.Refuse(policy.TokenMalformed, "the token is not base64url: %v", err)
	}
	t, refusal := parseHeader(header, made, raw)
	if refusal != nil {
		return nil, refusal
	}
	if t.claims, err = decodeObject(payload); err != nil {
		return nil, policy.Refuse(policy.TokenMalformed, "the token's payload cannot be used: %v", err)
	}
	t.input, t.signature = raw[:bytes.LastIndexByte(raw, '.')], signature
	var ok bool
	if t.issuer, ok = t.claims["iss"].(string); !ok {
		return nil, policy.Refuse(policy.IssuerUnknown, "the token has no iss, or one that is not a text")
	}
	return t, nil
}

// checkShape refuses what is not three parts of base64url. The signature may be empty here:
// an unsigned token is better refused for its alg.
func checkShape(raw []byte) *policy.Refusal {
	dots := 0
	for i, c := range raw {
		switch {
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
	case dots != 2 || raw[0] == '.' || bytes.Contains(raw, []byte("..")):
		return policy.Refuse(policy.TokenMalformed, "what was sent is not a JWT of three parts: it may be an opaque access token, or cut short")
	}
	for part := range bytes.SplitSeq(raw, []byte(".")) {
		if !canonical(part) {
			return policy.Refuse(policy.TokenMalformed, "a part of the token is not base64url as an issuer writes it: it was cut short or changed")
		}
	}
	return nil
}

// canonical reports whether the last character of a base64url text holds no bits that decoding
// drops: a decoder that is not strict takes several texts for the same bytes, so that one
// signature would stand for several tokens.
func canonical(part []byte) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(part) == 0 {
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

// decodeParts decodes the three parts of a token that [checkShape] has passed.
func decodeParts(raw []byte) (header, payload string, signature []byte, err error) {
	var room [4096]byte // most tokens are shorter
	all := room[:0]
	if most := base64.RawURLEncoding.DecodedLen(len(raw)); most > len(room) {
		all = make([]byte, 0, most)
	}
	var ends [3]int
	n := 0
	for part := range bytes.SplitSeq(raw, []byte(".")) {
		if all, err = base64.RawURLEncoding.AppendDecode(all, part); err != nil {
			return "", "", nil, err
		}
		ends[n] = len(all)
		n++
	}
	text := string(all[:ends[1]])
	return text[:ends[0]], text[ends[0]:], bytes.Clone(all[ends[1]:]), nil
}

// parseHeader reads the protected header of a token.
func parseHeader(text string, made purpose, raw []byte) (*token, *policy.Refusal) {
	header, err := decodeObject(text)
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
	if !plain(header) {
		if _, err := jose.ParseSignedCompact(string(raw), asymmetric); err != nil {
			return nil, policy.Refuse(policy.TokenMalformed, "the token is not a JWS: %v", err)
		}
	}
	return t, nil
}

// plain reports whether nothing but what [parseHeader] reads could be wrong with a header: it holds texts
// alone, and no keys. The others, which are rare, are left to go-jose to check whole.
func plain(header map[string]any) bool {
	for name, v := range header {
		if _, ok := v.(string); !ok || name == "jwk" || name == "x5c" {
			return false
		}
	}
	return true
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
