package row

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// seenEvery is how old the last sight of an identity gets before a new one is stored.
const seenEvery = time.Hour

// maxFolded bounds a folded value in bytes.
const maxFolded = 512

// IdentityColumns are the columns of a known identity, in the order of [IdentityTargets].
const IdentityColumns = `identity, issuer, subject, name, display, last_seen`

// Seen is a known identity with the hash that stands for it.
type Seen struct {
	Hash []byte
	store.KnownIdentity
}

// IdentityTargets returns where a row is scanned to; at makes a target of a time.
func IdentityTargets(s *Seen, at func(*time.Time) any) []any {
	return []any{&s.Hash, (*Text)(&s.Issuer), (*Text)(&s.Subject), (*Text)(&s.Name), (*Map)(&s.Display), at(&s.LastSeen)}
}

// IdentityValues returns the values to store; at makes one of a time.
func IdentityValues(s Seen, at func(time.Time) any) []any {
	return []any{s.Hash, escape(s.Issuer), escape(s.Subject), escape(s.Name), mapValue(s.Display), at(s.LastSeen)}
}

// Sightings returns whom the logins among the entries speak of, each as of the last of its entries, in
// the order of their hashes: replicas that store the same ones at once then do not wait for each other
// in a ring.
func Sightings(entries []store.AuditEntry) []Seen {
	latest := map[policy.Principal]*store.AuditEntry{}
	for i := range entries {
		e := &entries[i]
		if e.Kind != store.LoginEntry || e.Issuer == "" || e.Subject == "" {
			continue
		}
		p := policy.Principal{Issuer: e.Issuer, Subject: e.Subject}
		if before := latest[p]; before == nil || before.At.Before(e.At) {
			latest[p] = e
		}
	}
	seen := make([]Seen, 0, len(latest))
	for p, e := range latest {
		seen = append(seen, Seen{PrincipalHash(p), store.KnownIdentity{
			Issuer: e.Issuer, Subject: e.Subject, Name: e.Name, Display: e.Display, LastSeen: Time(e.At),
		}})
	}
	slices.SortFunc(seen, func(a, b Seen) int { return bytes.Compare(a.Hash, b.Hash) })
	return seen
}

// News is a sighting that tells something that is not known yet.
type News struct {
	Seen
	Before Seen // what is known; without a hash when nothing is
	Same   bool // nothing but the time is new
}

// Stale reports whether a stored sight of an identity is old enough for one at now to be stored.
func Stale(stored, now time.Time) bool { return now.Sub(stored) >= seenEvery }

// FindNews returns what the sightings tell that is not known yet, with the display claims that they lack.
func FindNews(seen, known []Seen) []News {
	before := make(map[string]Seen, len(known))
	for _, k := range known {
		before[string(k.Hash)] = k
	}
	var news []News
	for _, s := range seen {
		k, ok := before[string(s.Hash)]
		if len(s.Display) == 0 {
			s.Display = k.Display
		}
		same := ok && s.Name == k.Name && maps.Equal(s.Display, k.Display)
		if !ok || Stale(k.LastSeen, s.LastSeen) || !same && s.LastSeen.After(k.LastSeen) {
			news = append(news, News{Seen: s, Before: k, Same: same})
		}
	}
	return news
}

// Values returns by what the identity is found, as its rows keep it.
func (s Seen) Values() []string {
	var values []string
	for _, shown := range s.Display {
		if folded := Fold(shown); folded != "" {
			values = append(values, folded)
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// Fold returns a display value as it is compared, and as text in a row: without blanks around it, upper
// and lower case alike, cut to a length that an index takes.
func Fold(s string) string {
	s = strings.TrimSpace(s)
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() < maxFolded; {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError {
			b.WriteString(s[i : i+size])
		} else {
			b.WriteRune(foldRune(r))
		}
		i += size
	}
	return escape(b.String())
}

// foldRune returns the least of the characters that differ from r by case alone.
func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	return least
}

// IdentityCursor parses the cursor of a list of identities, which is the hash of the last one.
func IdentityCursor(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		return nil, fmt.Errorf("%w: start again from the first page", store.ErrCursor)
	}
	return b, nil
}

// IdentityPage cuts rows to a page, as [Page] does. Those that are not found by the filter's display value
// are left out: replicas that stored two logins of an identity at once may have left a value of the earlier.
func IdentityPage(rows []Seen, f store.IdentityFilter, limit int) (page []store.KnownIdentity, next string) {
	if len(rows) > limit {
		rows = rows[:limit]
		next = hex.EncodeToString(rows[limit-1].Hash)
	}
	first, last := Shown(f)
	for _, r := range rows {
		if f.Display == "" || slices.ContainsFunc(r.Values(), func(v string) bool { return first <= v && v <= last }) {
			page = append(page, r.KnownIdentity)
		}
	}
	return page, next
}

// Shown returns the first and the last of the folded values that the filter asks for.
func Shown(f store.IdentityFilter) (first, last string) {
	first = Fold(f.Display)
	if f.Prefix {
		return first, first + string(unicode.MaxRune)
	}
	return first, first
}
