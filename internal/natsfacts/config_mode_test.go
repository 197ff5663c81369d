package natsfacts

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// configMode is a server without an operator: accounts APP, OTHER, AUTH and SYS, a callout
// whose service answers as [callout] does, and users in the file.
type configMode struct {
	*callout
	server *server.Server
	system *nats.Conn
}

// newConfigMode starts one; more is put into the auth_callout block, besides what it needs.
func newConfigMode(t *testing.T, more string) *configMode {
	t.Helper()
	issuer, err := makeAccount("AUTH")
	check(t, err)
	service, system := newNkeyUser(t), newNkeyUser(t)
	s, err := runServer(fmt.Sprintf(`
accounts {
  APP { users: [ { user: static, password: pw } ] }
  OTHER { users: [ { user: other, password: pw } ] }
  AUTH { users: [ { nkey: %s } ] }
  SYS { users: [ { nkey: %s } ] }
}
system_account: SYS
authorization { auth_callout { issuer: %s, account: AUTH, auth_users: [%s, %s], %s } }
`, public(service), public(system), issuer.id, public(service), public(system), more))
	check(t, err)
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	m := &configMode{callout: &callout{account: issuer, deployment: &deployment{servers: []*server.Server{s}}}, server: s}
	m.service, err = dial(t, s, withNkey(service))
	check(t, err)
	m.system, err = dial(t, s, withNkey(system))
	check(t, err)
	_, err = m.service.Subscribe(requestSubject, func(msg *nats.Msg) {
		if reply := m.reply(t, msg); reply != nil {
			msg.Respond(reply)
		}
	})
	check(t, err)
	check(t, m.service.Flush())
	return m
}

func newNkeyUser(t *testing.T) nkeys.KeyPair {
	t.Helper()
	user, err := nkeys.CreateUser()
	check(t, err)
	return user
}

func withNkey(user nkeys.KeyPair) nats.Option { return nats.Nkey(public(user), user.Sign) }

// place answers with a user that is addressed to the account of that name; edits change it first.
func (m *configMode) place(account string, edits ...func(*jwt.UserClaims)) answer {
	return func(r *request) []byte {
		return m.sign(r, func(a *jwt.AuthorizationResponseClaims) {
			a.Jwt = userJWT(r, m.account, m.identity, append([]func(*jwt.UserClaims){func(u *jwt.UserClaims) {
				u.IssuerAccount, u.Audience = "", account
			}}, edits...)...)
		})
	}
}

// Fact: without an operator the request is for auth_callout.issuer, which signs response and
// user JWT, and the user JWT's aud is the name of the account. mint and callout do that for
// accounts without an id.
func TestConfigModePlacesByName(t *testing.T) {
	t.Parallel()
	m := newConfigMode(t, "")
	m.answerWith(m.place("APP"))
	nc, err := dial(t, m.server, nats.Token("token"))
	check(t, err)
	info := userInfo(t, nc)
	if r := m.seen()[0]; info.Account != "APP" || r.Subject != m.id || r.ConnectOptions.Token != "token" {
		t.Errorf("user in %s, request for %s with token %q, want APP, %s, token", info.Account, r.Subject, r.ConnectOptions.Token, m.id)
	}
}

// Fact: a response that names an account that the server does not have is a refusal at once,
// not a wait for a resolver as in operator mode. An issuer_account is refused as well.
func TestConfigModeRefusesUnknownAccountAtOnce(t *testing.T) {
	t.Parallel()
	m := newConfigMode(t, "")
	events := subscribe(t, m.service, authErrorSubject)
	for name, tc := range map[string]struct {
		answer answer
		reason string
	}{
		"missing":        {m.place("MISSING"), `No valid account "MISSING"`},
		"none":           {m.place(""), `No valid account ""`},
		"issuer_account": {m.place("APP", func(u *jwt.UserClaims) { u.IssuerAccount = m.id }), "attempted to use issuer_account"},
	} {
		m.answerWith(tc.answer)
		began := time.Now()
		if _, err := dial(t, m.server, nats.Token("token")); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v, want %v", name, err, nats.ErrAuthorization)
		}
		var event server.DisconnectEventMsg
		decode(t, next(t, events).Data, &event)
		if !strings.Contains(event.Reason, tc.reason) {
			t.Errorf("%s: reason %q, want one with %q", name, event.Reason, tc.reason)
		}
		if took := time.Since(began); took > server.AUTH_TIMEOUT {
			t.Errorf("%s: refused after %s", name, took)
		}
	}
}

// Fact: allowed_accounts does not keep a response from naming the system account, the callout
// account or the global one without an operator. Gatehouse refuses all three by itself.
func TestConfigModeAllowedAccountsProtectsNothing(t *testing.T) {
	t.Parallel()
	m := newConfigMode(t, "allowed_accounts: [APP]")
	for _, account := range []string{"SYS", "AUTH", "$G", "OTHER"} {
		m.answerWith(m.place(account))
		nc, err := dial(t, m.server, nats.Token("token"))
		if err != nil {
			t.Errorf("%s: %v, want a login", account, err)
			continue
		}
		if got := userInfo(t, nc).Account; got != account {
			t.Errorf("user in %s, want %s", got, account)
		}
	}
}

// Fact: without an operator users of the server's file are sent to the callout too, those in
// auth_users and, with allowed_accounts, those of accounts that it does not list apart. init
// lists who is affected.
func TestConfigModeSendsStaticUsersToCallout(t *testing.T) {
	t.Parallel()
	for more, want := range map[string]map[string]bool{
		"":                        {"static": true, "other": true},
		"allowed_accounts: [APP]": {"static": true, "other": false},
	} {
		m := newConfigMode(t, more)
		m.answerWith(m.place("APP"))
		for user, sent := range want {
			before := len(m.seen())
			_, err := dial(t, m.server, nats.UserInfo(user, "pw"))
			check(t, err)
			if got := len(m.seen()) > before; got != sent {
				t.Errorf("with %q user %s was sent to the callout: %t, want %t", more, user, got, sent)
			}
		}
	}
}

// Fact: without an operator a user JWT in the CONNECT means nothing, so that there is no
// sentinel, and a server refuses to start with a default one. The service connects by an nkey.
func TestConfigModeHasNoSentinel(t *testing.T) {
	t.Parallel()
	m := newConfigMode(t, "")
	m.answerWith(m.place("APP"))
	_, err := dial(t, m.server, withJWT(m.bearer(t)), nats.Token("token"))
	check(t, err)
	if got := m.seen()[0].ConnectOptions.JWT; got != "" {
		t.Errorf("the service saw the JWT %q, want none", got)
	}
	s, err := runServer("default_sentinel: " + m.bearer(t))
	if err == nil {
		s.Shutdown()
		t.Error("a server without operator started with a default sentinel")
	}
}

// Fact: a user in auth_users cannot publish a request, whatever its permissions are. So without
// an operator only servers can ask, as long as nobody else is in the callout account.
func TestConfigModeNobodyForgesRequests(t *testing.T) {
	t.Parallel()
	m := newConfigMode(t, "")
	denied := make(chan error, 1)
	m.service.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
	check(t, m.service.Publish(requestSubject, []byte("forged")))
	if err := await(t, denied); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("a request by the service itself: %v, want %v", err, nats.ErrPermissionViolation)
	}
	if got := len(m.seen()); got != 0 {
		t.Errorf("requests = %d, want 0", got)
	}
}

// Fact: a server with nkey users in its file sends a nonce to everybody, and the client's
// signature reaches the service. Key-bound tokens need it; init makes the service an nkey user.
func TestConfigModeSendsNonce(t *testing.T) {
	t.Parallel()
	m := newConfigMode(t, "")
	m.answerWith(m.place("APP"))
	key := newNkeyUser(t)
	_, err := dial(t, m.server, withNkey(key), nats.Token("token"))
	check(t, err)
	if r := m.seen()[0]; r.ClientInformation.Nonce == "" || r.ConnectOptions.Nkey != public(key) || r.ConnectOptions.SignedNonce == "" {
		t.Errorf("nonce %q, nkey %q, signature %q, want all three", r.ClientInformation.Nonce, r.ConnectOptions.Nkey, r.ConnectOptions.SignedNonce)
	}
}

// Fact: ACCOUNTZ tells without an operator too whether a server has an account: it describes
// one of that name, without a JWT, or answers with an error, at once. It names the system
// account when it lists them. The resolver asks exactly this.
func TestConfigModeAccountz(t *testing.T) {
	t.Parallel()
	m := newConfigMode(t, "")
	ask := func(account string) (name string, description string) {
		t.Helper()
		msg, err := m.system.Request("$SYS.REQ.SERVER."+m.server.ID()+".ACCOUNTZ", encode(t, map[string]string{"account": account}), patience)
		check(t, err)
		var reply struct {
			Data struct {
				Detail struct {
					Name string `json:"account_name"`
					JWT  string `json:"jwt"`
				} `json:"account_detail"`
				System string `json:"system_account"`
			}
			Error struct{ Description string }
		}
		decode(t, msg.Data, &reply)
		if reply.Data.Detail.JWT != "" {
			t.Errorf("account %s has a JWT", account)
		}
		if reply.Error.Description == "" && reply.Data.System != "SYS" {
			t.Errorf("system account %q, want SYS", reply.Data.System)
		}
		return reply.Data.Detail.Name, reply.Error.Description
	}
	if name, problem := ask("APP"); name != "APP" || problem != "" {
		t.Errorf("APP: name %q, error %q", name, problem)
	}
	if name, problem := ask("MISSING"); name != "" || !strings.Contains(problem, "does not exist") {
		t.Errorf("MISSING: name %q, error %q", name, problem)
	}
}
