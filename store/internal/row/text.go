// Package row holds how values are kept in rows, in so far as both stores do it alike.
package row

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Text is free text in a column. PostgreSQL's text holds neither NUL nor bytes that are not
// UTF-8, and a subject may have either, so those are written as \x00 and \xHH and a backslash
// as two; all else stays as it is. Both stores do so, so that rows look and compare alike.
type Text string

// Value implements [driver.Valuer].
func (t Text) Value() (driver.Value, error) { return escape(string(t)), nil }

// Scan implements [database/sql.Scanner].
func (t *Text) Scan(src any) error {
	switch s := src.(type) {
	case nil:
		*t = ""
	case string:
		*t = Text(unescape(s))
	case []byte:
		*t = Text(unescape(string(s)))
	default:
		return typeError("text", src)
	}
	return nil
}

func escape(s string) string {
	if plain(s) || !strings.ContainsAny(s, "\\\x00") && utf8.ValidString(s) {
		return s
	}
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == 0, r == utf8.RuneError && size == 1:
			b.WriteString(`\x`)
			b.WriteByte(digits[s[i]>>4])
			b.WriteByte(digits[s[i]&15])
		case r == '\\':
			b.WriteString(`\\`)
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// plain reports whether s is printable ASCII that neither escape nor JSON writes in another way, as nearly all texts are.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// unescape is the inverse of escape; a backslash that escape did not write stays as it is.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch rest := s[i:]; {
		case strings.HasPrefix(rest, `\\`):
			b.WriteByte('\\')
			i++
		case strings.HasPrefix(rest, `\x`) && len(rest) >= 4 && hexDigit(rest[2]) >= 0 && hexDigit(rest[3]) >= 0:
			b.WriteByte(byte(hexDigit(rest[2])<<4 | hexDigit(rest[3])))
			i += 3
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func hexDigit(c byte) int { return strings.IndexByte("0123456789abcdef", c) }

// Texts returns the texts as columns hold them.
func Texts[T ~string](texts []T) []string {
	escaped := make([]string, len(texts))
	for i, t := range texts {
		escaped[i] = escape(string(t))
	}
	return escaped
}

// List is a list of free texts in a JSON column; an empty one is NULL.
type List []string

// listValue returns what a JSON column holds of a list.
func listValue(l []string) any {
	if len(l) == 0 {
		return nil
	}
	if slices.ContainsFunc(l, func(s string) bool { return !plain(s) }) {
		return marshal(Texts(l))
	}
	return `["` + strings.Join(l, `","`) + `"]`
}

// Scan implements [database/sql.Scanner].
func (l *List) Scan(src any) error {
	*l = nil
	if err := unmarshal(src, (*[]string)(l)); err != nil {
		return err
	}
	for i, s := range *l {
		(*l)[i] = unescape(s)
	}
	return nil
}

// Map is free texts by name in a JSON column; an empty one is NULL.
type Map map[string]string

// mapValue returns what a JSON column holds of a map.
func mapValue(m map[string]string) any {
	if len(m) == 0 {
		return nil
	}
	var few [8]string
	names, size := few[:0], 0
	for k, s := range m {
		if !plain(k) || !plain(s) {
			return marshal(escapedMap(m))
		}
		names = append(names, k)
		size += len(k) + len(s) + len(`"":"",`)
	}
	slices.Sort(names)
	var b strings.Builder
	b.Grow(size + len(`{}`))
	separator := `{"`
	for _, k := range names {
		b.WriteString(separator)
		b.WriteString(k)
		b.WriteString(`":"`)
		b.WriteString(m[k])
		b.WriteByte('"')
		separator = `,"`
	}
	b.WriteByte('}')
	return b.String()
}

func escapedMap(m map[string]string) map[string]string {
	escaped := make(map[string]string, len(m))
	for k, s := range m {
		escaped[escape(k)] = escape(s)
	}
	return escaped
}

// Scan implements [database/sql.Scanner].
func (m *Map) Scan(src any) error {
	*m = nil
	var escaped map[string]string
	if err := unmarshal(src, &escaped); err != nil || escaped == nil {
		return err
	}
	*m = make(Map, len(escaped))
	for k, s := range escaped {
		(*m)[unescape(k)] = unescape(s)
	}
	return nil
}

func marshal(texts any) string {
	b, err := json.Marshal(texts)
	if err != nil {
		panic(err) // of texts there is always JSON
	}
	return string(b)
}

func unmarshal(src, into any) error {
	switch s := src.(type) {
	case nil:
		return nil
	case string:
		return json.Unmarshal([]byte(s), into)
	case []byte:
		return json.Unmarshal(s, into)
	default:
		return typeError("JSON", src)
	}
}

func typeError(want string, got any) error {
	return fmt.Errorf("a column that should hold %s holds %T", want, got)
}
