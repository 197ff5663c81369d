package setup_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/internal/devstack"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

// deadline bounds every wait of these tests; nothing takes nearly as long.
const deadline = 20 * time.Second

// freePorts returns ports for n servers that nobody listens on.
func freePorts(t *testing.T, n int) []setup.Ports {
	t.Helper()
	free, err := devstack.ReservePorts(4 * n)
	if err != nil {
		t.Fatal(err)
	}
	var ports []setup.Ports
	for p := range slices.Chunk(free, 4) {
		ports = append(ports, setup.Ports{Client: p[0], Cluster: p[1], Monitor: p[2], WebSocket: p[3]})
	}
	return ports
}

// written returns a new set that is also written to a folder of its own.
func written(t *testing.T, o setup.Options) (*setup.Set, string) {
	t.Helper()
	if o.Ports == nil {
		o.Ports = freePorts(t, max(o.Servers, 1))
	}
	set, err := setup.New(o)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := set.Write(dir); err != nil {
		t.Fatal(err)
	}
	return set, dir
}

// startInProcess runs nats-server with a configuration file inside the test.
func startInProcess(t *testing.T, conf string) *server.Server {
	t.Helper()
	opts, err := server.ProcessConfigFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoLog, opts.NoSigs = true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(deadline) {
		t.Fatalf("server of %s did not start", conf)
	}
	return s
}

// serverBinary builds a stock nats-server, once for all tests.
var serverBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binDir, "nats-server")
	out, err := exec.Command("go", "build", "-o", path, "github.com/nats-io/nats-server/v2").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

var binDir string

func TestMain(m *testing.M) {
	var err error
	if binDir, err = os.MkdirTemp("", "gatehouse-setup-*"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(binDir)
	os.Exit(code)
}

// startProcess runs a stock nats-server from another working directory than the set's. It
// ends with the test.
func startProcess(t *testing.T, conf string) *os.Process {
	t.Helper()
	binary, err := serverBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-c", conf)
	cmd.Dir = t.TempDir()
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("nats-server -c %s:\n%s", conf, log.String())
		}
		if left, _ := os.ReadDir(cmd.Dir); len(left) != 0 {
			t.Errorf("nats-server left %v in its working directory", left)
		}
	})
	return cmd.Process
}

// start runs all servers of a set and returns when they form one system.
func start(t *testing.T, set *setup.Set, dir string, servers int, process bool) {
	t.Helper()
	for i := range servers {
		conf := filepath.Join(dir, set.ServerFile(i))
		if process {
			startProcess(t, conf)
		} else {
			startInProcess(t, conf)
		}
	}
	eventually(t, func() error {
		nc, err := nats.Connect(set.ClientURL(), emergencySystem(set), nats.NoReconnect())
		if err != nil {
			return err
		}
		defer nc.Close()
		if got := len(gather(t, nc, "$SYS.REQ.SERVER.PING.IDZ", nil, servers)); got != servers {
			return fmt.Errorf("%d of %d servers answer", got, servers)
		}
		return nil
	})
}

// eventually repeats f until it succeeds.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// gather returns the answers to one request, up to want of them.
func gather(t *testing.T, nc *nats.Conn, subject string, body []byte, want int) []*nats.Msg {
	t.Helper()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(subject, inbox, body); err != nil {
		t.Fatal(err)
	}
	var msgs []*nats.Msg
	for len(msgs) < want {
		msg, err := sub.NextMsg(2 * time.Second)
		if err != nil || msg.Header.Get("Status") == "503" {
			break
		}
		msgs = append(msgs, msg)
	}
	return msgs
}

// answer returns the first answer to a request, as text.
func answer(t *testing.T, nc *nats.Conn, subject, body string) string {
	t.Helper()
	msg, err := nc.Request(subject, []byte(body), deadline)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return string(msg.Data)
}

// creds is the option to connect with a creds file.
func creds(file setup.Secret) nats.Option { return nats.UserCredentialBytes([]byte(file.Reveal())) }

// nkey is the option to connect as a user of the servers' files.
func nkey(u setup.FileUser) nats.Option {
	return nats.Nkey(u.Nkey, func(nonce []byte) ([]byte, error) {
		kp, err := nkeys.FromSeed([]byte(u.Seed.Reveal()))
		if err != nil {
			return nil, err
		}
		return kp.Sign(nonce)
	})
}

// emergencySystem is the option to connect to the system account without Gatehouse.
func emergencySystem(set *setup.Set) nats.Option {
	if set.Users != nil {
		return nkey(set.Users.EmergencySystem)
	}
	return creds(set.EmergencySystemCreds)
}

// connect connects or ends the test.
func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, append(opts, nats.NoReconnect())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// keys are what a responder needs of a set-up.
type keys struct {
	url                         string
	service                     nats.Option
	signing, xkey               setup.Secret
	account, accountSigningSeed string
	byName                      bool // no operator
}

func keysOf(set *setup.Set) keys {
	k := keys{url: set.ClientURL(), signing: set.Callout.SigningKey, xkey: set.XKey, account: set.App.ID}
	if set.Users != nil {
		k.service, k.accountSigningSeed, k.byName = nkey(set.Users.Service), set.Callout.SigningKey.Reveal(), true
	} else {
		k.service, k.accountSigningSeed = creds(set.CalloutCreds), set.App.SigningKey.Reveal()
	}
	return k
}

// answerLogins answers callout requests through the micro framework: a token that begins
// with "good" is placed in the account, all others are refused. It returns the reports of
// failed logins.
func answerLogins(t *testing.T, k keys, opts ...nats.Option) <-chan *nats.Msg {
	t.Helper()
	problems := make(chan error, 16)
	nc := connect(t, k.url, append(opts, k.service, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case problems <- err:
		default:
		}
	}))...)
	t.Cleanup(func() {
		select {
		case err := <-problems:
			t.Errorf("connection of the service: %v", err)
		default:
		}
	})
	failures := make(chan *nats.Msg, 16)
	if _, err := nc.ChanSubscribe("$SYS.ACCOUNT.CLIENT.AUTH.ERR", failures); err != nil {
		t.Fatal(err)
	}
	service, err := micro.AddService(nc, micro.Config{Name: "gatehouse", Version: "0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	err = service.AddEndpoint("callout", micro.HandlerFunc(func(r micro.Request) {
		answer, err := k.answer(r)
		if err != nil {
			problems <- err
			return
		}
		if err := r.Respond(answer); err != nil {
			problems <- err
		}
	}), micro.WithEndpointSubject("$SYS.REQ.USER.AUTH"))
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return failures
}

func (k keys) answer(r micro.Request) ([]byte, error) {
	body := r.Data()
	serverKey := r.Headers().Get("Nats-Server-Xkey")
	if (k.xkey != nil) != (serverKey != "") {
		return nil, fmt.Errorf("sealed request: %t, want %t", serverKey != "", k.xkey != nil)
	}
	var xkey nkeys.KeyPair
	var err error
	if k.xkey != nil {
		if xkey, err = nkeys.FromCurveSeed([]byte(k.xkey.Reveal())); err != nil {
			return nil, err
		}
		if body, err = xkey.Open(body, serverKey); err != nil {
			return nil, err
		}
	}
	request, err := jwt.DecodeAuthorizationRequestClaims(string(body))
	if err != nil {
		return nil, err
	}
	response := jwt.NewAuthorizationResponseClaims(request.UserNkey)
	response.Audience = request.Server.ID
	if strings.HasPrefix(request.ConnectOptions.Token, "good") {
		claims := jwt.NewUserClaims(request.UserNkey)
		claims.Name = "corp-alice"
		if k.byName {
			claims.Audience = k.account
		} else {
			claims.IssuerAccount = k.account
		}
		signer, err := nkeys.FromSeed([]byte(k.accountSigningSeed))
		if err != nil {
			return nil, err
		}
		if response.Jwt, err = claims.Encode(signer); err != nil {
			return nil, err
		}
	} else {
		response.Error = "refused"
	}
	signer, err := nkeys.FromSeed([]byte(k.signing.Reveal()))
	if err != nil {
		return nil, err
	}
	token, err := response.Encode(signer)
	if err != nil || xkey == nil {
		return []byte(token), err
	}
	return xkey.Seal([]byte(token), serverKey)
}

// accountOf returns the account that a connection is in.
func accountOf(t *testing.T, nc *nats.Conn) string {
	t.Helper()
	msg, err := nc.Request("$SYS.REQ.USER.INFO", nil, deadline)
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Data struct{ Account string }
	}
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		t.Fatal(err)
	}
	return info.Data.Account
}
