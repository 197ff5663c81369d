package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxDepth is how deep objects and lists may be nested, the outermost object included.
const maxDepth = 32

var errTooDeep = fmt.Errorf("it is nested more than %d deep", maxDepth)

// decodeObject returns the one JSON object (RFC 8259) that text is. It is stricter than encoding/json,
// and reads alike what it accepts: names must be unique in their object, since of two values each
// reader might believe another (RFC 8725 section 2.4); text must be UTF-8; nesting is bounded; nothing
// may follow. Numbers are json.Number. Texts share their bytes with the argument: whoever keeps one
// for long copies it.
//
// A token is decoded before its signature is verified, so that this costs time linear in the length.
func decodeObject(text string) (map[string]any, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("it is not UTF-8")
	}
	d := decoders.Get().(*decoder)
	defer d.done()
	d.text, d.at = text, 0
	if d.next() != '{' {
		return nil, errors.New("it is not a JSON object")
	}
	object, err := d.object(1)
	if err != nil {
		return nil, err
	}
	if d.next(); d.at < len(text) {
		return nil, errors.New("something follows the JSON object")
	}
	return object, nil
}

// decoder reads JSON from valid UTF-8.
type decoder struct {
	text string
	at   int // what comes next
	// What was read of the objects and lists that are open, the innermost last: only at its end is
	// known how large each is.
	members []member
	values  []any
}

type member struct {
	name  string
	value any
}

// decoders are used again, for the room that members and values take.
var decoders = sync.Pool{New: func() any { return new(decoder) }}

// done gives the decoder back, with nothing of a token in it.
func (d *decoder) done() {
	const most = 1024 // of a usual token's members and elements
	if cap(d.members) > most || cap(d.values) > most {
		return
	}
	clear(d.members[:cap(d.members)])
	clear(d.values[:cap(d.values)])
	*d = decoder{members: d.members[:0], values: d.values[:0]}
	decoders.Put(d)
}

// next skips blanks and returns the byte that comes then, 0 at the end.
func (d *decoder) next() byte {
	for ; d.at < len(d.text); d.at++ {
		switch c := d.text[d.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// skip reports whether c comes next, blanks aside, and is past it then.
func (d *decoder) skip(c byte) bool {
	if d.next() != c {
		return false
	}
	d.at++
	return true
}

// bad says that what comes next cannot stand there, without quoting it.
func (d *decoder) bad() error {
	if d.at >= len(d.text) {
		return errors.New("it is not JSON, or cut short")
	}
	return fmt.Errorf("it is not JSON at byte %d", d.at)
}

// value returns the next value, which stands inside depth objects and lists.
func (d *decoder) value(depth int) (any, error) {
	c := d.next()
	switch {
	case c == '{' || c == '[':
		if depth == maxDepth {
			return nil, errTooDeep
		}
		if c == '{' {
			return d.object(depth + 1)
		}
		return d.list(depth + 1)
	case c == '"':
		return d.string()
	case c == '-' || isDigit(c):
		return d.number()
	case d.word("true"):
		return true, nil
	case d.word("false"):
		return false, nil
	case d.word("null"):
		return nil, nil
	default:
		return nil, d.bad()
	}
}

func (d *decoder) word(w string) bool {
	found := strings.HasPrefix(d.text[d.at:], w)
	if found {
		d.at += len(w)
	}
	return found
}

// object returns the object that comes next, of which depth counts the objects and lists that it
// stands in, and itself.
func (d *decoder) object(depth int) (map[string]any, error) {
	d.at++
	outer := len(d.members)
	for more := !d.skip('}'); more; {
		if d.next() != '"' {
			return nil, d.bad()
		}
		name, err := d.string()
		if err != nil {
			return nil, err
		}
		if !d.skip(':') {
			return nil, d.bad()
		}
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		d.members = append(d.members, member{name, v})
		if more = d.skip(','); !more && !d.skip('}') {
			return nil, d.bad()
		}
	}
	object := make(map[string]any, len(d.members)-outer)
	for n, m := range d.members[outer:] {
		if object[m.name] = m.value; len(object) == n {
			return nil, fmt.Errorf("it names %q twice", clip(m.name))
		}
	}
	d.members = d.members[:outer]
	return object, nil
}

// list returns the list that comes next, see [decoder.object].
func (d *decoder) list(depth int) ([]any, error) {
	d.at++
	outer := len(d.values)
	for more := !d.skip(']'); more; {
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		d.values = append(d.values, v)
		if more = d.skip(','); !more && !d.skip(']') {
			return nil, d.bad()
		}
	}
	list := append(make([]any, 0, len(d.values)-outer), d.values[outer:]...)
	d.values = d.values[:outer]
	return list, nil
}

// string returns the text that comes next. One with escapes is left to encoding/json.
func (d *decoder) string() (string, error) {
	start, escaped := d.at, false
	for d.at++; d.at < len(d.text); d.at++ {
		switch c := d.text[d.at]; {
		case c == '"':
			d.at++
			if !escaped {
				return d.text[start+1 : d.at-1], nil
			}
			var s string
			if json.Unmarshal([]byte(d.text[start:d.at]), &s) != nil {
				d.at = start
				return "", d.bad()
			}
			return s, nil
		case c == '\\':
			escaped = true
			d.at++ // a quote after it ends nothing
		case c < ' ':
			return "", d.bad()
		}
	}
	return "", d.bad()
}

// number returns the number that comes next, as it is written.
func (d *decoder) number() (json.Number, error) {
	start := d.at
	if d.text[d.at] == '-' {
		d.at++
	}
	ok := d.word("0") || d.digits()
	if ok && d.word(".") {
		ok = d.digits()
	}
	if ok && (d.word("e") || d.word("E")) {
		_ = d.word("+") || d.word("-")
		ok = d.digits()
	}
	if !ok {
		return "", d.bad()
	}
	return json.Number(d.text[start:d.at]), nil
}

// digits skips digits, and reports whether there were any.
func (d *decoder) digits() bool {
	start := d.at
	for d.at < len(d.text) && isDigit(d.text[d.at]) {
		d.at++
	}
	return d.at > start
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// clip bounds text that others chose before it is shown.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
