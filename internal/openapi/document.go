// Package openapi describes operations in OpenAPI 3.1, from the Go types of what they take and answer and the comments there.
package openapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// Operation is one that is called by POST with JSON.
type Operation struct {
	Name              string
	Path              string
	Access            string       // who may call it, a sentence
	Token             bool         // whether that takes a bearer token
	Request, Response reflect.Type // of structs
}

// Page is what is read by GET, without a token.
type Page struct {
	Path     string
	Summary  string
	Response reflect.Type // of a struct; nil for any object
}

// API is what a document describes.
type API struct {
	Title, Version, Description string
	Operations                  []Operation
	Pages                       []Page
	Error                       reflect.Type // of every answer that is not a success
	Reasons                     []string     // that fields with the tag enum:"reasons" may have
}

type object = map[string]any

// Document returns the OpenAPI document of an API, with the comments as descriptions.
//
// Fields are named and left out as encoding/json does it; those that it may leave out are optional. The tag enum lists the texts
// that a field may have, parted by blanks; min and max bound a number, or the bytes of a text.
func Document(a API, docs Comments) ([]byte, error) {
	s := &schemas{docs: docs, reasons: a.Reasons, all: object{}}
	failure := object{
		"description": "It was refused, or failed. With 429 and 503 the header Retry-After says when to call again.",
		"headers":     object{"Retry-After": object{"description": "Seconds to wait.", "schema": object{"type": "integer"}}},
		"content":     content(s.ref(a.Error)),
	}
	paths := object{}
	for _, op := range a.Operations {
		summary, rest := docs.about(op)
		call := object{
			"operationId": op.Name,
			"summary":     summary,
			"description": strings.TrimSpace(rest + "\n\n" + op.Access),
			"requestBody": object{"content": content(s.request(op.Request))},
			"responses":   object{"200": object{"description": "Done.", "content": content(s.ref(op.Response))}, "default": object{"$ref": "#/components/responses/Failure"}},
		}
		if op.Token {
			call["security"] = []object{{"token": []string{}}}
		}
		paths[op.Path] = object{"post": call}
	}
	for _, p := range a.Pages {
		answer := any(object{"type": "object"})
		if p.Response != nil {
			answer = s.ref(p.Response)
		}
		paths[p.Path] = object{"get": object{
			"operationId": strings.Trim(p.Path, "/"), "summary": p.Summary,
			"responses": object{"200": object{"description": "Done.", "content": content(answer)}, "default": object{"$ref": "#/components/responses/Failure"}},
		}}
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(object{
		"openapi": "3.1.0",
		"info":    object{"title": a.Title, "version": a.Version, "description": a.Description, "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"}},
		"servers": []object{{"url": "/"}},
		"paths":   paths,
		"components": object{
			"schemas":         s.all,
			"responses":       object{"Failure": failure},
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
		},
	})
	return text.Bytes(), err
}

func content(schema any) object { return object{"application/json": object{"schema": schema}} }
