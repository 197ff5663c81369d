package provision_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/openapi"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// TestOpenAPI: the document that is served is what the table of operations and the types of package api say now, and
// is valid OpenAPI 3.1.
func TestOpenAPI(t *testing.T) {
	comments, err := openapi.ReadComments("../api")
	if err != nil {
		t.Fatal(err)
	}
	described := provision.Describe()
	described.Reasons = reasonCodes(t)
	got, err := openapi.Document(described, comments)
	if err != nil {
		t.Fatal(err)
	}
	const file = "openapi.json"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Fatalf("%s is out of date, run go generate ./provision (-want +got):\n%s", file, diff)
	}
	d := document(t)
	if err := d.openAPI.Validate(d.document); err != nil {
		t.Error(err)
	}
	for name := range d.part("components", "schemas") {
		if _, err := d.compiler.Compile(documentURL + "#/components/schemas/" + name); err != nil {
			t.Error(err)
		}
	}
	if len(described.Operations) != len(operations(t)) {
		t.Errorf("%d operations are described, package api declares %d", len(described.Operations), len(operations(t)))
	}
	// Whoever looks for it needs no token.
	a := call(t, newBed(t).Handler(), http.MethodGet, "/openapi.json", "", "")
	if a.Code != http.StatusOK || !*update && a.Body.String() != string(want) || a.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d, %d bytes, %v", a.Code, a.Body.Len(), a.Header())
	}
}

// reasonCodes returns every reason code that an answer may have.
func reasonCodes(t testing.TB) []string {
	t.Helper()
	codes := slices.Collect(maps.Values(constants(t, "../api/doc.go", func(name string, _ ast.Expr) bool { return strings.HasPrefix(name, "Reason") })))
	for _, r := range api.Reasons() {
		codes = append(codes, r.Code)
	}
	codes = append(codes, string(policy.Allowed))
	slices.Sort(codes)
	return slices.Compact(codes)
}

// described are the schemas of the document, and the one that every OpenAPI 3.1 document must meet.
type described struct {
	compiler *jsonschema.Compiler
	document any
	openAPI  *jsonschema.Schema
}

const documentURL = "https://gatehouse.example.com/openapi.json"

var readDocument = sync.OnceValues(func() (*described, error) {
	d := &described{compiler: jsonschema.NewCompiler()}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	for url, file := range map[string]string{documentURL: "openapi.json", "openapi": "testdata/openapi-3.1.schema.json"} {
		text, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		v, err := jsonschema.UnmarshalJSON(text)
		_ = text.Close()
		if err != nil {
			return nil, err
		}
		if url == documentURL {
			d.document = v
		}
		if err := d.compiler.AddResource(url, v); err != nil {
			return nil, err
		}
	}
	var err error
	d.openAPI, err = d.compiler.Compile("openapi")
	return d, err
})

func document(t testing.TB) *described {
	t.Helper()
	d, err := readDocument()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// part returns what is in the document at a path of keys.
func (d *described) part(path ...string) map[string]any {
	at := d.document
	for _, key := range path {
		object, _ := at.(map[string]any)
		at = object[key]
	}
	object, _ := at.(map[string]any)
	return object
}

// schema compiles what stands in the document for a request, or for an answer with that status.
func (d *described) schema(op string, code int) (*jsonschema.Schema, error) {
	at := []string{"paths", api.Path(op), "post", "requestBody"}
	switch code {
	case 0:
	case http.StatusOK:
		at = append(at[:3], "responses", "200")
	default:
		at = []string{"components", "responses", "Failure"}
	}
	ref, _ := d.part(append(at, "content", "application/json", "schema")...)["$ref"].(string)
	return d.compiler.Compile(documentURL + ref)
}

// validate returns what the document finds wrong with a request (code 0) or an answer.
func (d *described) validate(op string, code int, body string) error {
	schema, err := d.schema(op, code)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

// conforms fails the test unless a call and its answer are as the document says. What the service refuses may be a request that it
// does not describe.
func conforms(t testing.TB, op, body string, code int, answer []byte) {
	t.Helper()
	if err := document(t).validate(op, code, string(answer)); err != nil {
		t.Errorf("answer of %s: %v", op, err)
	}
	if body == "" || code == http.StatusBadRequest {
		return
	}
	if err := document(t).validate(op, 0, body); err != nil {
		t.Errorf("request to %s: %v", op, err)
	}
}

// The document refuses what is not of the contract, so that the examples that it accepts mean something.
func TestDocumentRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		op   string
		code int
		body string
	}{
		"an unknown field":           {api.OpRevoke, 0, `{"issuer":"corp","subject":"alice","reason":"left","soon":true}`},
		"one further in":             {api.OpUserSignup, 0, `{"user_key":"U","proof":{"audience":"a","time":1,"signature":"s","seed":"S"}}`},
		"a kind that is not one":     {api.OpRevoke, 0, `{"kind":"ban","reason":"left"}`},
		"a missing reason":           {api.OpRevoke, 0, `{"issuer":"corp"}`},
		"a reason that is too long":  {api.OpRevoke, 0, `{"issuer":"corp","reason":"` + strings.Repeat("x", provision.MaxReason+1) + `"}`},
		"a text for a number":        {api.OpProgress, 0, `{"id":"1","wait":"8"}`},
		"a wait that is too long":    {api.OpProgress, 0, `{"id":"1","wait":9}`},
		"a right that is not one":    {api.OpAdminToken, 0, `{"rights":["everything"],"reason":"x"}`},
		"a time that is not one":     {api.OpAudit, 0, `{"since":"yesterday"}`},
		"anything for nothing":       {api.OpStatus, 0, `{"verbose":true}`},
		"an answer without":          {api.OpProgress, 200, `{"done":true}`},
		"an answer of other type":    {api.OpRevocations, 200, `{"revocations":{}}`},
		"an unknown reason":          {api.OpWhoami, 403, `{"reason":"because","message":"no"}`},
		"an error that says nothing": {api.OpWhoami, 500, `{}`},
	} {
		if err := document(t).validate(test.op, test.code, test.body); err == nil {
			t.Errorf("%s passes", name)
		} else if _, ok := errors.AsType[*jsonschema.ValidationError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the document says of a request's texts and numbers the service holds callers to.
func TestDocumentedBoundsAreHeld(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *provision.Options) { o.Servers = &connected{} })
	_, _, err := b.Store.Revoke(t.Context(), store.Revocation{Reason: "left", Actor: "x", Revocation: policy.Revocation{
		ID: "01970000-0000-7000-8000-00000000000a", Kind: policy.Block, Target: policy.Target{Principal: policy.Principal{Issuer: corp, Subject: "alice"}}, At: now,
	}}, "")
	if err != nil {
		t.Fatal(err)
	}
	socket := serveLocal(t, b)
	held := 0
	for op, good := range map[string]map[string]any{
		api.OpRevoke:      {"issuer": "corp", "subject": "bob", "reason": "left", "dry_run": true},
		api.OpRevokeLift:  {"issuer": "corp", "subject": "alice", "reason": "back"},
		api.OpProgress:    {"id": "01970000-0000-7000-8000-00000000000a"},
		api.OpRevocations: {},
		api.OpSessions:    {},
		api.OpKick:        {"subject": "alice", "issuer": "corp", "reason": "new", "dry_run": true},
		api.OpAudit:       {},
		api.OpAdminToken:  {"rights": []string{"audit"}, "reason": "x"},
		api.OpExplain:     {"token": "alice"},
	} {
		ask := func(body map[string]any) int {
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			code, _, err := post(socket, op, "", string(text))
			if err != nil {
				t.Fatal(err)
			}
			return code
		}
		if op != api.OpRevokeLift && op != api.OpAdminToken && ask(good) != http.StatusOK {
			t.Errorf("%s refuses %v", op, good)
		}
		schema, err := document(t).schema(op, 0)
		if err != nil {
			t.Fatal(err)
		}
		if schema.Ref != nil {
			schema = schema.Ref
		}
		for name, property := range schema.Properties {
			for what, value := range beyond(property) {
				body := maps.Clone(good)
				body[name] = value
				held++
				if code := ask(body); code != http.StatusBadRequest {
					t.Errorf("%s with %s %s: %d", op, name, what, code)
				}
			}
		}
	}
	if held < 20 {
		t.Errorf("%d bounds were tried", held)
	}
}

// beyond returns values that a schema refuses.
func beyond(s *jsonschema.Schema) map[string]any {
	out := map[string]any{}
	if s.Enum != nil {
		out["that is none of those"] = "nonsense"
	}
	if s.MaxLength != nil {
		out["that is too long"] = strings.Repeat("x", *s.MaxLength+1)
	}
	if s.MinLength != nil {
		out["that is too short"] = strings.Repeat("x", *s.MinLength-1)
	}
	if s.Maximum != nil {
		n, _ := s.Maximum.Float64()
		out["that is too large"] = n + 1
	}
	if s.Minimum != nil {
		n, _ := s.Minimum.Float64()
		out["that is too small"] = n - 1
	}
	if items, ok := s.Items2020, s.Items2020 != nil; ok && items.Enum != nil {
		out["of something else"] = []string{"nonsense"}
	}
	return out
}
