package oidc

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeObject(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		in   string
		want map[string]any // nil when it must be refused
	}{
		"empty":                      {`{}`, map[string]any{}},
		"values of all kinds":        {`{"s":"x","n":1.50,"t":true,"z":null,"l":[],"o":{}}`, map[string]any{"s": "x", "n": json.Number("1.50"), "t": true, "z": nil, "l": []any{}, "o": map[string]any{}}},
		"one name in two objects":    {`{"a":{"b":1},"c":[{"b":1},{"b":2}]}`, map[string]any{"a": map[string]any{"b": json.Number("1")}, "c": []any{map[string]any{"b": json.Number("1")}, map[string]any{"b": json.Number("2")}}}},
		"names that differ by case":  {`{"a":1,"A":2}`, map[string]any{"a": json.Number("1"), "A": json.Number("2")}},
		"blanks around":              {" {} \n", map[string]any{}},
		"nothing":                    {``, nil},
		"a text":                     {`"x"`, nil},
		"null":                       {`null`, nil},
		"cut short":                  {`{"a":`, nil},
		"cut short after a member":   {`{"a":1`, nil},
		"cut short in a list":        {`{"a":[1`, nil},
		"a comma too many":           {`{"a":1,}`, nil},
		"a comma too many in a list": {`{"a":[1,]}`, nil},
		"a colon missing":            {`{"a" 1}`, nil},
		"a comma missing":            {`{"a":1 "b":2}`, nil},
		"a comma missing in a list":  {`{"a":[1 2]}`, nil},
		"a name that is a number":    {`{1:2}`, nil},
		"another object after":       {`{}{}`, nil},
		"a bracket after":            {`{}]`, nil},
		"one name twice":             {`{"a":1,"a":1}`, nil},
		"one name twice in a list":   {`{"l":[{"a":1,"a":1}]}`, nil},
		"one name twice, escaped":    {`{"a":1,"\u0061":1}`, nil},
		"a bad number":               {`{"a":01}`, nil},
		"a byte order mark":          {"\ufeff{}", nil},
		"not UTF-8":                  {"{\"a\":\"\xff\"}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeObject(test.in)
			if (err != nil) != (test.want == nil) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(test.want, got); err == nil && diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeObjectDepth(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct{ open, end string }{{"[", "]"}, {`{"a":`, "}"}} {
		for depth, want := range map[int]bool{maxDepth - 1: true, maxDepth: false, 100_000: false} {
			in := `{"deep":` + strings.Repeat(kind.open, depth) + "1" + strings.Repeat(kind.end, depth) + `}`
			if _, err := decodeObject(in); (err == nil) != want {
				t.Errorf("%d of %s inside an object: %v", depth, kind.open, err)
			}
		}
	}
}

// FuzzDecodeObject compares with the decoder of encoding/json: what one accepts the other must, and read it alike.
func FuzzDecodeObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"iss":"https://a.test","aud":["a","b"],"exp":1e9,"realm":{"roles":["x"]}}`, `{"a":1,"a":2}`, `{"a":[[[{"b":null}]]]}`, `{"\u0061":"\ud800"}`, `{"a":01}`, `{}x`,
		`{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\udc00x"}`, `{"a":"\x"}`, `{"a":"\u12"}`, "{\"a\":\"\x7f\u2028\"}", "{\"a\":\"\t\"}", `{"a":-0.5E+10,"b":-,"c":1.,"d":.5}`,
		`{"a":1e,"b":[true,false,nul]}`, " {\n\"a\" :\t[ ] ,\r\"b\": { } } ", `{"a":[1,2,[3,[],[4]],5],"b":{"c":{},"d":{"e":6}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeObject(string(data))
		want, wantErr := objectByTokens(data)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%v, encoding/json says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatal("accepted what is not JSON")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("encoding/json reads it otherwise (-its +ours):\n%s", diff)
		}
	})
}
