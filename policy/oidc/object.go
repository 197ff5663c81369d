package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxDepth is how deep objects and lists may be nested, the outermost object included.
const maxDepth = 32

var errTooDeep = fmt.Errorf("it is nested more than %d deep", maxDepth)

// decodeObject returns the one JSON object that data is. It is stricter than encoding/json:
// names must be unique in their object, since of two values each reader might believe
// another (RFC 8725 section 2.4); text must be UTF-8; nesting is bounded; nothing may follow.
// Numbers are json.Number.
func decodeObject(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	start, err := d.Token()
	if err != nil {
		return nil, notJSON(err)
	}
	if start != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	object, err := decodeMembers(d, 1)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return object, nil
}

// notJSON replaces the decoder's error, which quotes the input.
func notJSON(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("it is not JSON at byte %d", syntax.Offset)
	}
	return errors.New("it is not JSON, or cut short")
}

func decodeMembers(d *json.Decoder, depth int) (map[string]any, error) {
	object := make(map[string]any)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, notJSON(err)
		}
		name := t.(string) // the decoder lets nothing else be a name
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("it names %q twice", clip(name))
		}
		if object[name], err = decodeValue(d, depth); err != nil {
			return nil, err
		}
	}
	return object, decodeEnd(d)
}

func decodeElements(d *json.Decoder, depth int) ([]any, error) {
	list := []any{}
	for d.More() {
		v, err := decodeValue(d, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, decodeEnd(d)
}

func decodeEnd(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return notJSON(err)
	}
	return nil
}

// decodeValue returns the next value, which stands inside depth objects and lists.
func decodeValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, notJSON(err)
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == maxDepth {
		return nil, errTooDeep
	}
	if delim == '{' {
		return decodeMembers(d, depth+1)
	}
	return decodeElements(d, depth+1)
}

// clip bounds text that others chose before it is shown.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
