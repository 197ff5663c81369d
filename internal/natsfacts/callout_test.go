package natsfacts

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

const (
	requestSubject   = server.AuthCalloutSubject
	authErrorSubject = "$SYS.ACCOUNT.CLIENT.AUTH.ERR"
)

// request is one callout request as the service got it.
type request struct {
	*jwt.AuthorizationRequestClaims
	msg *nats.Msg
}

// answer makes the reply to a request; nil means silence.
type answer func(*request) []byte

// callout is a callout account with a sentinel and a service that gives the answer that
// the test has chosen.
type callout struct {
	*account
	deployment  *deployment
	sentinel    string
	serviceUser userKey       // the user in auth_users
	service     *nats.Conn    // its connection
	xkey        nkeys.KeyPair // nil: requests are not sealed

	mu       sync.Mutex
	answer   answer
	requests []*request
}

// newCallout makes a callout account on the deployment whose service is connected to the
// first server and silent until answerWith; edits change the account's claims first.
func (d *deployment) newCallout(t *testing.T, edits ...func(*jwt.AccountClaims)) *callout {
	t.Helper()
	c := makeCallout(t, edits...)
	c.join(t, d)
	c.listen(t)
	return c
}

// makeCallout makes a callout account that may place users in any account.
func makeCallout(t *testing.T, edits ...func(*jwt.AccountClaims)) *callout {
	t.Helper()
	a, err := makeAccount("AUTH")
	check(t, err)
	c := &callout{account: a, sentinel: a.bearer(t), serviceUser: a.user("service")}
	a.claims.Authorization.AuthUsers.Add(c.serviceUser.claims.Subject)
	a.claims.Authorization.AllowedAccounts.Add(jwt.AnyAccount)
	for _, edit := range edits {
		edit(a.claims)
	}
	return c
}

// sealed gives the callout account a curve key, so that requests come sealed.
func (c *callout) sealed(t *testing.T) *callout {
	t.Helper()
	xkey, err := nkeys.CreateCurveKeys()
	check(t, err)
	c.xkey = xkey
	c.claims.Authorization.XKey = public(xkey)
	return c
}

// join stores the account on the deployment's servers and connects its service.
func (c *callout) join(t *testing.T, d *deployment) {
	t.Helper()
	d.push(t, c.account)
	c.deployment = d
	c.service = c.connect(t, d.servers[0], c.serviceUser)
}

// listen has the service handle the requests of all servers.
func (c *callout) listen(t *testing.T) {
	t.Helper()
	_, err := c.service.Subscribe(requestSubject, func(msg *nats.Msg) {
		if reply := c.reply(t, msg); reply != nil {
			msg.Respond(reply)
		}
	})
	check(t, err)
	check(t, c.service.Flush())
	c.awaitInterest(t)
}

// awaitInterest waits until every server knows that the service listens.
func (c *callout) awaitInterest(t *testing.T) {
	t.Helper()
	check(t, poll(func() error {
		for _, s := range c.deployment.servers {
			a, err := s.LookupAccount(c.id)
			if err != nil {
				return err
			}
			if !a.SubscriptionInterest(requestSubject) {
				return fmt.Errorf("%s does not know of the service", s.Name())
			}
		}
		return nil
	}))
}

// connect opens a connection of a user that does not go through the callout.
func (a *account) connect(t *testing.T, s *server.Server, u userKey, opts ...nats.Option) *nats.Conn {
	t.Helper()
	option, err := a.direct(u)
	check(t, err)
	nc, err := nats.Connect(s.ClientURL(), append([]nats.Option{option, nats.Timeout(patience)}, opts...)...)
	check(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// reply records a request and makes the chosen answer.
func (c *callout) reply(t *testing.T, msg *nats.Msg) []byte {
	body := msg.Data
	if c.xkey != nil {
		var err error
		if body, err = c.xkey.Open(body, msg.Header.Get(server.AuthRequestXKeyHeader)); err != nil {
			t.Errorf("open request: %v", err)
			return nil
		}
	}
	claims, err := jwt.DecodeAuthorizationRequestClaims(string(body))
	if err != nil {
		t.Errorf("decode request: %v", err)
		return nil
	}
	r := &request{AuthorizationRequestClaims: claims, msg: msg}
	c.mu.Lock()
	c.requests = append(c.requests, r)
	answer := c.answer
	c.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(r)
}

// answerWith chooses the answer to all later requests.
func (c *callout) answerWith(a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = a
}

// seen returns the requests so far.
func (c *callout) seen() []*request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*request(nil), c.requests...)
}

// admit answers with a user "alice" of the account, signed by the account's signing key;
// edits change the user first.
func (c *callout) admit(target *account, edits ...func(*jwt.UserClaims)) answer {
	return func(r *request) []byte {
		return c.sign(r, func(a *jwt.AuthorizationResponseClaims) {
			a.Jwt = userJWT(r, target, target.signer, edits...)
		})
	}
}

// userJWT is the JWT of "alice" in the target account, for the key that the request
// names.
func userJWT(r *request, target *account, signer nkeys.KeyPair, edits ...func(*jwt.UserClaims)) string {
	user := jwt.NewUserClaims(r.UserNkey)
	user.Name = "alice"
	user.IssuerAccount = target.id
	for _, edit := range edits {
		edit(user)
	}
	token, err := user.Encode(signer)
	if err != nil {
		panic(err)
	}
	return token
}

// seal seals an answer for the server that asks.
func (c *callout) seal(a answer) answer {
	return func(r *request) []byte {
		reply, err := c.xkey.Seal(a(r), r.Server.XKey)
		if err != nil {
			panic(err)
		}
		return reply
	}
}

// refuse answers with an error.
func (c *callout) refuse(text string) answer {
	return func(r *request) []byte {
		return c.sign(r, func(a *jwt.AuthorizationResponseClaims) { a.Error = text })
	}
}

// sign makes the response to a request, filled in by edit, with the account's identity
// key.
func (c *callout) sign(r *request, edit func(*jwt.AuthorizationResponseClaims)) []byte {
	return signResponse(r, c.identity, edit)
}

// signResponse makes the response to a request, filled in by edit.
func signResponse(r *request, signer nkeys.KeyPair, edit func(*jwt.AuthorizationResponseClaims)) []byte {
	response := jwt.NewAuthorizationResponseClaims(r.UserNkey)
	response.Audience = r.Server.ID
	edit(response)
	token, err := response.Encode(signer)
	if err != nil {
		panic(err)
	}
	return []byte(token)
}

// dial connects with the sentinel to the first server. Later options win.
func (c *callout) dial(t *testing.T, opts ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	return dial(t, c.deployment.servers[0], append([]nats.Option{withJWT(c.sentinel)}, opts...)...)
}

// login is dial for a client that has to be let in.
func (c *callout) login(t *testing.T, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := c.dial(t, opts...)
	check(t, err)
	return nc
}

// dial connects to the server and closes the connection with the test.
func dial(t *testing.T, s *server.Server, opts ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	opts = append([]nats.Option{nats.Timeout(patience), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0)}, opts...)
	nc, err := nats.Connect(s.ClientURL(), opts...)
	if err != nil {
		return nil, err
	}
	t.Cleanup(nc.Close)
	return nc, nil
}

// withJWT puts the JWT in the CONNECT and signs nothing.
func withJWT(token string) nats.Option {
	return nats.UserJWT(
		func() (string, error) { return token, nil },
		func([]byte) ([]byte, error) { return nil, nil },
	)
}
