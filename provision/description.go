package provision

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/openapi"
)

// document is the OpenAPI document of all operations, made from their table and the types of package api.
//
//go:generate go test -run ^TestOpenAPI$ -update .
//go:embed openapi.json
var document []byte

// Describe returns what [document] is made of.
func Describe() openapi.API {
	a := openapi.API{
		Error: reflect.TypeFor[api.Error](),
		Title: "Gatehouse", Version: api.Version,
		Description: "Operations of Gatehouse, which turns OIDC tokens into NATS logins. The same JSON goes over NATS, at gatehouse." + api.Version + ".NAME in the lobby account.",
	}
	for _, op := range (*Service)(nil).operations() {
		a.Operations = append(a.Operations, openapi.Operation{
			Name: op.name, Path: api.Path(op.name), Access: op.access.String(), Token: op.access != onHost, Request: op.request, Response: op.response,
		})
	}
	a.Pages = []openapi.Page{
		{Path: api.DiscoveryPath, Summary: "What clients need to know before they log in.", Response: reflect.TypeFor[api.Discovery]()},
		{Path: documentPath, Summary: "This document."},
	}
	return a
}

const documentPath = "/openapi.json"

// String says to people who may call.
func (a access) String() string {
	switch {
	case a.everybody:
		return "Everybody may call it, with a token of their own."
	case a == onHost:
		return "Only who is on the host may call it, through the local socket."
	default:
		return fmt.Sprintf("It takes a token for administration and the right %s.", a.right)
	}
}

// showDocument serves the OpenAPI document.
func (s *Service) showDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache") // it changes with the release
	_, _ = w.Write(document)
}

// discover serves what clients need to know before they log in.
func (s *Service) discover(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, newID(), s.Discovery())
}

// described is what the document says of an operation.
type described struct {
	Post struct {
		RequestBody answered
		Responses   map[string]answered
	}
}

type answered struct {
	Content map[string]struct{ Schema json.RawMessage }
}

// parsed returns the schemas of the document, by the paths of operations and by the names of types.
var parsed = sync.OnceValues(func() (map[string]described, map[string]json.RawMessage) {
	var d struct {
		Paths      map[string]described
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(document, &d); err != nil {
		panic(err) // a test reads it
	}
	return d.Paths, d.Components.Schemas
})

// schemasOf returns the JSON schemas of what an operation takes and answers, each whole in itself.
func schemasOf(op operation) (request, response string) {
	paths, types := parsed()
	d := paths[api.Path(op.name)].Post
	return whole(d.RequestBody, types), whole(d.Responses["200"], types)
}

const (
	dialect   = "https://json-schema.org/draft/2020-12/schema"
	inOpenAPI = "#/components/schemas/"
	inSchema  = "#/$defs/"
)

// whole returns a schema of the document with all that it refers to.
func whole(a answered, types map[string]json.RawMessage) string {
	defs := map[string]json.RawMessage{}
	var gather func(schema json.RawMessage) json.RawMessage
	gather = func(schema json.RawMessage) json.RawMessage {
		for _, part := range strings.Split(string(schema), `"`+inOpenAPI)[1:] {
			name, _, _ := strings.Cut(part, `"`)
			if _, is := defs[name]; !is {
				defs[name] = nil
				defs[name] = gather(types[name])
			}
		}
		return json.RawMessage(strings.ReplaceAll(string(schema), inOpenAPI, inSchema))
	}
	var root struct {
		Schema string                     `json:"$schema"`
		Ref    string                     `json:"$ref"`
		Defs   map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(gather(a.Content["application/json"].Schema), &root); err != nil {
		return "" // an operation that the document does not have yet
	}
	root.Schema, root.Defs = dialect, defs
	text, err := json.Marshal(root)
	if err != nil {
		panic(err) // it was JSON
	}
	return string(text)
}
