package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxMatch bounds the text of a match in bytes.
const MaxMatch = 4096

// FormatMatch returns the one text that stands for claims and the values that they may have: a JSON
// object of lists, its keys sorted. Values are texts (with * as in bindings), truth values, or
// numbers as [json.Number]; [ParseMatch] says whether the text is a match.
func FormatMatch(claims map[string][]any) (string, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(claims); err != nil {
		return "", fmt.Errorf("match: %w", err)
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

// MatchClaims returns the claims and values that a match's text stands for; nil when it is none.
func MatchClaims(text string) map[string][]any {
	claims, err := decodeMatch(text)
	if err != nil {
		return nil
	}
	return claims
}

func decodeMatch(text string) (map[string][]any, error) {
	var claims map[string][]any
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&claims); err != nil {
		return nil, errors.New("match is not an object of claims with lists of values")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("match holds more than one object")
	}
	return claims, nil
}

// ParseMatch returns the conditions of a match, all of which must hold. Its errors say what is wrong;
// a match without a condition, or a condition without a value, is an error.
func ParseMatch(text string) ([]Condition, error) {
	if len(text) > MaxMatch {
		return nil, fmt.Errorf("match has %d bytes, at most %d are possible", len(text), MaxMatch)
	}
	claims, err := decodeMatch(text)
	if err != nil {
		return nil, err
	}
	if len(claims) == 0 {
		return nil, errors.New("match names no claim: it would mean everybody")
	}
	var all []Condition
	for name, values := range claims {
		path, err := ParseClaimPath(name)
		if err != nil {
			return nil, fmt.Errorf("match: %w", err)
		}
		c := Condition{Claim: path}
		if len(values) == 0 {
			return nil, fmt.Errorf("match: claim %q has no value", name)
		}
		for _, v := range values {
			value, err := matchValue(v)
			if err != nil {
				return nil, fmt.Errorf("match: claim %q: %w", name, err)
			}
			c.Values = append(c.Values, value)
		}
		all = append(all, c)
	}
	return all, nil
}

func matchValue(v any) (Value, error) {
	switch v := v.(type) {
	case string:
		glob, err := ParseGlob(v)
		return Value{Text: &glob}, err
	case bool:
		return Value{Bool: &v}, nil
	case json.Number:
		n, ok := ParseNumber(v.String())
		if !ok {
			return Value{}, fmt.Errorf("the number %s is too long", clip(v.String()))
		}
		return Value{Number: n}, nil
	default:
		return Value{}, errors.New("a value is a text, a number, true or false")
	}
}
