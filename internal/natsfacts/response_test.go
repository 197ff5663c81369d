package natsfacts

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Fact: the responses that the server takes. The signer is the callout account or one of
// its signing keys; a user JWT signed with a signing key of the target names that
// account in issuer_account; its aud means nothing. mint makes exactly one of these
// forms.
func TestResponsesAccepted(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app := d.newAccount(t, "APP")
	c := d.newCallout(t)
	withUser := func(edits ...func(*jwt.UserClaims)) func(*request, *jwt.AuthorizationResponseClaims) {
		return func(r *request, a *jwt.AuthorizationResponseClaims) { a.Jwt = userJWT(r, app, app.signer, edits...) }
	}
	for _, tc := range []struct {
		name   string
		signer *account // nil: the callout account's identity; else its signing key
		edit   func(*request, *jwt.AuthorizationResponseClaims)
	}{
		{"identity signs the response", nil, withUser()},
		{"signing key signs the response", c.account, withUser()},
		{"with issuer_account", c.account, func(r *request, a *jwt.AuthorizationResponseClaims) {
			withUser()(r, a)
			a.IssuerAccount = c.id
		}},
		{"identity of the target signs the user", nil, func(r *request, a *jwt.AuthorizationResponseClaims) {
			a.Jwt = userJWT(r, app, app.identity, func(u *jwt.UserClaims) { u.IssuerAccount = "" })
		}},
		{"aud of the user is ignored", nil, withUser(func(u *jwt.UserClaims) { u.Audience = "ELSEWHERE" })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.answerWith(func(r *request) []byte {
				signer := c.identity
				if tc.signer != nil {
					signer = tc.signer.signer
				}
				return signResponse(r, signer, func(a *jwt.AuthorizationResponseClaims) { tc.edit(r, a) })
			})
			if got := userInfo(t, c.login(t)).Account; got != app.id {
				t.Errorf("account = %s, want %s", got, app.id)
			}
		})
	}
}

// Fact: everything else is refused at once, the client sees the same error each time,
// and the reason is published inside the callout account. mint must make none of these,
// and callout reads the reasons to report what only the server saw.
func TestResponsesRefused(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app, stranger := d.newAccount(t, "APP"), d.newAccount(t, "STRANGER")
	user := app.user("other")
	c := d.newCallout(t)
	reasons := subscribe(t, c.service, authErrorSubject)
	valid := func(r *request) string { return userJWT(r, app, app.signer) }
	response := func(edit func(*request, *jwt.AuthorizationResponseClaims)) answer {
		return func(r *request) []byte {
			return c.sign(r, func(a *jwt.AuthorizationResponseClaims) {
				a.Jwt = valid(r)
				edit(r, a)
			})
		}
	}
	for _, tc := range []struct {
		name   string
		answer answer
		want   string // a part of the reason
	}{
		{"error", c.refuse("no such binding"), "Auth callout service returned an error: no such binding"},
		{"empty", func(*request) []byte { return []byte{} }, `Auth callout violation: "no reason supplied" on account "` + c.id},
		{"not a JWT", func(*request) []byte { return []byte("no") }, "Expected 3 chunks"},
		{"sub is another user", response(func(_ *request, a *jwt.AuthorizationResponseClaims) { a.Subject = user.claims.Subject }),
			"Auth callout violation: auth callout response is not for expected user"},
		{"aud is another server", response(func(_ *request, a *jwt.AuthorizationResponseClaims) { a.Audience = foreignServer }),
			"Auth callout violation: auth callout response is not for server"},
		{"no aud", response(func(_ *request, a *jwt.AuthorizationResponseClaims) { a.Audience = "" }),
			"Audience must be a server public key"},
		{"both jwt and error", response(func(_ *request, a *jwt.AuthorizationResponseClaims) { a.Error = "no" }),
			"Only Error or Jwt can be set"},
		{"neither jwt nor error", response(func(_ *request, a *jwt.AuthorizationResponseClaims) { a.Jwt = "" }),
			"Error or Jwt is required"},
		{"issuer_account is the target", response(func(_ *request, a *jwt.AuthorizationResponseClaims) { a.IssuerAccount = app.id }),
			`Auth callout response issuer account "` + app.id + `" is not the callout account`},
		{"signed by another account", func(r *request) []byte {
			return signResponse(r, stranger.identity, func(a *jwt.AuthorizationResponseClaims) { a.Jwt = valid(r) })
		}, "Auth callout signing key is unknown"},
		{"error signed by another account", func(r *request) []byte {
			return signResponse(r, stranger.identity, func(a *jwt.AuthorizationResponseClaims) { a.Error = "no" })
		}, "Auth callout signing key is unknown"},
		{"user JWT for a key of one's own", c.admit(app, func(u *jwt.UserClaims) { u.Subject = user.claims.Subject }),
			`but got "` + user.claims.Subject + `" on account "` + c.id},
		{"user JWT by a signing key without issuer_account", c.admit(app, func(u *jwt.UserClaims) { u.IssuerAccount = "" }),
			`No valid account "` + public(app.signer) + `" for auth callout response on account "` + c.id},
		{"user JWT by a signing key the account lacks", response(func(r *request, a *jwt.AuthorizationResponseClaims) {
			a.Jwt = userJWT(r, app, stranger.signer)
		}), `User JWT issuer "` + public(stranger.signer) + `" is not known`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c.answerWith(tc.answer)
			_, err := c.dial(t)
			if !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("connect error = %v, want %v", err, nats.ErrAuthorization)
			}
			var event server.DisconnectEventMsg
			decode(t, next(t, reasons).Data, &event)
			if !strings.Contains(event.Reason, tc.want) {
				t.Errorf("reason = %q, want one with %q", event.Reason, tc.want)
			}
		})
	}
}

// Fact: with a scoped signing key the user JWT may carry no permissions and no limits at
// all, not even the unlimited ones that jwt.NewUserClaims sets, and the scope's template
// applies. mint calls SetScoped for such roles.
func TestScopedKeyWantsBareUser(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app, key := d.newScoped(t, "work.>")
	c := d.newCallout(t)
	scoped := func(edits ...func(*jwt.UserClaims)) answer {
		return func(r *request) []byte {
			return c.sign(r, func(a *jwt.AuthorizationResponseClaims) { a.Jwt = userJWT(r, app, key, edits...) })
		}
	}
	c.answerWith(scoped())
	if _, err := c.dial(t); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("unlimited user: connect error = %v, want %v", err, nats.ErrAuthorization)
	}
	c.answerWith(scoped(func(u *jwt.UserClaims) { u.SetScoped(true) }))
	permissions := userInfo(t, c.login(t)).Permissions
	if got := permissions.Publish.Allow; !slices.Contains(got, "work.>") {
		t.Errorf("publish permissions = %v, want work.> of the template", got)
	}
}

// Fact: templates take name() as it is: a name with dots and wildcards widens the
// permissions. Principal names are encoded to a single token that holds neither.
func TestTemplateDoesNotEscapeName(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	app, key := d.newScoped(t, "user.{{name()}}.>")
	c := d.newCallout(t)
	c.answerWith(func(r *request) []byte {
		return c.sign(r, func(a *jwt.AuthorizationResponseClaims) {
			a.Jwt = userJWT(r, app, key, func(u *jwt.UserClaims) {
				u.SetScoped(true)
				u.Name = "a.*"
			})
		})
	})
	permissions := userInfo(t, c.login(t)).Permissions
	if got := permissions.Publish.Allow; !slices.Contains(got, "user.a.*.>") {
		t.Errorf("publish permissions = %v, want user.a.*.> among them", got)
	}
}
