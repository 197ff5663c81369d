package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
)

const (
	docs   = "../../../../docs"
	source = "../file.go"
)

func TestFilesAreFresh(t *testing.T) {
	t.Parallel()
	files, err := render(docs, source)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("docs/%s is out of date, run go generate (-want +got):\n%s", name, diff)
		}
	}
}

// TestEveryFieldIsDescribed fails for a field without a comment or a type without a name.
func TestEveryFieldIsDescribed(t *testing.T) {
	t.Parallel()
	c, err := readComments(source)
	if err != nil {
		t.Fatal(err)
	}
	var check func(fields []config.Field)
	check = func(fields []config.Field) {
		for _, f := range fields {
			if c.of(f) == "" {
				t.Errorf("%s has no comment", f.Path)
			}
			if f.Fields == nil && f.Type == "" {
				t.Errorf("%s has no type", f.Path)
			}
			check(f.Fields)
		}
	}
	check(config.Fields())
}

func TestSchema(t *testing.T) {
	t.Parallel()
	c, err := readComments(source)
	if err != nil {
		t.Fatal(err)
	}
	content, err := schemaFile(config.Fields(), c)
	if err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(content, &s); err != nil {
		t.Fatal(err)
	}
	at := func(keys ...string) any {
		var v any = s
		for _, k := range keys {
			m, _ := v.(map[string]any)
			v = m[k]
		}
		return v
	}
	for _, test := range []struct {
		path []string
		want any
	}{
		{[]string{"additionalProperties"}, false},
		{[]string{"required"}, nil}, // a variable may give it
		{[]string{"properties", "nats", "additionalProperties"}, false},
		{[]string{"properties", "nats", "properties", "callout", "properties", "connections", "maximum"}, 64.0},
		{[]string{"properties", "log", "properties", "level", "enum"}, []any{"debug", "info", "warn", "error"}},
		{[]string{"properties", "bindings", "items", "required"}, []any{"name", "issuer"}}, // a grant has one of several forms
		{[]string{"properties", "bindings", "items", "properties", "ttl", "default"}, "1h"},
		{[]string{"properties", "accounts", "additionalProperties", "required"}, nil}, // in one mode only,
	} {
		if diff := cmp.Diff(test.want, at(test.path...)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.path, diff)
		}
	}
}
