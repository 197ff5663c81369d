package natsfacts

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// lookup is the JWT that each server has stored for the account.
func (d *deployment) lookup(t *testing.T, id string) []string {
	t.Helper()
	var tokens []string
	for _, msg := range d.ask(t, fmt.Sprintf("$SYS.REQ.ACCOUNT.%s.CLAIMS.LOOKUP", id), nil, len(d.servers)) {
		tokens = append(tokens, string(msg.Data))
	}
	return tokens
}

// backdate makes the same account JWT with an iat that is older by seconds, and with a
// jti of its own.
func backdate(t *testing.T, token string, seconds int64, signer nkeys.KeyPair) string {
	t.Helper()
	parts := strings.Split(token, ".")
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	check(t, err)
	var claims map[string]json.RawMessage
	check(t, json.Unmarshal(body, &claims))
	var iat int64
	check(t, json.Unmarshal(claims["iat"], &iat))
	claims["jti"] = json.RawMessage(`"backdated"`)
	claims["iat"] = json.RawMessage(fmt.Sprint(iat - seconds))
	body, err = json.Marshal(claims)
	check(t, err)
	signing := parts[0] + "." + base64.RawURLEncoding.EncodeToString(body)
	signature, err := signer.Sign([]byte(signing))
	check(t, err)
	return signing + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// Fact: every server with a full resolver answers an update of claims, and LOOKUP
// returns the raw JWT as stored, without naming the server. Read-back counts both
// against the number of active servers.
func TestUpdateIsAnsweredByEveryServer(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	a, err := makeAccount("APP")
	check(t, err)
	token := d.signed(t, a)
	var named []string
	for _, msg := range d.ask(t, "$SYS.REQ.CLAIMS.UPDATE", token, 3) {
		var reply server.ServerAPIClaimUpdateResponse
		decode(t, msg.Data, &reply)
		if reply.Error != nil || reply.Data.Account != a.id || reply.Data.Code != 200 || reply.Data.Message != "jwt updated" {
			t.Errorf("reply = %s", msg.Data)
		}
		named = append(named, reply.Server.ID)
	}
	if got, want := slices.Sorted(slices.Values(named)), slices.Sorted(slices.Values(d.ids())); !slices.Equal(got, want) {
		t.Errorf("replies of %v, want %v", got, want)
	}
	if got, want := d.lookup(t, a.id), []string{token, token, token}; !slices.Equal(got, want) {
		t.Errorf("stored = %q, want the pushed JWT on each server", got)
	}
}

// Fact: LOOKUP of an account that is stored nowhere is an empty message from each
// server, at once.
func TestLookupOfUnknownAccountIsEmpty(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	a, err := makeAccount("NONE")
	check(t, err)
	if got := d.lookup(t, a.id); !slices.Equal(got, []string{"", "", ""}) {
		t.Errorf("stored = %q, want three empty messages", got)
	}
}

// Fact: an update with an older iat is answered 200 like any other and overwrites the
// newer claims. A 200 is not believed, the resolver has one writer, and reads back.
func TestStaleUpdateOverwrites(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	a := d.newAccount(t, "APP")
	stale := backdate(t, d.signed(t, a), 3600, d.signer)
	messages, refusals := d.update(t, stale)
	if !slices.Equal(messages, []string{"200 jwt updated"}) || refusals != nil {
		t.Errorf("replies = %q, refusals = %q, want 200 jwt updated", messages, refusals)
	}
	if got := d.lookup(t, a.id); got[0] != stale {
		t.Errorf("stored = %s, want the stale claims %s", got[0], stale)
	}
}

// Fact: claims that an untrusted operator signed are answered 200 and replace what is
// stored; what is applied stays until the server loads the account anew. Read-back
// compares both stored and applied claims with the desired ones.
func TestUntrustedUpdateReplacesStoredOnly(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	a := d.newAccount(t, "APP")
	d.load(t, a.id)
	trusted := d.lookup(t, a.id)[0]
	stranger, err := nkeys.CreateOperator()
	check(t, err)
	untrusted, err := a.claims.Encode(stranger)
	check(t, err)
	messages, refusals := d.update(t, untrusted)
	if !slices.Equal(messages, []string{"200 jwt updated"}) || refusals != nil {
		t.Errorf("replies = %q, refusals = %q, want 200 jwt updated", messages, refusals)
	}
	if got := d.lookup(t, a.id)[0]; got != untrusted {
		t.Errorf("stored = %s, want the untrusted claims", got)
	}
	if info, _ := d.accountInfo(t, d.servers[0], a.id); info.Jwt != trusted {
		t.Errorf("applied = %s, want the trusted claims", info.Jwt)
	}
}

// Fact: what an update is refused for, and with which text.
func TestUpdateRefusals(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	a := d.newAccount(t, "APP")
	user, err := a.user("tool").claims.Encode(a.signer)
	check(t, err)
	token := d.signed(t, a)
	for _, tc := range []struct{ name, token, want string }{
		{"garbage", "garbage", "jwt update resulted in error - expected 3 chunks"},
		{"user JWT", user, "jwt update resulted in error - not account claim"},
		{"bad signature", token[:len(token)-4] + "AAAA", "claim failed V2 signature verification"},
	} {
		messages, refusals := d.update(t, tc.token)
		if messages != nil || len(refusals) != 1 || !strings.Contains(refusals[0], tc.want) {
			t.Errorf("%s: messages %q, refusals %q, want one with %q", tc.name, messages, refusals, tc.want)
		}
	}
	if got := d.lookup(t, a.id)[0]; len(got) == 0 {
		t.Error("a refused update removed the stored claims")
	}
}

// Fact: a pushed account can be used at once, on every server. Sign-up answers once the
// read-back has confirmed it.
func TestPushedAccountIsUsableAtOnce(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	c := d.newCallout(t)
	app := d.newAccount(t, "APP")
	c.answerWith(c.admit(app))
	for _, s := range d.servers {
		nc, err := dial(t, s, withJWT(c.sentinel))
		check(t, err)
		if got := userInfo(t, nc).Account; got != app.id || nc.ConnectedServerId() != s.ID() {
			t.Errorf("%s: account = %s on server %s, want %s on %s", s.Name(), got, nc.ConnectedServerId(), app.id, s.ID())
		}
	}
}

// Fact: jti is a hash of the standard claims only, so that two different claims of one
// account and second share it, and servers that hold one each never converge. The
// resolver puts the revision in aud, which the servers ignore.
func TestJTIIgnoresAccountBody(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	app, err := makeAccount("APP")
	check(t, err)
	encode := func(audience string, conn int64) *jwt.AccountClaims {
		app.claims.Audience, app.claims.Limits.Conn = audience, conn
		token := d.signed(t, app)
		claims, err := jwt.DecodeAccountClaims(token)
		check(t, err)
		return claims
	}
	// Once more when the second has changed in between.
	for {
		one, two, revised := encode("", 1), encode("", 2), encode("rev-2", 2)
		if one.IssuedAt != revised.IssuedAt {
			continue
		}
		if one.ID != two.ID {
			t.Errorf("jti of different claims = %s and %s, want the same", one.ID, two.ID)
		}
		if two.ID == revised.ID {
			t.Errorf("jti with another aud = %s, want another", revised.ID)
		}
		return
	}
}

// Fact: with the MEMORY resolver nobody answers an update, LIST or LOOKUP. Operations
// that change account claims need the full resolver, and status recognises its absence
// by this.
func TestMemoryResolverTakesNoUpdates(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	a, err := makeAccount("APP")
	check(t, err)
	d.startServer(t, d.trust(d.signed(t, a))+"resolver: MEMORY\n")
	for _, subject := range []string{
		"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.LIST", fmt.Sprintf("$SYS.REQ.ACCOUNT.%s.CLAIMS.LOOKUP", a.id),
	} {
		if _, err := d.admin.Request(subject, []byte(d.signed(t, a)), patience); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s: %v, want %v", subject, err, nats.ErrNoResponders)
		}
	}
}

// Fact: the preload of a full resolver does not overwrite newer claims that are stored,
// but older ones. The configuration that init writes may keep its preload for ever, as
// long as nobody renews it there.
func TestPreloadKeepsNewerClaims(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		age  int64 // of the preload against the stored claims, in seconds
		kept bool
	}{
		{"older preload", 3600, true},
		{"newer preload", -3600, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := newPrivate(t)
			a, err := makeAccount("APP")
			check(t, err)
			preload := backdate(t, d.signed(t, a), tc.age, d.signer)
			config := d.config("preload", t.TempDir(), false, preload)
			d.startServer(t, config)
			if got := d.lookup(t, a.id)[0]; got != preload {
				t.Fatalf("stored at first = %s, want the preload", got)
			}
			a.claims.Limits.Conn = 7
			d.push(t, a)
			stored := d.lookup(t, a.id)[0]
			d.stop()

			d.startServer(t, config)
			want := preload
			if tc.kept {
				want = stored
			}
			if got := d.lookup(t, a.id)[0]; got != want {
				t.Errorf("stored after the restart = %s, want %s", got, want)
			}
		})
	}
}
