package callout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
)

// sealedRequest is a request that keeps a copy of its answer, as a connection does.
type sealedRequest struct {
	rawRequest
	xkey   string
	answer []byte
}

// Headers implements micro.Request.
func (r *sealedRequest) Headers() micro.Headers { return micro.Headers{xkeyHeader: {r.xkey}} }

// Respond implements micro.Request.
func (r *sealedRequest) Respond(data []byte, _ ...micro.RespondOpt) error {
	r.answer = bytes.Clone(data)
	return nil
}

// ask is a login of a client of its own, and what is to come of it.
type ask struct {
	login *login
	req   *sealedRequest
	want  *jwt.AuthorizationRequestClaims
}

// TestBuffersAreOneLoginsAtATime opens and answers many requests at once, of which each has texts of its own, long and short, as
// servers write them and not, and looks at all of them when other logins have had their buffers.
func TestBuffersAreOneLoginsAtATime(t *testing.T) {
	t.Parallel()
	f := &forger{account: otherAccount}
	f.identity, f.id = pair(t, nkeys.PrefixByteServer)
	f.xkey, f.public = pair(t, nkeys.PrefixByteCurve)
	_, public, seed := curve(t)
	sealer, err := NewSealer(seed)
	if err != nil {
		t.Fatal(err)
	}
	signerPair, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	signerSeed, err := signerPair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := mint.NewKey(signerSeed)
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{Options: Options{Account: otherAccount, MaxToken: 64 << 10, Sealer: sealer, Signer: signer}}

	const lanes, each = 8, 40
	asks := make([]*ask, lanes*each)
	for i := range asks {
		c := f.claims(t, strings.Repeat(fmt.Sprint("token-", i, "."), 1+i%7*500))
		c.ClientInformation.ID, c.ClientInformation.Nonce = uint64(i+1), fmt.Sprint("nonce-", i)
		c.ConnectOptions.Username, c.ConnectOptions.Nkey, c.ConnectOptions.SignedNonce = fmt.Sprint("account:A", i), fmt.Sprint("U", i), fmt.Sprint("sig-", i)
		c.ConnectOptions.Lang, c.ConnectOptions.Version = fmt.Sprint("go", i, "é"[:i%2*2]), fmt.Sprint("v<", i, ">")
		data := f.sign(t, c)
		if i%3 == 0 { // for the other decoder
			body := strings.Replace(string(mustJSON(t, c)), `"auth_token":`, `"AUTH_TOKEN":`, 1)
			data = f.signText(t, body)
		}
		sealed, err := f.xkey.Seal(data, public)
		if err != nil {
			t.Fatal(err)
		}
		req := &sealedRequest{rawRequest: rawRequest{data: sealed}, xkey: f.public}
		now := time.Now()
		asks[i] = &ask{req: req, want: c, login: &login{req: req, arrived: now, deadline: now.Add(patience), id: fmt.Sprint("id-", i)}}
	}
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			for _, a := range asks[lane*each : (lane+1)*each] {
				if r := s.open(a.login); r != nil {
					t.Error(r)
					return
				}
				if lane%2 == 0 {
					sealer.remember(f.public, a.login.claims.Issuer) // from here on nothing is signed, as far as the service looks
				}
				a.login.credential.JWT = "jwt of " + a.want.ConnectOptions.Token
				var refusal *policy.Refusal
				if lane == 1 {
					refusal = policy.Refuse(policy.NoBinding, "none")
				}
				if err := s.respond(a.login, refusal); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i, a := range asks {
		a.check(t, f, public, i/each == 1)
	}
}

// check compares what there is of a login with what was asked and is to be answered.
func (a *ask) check(t *testing.T, f *forger, public string, refused bool) {
	t.Helper()
	if c := a.login.claims; c == nil || !c.same(a.want) || a.login.conn.Account != strings.TrimPrefix(a.want.ConnectOptions.Username, accountPrefix) ||
		a.login.conn.Proof != (policy.Proof{Nonce: a.want.ClientInformation.Nonce, Signature: a.want.ConnectOptions.SignedNonce, Key: a.want.ConnectOptions.Nkey}) {
		t.Fatalf("%s: opened %.300q, want %.300q", a.login.id, fmt.Sprint(c), fmt.Sprint(a.want))
	}
	plain, err := f.xkey.Open(a.req.answer, public)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := jwt.DecodeAuthorizationResponseClaims(string(plain))
	if err != nil {
		t.Fatal(err)
	}
	wantJWT, wantError := "jwt of "+a.want.ConnectOptions.Token, ""
	if refused {
		wantJWT, wantError = "", "refused, see request "+a.login.id
	}
	if answer.Subject != a.want.UserNkey || answer.Audience != f.id || answer.Jwt != wantJWT || answer.Error != wantError {
		t.Fatalf("%s: answered %.300q", a.login.id, fmt.Sprint(answer))
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestLoginsAtOnceAreTheirOwn has many log in at once, each with a name of its own in the token and in CONNECT, and compares whom
// the server has let in on which connection with what is recorded of it.
func TestLoginsAtOnceAreTheirOwn(t *testing.T) {
	t.Parallel()
	s := startSystem(t)
	const lanes, logins = 4, 60
	for i := range 20 { // some are the same person
		name := fmt.Sprint("user-", i)
		s.tokens.set(secret+name, valid(name, "dev"))
	}
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			for i := lane; i < logins; i += lanes {
				name := fmt.Sprint("user-", i%20)
				var err error
				for deadline := time.Now().Add(soon); time.Now().Before(deadline); { // a busy machine answers some too late
					if _, err = s.dial(t, nats.Token(secret+name), nats.Name(name)); err == nil {
						break
					}
				}
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	entries := map[uint64]string{} // names by connection
	for _, e := range s.records.of(policy.Allowed) {
		if entries[e.CID] != "" || e.TokenID != "jti-"+e.Subject || e.SessionID != "sid-"+e.Subject || e.Display["email"] != e.Subject+"@example.com" {
			t.Errorf("entry %+v", e)
		}
		entries[e.CID] = e.Name
	}
	msg, err := s.admin.Request("$SYS.REQ.SERVER.PING.CONNZ", []byte(`{"auth":true,"limit":1000}`), soon)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Data struct {
			Connections []struct {
				CID  uint64
				Name string
				User string `json:"authorized_user"`
			}
		}
	}
	if err := json.Unmarshal(msg.Data, &report); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, c := range report.Data.Connections {
		if !strings.HasPrefix(c.Name, "user-") {
			continue
		}
		if seen++; c.User != "corp-"+c.Name || entries[c.CID] != c.User {
			t.Errorf("connection %d calls itself %s, came in as %s and is recorded as %s", c.CID, c.Name, c.User, entries[c.CID])
		}
	}
	if seen != logins {
		t.Errorf("%d connections, want %d", seen, logins)
	}
}
