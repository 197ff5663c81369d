package gatehouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/oauth2"
)

// maxToken bounds what a source may give: a server reads no longer CONNECT line than its
// max_control_line, for which Gatehouse configures 64 KiB.
const maxToken = 64 << 10

// ErrNoToken says that the token source gave no token, so nothing was sent to the server.
// It is wrapped together with the source's own error.
var ErrNoToken = errors.New("gatehouse: no token from the token source")

// A TokenSource gives tokens to log in with. One connection never calls it
// twice at the same time; several that share a source may.
//
// A token that says when it expires (a JWT with exp) serves all logins until then, and the source is asked for
// the next one ahead of time, at a random moment when 70 to 90 percent of the time is over. A source
// that gives the same one again, or fails, is asked again in time. So a login waits for a source only in the last ten seconds
// of a token, after that token was refused, and at the fourth login within a minute of each other; and
// while the source fails, the token serves for as long as it is valid. For any other token the source is asked at every login.
//
// It should not keep tokens itself; one that does must give a new one before the one before expires.
//
// The context ends after 30 seconds, or with the connection. A source that needs longer than a
// second and a half is not called again while a connection is restored: the login that waited
// fails, and the next one gets what the call came to.
type TokenSource interface {
	Token(ctx context.Context) (string, error)
}

// TokenFunc is a function as a [TokenSource].
type TokenFunc func(ctx context.Context) (string, error)

// Token calls f.
func (f TokenFunc) Token(ctx context.Context) (string, error) { return f(ctx) }

// StaticToken returns a source that always gives the same token. Once it has expired the
// connection is not restored any more: it suits tests and short-lived commands.
func StaticToken(token string) TokenSource {
	return localSource{func(context.Context) (string, error) { return token, nil }}
}

// localSource is a source that costs nothing to ask.
type localSource struct{ TokenFunc }

// TokenFile returns a source that reads a file for every login: a token, or the envelope that
// gatehouse connect writes, of at most 64 KiB. It suits tokens that something else keeps fresh, such
// as a projected Kubernetes service account token. While the file cannot be read, the token read before
// serves for as long as it is valid.
func TokenFile(path string) TokenSource {
	return localSource{func(context.Context) (string, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
		if err != nil {
			return "", err
		}
		token := bytes.TrimSpace(data)
		if len(token) == 0 {
			return "", fmt.Errorf("%s is empty", path)
		}
		return string(token), nil
	}}
}

// OAuth2 returns a source that sends the ID token of an oauth2 token source, and its access
// token where there never was an ID token (client credentials, for instance). A refresh that
// brings no ID token after one that did is an error: the access token beside it is meant for
// another service.
//
// The oauth2 package renews by the access token's expiry, and only ten seconds before unless its source was made
// by oauth2.ReuseTokenSourceWithExpiry. Where an issuer's ID tokens expire
// earlier than its access tokens, use [OAuth2AccessToken] or write a [TokenFunc].
// Its sources know no context: give their HTTP client a timeout.
func OAuth2(source oauth2.TokenSource) TokenSource {
	var hadIDToken atomic.Bool
	return TokenFunc(func(context.Context) (string, error) {
		t, err := source.Token()
		if err != nil {
			return "", err
		}
		if id, _ := t.Extra("id_token").(string); id != "" {
			hadIDToken.Store(true)
			return id, nil
		}
		if hadIDToken.Load() {
			return "", errors.New("the issuer's answer to a refresh holds no id_token: log in again, or use OAuth2AccessToken")
		}
		return t.AccessToken, nil
	})
}

// OAuth2AccessToken returns a source that sends the access token of an oauth2 token source,
// which must be a JWT that names NATS in its audience.
// Such sources know no context: give their HTTP client a timeout.
func OAuth2AccessToken(source oauth2.TokenSource) TokenSource {
	return TokenFunc(func(context.Context) (string, error) {
		t, err := source.Token()
		if err != nil {
			return "", err
		}
		return t.AccessToken, nil
	})
}
