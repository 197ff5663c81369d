package callout

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// forger sends requests as a server would whose keys it has, and as no server would.
type forger struct {
	nc       *nats.Conn
	answers  *nats.Subscription
	account  string // the callout account
	sealTo   string // the service's xkey; empty: requests go unsealed
	identity nkeys.KeyPair
	id       string
	xkey     nkeys.KeyPair
	public   string // of xkey
}

// newForger returns one with the keys of a server that is not in the cluster.
func newForger(t *testing.T, s *system) *forger {
	t.Helper()
	f := &forger{nc: s.attacker(t), account: s.Callout.ID}
	f.identity, f.id = pair(t, nkeys.PrefixByteServer)
	if s.Sealer != nil {
		f.sealTo = s.Sealer.Public()
		f.xkey, f.public = pair(t, nkeys.PrefixByteCurve)
	}
	var err error
	if f.answers, err = f.nc.SubscribeSync(f.nc.NewInbox()); err != nil {
		t.Fatal(err)
	}
	return f
}

// member returns a forger for a system, started with the stub, to which its server is known.
func member(t *testing.T, changes ...with) (*system, *forger) {
	t.Helper()
	stub := &serverTable{}
	identity, id := pair(t, nkeys.PrefixByteServer)
	stub.extra = id
	s := startSystem(t, append([]with{withServers(stub)}, changes...)...)
	f := newForger(t, s)
	f.identity, f.id = identity, id
	return s, f
}

func pair(t *testing.T, prefix nkeys.PrefixByte) (nkeys.KeyPair, string) {
	t.Helper()
	kp, err := nkeys.CreatePair(prefix)
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return kp, public
}

// claims returns a request as nats-server makes it.
func (f *forger) claims(t *testing.T, token string) *jwt.AuthorizationRequestClaims {
	t.Helper()
	_, user := pair(t, nkeys.PrefixByteUser)
	c := jwt.NewAuthorizationRequestClaims(f.account)
	c.Type, c.Version = jwt.AuthorizationRequestClaim, 2
	c.Issuer, c.Audience, c.UserNkey = f.id, requestAudience, user
	c.IssuedAt, c.Expires = time.Now().Unix(), time.Now().Unix()+2
	c.Server = jwt.ServerID{ID: f.id, Name: "forged", XKey: f.public}
	c.ClientInformation = jwt.ClientInformation{Host: "192.0.2.9", ID: 7, Kind: "Client", Type: "nats"}
	c.ConnectOptions.Token = token
	return c
}

// sign returns the JWT of the claims as they are, which the library would change.
func (f *forger) sign(t *testing.T, c *jwt.AuthorizationRequestClaims) []byte {
	t.Helper()
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return f.signText(t, string(body))
}

// signText returns a JWT with that body.
func (f *forger) signText(t *testing.T, body string) []byte {
	t.Helper()
	input := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(body))
	signature, err := f.identity.Sign([]byte(input))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(input + "." + base64.RawURLEncoding.EncodeToString(signature))
}

// seal returns the message of a request as the server of the forger would send it.
func (f *forger) seal(t *testing.T, data []byte) *nats.Msg {
	t.Helper()
	if f.sealTo == "" {
		return f.plain(data)
	}
	return f.sealed(t, data, f.xkey, f.public, f.sealTo)
}

// anotherXKey returns a new xkey where the forger seals at all.
func (f *forger) anotherXKey(t *testing.T) (nkeys.KeyPair, string) {
	t.Helper()
	if f.sealTo == "" {
		return nil, ""
	}
	return pair(t, nkeys.PrefixByteCurve)
}

func (f *forger) plain(data []byte) *nats.Msg {
	return &nats.Msg{Subject: injectSubject, Reply: f.answers.Subject, Data: data}
}

// sealed returns a message sealed by one key for another, with any header.
func (f *forger) sealed(t *testing.T, data []byte, by nkeys.KeyPair, header, to string) *nats.Msg {
	t.Helper()
	data, err := by.Seal(data, to)
	if err != nil {
		t.Fatal(err)
	}
	msg := f.plain(data)
	msg.Header = nats.Header{xkeyHeader: {header}}
	return msg
}

// request returns the message of a request, after an edit.
func (f *forger) request(t *testing.T, token string, edit func(*jwt.AuthorizationRequestClaims)) *nats.Msg {
	t.Helper()
	c := f.claims(t, token)
	if edit != nil {
		edit(c)
	}
	return f.seal(t, f.sign(t, c))
}

func (f *forger) send(t *testing.T, msg *nats.Msg) {
	t.Helper()
	if err := f.nc.PublishMsg(msg); err != nil {
		t.Fatal(err)
	}
}

// answered sends an honest request and returns its answer. With one worker, whatever was
// answered before it has arrived before it.
func (f *forger) answered(t *testing.T, token string) *jwt.AuthorizationResponseClaims {
	t.Helper()
	c := f.claims(t, token)
	f.send(t, f.seal(t, f.sign(t, c)))
	response := f.next(t)
	if response.Subject != c.UserNkey {
		t.Fatalf("an answer to another request came: %+v", response)
	}
	return response
}

// next returns the next answer.
func (f *forger) next(t *testing.T) *jwt.AuthorizationResponseClaims {
	t.Helper()
	msg, err := f.answers.NextMsg(soon)
	if err != nil {
		t.Fatal(err)
	}
	data := msg.Data
	if f.sealTo != "" {
		if data, err = f.xkey.Open(data, f.sealTo); err != nil {
			t.Fatal(err)
		}
	}
	response, err := jwt.DecodeAuthorizationResponseClaims(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// silence fails the test when there is an answer that nobody took.
func (f *forger) silence(t *testing.T, what string) {
	t.Helper()
	if err := f.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if msg, err := f.answers.NextMsg(time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("%s: answered with %d bytes", what, len(msg.Data))
	}
}

// hostile is a request that must not be answered.
type hostile struct {
	name string
	msg  func(*testing.T) *nats.Msg
	want policy.Reason
}

// hostiles are requests with one fault each. All else about them is right: the key is that of
// a server that is known, and the token admits.
func hostiles(f *forger) []hostile {
	const token = secret + "alice"
	edited := func(edit func(*jwt.AuthorizationRequestClaims)) func(*testing.T) *nats.Msg {
		return func(t *testing.T) *nats.Msg { return f.request(t, token, edit) }
	}
	data := func(b []byte) func(*testing.T) *nats.Msg {
		return func(t *testing.T) *nats.Msg { return f.seal(t, b) }
	}
	return []hostile{
		{"wrong audience", edited(func(c *jwt.AuthorizationRequestClaims) { c.Audience = "nats-authorization-response" }), policy.RequestForged},
		{"no audience", edited(func(c *jwt.AuthorizationRequestClaims) { c.Audience = "" }), policy.RequestForged},
		{"for another account", edited(func(c *jwt.AuthorizationRequestClaims) { c.Subject = otherAccount }), policy.RequestForged},
		{"server_id is another server's", edited(func(c *jwt.AuthorizationRequestClaims) { c.Server.ID = otherServer }), policy.RequestForged},
		{"no server_id", edited(func(c *jwt.AuthorizationRequestClaims) { c.Server.ID = "" }), policy.RequestForged},
		{"server_id.xkey is another key", edited(func(c *jwt.AuthorizationRequestClaims) { c.Server.XKey = otherXKey }), policy.RequestForged},
		{"issuer is another server", edited(func(c *jwt.AuthorizationRequestClaims) { c.Issuer, c.Server.ID = otherServer, otherServer }), policy.RequestMalformed},
		{"no user key", edited(func(c *jwt.AuthorizationRequestClaims) { c.UserNkey = "" }), policy.RequestMalformed},
		{"user key of another kind", edited(func(c *jwt.AuthorizationRequestClaims) { c.UserNkey = otherAccount }), policy.RequestMalformed},
		{"user key is text", edited(func(c *jwt.AuthorizationRequestClaims) { c.UserNkey = "U\r\nPUB x 0" }), policy.RequestMalformed},
		{"too old", edited(func(c *jwt.AuthorizationRequestClaims) { c.IssuedAt -= 33; c.Expires -= 33 }), policy.RequestReplayed},
		{"too new", edited(func(c *jwt.AuthorizationRequestClaims) { c.IssuedAt += 33; c.Expires += 33 }), policy.RequestReplayed},
		{"of the beginning of time", edited(func(c *jwt.AuthorizationRequestClaims) { c.IssuedAt, c.Expires = -1<<62, -1<<62+2 }), policy.RequestReplayed},
		{"of the end of time", edited(func(c *jwt.AuthorizationRequestClaims) { c.IssuedAt, c.Expires = 1<<62, 1<<62+2 }), policy.RequestReplayed},
		{"expires when it is made", edited(func(c *jwt.AuthorizationRequestClaims) { c.Expires = c.IssuedAt }), policy.RequestLate},
		{"expires before it is made", edited(func(c *jwt.AuthorizationRequestClaims) { c.Expires = c.IssuedAt - 60 }), policy.RequestLate},
		{"type is another", edited(func(c *jwt.AuthorizationRequestClaims) { c.Type = jwt.AuthorizationResponseClaim }), policy.RequestMalformed},
		{"signed by somebody else", func(t *testing.T) *nats.Msg {
			g := *f
			g.identity, _ = pair(t, nkeys.PrefixByteServer)
			g.xkey, g.public = g.anotherXKey(t) // its own would prove the server without a signature
			return g.seal(t, g.sign(t, g.claims(t, token)))
		}, policy.RequestMalformed},
		{"signed by a user", func(t *testing.T) *nats.Msg {
			g := *f
			g.identity, g.id = pair(t, nkeys.PrefixByteUser)
			return f.seal(t, g.sign(t, g.claims(t, token)))
		}, policy.RequestMalformed},
		{"of a server that nobody knows", func(t *testing.T) *nats.Msg {
			g := *f
			g.identity, g.id = pair(t, nkeys.PrefixByteServer)
			return f.seal(t, g.sign(t, g.claims(t, token)))
		}, policy.ServerUnknown},
		{"issuer with a line break", func(t *testing.T) *nats.Msg {
			g := *f
			g.id = f.id[:10] + "\r\n" + f.id[10:]
			return f.seal(t, g.sign(t, g.claims(t, token)))
		}, policy.ServerUnknown},
		{"payload is not JSON", data([]byte("eyJhbGciOiJlZDI1NTE5LW5rZXkifQ.bm8.x")), policy.RequestMalformed},
		{"two dots", data([]byte("..")), policy.RequestMalformed},
		{"garbage", data([]byte(strings.Repeat("\x00\xff\r\n", 100))), policy.RequestMalformed},
		{"huge", data([]byte(strings.Repeat("x", 1<<20-1024))), policy.RequestMalformed},
		{"huge, but right", edited(func(c *jwt.AuthorizationRequestClaims) { c.ConnectOptions.Token = strings.Repeat(secret, 30_000) }), policy.RequestMalformed},
	}
}

// Keys that belong to nobody in these tests.
var (
	otherAccount = mustPublic(nkeys.PrefixByteAccount)
	otherServer  = mustPublic(nkeys.PrefixByteServer)
	otherXKey    = mustPublic(nkeys.PrefixByteCurve)
)

func mustPublic(prefix nkeys.PrefixByte) string {
	kp, err := nkeys.CreatePair(prefix)
	if err != nil {
		panic(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		panic(err)
	}
	return public
}

// Whoever can send requests gets no answer for one with any fault, and each is counted and recorded for what it is.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	for _, xkey := range []bool{true, false} {
		t.Run(fmt.Sprintf("xkey=%t", xkey), func(t *testing.T) {
			t.Parallel()
			s, f := member(t, withXKey(xkey), withWorkers(1))
			cases := hostiles(f)
			if xkey {
				cases = append(cases, unsealed(f)...)
			} else {
				cases = append(cases,
					hostile{"empty", func(*testing.T) *nats.Msg { return f.plain(nil) }, policy.RequestMalformed},
					hostile{"sealed without need", func(t *testing.T) *nats.Msg {
						by, public := pair(t, nkeys.PrefixByteCurve)
						return f.sealed(t, f.sign(t, f.claims(t, secret+"alice")), by, public, otherXKey)
					}, policy.RequestMalformed})
			}
			if f.answered(t, secret+"alice").Jwt == "" {
				t.Fatal("an honest request was not admitted: the cases would show nothing")
			}
			want := map[policy.Reason]int{}
			for _, c := range cases {
				want[c.want]++
				f.send(t, c.msg(t))
				eventually(t, func() error {
					return check(s.ended(c.want, "") == want[c.want], "%s: %d logins have ended for %s, want %d; log:\n%s",
						c.name, s.ended(c.want, ""), c.want, want[c.want], s.log)
				})
				if f.answered(t, secret+"alice").Jwt == "" {
					t.Errorf("%s: the honest request after it was not admitted", c.name)
				}
				f.silence(t, c.name)
			}
			s.stop()
			for reason, n := range want {
				entries := s.records.of(reason)
				if count(entries) != n {
					t.Errorf("%s: the entries stand for %d requests, want %d", reason, count(entries), n)
				}
				for _, e := range entries {
					if e.Outcome != string(policy.OutcomeSilent) || e.Detail == "" || e.ID == "" {
						t.Errorf("%s: entry %+v", reason, e)
					}
				}
			}
			if n := len(s.records.of(policy.Allowed)); n != len(cases)+1 {
				t.Errorf("%d entries of admitted logins, want %d", n, len(cases)+1)
			}
			if strings.Contains(s.log.String(), "panic") {
				t.Errorf("something panicked:\n%s", s.log)
			}
		})
	}
}

// unsealed are requests that are not sealed as they should be.
func unsealed(f *forger) []hostile {
	honest := func(t *testing.T) []byte { return f.sign(t, f.claims(t, secret+"alice")) }
	return []hostile{
		{"unsealed", func(t *testing.T) *nats.Msg { return f.plain(honest(t)) }, policy.RequestUnsealed},
		{"unsealed with a header", func(t *testing.T) *nats.Msg {
			msg := f.plain(honest(t))
			msg.Header = nats.Header{xkeyHeader: {f.public}}
			return msg
		}, policy.RequestUnsealed},
		{"sealed for another key", func(t *testing.T) *nats.Msg {
			return f.sealed(t, honest(t), f.xkey, f.public, otherXKey)
		}, policy.RequestUnsealed},
		{"sealed by another key than the server's", func(t *testing.T) *nats.Msg {
			by, public := pair(t, nkeys.PrefixByteCurve)
			return f.sealed(t, honest(t), by, public, f.sealTo)
		}, policy.RequestForged},
		{"header names another key", func(t *testing.T) *nats.Msg {
			return f.sealed(t, honest(t), f.xkey, otherXKey, f.sealTo)
		}, policy.RequestUnsealed},
		{"header is no key", func(t *testing.T) *nats.Msg {
			return f.sealed(t, honest(t), f.xkey, "X", f.sealTo)
		}, policy.RequestUnsealed},
		{"no header", func(t *testing.T) *nats.Msg {
			msg := f.sealed(t, honest(t), f.xkey, f.public, f.sealTo)
			msg.Header = nil
			return msg
		}, policy.RequestUnsealed},
		{"cut short", func(t *testing.T) *nats.Msg {
			msg := f.seal(t, honest(t))
			msg.Data = msg.Data[:len(msg.Data)-1]
			return msg
		}, policy.RequestUnsealed},
		{"nothing but a version", func(*testing.T) *nats.Msg {
			msg := f.plain([]byte(sealVersion))
			msg.Header = nats.Header{xkeyHeader: {f.public}}
			return msg
		}, policy.RequestUnsealed},
		{"empty", func(*testing.T) *nats.Msg { return f.plain(nil) }, policy.RequestUnsealed},
	}
}

// A request is worked on once, however often it is sent and however it ended.
func TestReplayedRequest(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	for i, token := range []string{secret + "alice", secret + "forged", secret + "nobody"} {
		c := f.claims(t, token)
		signed := f.sign(t, c)
		f.send(t, f.seal(t, signed))
		if f.next(t).Subject != c.UserNkey {
			t.Fatal("an answer to another request came")
		}
		verified := s.tokens.times(token)
		same := f.seal(t, signed)
		f.send(t, same)
		f.send(t, same)                                                                             // the very same bytes
		f.send(t, f.request(t, token, func(again *jwt.AuthorizationRequestClaims) { *again = *c })) // signed anew
		s.awaitEnd(t, policy.RequestReplayed, "", 3*(i+1))
		f.silence(t, token)
		if n := s.tokens.times(token); n != verified {
			t.Errorf("%s: the token of a replay was looked at", token)
		}
	}
	s.stop()
	if n := count(s.records.of(policy.RequestReplayed)); n != 9 {
		t.Errorf("the entries stand for %d replays, want 9", n)
	}
}

// What anybody can cause without a valid token is sampled, so that it cannot fill the record,
// and none of it is lost from the counts.
func TestRefusalsWithoutIdentityAreSampled(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	started := time.Now()
	const n = 100
	for range n {
		f.send(t, f.request(t, secret+"forged", nil))
	}
	for range n {
		if f.next(t).Error == "" {
			t.Fatal("admitted")
		}
	}
	s.stop()
	entries := s.records.of(policy.SignatureInvalid)
	if most := 2 + int(time.Since(started)/store.SampleEvery); len(entries) > most || count(entries) != n {
		t.Errorf("%d entries for %d refusals, want at most %d for %d", len(entries), count(entries), most, n)
	}
	if got := s.ended(policy.SignatureInvalid, ""); got != n {
		t.Errorf("%d refusals counted, want %d", got, n)
	}
}

// A source that had many logins refused comes last from then on, and is served still while
// nobody else waits. Its admitted logins do not count.
func TestRefusalsSpendTheSource(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	source := sourceOf(netip.MustParseAddr("192.0.2.9"))
	left := func() (float64, bool) {
		s.throttle.mu.Lock()
		defer s.throttle.mu.Unlock()
		a, ok := s.throttle.sources[source]
		return a.left, ok
	}
	for range 10 {
		f.answered(t, secret+"alice")
	}
	if _, ok := left(); ok {
		t.Error("admitted logins count against their source")
	}
	eventually(t, func() error { // refusals are earned back meanwhile, on a slow machine
		f.answered(t, secret+"nobody")
		l, _ := left()
		return check(l < 1, "%.1f refusals are left", l)
	})
	if f.answered(t, secret+"alice").Jwt == "" {
		t.Error("a source that is spent is not served although nobody else waits")
	}
}

// The time of a request is judged by the clock of the server that made it: a service whose
// clock is off by minutes answers honest requests still.
func TestRequestTimeIsTheServers(t *testing.T) {
	t.Parallel()
	s := startSystem(t, withClock(-5*time.Minute))
	s.login(t, nats.Token(secret+"alice"))
}

// Nor does it matter that this host's clock is set: what is too old stays that, and honest requests are answered at once, before
// any server was asked for its time again.
func TestRequestTimeWhenTheClockIsSet(t *testing.T) {
	t.Parallel()
	s, f := member(t, withWorkers(1))
	for i, by := range []time.Duration{-30 * time.Second, 10 * time.Minute, -5 * time.Minute} {
		s.clock.advance(by)
		f.send(t, f.request(t, secret+"alice", func(c *jwt.AuthorizationRequestClaims) { c.IssuedAt -= 33; c.Expires -= 33 }))
		s.awaitEnd(t, policy.RequestReplayed, "", i+1)
		f.silence(t, "a request that is too old")
		if f.answered(t, secret+"alice").Jwt == "" {
			t.Errorf("set by %s: an honest request is not admitted", by)
		}
	}
}
