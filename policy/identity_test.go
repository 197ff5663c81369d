package policy

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPrincipalName(t *testing.T) {
	long := strings.Repeat("a", 81)
	for _, c := range []struct{ issuer, subject, want string }{
		{"corp", "alice", "corp-alice"},
		{"corp", "A_z-9", "corp-A_z-9"},
		{"corp", "a.b", "corp-a=2Eb"},
		{"corp", "*", "corp-=2A"},
		{"corp", ">", "corp-=3E"},
		{"corp", "a=b", "corp-a=3Db"},
		{"corp", "a b\n", "corp-a=20b=0A"},
		{"corp", "\x00", "corp-=00"},
		{"corp", "é", "corp-=C3=A9"},
		{"corp", "auth0|5f7c", "corp-auth0=7C5f7c"},
		{"k8s", "system:serviceaccount:ns:sa", "k8s-system=3Aserviceaccount=3Ans=3Asa"},
		{"corp", strings.Repeat("a", 80), "corp-" + strings.Repeat("a", 80)},
		{"corp", long, "corp-" + strings.Repeat("a", 46) + "==" + "8c48280d57fb88f161adf34d9f597d93"},
	} {
		if got := PrincipalName(c.issuer, c.subject); got != c.want {
			t.Errorf("PrincipalName(%q, %q) = %q, want %q", c.issuer, c.subject, got, c.want)
		}
	}
}

// Names stand in subjects, connection reports and filters: they must be one safe token, and
// two people must never share one.
func TestPrincipalNameIsInjectiveAndSafe(t *testing.T) {
	safe := regexp.MustCompile(`^[a-z0-9]{1,16}-[A-Za-z0-9_=-]{1,80}$`)
	issuers := rapid.StringMatching(`[a-z0-9]{1,16}`)
	subjects := rapid.OneOf(rapid.StringN(1, 100, 1024), rapid.StringMatching(`[a=.*> -]{1,90}`))
	rapid.Check(t, func(t *rapid.T) {
		i1, i2 := issuers.Draw(t, "i1"), issuers.Draw(t, "i2")
		s1, s2 := subjects.Draw(t, "s1"), subjects.Draw(t, "s2")
		n1, n2 := PrincipalName(i1, s1), PrincipalName(i2, s2)
		if !safe.MatchString(n1) {
			t.Fatalf("name %q of %q is not safe", n1, s1)
		}
		if (n1 == n2) != (i1 == i2 && s1 == s2) {
			t.Fatalf("(%q,%q) and (%q,%q) give %q and %q", i1, s1, i2, s2, n1, n2)
		}
	})
}

func TestInboxPrefix(t *testing.T) {
	a := InboxPrefix("https://login.example.com", "alice")
	if !regexp.MustCompile(`^_INBOX_[a-z2-7]{26}$`).MatchString(a) {
		t.Errorf("prefix %q is not a single token of the documented form", a)
	}
	// A fixed value: clients in other languages compute it by themselves.
	if want := "_INBOX_ljmmzxhvsvdpbrf4kxtgassguy"; a != want {
		t.Errorf("prefix = %q, want %q", a, want)
	}
	for _, other := range []string{
		InboxPrefix("https://login.example.com/", "alice"),
		InboxPrefix("https://login.example.com", "alicf"),
		InboxPrefix("https://login.example.com\nalice", ""),
	} {
		if other == a {
			t.Errorf("another identity has the same prefix %q", a)
		}
	}
}
