package row

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

func TestText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":           "",
		"alice":      "alice",
		"żółć 🜁":     "żółć 🜁",
		"\ufffd":     "\ufffd",
		"a\x00b":     `a\x00b`,
		"a\xffb":     `a\xffb`,
		`a\b`:        `a\\b`,
		`\x00`:       `\\x00`,
		"\xe2\x28\n": "\\xe2(\n",
	} {
		if got := escape(text); got != want {
			t.Errorf("escape(%q) = %q, want %q", text, got, want)
		}
	}
	// What others have written into the table is shown as it is.
	for _, foreign := range []string{`\`, `a\`, `\x`, `\x0`, `\xZZ`, `\X00`, `\n`} {
		if got := unescape(foreign); got != foreign {
			t.Errorf("unescape(%q) = %q", foreign, got)
		}
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "alice", "a\x00\xff", `\x00\\`, "\xe2\x28\xa1", "\ufffd\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kept := escape(s)
		if !utf8.ValidString(kept) || strings.ContainsRune(kept, 0) {
			t.Errorf("%q is kept as %q", s, kept)
		}
		if back := unescape(kept); back != s {
			t.Errorf("%q came back as %q", s, back)
		}
	})
}

func TestLists(t *testing.T) {
	t.Parallel()
	for _, want := range [][]string{nil, {""}, {"b", "a", "a"}, {"\x00", "\xff", `\`}} {
		column := listValue(want)
		if (column == nil) != (want == nil) {
			t.Fatalf("%q is kept as %v", want, column)
		}
		got := List{"old"}
		if err := got.Scan(column); err != nil || !cmp.Equal([]string(got), want) {
			t.Errorf("%q came back as %q, %v", want, got, err)
		}
	}
	for _, want := range []map[string]string{nil, {"": ""}, {"\x00": "\xff", `\x00`: `\`}} {
		column := mapValue(want)
		if (column == nil) != (want == nil) {
			t.Fatalf("%q is kept as %v", want, column)
		}
		got := Map{"old": "old"}
		if err := got.Scan(column); err != nil || !cmp.Equal(map[string]string(got), want) {
			t.Errorf("%q came back as %q, %v", want, got, err)
		}
	}
	for _, scan := range []func(any) error{new(Text).Scan, new(List).Scan, new(Map).Scan, new(unsigned).Scan} {
		if err := scan(1.5); err == nil {
			t.Error("a number was taken")
		}
	}
}

func TestCursor(t *testing.T) {
	t.Parallel()
	for _, want := range []Cursor{
		{time.UnixMicro(1764000000123456).UTC(), "0198-x"},
		{time.UnixMicro(-1).UTC(), "a.b"},
		{Time(time.Time{}), "x"},
	} {
		if got, err := ParseCursor(want.String()); err != nil || got != want {
			t.Errorf("%v came back as %v, %v", want, got, err)
		}
	}
	for _, bad := range []string{"", "x", "=", "MS4", "LjE", "eC54", strings.Repeat("A", 1000)} {
		if _, err := ParseCursor(bad); !errors.Is(err, store.ErrCursor) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTime(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("far", -3600)
	for _, c := range []struct{ in, want time.Time }{
		{time.Date(2026, 1, 2, 3, 4, 5, 6789, zone), time.Date(2026, 1, 2, 4, 4, 5, 6000, time.UTC)},
		{time.Unix(math.MaxInt64/4, 0), latest},
		{time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC), earliest},
	} {
		if got := Time(c.in); got != c.want {
			t.Errorf("Time(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

func TestHashesTellPartsApart(t *testing.T) {
	t.Parallel()
	if string(PrincipalHash(policy.Principal{Issuer: "ab", Subject: "c"})) == string(PrincipalHash(policy.Principal{Issuer: "a", Subject: "bc"})) {
		t.Error("two principals have one hash")
	}
}

// FuzzJSONColumns holds what lists and maps are written as to what encoding/json makes of them.
func FuzzJSONColumns(f *testing.F) {
	for _, s := range []string{"", "alice", `a"b`, `a\b`, "<&>", "\x00\xff", "é", "\x7f"} {
		f.Add(s, "name", "Alice")
		f.Add("email", s, s)
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		list := []string{a, b, c}
		if got, want := listValue(list), marshal(Texts(list)); got != want {
			t.Errorf("the list %q is kept as %v, not as %v", list, got, want)
		}
		m := map[string]string{a: b, b: c, "other": a}
		if got, want := mapValue(m), marshal(escapedMap(m)); got != want {
			t.Errorf("the map %q is kept as %v, not as %v", m, got, want)
		}
	})
}
