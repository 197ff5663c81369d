package gatehouse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// counting returns a source whose tokens are token-1, token-2 and so on.
func counting() TokenSource {
	var n atomic.Int64
	return TokenFunc(func(context.Context) (string, error) {
		return fmt.Sprintf("token-%d", n.Add(1)), nil
	})
}

// wantTokens checks that the tokens of those numbers were sent, in this order. On a machine under
// load a login may time out: then the ones that follow were sent as well.
func wantTokens(t *testing.T, s *testSystem, numbers ...int) {
	t.Helper()
	var want []string
	for _, n := range numbers {
		want = append(want, fmt.Sprintf("token-%d", n))
	}
	got := s.tokens()
	for n := numbers[len(numbers)-1] + 1; len(want) < len(got); n++ {
		want = append(want, fmt.Sprintf("token-%d", n))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConnectTakesAFreshTokenForEachLogin(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	restored, again := reconnected()
	nc := s.mustConnect(counting(), restored)
	for range 3 {
		s.kick(nc)
		receive(t, "a reconnect", again)
	}
	wantTokens(t, s, 1, 2, 3, 4)
}

func TestConnectLogsInAgainWhenTheCredentialEnds(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	s.onLogin(func(n int, _ jwt.ConnectOptions) verdict {
		if n == 1 {
			return verdict{lasts: 2 * time.Second}
		}
		return verdict{}
	})
	restored, again := reconnected()
	s.mustConnect(counting(), restored)
	receive(t, "a login after the end of the credential", again)
	wantTokens(t, s, 1, 2)
}

func TestConnectSurvivesRefusalsWhileItReconnects(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	const refusals = 6 // nats.go gives up after two unless told otherwise
	s.onLogin(func(n int, _ jwt.ConnectOptions) verdict {
		return verdict{refuse: n > 1 && n <= 1+refusals}
	})
	restored, again := reconnected()
	nc := s.mustConnect(counting(), restored)
	s.kick(nc)
	receive(t, "a reconnect after the refusals", again)
	if got := len(s.tokens()); got < refusals+2 {
		t.Errorf("%d logins, want %d", got, refusals+2)
	}
}

func TestConnectReturnsARefusalAtOnce(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	s.onLogin(func(int, jwt.ConnectOptions) verdict { return verdict{refuse: true} })
	_, err := s.connect(StaticToken("secret-token"), alwaysAnswered)
	refusal, ok := errors.AsType[*RefusedError](err)
	if !ok || !errors.Is(err, nats.ErrAuthorization) {
		t.Fatalf("got %v, want a RefusedError around nats.ErrAuthorization", err)
	}
	if refusal.Reason != "" || strings.Contains(err.Error(), "secret-token") {
		t.Errorf("got %q", err)
	}
	if got := len(s.tokens()); got != 1 {
		t.Errorf("%d logins, want one", got)
	}
}

func TestConnectWithoutAToken(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	down := errors.New("issuer is down")
	for name, source := range map[string]TokenSource{
		"failure":  TokenFunc(func(context.Context) (string, error) { return "", down }),
		"empty":    StaticToken(""),
		"too long": StaticToken(strings.Repeat("x", maxToken+1)),
		"garbled":  StaticToken(`{"token":`),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.connect(source)
			if !errors.Is(err, ErrNoToken) {
				t.Errorf("got %v, want ErrNoToken", err)
			}
			if name == "failure" && !errors.Is(err, down) {
				t.Errorf("%v does not wrap the source's error", err)
			}
		})
	}
	if got := s.tokens(); len(got) != 0 {
		t.Errorf("something was sent: %d logins", len(got))
	}
}

func TestConnectReportsATokenSourceThatFailsLater(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	var calls atomic.Int64
	source := TokenFunc(func(context.Context) (string, error) {
		switch n := calls.Add(1); n {
		case 2, 3:
			return "", errors.New("issuer is down")
		case 4:
			return "", nil
		default:
			return fmt.Sprintf("token-%d", n), nil
		}
	})
	failures := make(chan error, 100)
	restored, again := reconnected()
	nc := s.mustConnect(source, restored, WithNATSOptions(nats.ErrorHandler(
		func(_ *nats.Conn, _ *nats.Subscription, err error) { failures <- err })))
	s.kick(nc)
	receive(t, "a reconnect once there are tokens again", again)
	for range 3 {
		if err := receive(t, "a report", failures); !errors.Is(err, ErrNoToken) {
			t.Errorf("the error handler got %v", err)
		}
	}
	wantTokens(t, s, 1, 5) // nothing is sent without a token
}

func TestConnectWithASlowTokenSource(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	var calls atomic.Int64
	release := make(chan struct{})
	source := TokenFunc(func(ctx context.Context) (string, error) {
		n := calls.Add(1)
		if n > 1 {
			select {
			case <-release:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		return fmt.Sprintf("token-%d", n), nil
	})
	failures := make(chan error, 100)
	restored, again := reconnected()
	nc := s.mustConnect(source, restored, WithNATSOptions(nats.ErrorHandler(
		func(_ *nats.Conn, _ *nats.Subscription, err error) { failures <- err })))
	s.kick(nc)
	if err := receive(t, "a login that did not wait", failures); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error handler got %v", err)
	}
	close(release)
	receive(t, "a reconnect with the token of the slow call", again)
	wantTokens(t, s, 1, 2)
}

func TestConnectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()

	ctx, cancel := context.WithCancelCause(t.Context())
	given := errors.New("given up")
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := silent.Accept(); err == nil {
			accepted <- c
			cancel(given)
		}
	}()
	_, err = Connect(ctx, "nats://"+silent.Addr().String(), StaticToken("token"))
	if !errors.Is(err, given) {
		t.Errorf("got %v", err)
	}
	receive(t, "the attempt", accepted).Close()

	hanging := TokenFunc(func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() })
	if _, err = Connect(ctx, "nats://127.0.0.1:1", hanging); !errors.Is(err, ErrNoToken) || !errors.Is(err, given) {
		t.Errorf("got %v", err)
	}
}

func TestConnectWithoutAServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	if _, err = Connect(t.Context(), "nats://"+l.Addr().String(), StaticToken("token")); !errors.Is(err, nats.ErrNoServers) {
		t.Errorf("got %v", err)
	}
}

func TestConnectSaysThatTheControlLineIsShort(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true, controlLine: 4096})
	_, err := s.connect(StaticToken(strings.Repeat("x", 5000)))
	if err == nil || !strings.Contains(err.Error(), "max_control_line to 65536") {
		t.Errorf("got %v", err)
	}
}

func TestConnectSentinels(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{})
	file := filepath.Join(t.TempDir(), "sentinel.creds")
	must(t, os.WriteFile(file, s.creds, 0o600))
	for name, tc := range map[string]struct {
		opts     []Option
		admitted bool
	}{
		"none where the server has no default": {nil, false},
		"bearer JWT":                           {[]Option{WithSentinel([]byte(s.sentinel + "\n"))}, true},
		"creds with a seed":                    {[]Option{WithSentinel(s.creds)}, true},
		"creds file":                           {[]Option{WithSentinelFile(file)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := s.connect(StaticToken("token"), tc.opts...)
			if (err == nil) != tc.admitted {
				t.Fatalf("got %v", err)
			}
			if err == nil && nc.Opts.User != "" {
				t.Errorf("user %q", nc.Opts.User)
			}
		})
	}
}

func TestConnectSendsTheAccount(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	for name, tc := range map[string]struct {
		token string
		opts  []Option
		sent  string
	}{
		"raw":                         {"a.b.c", nil, "a.b.c"},
		"named":                       {"a.b.c", []Option{WithAccount("APP")}, `{"token":"a.b.c","account":"APP"}`},
		"envelope of the source":      {`{"token":"a.b.c","account":"APP"}`, nil, `{"token":"a.b.c","account":"APP"}`},
		"option before the source":    {`{"token":"a.b.c","account":"OLD"}`, []Option{WithAccount("<A&B>")}, `{"token":"a.b.c","account":"<A&B>"}`},
		"envelope without an account": {`{"token":"a.b.c"}`, nil, "a.b.c"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.tokens())
			s.mustConnect(StaticToken(tc.token), tc.opts...)
			if got := s.tokens()[before:]; !slices.Equal(got, []string{tc.sent}) {
				t.Errorf("sent %q, want %q", got, tc.sent)
			}
		})
	}
}

func TestConnectPrivateInbox(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	prefix := policy.InboxPrefix("https://login.example.com", "alice")
	s.onLogin(func(int, jwt.ConnectOptions) verdict {
		var p jwt.Permissions
		p.Pub.Allow.Add("greet", prefix+".>")
		p.Sub.Allow.Add("greet", prefix+".>")
		return verdict{permissions: p}
	})
	nc := s.mustConnect(StaticToken(idToken(t, "alice")), WithPrivateInbox())
	if inbox := nc.NewInbox(); !strings.HasPrefix(inbox, prefix+".") {
		t.Errorf("inbox %q, want it under %q", inbox, prefix)
	}
	_, err := nc.Subscribe("greet", func(m *nats.Msg) {
		if !strings.HasPrefix(m.Reply, prefix+".") {
			t.Errorf("reply to %q", m.Reply)
		}
		if err := m.Respond([]byte("hello")); err != nil {
			t.Error(err)
		}
	})
	must(t, err)
	reply, err := nc.Request("greet", nil, 5*time.Second)
	must(t, err)
	if string(reply.Data) != "hello" {
		t.Errorf("reply %q", reply.Data)
	}
}

func TestConnectPrivateInboxNeedsOneIdentity(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	if _, err := s.connect(StaticToken("opaque"), WithPrivateInbox()); err == nil || !strings.Contains(err.Error(), "iss and sub") {
		t.Errorf("an opaque token: got %v", err)
	}

	var calls atomic.Int64
	alice, bob := idToken(t, "alice"), idToken(t, "bob")
	source := TokenFunc(func(context.Context) (string, error) {
		if calls.Add(1) == 2 {
			return bob, nil
		}
		return alice, nil
	})
	failures := make(chan error, 100)
	restored, again := reconnected()
	nc := s.mustConnect(source, WithPrivateInbox(), restored, WithNATSOptions(nats.ErrorHandler(
		func(_ *nats.Conn, _ *nats.Subscription, err error) { failures <- err })))
	s.kick(nc)
	receive(t, "a reconnect as alice", again)
	if err := receive(t, "a report", failures); !errors.Is(err, ErrNoToken) || !strings.Contains(err.Error(), "another identity") {
		t.Errorf("got %v", err)
	}
	if slices.Contains(s.tokens(), bob) {
		t.Error("the other identity's token was sent")
	}
}

func TestConnectKeepsTheCallersOptions(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	closed := make(chan struct{})
	nc := s.mustConnect(StaticToken("token"), WithNATSOptions(
		nats.Name("billing"), nats.MaxReconnects(7), nats.ClosedHandler(func(*nats.Conn) { close(closed) })))
	if nc.Opts.Name != "billing" || nc.Opts.MaxReconnect != 7 || !nc.Opts.IgnoreAuthErrorAbort {
		t.Errorf("name %q, reconnects %d, ignore %v", nc.Opts.Name, nc.Opts.MaxReconnect, nc.Opts.IgnoreAuthErrorAbort)
	}
	nc.Close()
	receive(t, "the caller's closed handler", closed)
}

func TestConnectDefaults(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	nc, err := Connect(t.Context(), s.url, StaticToken("token"))
	must(t, err)
	defer closeAndWait(t, nc)
	o := nc.Opts
	if o.MaxReconnect != -1 || !o.IgnoreAuthErrorAbort || o.Timeout != connectTimeout || o.Name == "" {
		t.Errorf("reconnects %d, ignore %v, timeout %v, name %q", o.MaxReconnect, o.IgnoreAuthErrorAbort, o.Timeout, o.Name)
	}
	if o.ReconnectToServerCB == nil || o.CustomReconnectDelayCB != nil {
		t.Error("SpreadReconnects does not pace the reconnects")
	}
}

func TestConnectRefusesWrongUse(t *testing.T) {
	t.Parallel()
	token := StaticToken("token")
	for name, tc := range map[string]struct {
		source TokenSource
		opt    Option
		want   string
	}{
		"no source":             {nil, WithPrivateInbox(), "nil"},
		"another token":         {token, WithNATSOptions(nats.Token("x")), "must not authenticate"},
		"no account":            {token, WithAccount(""), "1 to 256 bytes"},
		"long account":          {token, WithAccount(strings.Repeat("x", 257)), "1 to 256 bytes"},
		"sentinel is no JWT":    {token, WithSentinel([]byte("hello")), "neither a creds file nor a user JWT"},
		"sentinel file missing": {token, WithSentinelFile("/does/not/exist"), "no such file"},
		"whoami without TLS":    {token, WithWhoami("http://gatehouse.example.com"), "use https"},
		"whoami without host":   {token, WithWhoami("gatehouse.example.com"), "write https://HOST"},
		"nil HTTP client":       {token, WithHTTPClient(nil), "nil"},
		"nil key":               {token, WithKey(nil), "nil"},
		"key of an account":     {token, WithKey(newKey(t, nkeys.CreateAccount)), "user key alone"},
		"key file missing":      {token, WithKeyFile("/does/not/exist"), "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Connect(t.Context(), "nats://127.0.0.1:1", tc.source, tc.opt)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
