package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
)

// schema is a JSON Schema (2020-12), as far as it is needed.
type schema struct {
	Schema      string             `json:"$schema,omitempty"`
	ID          string             `json:"$id,omitempty"`
	Title       string             `json:"title,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        any                `json:"type,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Default     any                `json:"default,omitempty"`
	MinLength   int                `json:"minLength,omitempty"`
	Minimum     json.Number        `json:"minimum,omitempty"`
	Maximum     json.Number        `json:"maximum,omitempty"`
	AnyOf       []*schema          `json:"anyOf,omitempty"`
	Items       *schema            `json:"items,omitempty"`
	MinItems    int                `json:"minItems,omitempty"`
	Properties  map[string]*schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	// Additional is false, or the schema of every value of a map.
	Additional any `json:"additionalProperties,omitempty"`
}

func schemaFile(fields []config.Field, c comments) ([]byte, error) {
	root := block(fields, c, false)
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "Configuration of Gatehouse (gatehouse.yaml)"
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(root)
	return b.Bytes(), err
}

// block returns the schema of a mapping with fixed keys. What is required may also come from a
// variable, so that only elements of lists and maps demand it.
func block(fields []config.Field, c comments, element bool) *schema {
	s := &schema{Type: "object", Properties: map[string]*schema{}, Additional: false}
	for _, f := range fields {
		s.Properties[f.Key] = field(f, c, element)
		if element && f.Required {
			s.Required = append(s.Required, f.Key)
		}
	}
	return s
}

func field(f config.Field, c comments, element bool) *schema {
	var s *schema
	if f.Fields != nil {
		s = block(f.Fields, c, element || f.List || f.Map)
		if !f.List && !f.Map && !f.Required {
			s.Type = []string{"object", "null"}
		}
	} else {
		s = scalar(f)
	}
	switch {
	case f.List && f.Fields != nil:
		s = &schema{Type: []string{"array", "null"}, Items: s}
	case f.List:
		s = &schema{AnyOf: []*schema{{Type: "array", Items: s, MinItems: 1}, s}}
	}
	if f.Map {
		s = &schema{Type: []string{"object", "null"}, Additional: s}
	}
	s.Description = c.of(f)
	return s
}

const (
	durationPattern = `^([0-9]+d)?([0-9]+(\.[0-9]+)?(h|m|s|ms))*$`
	sizePattern     = `^[0-9]+ *([KMGT]iB|kB|[MGT]?B)?$`
)

// scalar returns the schema of a single value.
func scalar(f config.Field) *schema {
	s := &schema{Type: "string", MinLength: 1, Enum: f.Enum}
	if f.Default != "" {
		s.Default = f.Default
	}
	switch f.Type {
	case "true or false":
		return &schema{Type: "boolean", Default: f.Default == "true"}
	case "whole number":
		return &schema{
			Type: "integer", Default: json.Number(f.Default),
			Minimum: json.Number(f.Min), Maximum: json.Number(f.Max),
		}
	case "duration":
		s.Pattern = durationPattern
	case "size":
		s.Type, s.Pattern = []string{"string", "integer"}, sizePattern
	case "limit":
		s.Type, s.Pattern = []string{"string", "integer"}, `^(unlimited|[0-9]+ *([KMGT]iB|kB|[MGT]?B)?)$`
	case "host:port":
		s.Pattern = `:[0-9]{1,5}$`
	case "origin":
		s.Pattern = `^https?://[^/*]+$`
	case "store":
		s.Pattern = `^(sqlite:|postgres://|postgresql://)`
	case "text, number or truth value":
		return &schema{Type: []string{"string", "number", "boolean"}}
	case "text", "path", "file", "file or https URL", "token file", "seal key file", "key file", "creds file", "address or network":
	default:
		panic(fmt.Sprintf("no schema for %s, a %q", f.Path, f.Type))
	}
	return s
}
