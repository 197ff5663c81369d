package oidc

import (
	"encoding/base64"
	"testing"

	"pgregory.net/rapid"
)

// canonical agrees with the strict decoder of the standard library.
func TestCanonicalIsStrict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.StringMatching(`[A-Za-z0-9_-]{0,12}`).Draw(t, "part")
		_, err := base64.RawURLEncoding.Strict().DecodeString(part)
		if canonical([]byte(part)) != (err == nil) {
			t.Fatalf("%q is canonical: %t, the strict decoder says %v", part, canonical([]byte(part)), err)
		}
	})
}
