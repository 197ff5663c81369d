package natsfacts

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// accountInfo is what the server applies for the account, or the text of its error.
func (d *deployment) accountInfo(t *testing.T, s *server.Server, id string) (server.AccountInfo, string) {
	t.Helper()
	var reply struct {
		Server *server.ServerInfo
		Data   struct {
			Detail server.AccountInfo `json:"account_detail"`
		}
		Error *server.ApiError
	}
	d.askOne(t, fmt.Sprintf("$SYS.REQ.SERVER.%s.ACCOUNTZ", s.ID()), server.AccountzOptions{Account: id}, &reply)
	if reply.Server.ID != s.ID() {
		t.Errorf("ACCOUNTZ of %s names server %s", s.ID(), reply.Server.ID)
	}
	if reply.Error != nil {
		return server.AccountInfo{}, reply.Error.Description
	}
	return reply.Data.Detail, ""
}

// load has every server load the account.
func (d *deployment) load(t *testing.T, id string) {
	t.Helper()
	d.ask(t, fmt.Sprintf("$SYS.REQ.ACCOUNT.%s.CONNZ", id), nil, len(d.servers))
}

func notLoaded(id string) string {
	return fmt.Sprintf("Account %s does not exist", id)
}

// infoReply is one server's answer to ACCOUNT.<id>.INFO.
type infoReply struct {
	Server *server.ServerInfo  `json:"server"`
	Data   *server.AccountInfo `json:"data"`
	Error  *server.ApiError    `json:"error"`
}

func (d *deployment) infos(t *testing.T, id string) map[string]infoReply {
	t.Helper()
	replies := map[string]infoReply{}
	for _, msg := range d.ask(t, fmt.Sprintf("$SYS.REQ.ACCOUNT.%s.INFO", id), nil, len(d.servers)) {
		var reply infoReply
		decode(t, msg.Data, &reply)
		replies[reply.Server.ID] = reply
	}
	return replies
}

// Fact: a server loads an account only when something needs it. Until then INFO and
// ACCOUNTZ answer, each server for itself, with the same error as for an account that
// does not exist, and do not load it. Read-back tells the two apart by LOOKUP.
func TestInfoOfStoredAccountIsAnError(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	a := d.newAccount(t, "APP")
	for range 2 {
		replies := d.infos(t, a.id)
		for _, s := range d.servers {
			reply := replies[s.ID()]
			if reply.Error == nil || reply.Error.Code != 500 || reply.Error.Description != notLoaded(a.id) {
				t.Errorf("%s: INFO = %+v, want an error 500, %s", s.Name(), reply, notLoaded(a.id))
			}
			if _, got := d.accountInfo(t, s, a.id); got != notLoaded(a.id) {
				t.Errorf("%s: ACCOUNTZ error = %q, want %q", s.Name(), got, notLoaded(a.id))
			}
		}
	}
}

// Fact: ACCOUNT.<id>.CONNZ makes every server load a stored account, and INFO then shows
// what is applied: the raw JWT and the decoded claims with their signing keys, server by
// server. The confirmation that an account or a signing key is on the servers rests on
// it.
func TestConnzLoadsAccountEverywhere(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	a := d.newAccount(t, "APP")
	d.load(t, a.id)
	stored := d.lookup(t, a.id)[0]
	replies := d.infos(t, a.id)
	if len(replies) != 3 {
		t.Fatalf("INFO was answered by %d servers, want 3", len(replies))
	}
	for _, s := range d.servers {
		info := replies[s.ID()].Data
		if info == nil {
			t.Fatalf("%s: INFO error %+v", s.Name(), replies[s.ID()].Error)
		}
		if info.AccountName != a.id || info.NameTag != "APP" || info.Expired || !info.Complete {
			t.Errorf("%s: INFO = %+v, want the account, complete and not expired", s.Name(), info)
		}
		if info.Jwt != stored || info.IssuerKey != public(d.signer) {
			t.Errorf("%s: applied JWT %s by %s, want the stored one by %s", s.Name(), info.Jwt, info.IssuerKey, public(d.signer))
		}
		if _, ok := info.Claim.SigningKeys[public(a.signer)]; !ok {
			t.Errorf("%s: decoded_jwt lacks signing key %s", s.Name(), public(a.signer))
		}
		if detail, _ := d.accountInfo(t, s, a.id); detail.Jwt != stored {
			t.Errorf("%s: ACCOUNTZ shows %s, want the same as INFO", s.Name(), detail.Jwt)
		}
	}
}

// Fact: SERVER.<id>.CONNZ with acc makes only that server load the account. A server
// that joined late is brought up to date alone.
func TestServerConnzLoadsAccountOnThatServer(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	a := d.newAccount(t, "APP")
	d.ask(t, fmt.Sprintf("$SYS.REQ.SERVER.%s.CONNZ", d.servers[1].ID()), map[string]string{"acc": a.id}, 1)
	for i, s := range d.servers {
		_, got := d.accountInfo(t, s, a.id)
		if want := notLoaded(a.id); (got == "") != (i == 1) || (got != "" && got != want) {
			t.Errorf("%s: ACCOUNTZ error = %q, want the account on s1 only", s.Name(), got)
		}
	}
}

// Fact: a push to a loaded account is applied before it is answered, and INFO shows it.
func TestUpdateOfLoadedAccountIsAppliedAtOnce(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	a := d.newAccount(t, "APP")
	d.load(t, a.id)
	a.claims.Audience = "rev-2"
	a.claims.Limits.Conn = 7
	d.push(t, a)
	for id, reply := range d.infos(t, a.id) {
		if reply.Data == nil || reply.Data.Claim.Limits.Conn != 7 || reply.Data.Claim.Audience != "rev-2" {
			t.Errorf("%s applies %+v, want the second revision", id, reply.Data)
		}
	}
}

// Fact: stored claims that the server does not trust cannot be loaded: CONNZ answers,
// INFO stays an error. Read-back sees such an account as stored and not applied.
func TestUntrustedAccountIsNotLoaded(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	a, err := makeAccount("APP")
	check(t, err)
	token, err := a.claims.Encode(a.identity)
	check(t, err)
	d.update(t, token)
	d.load(t, a.id)
	if got := d.lookup(t, a.id)[0]; got != token {
		t.Errorf("stored = %s, want the self-signed claims", got)
	}
	if _, got := d.accountInfo(t, d.servers[0], a.id); got != notLoaded(a.id) {
		t.Errorf("ACCOUNTZ error = %q, want %q", got, notLoaded(a.id))
	}
}

// Fact: CONNZ of an account that is stored nowhere makes a server without peers wait 1.9
// s, and all other system requests to it wait too, while LOOKUP never does. Read-back
// asks LOOKUP first, and CONNZ only for what is stored.
func TestConnzOfUnknownAccountBlocksServer(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	s := d.startServer(t, d.config("lonely", t.TempDir(), false))
	a, err := makeAccount("NONE")
	check(t, err)
	begin := time.Now()
	check(t, d.admin.PublishRequest(fmt.Sprintf("$SYS.REQ.ACCOUNT.%s.CONNZ", a.id), d.admin.NewInbox(), nil))
	if _, got := d.accountInfo(t, s, a.id); got != notLoaded(a.id) {
		t.Errorf("ACCOUNTZ error = %q, want %q", got, notLoaded(a.id))
	}
	if took := time.Since(begin); took < time.Second || took > 5*time.Second {
		t.Errorf("ACCOUNTZ behind CONNZ of an unknown account took %v, want about 1.9s", took)
	}
}

// Fact: scoped signing keys appear in the applied claims with their role.
func TestInfoShowsScopedSigningKeys(t *testing.T) {
	t.Parallel()
	d := onOneServer(t)
	a, key := d.newScoped(t, "work.>")
	d.load(t, a.id)
	info, text := d.accountInfo(t, d.servers[0], a.id)
	if text != "" {
		t.Fatal(text)
	}
	scope, ok := info.Claim.SigningKeys.GetScope(public(key))
	if !ok || scope.(*jwt.UserScope).Role != "role" {
		t.Errorf("scope of %s = %+v, want the role", public(key), scope)
	}
}
