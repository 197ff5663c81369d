package policy

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"
	"time"
)

// Identity is a verified OIDC token: who it speaks of and what it says of them.
// Only package policy/oidc makes one from a token.
type Identity struct {
	Issuer    string // the issuer's configured name, [a-z0-9]{1,16}
	IssuerURL string // the exact iss claim; revocations are keyed on it
	Rules     string // version of the rules that the token was verified beside; empty when it does not matter
	Subject   string // the raw sub claim; revocations are keyed on it
	TokenID   string // jti, may be empty
	SessionID string // sid, may be empty
	IssuedAt  time.Time
	Expires   time.Time
	// Claims is the whole decoded payload; numbers are json.Number. Read only.
	Claims map[string]any
}

// Principal returns what revocations of the identity are keyed on.
func (id *Identity) Principal() Principal {
	return Principal{Issuer: id.IssuerURL, Subject: id.Subject}
}

// Name returns the principal name of the identity, see [PrincipalName].
func (id *Identity) Name() string { return PrincipalName(id.Issuer, id.Subject) }

const (
	maxEncodedSubject = 80
	hashedTail        = 32 // hex digits of the SHA-256 that replace a long tail
)

// PrincipalName returns `<issuer>-<subject>` with the subject encoded injectively
// into A-Z a-z 0-9 _ - and =: a single safe NATS subject token of at most 97 bytes.
// Every other byte becomes =XX; an encoding of over 80 characters is cut to 80, ending
// in == and 32 hex digits of the SHA-256 of the raw subject. Issuer names hold no -,
// so the first one splits. Stored entries are found by it (store/internal/row), so it stays as it is.
func PrincipalName(issuer, subject string) string {
	var b strings.Builder
	b.Grow(len(issuer) + 1 + len(subject))
	b.WriteString(issuer)
	b.WriteByte('-')
	start := b.Len()
	const digits = "0123456789ABCDEF"
	// Three characters a byte at most, so the first maxEncodedSubject+1 bytes tell whether it fits.
	for i := 0; i < len(subject) && b.Len()-start <= maxEncodedSubject; i++ {
		switch c := subject[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		default:
			b.WriteByte('=')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	name := b.String()
	if len(name)-start <= maxEncodedSubject {
		return name
	}
	sum := sha256.Sum256([]byte(subject))
	return name[:start+maxEncodedSubject-hashedTail-2] + "==" + hex.EncodeToString(sum[:])[:hashedTail]
}

// InboxPrefix returns the private inbox prefix of an identity: `_INBOX_` and 26
// characters of a-z2-7, derived from iss and sub alone, so that a client can compute
// it from its own token. A client asks for it with its library's custom inbox prefix.
func InboxPrefix(issuerURL, subject string) string {
	return "_INBOX_" + digest("gatehouse inbox\n", issuerURL, subject)
}

// digest returns 26 characters of a-z2-7 that stand for an identity in one purpose: 128 bits of a SHA-256.
func digest(purpose, issuerURL, subject string) string {
	sum := sha256.Sum256([]byte(purpose + issuerURL + "\n" + subject))
	enc := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16])
	return strings.ToLower(enc)
}
