package config

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want time.Duration
		back string
	}{
		{"10s", 10 * time.Second, "10s"}, {"5m", 5 * time.Minute, "5m"}, {"1h", time.Hour, "1h"},
		{"1h30m", 90 * time.Minute, "1h30m"}, {"90d", 90 * day, "90d"}, {"1d12h", 36 * time.Hour, "36h"},
		{"24h", day, "1d"}, {"0s", 0, "0s"}, {"1m30s", 90 * time.Second, "1m30s"}, {"500ms", time.Second / 2, "500ms"},
	} {
		var d Duration
		if err := d.parse(test.text, asText); err != nil || time.Duration(d) != test.want || d.String() != test.back {
			t.Errorf("%s: %s (%s), %v, want %s", test.text, time.Duration(d), d, err, test.back)
		}
	}
	for _, text := range []string{"", "10", "d", "-1d", "1.5d", "1d24h", "1d-1h", "99999999d", "1w", "1h d"} {
		var d Duration
		if err := d.parse(text, asText); err == nil {
			t.Errorf("%q was taken as %s", text, d)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want Size
		back string
	}{
		{"1024", 1024, "1KiB"}, {"16KiB", 16 << 10, "16KiB"}, {"1 GiB", 1 << 30, "1GiB"}, {"2TiB", 2 << 40, "2TiB"},
		{"500MB", 500e6, "500000000"}, {"1kB", 1000, "1000"}, {"7B", 7, "7"}, {"0", 0, "0"},
	} {
		var s Size
		if err := s.parse(test.text, asText); err != nil || s != test.want || s.String() != test.back {
			t.Errorf("%s: %d (%s), %v, want %d (%s)", test.text, int64(s), s, err, int64(test.want), test.back)
		}
	}
	for _, text := range []string{"", "-1", "1.5GiB", "GiB", "1K", "9999999TiB", "0x10", "1gib"} {
		var s Size
		if err := s.parse(text, asText); err == nil {
			t.Errorf("%q was taken as %s", text, s)
		}
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text  string
		f     form
		shown string // empty: refused
	}{
		{"sqlite:gatehouse.db", asText, "sqlite:gatehouse.db"},
		{"sqlite:/var/lib/gatehouse.db", asText, "sqlite:/var/lib/gatehouse.db"},
		{"postgres://u@h/d?sslmode=verify-full", asText, "postgres://u@h/d"},
		{"postgresql://h/d", asText, "postgresql://h/d"},
		{"postgres://u:p@h/d", asVariable, "postgres://u:xxxxx@h/d"},
		{"postgres://u:p@h/d", asText, ""},
		{"postgres://h/d?password=p", asText, ""},
		{"sqlite:", asText, ""}, {"sqlite://x", asText, ""}, {"sqlite:x?mode=ro", asText, ""},
		{"mysql://h/d", asText, ""}, {"gatehouse.db", asText, ""}, {"postgres:h", asText, ""},
	} {
		var s Store
		err := s.parse(test.text, test.f)
		if (err == nil) != (test.shown != "") || err == nil && s.String() != test.shown {
			t.Errorf("%s: %s, %v, want %q", test.text, s, err, test.shown)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		word       string
		candidates []string
		want       string
	}{
		{"urls", []string{"url", "tls"}, "did you mean url?"},
		{"grnat", []string{"grant", "name"}, "did you mean grant?"},
		{"x", []string{"url", "tls"}, "use tls or url"},
		{"x", []string{"url"}, "use url"},
		{"x", nil, ""},
	} {
		if got := didYouMean(test.word, test.candidates); got != test.want {
			t.Errorf("%s of %v: %q, want %q", test.word, test.candidates, got, test.want)
		}
	}
}
