package row

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

func TestFold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                    "",
		" Alice@Example.COM ": "ALICE@EXAMPLE.COM",
		"\u212a":              "K", // the sign for kelvin
		"ΣΊΣΥΦΟΣ":             "ΣΊΣΥΦΟΣ",
		"σίσυφος":             "ΣΊΣΥΦΟΣ",
		"a\x00\xff":           `A\x00\xff`,
		`corp\alice`:          `CORP\\ALICE`,
	} {
		if got := Fold(text); got != want {
			t.Errorf("Fold(%q) = %q, want %q", text, got, want)
		}
	}
	long := strings.Repeat("ł", 10_000)
	if got := Fold(long); len(got) > maxFolded+utf8.UTFMax || !utf8.ValidString(got) || Fold(long+"x") != got {
		t.Errorf("%d bytes of a long one", len(got))
	}
}

func TestFoldIsEqualFold(t *testing.T) {
	t.Parallel()
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aAkK\u212aſsSσςΣżŻ 1\\")), 0, 6, -1)
	rapid.Check(t, func(t *rapid.T) {
		a, b := strings.TrimSpace(text.Draw(t, "a")), strings.TrimSpace(text.Draw(t, "b"))
		if strings.EqualFold(a, b) != (Fold(a) == Fold(b)) {
			t.Fatalf("Fold(%q) = %q, Fold(%q) = %q", a, Fold(a), b, Fold(b))
		}
		first, last := Shown(store.IdentityFilter{Display: a, Prefix: true})
		if v := Fold(a + b); a != "" && (v < first || v > last) {
			t.Fatalf("%q does not begin with %q", v, first)
		}
	})
}

func TestSightings(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	entry := func(subject string, minute int) store.AuditEntry {
		return store.AuditEntry{Kind: store.LoginEntry, Issuer: "i", Subject: subject, Name: "n", At: at.Add(time.Duration(minute) * time.Minute)}
	}
	admin := entry("admin", 0)
	admin.Kind = store.AdminEntry
	got := Sightings([]store.AuditEntry{entry("a", 1), entry("b", 0), entry("a", 3), entry("a", 2), entry("", 0), admin})
	if len(got) != 2 || bytes.Compare(got[0].Hash, got[1].Hash) >= 0 {
		t.Fatalf("got %+v", got)
	}
	for _, s := range got {
		want := map[string]time.Time{"a": at.Add(3 * time.Minute), "b": at}[s.Subject]
		if !s.LastSeen.Equal(want) || !bytes.Equal(s.Hash, PrincipalHash(policy.Principal{Issuer: "i", Subject: s.Subject})) {
			t.Errorf("got %+v", s)
		}
	}
}

func TestNews(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	seen := func(change func(*Seen)) Seen {
		s := Seen{[]byte("hash"), store.KnownIdentity{Name: "n", Display: map[string]string{"email": "a@example.com"}, LastSeen: at}}
		change(&s)
		return s
	}
	known := seen(func(*Seen) {})
	for name, c := range map[string]struct {
		known []Seen
		seen  Seen
		want  bool
	}{
		"not known":               {nil, known, true},
		"the same":                {[]Seen{known}, known, false},
		"within the hour":         {[]Seen{known}, seen(func(s *Seen) { s.LastSeen = at.Add(59 * time.Minute) }), false},
		"an hour later":           {[]Seen{known}, seen(func(s *Seen) { s.LastSeen = at.Add(time.Hour) }), true},
		"another e-mail":          {[]Seen{known}, seen(func(s *Seen) { s.LastSeen, s.Display = at.Add(1), map[string]string{"email": "b"} }), true},
		"another e-mail, earlier": {[]Seen{known}, seen(func(s *Seen) { s.LastSeen, s.Display = at.Add(-1), map[string]string{"email": "b"} }), false},
		"another name":            {[]Seen{known}, seen(func(s *Seen) { s.LastSeen, s.Name = at.Add(1), "m" }), true},
		"nothing shown":           {[]Seen{known}, seen(func(s *Seen) { s.LastSeen, s.Display = at.Add(1), nil }), false},
	} {
		news := FindNews([]Seen{c.seen}, c.known)
		if (len(news) == 1) != c.want || c.want && news[0].Same != (name == "an hour later") {
			t.Errorf("%s: got %+v", name, news)
		}
	}
	bare := seen(func(s *Seen) { s.LastSeen, s.Display = at.Add(2*time.Hour), nil })
	if news := FindNews([]Seen{bare}, []Seen{known}); len(news) != 1 || !news[0].Same || !cmp.Equal(news[0].Display, known.Display) {
		t.Errorf("what was shown is lost: %+v", news)
	}
}

// TestHashesOfTargets: no two targets are taken for one, and that of an identity is as it was stored before.
func TestHashesOfTargets(t *testing.T) {
	t.Parallel()
	p := policy.Principal{Issuer: "i", Subject: "s"}
	if !bytes.Equal(TargetHash(policy.Target{Principal: p}), PrincipalHash(p)) {
		t.Error("an identity's is another than its principal's")
	}
	seen := map[string]policy.Target{}
	for _, target := range []policy.Target{
		{Principal: p}, {Principal: policy.Principal{Issuer: "i"}}, {Session: "s"}, {Token: "s"}, {Match: "s"}, {Account: "s"}, {Key: "s"}, {Export: "s"},
		{Principal: p, Session: "s"}, {Principal: p, Account: "s"}, {Account: "s", Key: "i"}, {Account: "i", Key: "s"},
	} {
		h := string(TargetHash(target))
		if other, twice := seen[h]; twice {
			t.Errorf("%v and %v have one hash", target, other)
		}
		seen[h] = target
	}
}
