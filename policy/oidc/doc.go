// Package oidc turns OIDC tokens into identities. It keeps the keys of several issuers
// current and verifies tokens with them without ever doing network I/O on a login's path.
//
// What it relies on: OpenID Connect Core 1.0 sections 2 and 10, OpenID Connect Discovery
// 1.0 section 4, RFC 7515 (JWS), RFC 7517 (JWK), RFC 7519 (JWT), RFC 8725 (JWT best
// current practices). Signatures are checked by the standard library; go-jose reads the keys, and is
// what the tests compare with.
package oidc
