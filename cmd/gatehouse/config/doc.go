// Package config reads gatehouse.yaml: it decodes, checks and compiles the file into
// what the service runs with, and watches it for changes.
//
// [File] describes every key once. Its types decode the YAML and the environment, its
// tags give defaults and bounds, and its comments are the texts of docs/configuration.md
// and of the JSON Schema.
package config

//go:generate go run ./generate ../../../docs
