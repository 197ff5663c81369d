package gatehouse

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
)

// signUpTimeout bounds one call of [SignUp], beside what its context says.
const signUpTimeout = 15 * time.Second

// DirectUser says who signs up as a direct user, and where.
type DirectUser struct {
	// Service is the HTTP address of the service, such as https://gatehouse.example.com: an https one unless
	// it is on this machine. The proof is made for this address, and the service compares it with its own.
	Service string
	// Key is the user key (nkeys.CreateUser). Its seed stays here: the service gets the public key and a signature.
	Key nkeys.KeyPair
	// Account names the account; needed where the identity is granted several.
	Account string
	// Program names the program of the identity that the key is of, 1 to 32 of a-z, 0-9, _ and -; empty for the
	// identity itself.
	Program string
	// HTTPClient is for a private certificate authority or a proxy; nil is [http.DefaultClient].
	HTTPClient *http.Client
}

// SignUp returns a user JWT for the key, with which any client of NATS logs in directly, without a token
// and without asking Gatehouse: for programs and tools that cannot present tokens. The identity needs a
// binding with grant.direct. The same call with the same key renews it; call it again well before Expires,
// and the connections that exist go on until the end of the user JWT that they were made with. Where the
// token is bound to a key, that is the key to give.
//
// The error is an [*api.Error] when the service refuses; with RetryAfter over 0 the same call may succeed later.
func SignUp(ctx context.Context, source TokenSource, u DirectUser) (*api.UserSignup, error) {
	base, err := serviceURL(u.Service)
	if err != nil {
		return nil, err
	}
	if u.Key == nil {
		return nil, errors.New("gatehouse: the key is nil: make one with nkeys.CreateUser")
	}
	token, err := source.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	e, err := openEnvelope(token)
	if err != nil {
		return nil, err
	}
	if u.Account == "" {
		u.Account = e.Account
	}
	req, err := u.request(base.String(), e.Token, time.Now())
	if err != nil {
		return nil, err
	}
	client := u.HTTPClient
	if client == nil {
		client = http.DefaultClient
	}
	ctx, cancel := context.WithTimeout(ctx, signUpTimeout)
	defer cancel()
	answer, err := operate[api.UserSignup](ctx, client, base, api.OpUserSignup, e.Token, req)
	if err != nil {
		return nil, fmt.Errorf("gatehouse: sign up: %w", err)
	}
	if answer.UserKey != req.UserKey || answer.JWT == "" {
		return nil, errors.New("gatehouse: sign up: the service answered for another key")
	}
	return answer, nil
}

// request returns the request of now with its proof.
func (u DirectUser) request(audience, token string, now time.Time) (api.UserSignupRequest, error) {
	public, err := u.Key.PublicKey()
	if err != nil {
		return api.UserSignupRequest{}, fmt.Errorf("gatehouse: the key: %w", err)
	}
	if !nkeys.IsValidPublicUserKey(public) {
		return api.UserSignupRequest{}, errors.New("gatehouse: a user JWT is for a user key alone: make one with nkeys.CreateUser")
	}
	req := api.UserSignupRequest{
		UserKey: public, Account: u.Account, Program: u.Program,
		Proof: api.SignupProof{Audience: audience, Time: now.UnixMilli()},
	}
	signature, err := u.Key.Sign(api.SignupStatement(req, token))
	if err != nil {
		return api.UserSignupRequest{}, fmt.Errorf("gatehouse: sign the proof: %w", err)
	}
	req.Proof.Signature = base64.RawURLEncoding.EncodeToString(signature)
	return req, nil
}
