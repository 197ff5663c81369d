package setup_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

// TestSetWorks runs what init writes, unedited, on real servers: logins land in the
// application account, everybody else stays out, and the emergency users need no Gatehouse.
func TestSetWorks(t *testing.T) {
	for _, c := range []struct {
		servers       int
		process, xkey bool
	}{
		{1, false, true}, {1, false, false}, {3, false, true}, {1, true, true}, {3, true, false},
	} {
		t.Run(fmt.Sprintf("servers=%d,process=%t,xkey=%t", c.servers, c.process, c.xkey), func(t *testing.T) {
			t.Parallel()
			set, dir := written(t, setup.Options{Servers: c.servers, NoXKey: !c.xkey})
			start(t, set, dir, c.servers, c.process)
			checkEmergency(t, set, c.servers)
			failures := answerLogins(t, keysOf(set))
			checkLogins(t, set, failures)
			checkSystemUser(t, set, c.servers)
			checkService(t, set)
			checkLobby(t, set)
		})
	}
}

func checkEmergency(t *testing.T, set *setup.Set, servers int) {
	t.Helper()
	nc := connect(t, set.ClientURL(), creds(set.EmergencyAppCreds))
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	// A new cluster elects its leaders first.
	eventually(t, func() error {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"app.s"}, Replicas: servers})
		return err
	})
	if got := accountOf(t, nc); got != set.App.ID {
		t.Errorf("emergency user is in %s, want %s", got, set.App.ID)
	}
}

func checkLogins(t *testing.T, set *setup.Set, failures <-chan *nats.Msg) {
	t.Helper()
	long := "good" + strings.Repeat("x", 16<<10)
	for name, opts := range map[string][]nats.Option{
		"sentinel":         {creds(set.SentinelCreds), nats.Token("good")},
		"default sentinel": {nats.Token("good")},
		"long token":       {creds(set.SentinelCreds), nats.Token(long)},
	} {
		nc := connect(t, set.ClientURL(), opts...)
		if got := accountOf(t, nc); got != set.App.ID {
			t.Errorf("%s: user is in %s, want %s", name, got, set.App.ID)
		}
	}
	for name, opts := range map[string][]nats.Option{
		"bad token": {creds(set.SentinelCreds), nats.Token("bad")},
		"no token":  {},
	} {
		if nc, err := nats.Connect(set.ClientURL(), append(opts, nats.NoReconnect())...); !errors.Is(err, nats.ErrAuthorization) {
			nc.Close()
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	select {
	case msg := <-failures:
		if !strings.Contains(string(msg.Data), "refused") {
			t.Errorf("report of a failed login lacks the reason: %s", msg.Data)
		}
	case <-time.After(deadline):
		t.Error("no report of a failed login")
	}
}

// checkSystemUser asks everything that Gatehouse asks, and something that it must not.
func checkSystemUser(t *testing.T, set *setup.Set, servers int) {
	t.Helper()
	denied := make(chan error, 1)
	nc := connect(t, set.ClientURL(), creds(set.SystemCreds), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case denied <- err:
		default:
		}
	}))
	for _, subject := range []string{"$SYS.SERVER.>", "$SYS.ACCOUNT.>", "$SYS.REQ.CLAIMS.PACK"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []struct {
		subject, body string
	}{
		{"$SYS.REQ.SERVER.PING", ""},
		{"$SYS.REQ.SERVER.PING.IDZ", ""},
		{"$SYS.REQ.SERVER.PING.STATSZ", ""},
		{"$SYS.REQ.SERVER.PING.VARZ", ""},
		{"$SYS.REQ.SERVER.PING.CONNZ", `{"auth":true}`},
		{"$SYS.REQ.SERVER.PING.ACCOUNTZ", `{"account":"` + set.App.ID + `"}`},
		{"$SYS.REQ.ACCOUNT." + set.App.ID + ".CONNZ", ""},
		{"$SYS.REQ.ACCOUNT." + set.App.ID + ".INFO", ""},
		{"$SYS.REQ.ACCOUNT." + set.App.ID + ".CLAIMS.LOOKUP", ""},
		{"$SYS.REQ.CLAIMS.LIST", ""},
		{"$SYS.REQ.CLAIMS.UPDATE", set.App.JWT},
	} {
		if got := len(gather(t, nc, r.subject, []byte(r.body), servers)); got != servers {
			t.Errorf("%s: %d answers, want %d", r.subject, got, servers)
		}
	}
	select {
	case err := <-denied:
		t.Errorf("system user: %v", err)
	default:
	}
	if err := nc.Publish("$SYS.REQ.SERVER.PING.PROFILEZ", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-denied:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("PROFILEZ: got %v", err)
		}
	case <-time.After(deadline):
		t.Error("the system user may ask for memory profiles")
	}
}

// checkService shows that the service user can be found by the micro framework's own
// requests, and that replicas can talk to each other.
func checkService(t *testing.T, set *setup.Set) {
	t.Helper()
	one, other := connect(t, set.ClientURL(), creds(set.CalloutCreds)), connect(t, set.ClientURL(), creds(set.CalloutCreds))
	if got := answer(t, one, "$SRV.PING.gatehouse", ""); !strings.Contains(got, `"name":"gatehouse"`) {
		t.Errorf("ping: %s", got)
	}
	if _, err := other.Subscribe("gatehouse.replica.hello", func(msg *nats.Msg) { _ = msg.Respond([]byte("hello")) }); err != nil {
		t.Fatal(err)
	}
	if err := other.Flush(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // interest takes a moment to cross a cluster
		_, err := one.Request("gatehouse.replica.hello", nil, time.Second)
		return err
	})
}

// checkLobby shows that a user of the lobby reaches the operations in the callout account,
// and that one without explicit permissions reaches nothing.
func checkLobby(t *testing.T, set *setup.Set) {
	t.Helper()
	service := connect(t, set.ClientURL(), creds(set.CalloutCreds))
	s, err := micro.AddService(service, micro.Config{Name: "operations", Version: "0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AddEndpoint("whoami", micro.HandlerFunc(func(r micro.Request) { _ = r.Respond([]byte("you")) }), micro.WithEndpointSubject("gatehouse.v1.whoami")); err != nil {
		t.Fatal(err)
	}
	if err := service.Flush(); err != nil {
		t.Fatal(err)
	}
	visitor := connect(t, set.ClientURL(), lobbyUser(t, set, func(c *jwt.UserClaims) {
		c.Pub.Allow.Add("gatehouse.v1.>")
		c.Sub.Allow.Add("_INBOX.>")
	}))
	eventually(t, func() error { // interest takes a moment to cross a cluster
		msg, err := visitor.Request("gatehouse.v1.whoami", nil, time.Second)
		if err == nil && string(msg.Data) != "you" {
			t.Fatalf("answer %q", msg.Data)
		}
		return err
	})
	bare := connect(t, set.ClientURL(), lobbyUser(t, set, nil))
	if _, err := bare.Request("gatehouse.v1.whoami", nil, 200*time.Millisecond); err == nil {
		t.Error("a lobby user without permissions got an answer")
	}
}

func lobbyUser(t *testing.T, set *setup.Set, shape func(*jwt.UserClaims)) nats.Option {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	claims := jwt.NewUserClaims(public)
	claims.IssuerAccount = set.Lobby.ID
	if shape != nil {
		shape(claims)
	}
	signer, err := nkeys.FromSeed([]byte(set.Lobby.SigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := claims.Encode(signer)
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	return nats.UserJWTAndSeed(token, string(seed))
}

// TestNobodyAnswers shows that the sentinel alone opens nothing. The server gives up after two
// seconds; its first ping may come as early, which nats.go does not expect before it is let in.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	set, dir := written(t, setup.Options{})
	startInProcess(t, filepath.Join(dir, set.ServerFile(0)))
	if nc, err := nats.Connect(set.ClientURL(), creds(set.SentinelCreds), nats.Token("good"), nats.Timeout(deadline)); err == nil {
		nc.Close()
		t.Error("the sentinel was let in")
	} else if !errors.Is(err, nats.ErrAuthorization) && !strings.Contains(err.Error(), "expected 'PONG', got 'PING'") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// TestPushedClaimsSurviveRestart shows that newer claims win over resolver_preload.
func TestPushedClaimsSurviveRestart(t *testing.T) {
	t.Parallel()
	set, dir := written(t, setup.Options{})
	conf := filepath.Join(dir, set.ServerFile(0))
	srv := startInProcess(t, conf)
	claims, err := jwt.DecodeAccountClaims(set.App.JWT)
	if err != nil {
		t.Fatal(err)
	}
	claims.Description = "changed"
	// Claims of the same second would tie.
	before := claims.IssuedAt
	signer, err := nkeys.FromSeed([]byte(set.OperatorSigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	var token string
	eventually(t, func() error {
		if token, err = claims.Encode(signer); err == nil && claims.IssuedAt == before {
			err = errors.New("still the same second")
		}
		return err
	})
	nc := connect(t, set.ClientURL(), creds(set.SystemCreds))
	if got := answer(t, nc, "$SYS.REQ.CLAIMS.UPDATE", token); !strings.Contains(got, "200") {
		t.Fatalf("push: %s", got)
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	startInProcess(t, conf)
	nc = connect(t, set.ClientURL(), creds(set.SystemCreds))
	if got := answer(t, nc, "$SYS.REQ.ACCOUNT."+set.App.ID+".CLAIMS.LOOKUP", ""); got != token {
		t.Errorf("after the restart the server holds other claims than those pushed")
	}
}

// TestClaimsCanBeDeleted shows that the operator signing key may remove an account, as
// allow_delete promises.
func TestClaimsCanBeDeleted(t *testing.T) {
	t.Parallel()
	set, dir := written(t, setup.Options{})
	startInProcess(t, filepath.Join(dir, set.ServerFile(0)))
	signer, err := nkeys.FromSeed([]byte(set.OperatorSigningKey.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	public, _ := signer.PublicKey()
	claims := jwt.NewGenericClaims(public)
	claims.Data["accounts"] = []string{set.App.ID}
	token, err := claims.Encode(signer)
	if err != nil {
		t.Fatal(err)
	}
	nc := connect(t, set.ClientURL(), creds(set.SystemCreds))
	if got := answer(t, nc, "$SYS.REQ.CLAIMS.DELETE", token); !strings.Contains(got, "deleted 1 accounts") {
		t.Errorf("delete: %s", got)
	}
}
