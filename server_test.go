package gatehouse

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A testSystem is a nats-server in operator mode with a callout responder that does as it is told.
type testSystem struct {
	t        *testing.T
	server   *server.Server
	url      string
	sentinel string // bearer user JWT
	creds    []byte // of a sentinel that signs

	app keyPair // account of those admitted

	mu     sync.Mutex
	logins []jwt.ConnectOptions // as they arrived
	nonces []string             // of the connections that signed, as they arrived
	answer func(n int, login jwt.ConnectOptions) verdict
}

// verdict is what becomes of a login; the zero value admits it for an hour.
type verdict struct {
	refuse, ignore bool
	lasts          time.Duration
	permissions    jwt.Permissions
}

type systemOptions struct {
	defaultSentinel bool
	controlLine     int32
	loginTime       time.Duration // that the server gives a login; 0 for its default of 2 s
}

type keyPair struct {
	nkeys.KeyPair
	public string
}

func newKey(t *testing.T, create func() (nkeys.KeyPair, error)) keyPair {
	t.Helper()
	k, err := create()
	must(t, err)
	public, err := k.PublicKey()
	must(t, err)
	return keyPair{k, public}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func encode(t *testing.T, c jwt.Claims, by keyPair) string {
	t.Helper()
	s, err := c.Encode(by)
	must(t, err)
	return s
}

// startSystem starts the server and its responder, which admits everybody until told otherwise.
func startSystem(t *testing.T, o systemOptions) *testSystem {
	t.Helper()
	operator, system, callout := newKey(t, nkeys.CreateOperator), newKey(t, nkeys.CreateAccount), newKey(t, nkeys.CreateAccount)
	service := newKey(t, nkeys.CreateUser)
	s := &testSystem{t: t, app: newKey(t, nkeys.CreateAccount)}

	resolver := &server.MemAccResolver{}
	for _, account := range []keyPair{system, callout, s.app} {
		claims := jwt.NewAccountClaims(account.public)
		if account == callout {
			claims.Authorization.AuthUsers.Add(service.public)
			claims.Authorization.AllowedAccounts.Add(s.app.public)
		}
		must(t, resolver.Store(account.public, encode(t, claims, operator)))
	}
	operatorClaims := jwt.NewOperatorClaims(operator.public)
	operatorClaims.SystemAccount = system.public
	trusted, err := jwt.DecodeOperatorClaims(encode(t, operatorClaims, operator))
	must(t, err)

	guest := newKey(t, nkeys.CreateUser)
	guestClaims := jwt.NewUserClaims(guest.public)
	guestClaims.BearerToken = true
	s.sentinel = encode(t, guestClaims, callout)
	guestClaims.BearerToken = false
	seed, err := guest.Seed()
	must(t, err)
	s.creds, err = jwt.FormatUserConfig(encode(t, guestClaims, callout), seed)
	must(t, err)

	opts := &server.Options{
		Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true,
		TrustedOperators: []*jwt.OperatorClaims{trusted}, SystemAccount: system.public, AccountResolver: resolver,
		MaxControlLine: cmp.Or(o.controlLine, 64<<10),
	}
	if o.loginTime > 0 {
		opts.AuthTimeout = o.loginTime.Seconds()
	}
	if o.defaultSentinel {
		opts.DefaultSentinel = s.sentinel
	}
	s.server, err = server.NewServer(opts)
	must(t, err)
	s.server.Start()
	t.Cleanup(func() { s.server.Shutdown(); s.server.WaitForShutdown() })
	if !s.server.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	s.url = s.server.ClientURL()
	s.serve(service, callout)
	return s
}

func (s *testSystem) serve(service, callout keyPair) {
	s.t.Helper()
	nc, err := nats.Connect(s.url, nats.UserJWT(
		func() (string, error) { return encode(s.t, jwt.NewUserClaims(service.public), callout), nil },
		service.Sign,
	))
	must(s.t, err)
	s.t.Cleanup(nc.Close)
	_, err = nc.Subscribe("$SYS.REQ.USER.AUTH", func(m *nats.Msg) {
		request, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
		if err != nil {
			s.t.Error(err)
			return
		}
		response := jwt.NewAuthorizationResponseClaims(request.UserNkey)
		response.Audience = request.Server.ID
		if nonce := request.ClientInformation.Nonce; nonce != "" {
			s.mu.Lock()
			s.nonces = append(s.nonces, nonce)
			s.mu.Unlock()
		}
		v := s.decide(request.ConnectOptions)
		switch {
		case v.ignore:
			return
		case v.refuse:
			response.Error = "refused"
		default:
			response.Jwt = s.userJWT(request.UserNkey, v)
		}
		if err := m.Respond([]byte(encode(s.t, response, callout))); err != nil {
			s.t.Error(err)
		}
	})
	must(s.t, err)
	must(s.t, nc.Flush())
}

func (s *testSystem) userJWT(key string, v verdict) string {
	claims := jwt.NewUserClaims(key)
	claims.Name = "corp-alice"
	claims.Permissions = v.permissions
	claims.Expires = time.Now().Add(cmp.Or(v.lasts, time.Hour)).Unix()
	return encode(s.t, claims, s.app)
}

// direct returns the user JWT and the seed of a user that logs in without the callout.
func (s *testSystem) direct(t *testing.T) (userJWT, seed string) {
	t.Helper()
	user := newKey(t, nkeys.CreateUser)
	data, err := user.Seed()
	must(t, err)
	return s.userJWT(user.public, verdict{}), string(data)
}

func (s *testSystem) decide(login jwt.ConnectOptions) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins = append(s.logins, login)
	if s.answer == nil {
		return verdict{}
	}
	return s.answer(len(s.logins), login)
}

// onLogin sets what becomes of the logins from now on; the first since the start is number 1.
func (s *testSystem) onLogin(answer func(n int, login jwt.ConnectOptions) verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// tokens returns what came as auth_token so far.
func (s *testSystem) tokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var tokens []string
	for _, l := range s.logins {
		tokens = append(tokens, l.Token)
	}
	return tokens
}

// kick closes the client's connection on the server.
func (s *testSystem) kick(nc *nats.Conn) {
	s.t.Helper()
	cid, err := nc.GetClientID()
	must(s.t, err)
	must(s.t, s.server.DisconnectClientByID(cid))
}

// connect connects with quick reconnects and closes at the end of the test.
func (s *testSystem) connect(source TokenSource, opts ...Option) (*nats.Conn, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	quick := WithNATSOptions(
		nats.CustomReconnectDelay(func(int) time.Duration { return time.Millisecond }),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // the default one prints
	)
	nc, err := Connect(ctx, s.url, source, slices.Concat([]Option{quick}, opts)...)
	if err == nil {
		s.t.Cleanup(func() { closeAndWait(s.t, nc) })
	}
	return nc, err
}

func (s *testSystem) mustConnect(source TokenSource, opts ...Option) *nats.Conn {
	s.t.Helper()
	nc, err := s.connect(source, opts...)
	must(s.t, err)
	return nc
}

func closeAndWait(t *testing.T, nc *nats.Conn) {
	nc.Close()
	eventually(t, "the connection is closed", nc.IsClosed)
}

// eventually polls until ok, or fails the test.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// receive returns the next value of a channel, or fails the test.
func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(15 * time.Second):
		t.Fatalf("not in time: %s", what)
		panic("unreachable")
	}
}

// reconnected returns an option and a channel that tells of each restored connection.
func reconnected() (Option, <-chan struct{}) {
	ch := make(chan struct{}, 100)
	return WithNATSOptions(nats.ReconnectHandler(func(*nats.Conn) { ch <- struct{}{} })), ch
}

// alwaysAnswered takes every refusal for one that somebody gave, however slow the machine is.
func alwaysAnswered(c *config) error {
	c.silence = time.Hour
	return nil
}

// idToken returns a JWT of that subject, unsigned: the responder of these tests trusts everybody.
func idToken(t *testing.T, subject string) string {
	t.Helper()
	return unsigned(t, map[string]any{"iss": "https://login.example.com", "sub": subject})
}

// expiring returns a JWT of that number which expires.
func expiring(t *testing.T, number int, expires time.Time) string {
	t.Helper()
	return unsigned(t, map[string]any{"jti": number, "exp": expires.Unix()})
}

func unsigned(t *testing.T, claims map[string]any) string {
	t.Helper()
	part := func(v any) string {
		data, err := json.Marshal(v)
		must(t, err)
		return base64.RawURLEncoding.EncodeToString(data)
	}
	return part(map[string]string{"alg": "none"}) + "." + part(claims) + ".c2lnbmF0dXJl"
}
