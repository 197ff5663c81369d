package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// schemas are those of all structs, by the names of their types.
type schemas struct {
	docs    Comments
	reasons []string
	all     object
	sent    bool // fields that are not known are refused: what is described now is a request
}

// ref returns a reference to the schema of a struct.
func (s *schemas) ref(t reflect.Type) object {
	name := t.Name()
	if name == "" {
		name = "Empty"
	}
	if s.sent && t.Name() == "" {
		name = "Nothing"
	}
	known, is := s.all[name].(object)
	if is && (known["additionalProperties"] == false) != s.sent {
		panic(name + " is part of a request and of an answer, which may have fields that a request must not: give it two types")
	}
	if !is {
		s.all[name] = s.structure(t)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

// request is ref for what is sent.
func (s *schemas) request(t reflect.Type) object {
	s.sent = true
	defer func() { s.sent = false }()
	return s.ref(t)
}

func (s *schemas) structure(t reflect.Type) object {
	properties, required := object{}, []string{}
	for _, f := range visible(t) {
		properties[f.name] = s.field(f)
		if !f.optional {
			required = append(required, f.name)
		}
	}
	out := object{"type": "object", "properties": properties}
	if s.sent {
		out["additionalProperties"] = false
	}
	if len(required) > 0 {
		out["required"] = required
	}
	if doc := s.docs[t.Name()]; doc != "" {
		out["description"] = doc
	}
	return out
}

func (s *schemas) field(f field) object {
	out := s.of(f.Type)
	at := out // where the tags belong
	if items, ok := out["items"].(object); ok {
		at = items
	}
	switch list := f.Tag.Get("enum"); list {
	case "":
	case "reasons":
		at["enum"] = s.reasons
	default:
		at["enum"] = strings.Fields(list)
	}
	least, most := "minimum", "maximum"
	if at["type"] == "string" {
		least, most = "minLength", "maxLength"
	}
	for tag, keyword := range map[string]string{"min": least, "max": most} {
		if text := f.Tag.Get(tag); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				panic(fmt.Sprintf("tag %s of %s: %v", tag, f.name, err))
			}
			at[keyword] = n
		}
	}
	if doc := s.docs[f.of.Name()+"."+f.Name]; doc != "" {
		out["description"] = doc
	}
	return out
}

// of returns the schema of a type as encoding/json writes it.
func (s *schemas) of(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[json.RawMessage](), t.Kind() == reflect.Interface:
		return object{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.Struct:
		return s.ref(t)
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	default:
		panic(fmt.Sprintf("there is no schema for %s yet: add it where this is said", t))
	}
}

// field is one of a struct, or of a struct that is embedded there.
type field struct {
	reflect.StructField
	of       reflect.Type
	name     string // in JSON
	optional bool
}

// visible returns the fields of a struct that encoding/json writes. Of several with one name the one that is embedded less deeply
// counts.
func visible(t reflect.Type) []field {
	var all []field
	index := map[string]int{}
	for level := []reflect.Type{t}; len(level) > 0; {
		var next []reflect.Type
		for _, of := range level {
			for i := range of.NumField() {
				f := of.Field(i)
				name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
				switch {
				case f.Anonymous && name == "":
					next = append(next, f.Type)
					continue
				case name == "-" || !f.IsExported():
					continue
				case name == "":
					name = f.Name
				}
				if _, is := index[name]; !is {
					index[name] = len(all)
					all = append(all, field{f, of, name, strings.Contains(options, "omit")})
				}
			}
		}
		level = next
	}
	return all
}
