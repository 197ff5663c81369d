package config

import (
	"reflect"
	"strings"
)

// Field describes a key of the file, for its documents and its schema.
type Field struct {
	Path     string // with [] for elements of lists and NAME for keys of maps
	Key      string
	Variable string // that sets it; empty for blocks, and what is no single setting
	Type     string // of a scalar, or of the elements of a list; empty for blocks
	List     bool
	Map      bool
	Default  string
	Required bool   // in every mode
	Mode     string // nats.callout.mode that has it; empty for both
	Enum     []string
	Min, Max string
	Restart  bool
	Block    string  // Go type that holds the field: with Name, where its comment stands
	Name     string  // Go name
	Fields   []Field // of a block, or of each element of a list or map of blocks
}

// typeNames are what documents call the types of scalars.
var typeNames = map[reflect.Type]string{
	reflect.TypeFor[string]():        "text",
	reflect.TypeFor[bool]():          "true or false",
	reflect.TypeFor[int]():           "whole number",
	reflect.TypeFor[Duration]():      "duration",
	reflect.TypeFor[Size]():          "size",
	reflect.TypeFor[Address]():       "host:port",
	reflect.TypeFor[Network]():       "address or network",
	reflect.TypeFor[Store]():         "store",
	reflect.TypeFor[Path]():          "path",
	reflect.TypeFor[CAFile]():        "file",
	reflect.TypeFor[JWKS]():          "file or https URL",
	reflect.TypeFor[TokenFile]():     "token file",
	reflect.TypeFor[KeyFile]():       "key file",
	reflect.TypeFor[SealKey]():       "seal key file",
	reflect.TypeFor[AccountJWT]():    "file",
	reflect.TypeFor[Quota]():         "limit",
	reflect.TypeFor[WebhookSecret](): "file",
	reflect.TypeFor[CertFile]():      "file",
	reflect.TypeFor[CertKey]():       "file",
	reflect.TypeFor[Origin]():        "origin",
	reflect.TypeFor[Sentinel]():      "creds file",
	reflect.TypeFor[Creds]():         "creds file",
	reflect.TypeFor[MatchValue]():    "text, number or truth value",
}

// Fields describes every key that this release has, in the order of the file.
func Fields() []Field { return describeBlock(reflect.TypeFor[File](), "", false) }

func describeBlock(t reflect.Type, path string, restart bool) []Field {
	var all []Field
	for _, f := range fields(t) {
		if tag := tagsOf(f); !tag.unbuilt {
			all = append(all, describeField(t, f, tag, path, tag.restarts(restart)))
		}
	}
	return all
}

func describeField(block reflect.Type, f reflect.StructField, tag tags, path string, restart bool) Field {
	d := Field{
		Path: join(path, tag.key), Key: tag.key,
		Default: tag.initial, Required: tag.required != "" && tag.mode == "", Mode: tag.mode, Enum: tag.enum, Min: tag.min, Max: tag.max,
		Restart: restart, Block: block.Name(), Name: f.Name,
	}
	t, inner := f.Type, d.Path
	if t.Kind() == reflect.Map {
		d.Map, t, inner = true, t.Elem(), join(inner, "NAME")
	}
	if t.Kind() == reflect.Slice {
		d.List, t = true, t.Elem()
		if !isScalar(t) {
			inner += "[]"
		}
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if isScalar(t) {
		d.Type = typeNames[t]
		if !d.Map {
			d.Variable = variable(strings.ReplaceAll(d.Path, "[]", ".NAME"))
		}
		return d
	}
	d.Fields = describeBlock(t, inner, restart)
	for _, child := range d.Fields {
		d.Required = d.Required || child.Required && !d.List && !d.Map
	}
	return d
}
