package row

import (
	"strings"
)

// A principal name stands for one subject of an issuer, so that names need no index of their own. Where
// [policy.PrincipalName] has hashed the subject, the name holds [HashedName], and is indexed.

// HashedName is in those principal names alone that their subject cannot be read from.
const HashedName = "=="

// programs is in the place of an issuer in names of programs, which tell nothing of the subject ([policy.ProgramName]).
const programs = "prog"

// NamedSubject returns the subject that a principal name stands for; ok is false when the name is hashed or is none.
func NamedSubject(name string) (subject string, ok bool) {
	issuer, encoded, ok := strings.Cut(name, "-")
	if !ok || encoded == "" || issuer == programs || !issuerName(issuer) {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(encoded); i++ {
		switch c := encoded[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		case c == '=' && i+2 < len(encoded) && upperHex(encoded[i+1]) >= 0 && upperHex(encoded[i+2]) >= 0:
			b.WriteByte(byte(upperHex(encoded[i+1])<<4 | upperHex(encoded[i+2])))
			i += 2
		default:
			return "", false
		}
	}
	return b.String(), true
}

func issuerName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 16
}

func upperHex(c byte) int { return strings.IndexByte("0123456789ABCDEF", c) }
