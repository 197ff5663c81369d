package resolver

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// The issuer of those that a gate lets in.
const (
	issuer     = "https://login.example.com"
	issuerName = "corp"
)

// gate answers the logins of a system: a token is the subject of its bearer, who is let into the account APP
// unless the gate denies the subject. It records what it has let in.
type gate struct {
	t       *testing.T
	account string
	answer  nkeys.KeyPair // signs answers
	user    nkeys.KeyPair // signs users
	xkey    nkeys.KeyPair

	mu       sync.Mutex
	denied   map[string]bool
	held     map[string]chan struct{} // logins of these subjects are decided on and answered once it is closed
	replica  string                   // that is recorded to decide
	deciding chan string              // subjects of held logins
	logins   map[connectionID]policy.Login
}

type connectionID struct {
	server string
	cid    uint64
}

// admit opens a gate on the first server.
func (s *system) admit(t *testing.T) *gate {
	t.Helper()
	seed := func(secret setup.Secret) nkeys.KeyPair {
		kp, err := nkeys.FromSeed([]byte(secret.Reveal()))
		if err != nil {
			t.Fatal(err)
		}
		return kp
	}
	xkey, err := nkeys.FromCurveSeed([]byte(s.XKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{
		t: t, account: s.App.ID, answer: seed(s.Callout.SigningKey), user: seed(s.App.SigningKey), xkey: xkey,
		denied: map[string]bool{}, held: map[string]chan struct{}{}, deciding: make(chan string, 64), logins: map[connectionID]policy.Login{},
	}
	nc := s.connect(t, s.CalloutCreds)
	if _, err := nc.Subscribe("$SYS.REQ.USER.AUTH", func(msg *nats.Msg) { go g.decide(msg) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	// Every server knows of it once a login there succeeds.
	for _, server := range s.servers {
		eventually(t, func() error {
			nc, err := nats.Connect(server.ClientURL(), nats.Token("first"), nats.NoReconnect(), nats.IgnoreDiscoveredServers())
			if err == nil {
				nc.Close()
			}
			return err
		})
	}
	return g
}

func (g *gate) decide(msg *nats.Msg) {
	peer := msg.Header.Get("Nats-Server-Xkey")
	body, err := g.xkey.Open(msg.Data, peer)
	if err != nil {
		g.t.Errorf("open: %v", err)
		return
	}
	request, err := jwt.DecodeAuthorizationRequestClaims(string(body))
	if err != nil {
		g.t.Errorf("decode: %v", err)
		return
	}
	subject := request.ConnectOptions.Token
	response := jwt.NewAuthorizationResponseClaims(request.UserNkey)
	response.Audience = request.Server.ID
	g.mu.Lock()
	denied, held := g.denied[subject], g.held[subject]
	if !denied {
		g.logins[connectionID{request.Server.ID, request.ClientInformation.ID}] = policy.Login{
			RequestID: uuid.NewString(), Replica: g.replica, Principal: policy.Principal{Issuer: issuer, Subject: subject}, Issued: time.Now().Add(-time.Minute),
		}
	}
	g.mu.Unlock()
	if held != nil {
		g.deciding <- subject
		<-held
	}
	if denied {
		response.Error = "denied"
	} else if response.Jwt, err = g.userJWT(request.UserNkey, subject); err != nil {
		g.t.Error(err)
		return
	}
	token, err := response.Encode(g.answer)
	if err != nil {
		g.t.Error(err)
		return
	}
	sealed, err := g.xkey.Seal([]byte(token), peer)
	if err != nil {
		g.t.Error(err)
		return
	}
	_ = msg.Respond(sealed)
}

func (g *gate) userJWT(key, subject string) (string, error) {
	user := jwt.NewUserClaims(key)
	user.Name = policy.PrincipalName(issuerName, subject)
	user.IssuerAccount = g.account
	return user.Encode(g.user)
}

// deny refuses the subject from now on.
func (g *gate) deny(subject string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.denied[subject] = true
}

// permit admits the subject again.
func (g *gate) permit(subject string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.denied, subject)
}

// hold keeps logins of the subject waiting, decided on, until the returned function is called.
func (g *gate) hold(subject string) (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := make(chan struct{})
	g.held[subject] = held
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.held, subject)
		close(held)
	}
}

// client is a connection of a subject.
type client struct {
	*nats.Conn
	closed chan struct{} // closed when the connection is
}

// login connects the subject to the URL, once.
func (g *gate) login(url, subject string) *client {
	g.t.Helper()
	c := &client{closed: make(chan struct{})}
	nc, err := nats.Connect(url, nats.Token(subject), nats.NoReconnect(), nats.IgnoreDiscoveredServers(),
		nats.Timeout(soon), nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }))
	if err != nil {
		g.t.Fatalf("login of %s: %v", subject, err)
	}
	g.t.Cleanup(nc.Close)
	c.Conn = nc
	return c
}

// cid returns the connection's id on its server.
func (c *client) cid(t *testing.T) uint64 {
	t.Helper()
	cid, err := c.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	return cid
}
