package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// objectByTokens is what decodeObject does, on the decoder of encoding/json.
func objectByTokens(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	start, err := d.Token()
	if err != nil {
		return nil, err
	}
	if start != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	object, err := membersByTokens(d, 1)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return object, nil
}

func membersByTokens(d *json.Decoder, depth int) (map[string]any, error) {
	object := make(map[string]any)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name := t.(string) // the decoder lets nothing else be a name
		if _, twice := object[name]; twice {
			return nil, fmt.Errorf("it names %q twice", clip(name))
		}
		if object[name], err = valueByTokens(d, depth); err != nil {
			return nil, err
		}
	}
	return object, endByToken(d)
}

func elementsByTokens(d *json.Decoder, depth int) ([]any, error) {
	list := []any{}
	for d.More() {
		v, err := valueByTokens(d, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, endByToken(d)
}

func endByToken(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return err
	}
	return nil
}

// valueByTokens returns the next value, which stands inside depth objects and lists.
func valueByTokens(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == maxDepth {
		return nil, errTooDeep
	}
	if delim == '{' {
		return membersByTokens(d, depth+1)
	}
	return elementsByTokens(d, depth+1)
}
