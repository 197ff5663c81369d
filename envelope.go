package gatehouse

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// maxAccountName is the longest account name in bytes that the service reads.
const maxAccountName = 256

// envelope is a token together with the account that it is to log in to.
type envelope struct {
	Token   string `json:"token"`
	Account string `json:"account,omitempty"`
}

// Envelope returns what a client sends in place of its token to name the account it wants:
// {"token":…,"account":…}. Without an account it returns the token as it is.
func Envelope(token, account string) string {
	return envelope{token, account}.encode()
}

func (e envelope) encode() string {
	if e.Account == "" {
		return e.Token
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		panic("gatehouse: two texts do not encode as JSON: " + err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// openEnvelope returns what a source gave: a raw token, or an envelope around one.
func openEnvelope(s string) (envelope, error) {
	if s == "" || s[0] != '{' {
		return envelope{Token: s}, nil
	}
	var e envelope
	// The decoder's own error may quote the token.
	if json.Unmarshal([]byte(s), &e) != nil || e.Token == "" {
		return envelope{}, fmt.Errorf(`%w: it gave an envelope that is not {"token":…,"account":…}`, ErrNoToken)
	}
	return e, nil
}

// inboxPrefix returns the private inbox prefix of the identity that a token speaks of. The
// signature is the service's concern: a forged token gets no permission on the prefix.
func inboxPrefix(token string) (string, error) {
	var claims struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
	}
	if payload(token, &claims) != nil || claims.Issuer == "" || claims.Subject == "" {
		return "", errors.New("gatehouse: the private inbox needs a JWT with iss and sub as token")
	}
	return policy.InboxPrefix(claims.Issuer, claims.Subject), nil
}

// payload decodes what a JWT says, unverified.
func payload(token string, claims any) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("not a JWT")
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	return json.Unmarshal(data, claims)
}
