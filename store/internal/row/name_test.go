package row

import (
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// FuzzNamedSubject: a principal name is found by its own subject, or by what says that it is hashed.
func FuzzNamedSubject(f *testing.F) {
	for _, subject := range []string{"", "alice", "auth0|5f7c", "a=b", "a-b_c", "==", "\x00\xff", "żółć", strings.Repeat("a", 81), strings.Repeat("|", 27)} {
		f.Add("corp", subject)
	}
	f.Fuzz(func(t *testing.T, issuer, subject string) {
		if !issuerName(issuer) || issuer == programs || subject == "" { // no other is an issuer's
			return
		}
		name := policy.PrincipalName(issuer, subject)
		got, ok := NamedSubject(name)
		if ok && got != subject || ok == strings.Contains(name, HashedName) {
			t.Errorf("%q of %q is read as %q, %t", name, subject, got, ok)
		}
	})
}

func TestNamesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "corp", "corp-", "corp-a b", "corp-=", "corp-=4", "corp-=4g", "corp-=6a", "corp-a==00", "prog-nightly-abc", "Corp-a", "a b-c", ".-c"} {
		if subject, ok := NamedSubject(name); ok {
			t.Errorf("%q is read as %q", name, subject)
		}
	}
}
