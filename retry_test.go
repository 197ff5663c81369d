package gatehouse

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
)

// long is more than any of these tests takes on a machine under load.
const long = time.Minute

// ignoreFirst leaves the first login unanswered.
func ignoreFirst(n int, _ jwt.ConnectOptions) verdict { return verdict{ignore: n == 1} }

// connectWithin connects with the pauses of the library and this much time.
func (s *testSystem) connectWithin(limit time.Duration, url string, source TokenSource, opts ...Option) (*nats.Conn, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	nc, err := Connect(ctx, url, source, opts...)
	if err == nil {
		s.t.Cleanup(func() { closeAndWait(s.t, nc) })
	}
	return nc, err
}

func TestConnectTriesAgainWhereNobodyAnswered(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]systemOptions{
		"the server says that it is refused": {defaultSentinel: true},
		"the server sends its first PING":    {defaultSentinel: true, loginTime: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSystem(t, o)
			s.onLogin(ignoreFirst)
			_, err := s.connectWithin(long, s.url, counting())
			must(t, err)
			wantTokens(t, s, 1, 2)
		})
	}
}

func TestConnectTriesAgainWhenItsOwnTimeIsOver(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true, loginTime: 5 * time.Second})
	s.onLogin(ignoreFirst)
	_, err := s.connectWithin(long, s.url, counting(), WithNATSOptions(nats.Timeout(500*time.Millisecond)))
	must(t, err)
	if len(s.tokens()) < 2 {
		t.Error("no second login")
	}
}

func TestConnectTriesAgainWhereTheServiceWouldAdmit(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	s.onLogin(func(n int, _ jwt.ConnectOptions) verdict { return verdict{refuse: n == 1} })
	http, client := service(t, 200, api.Whoami{Decision: api.Decision{Allowed: true}})
	_, err := s.connectWithin(long, s.url, StaticToken("secret-token"), WithAccount("APP"), WithWhoami(http.URL), client)
	must(t, err)
	if got := len(s.tokens()); got < 2 {
		t.Errorf("%d logins", got)
	}
}

func TestConnectSaysThatNobodyAnswered(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	s.onLogin(func(int, jwt.ConnectOptions) verdict { return verdict{ignore: true} })
	_, err := s.connectWithin(5*time.Second, s.url, counting())
	refusal, ok := errors.AsType[*RefusedError](err)
	if !ok || !strings.Contains(refusal.Message, "nobody answered") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestConnectTriesAgainBesideAServerThatIsDown(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	s.onLogin(ignoreFirst)
	down, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, down.Close())
	urls := s.url + ",nats://" + down.Addr().String() // the one that is down is tried last
	nc, err := s.connectWithin(long, urls, counting(), WithNATSOptions(nats.DontRandomize()))
	must(t, err)
	again := make(chan struct{}, 10)
	nc.SetReconnectHandler(func(*nats.Conn) { again <- struct{}{} })
	s.kick(nc)
	receive(t, "a reconnect after the one that is down", again)
}

func TestConnectIsRestoredWithTheTokenAtHandWhileTheIssuerFails(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	var calls atomic.Int64
	token := expiring(t, 1, time.Now().Add(time.Hour))
	source := TokenFunc(func(ctx context.Context) (string, error) {
		if calls.Add(1) == 1 {
			return token, nil
		}
		<-ctx.Done()
		return "", errors.New("issuer is down")
	})
	restored, again := reconnected()
	nc := s.mustConnect(source, restored)
	for range 2 {
		s.kick(nc)
		receive(t, "a reconnect", again)
	}
	for _, sent := range s.tokens() {
		if sent != token {
			t.Errorf("sent %q", sent)
		}
	}
}

func TestConnectSendsAnotherTokenAfterARefusal(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{defaultSentinel: true})
	refused := expiring(t, 1, time.Now().Add(time.Hour))
	admitted := expiring(t, 2, time.Now().Add(time.Hour))
	var calls atomic.Int64
	source := TokenFunc(func(context.Context) (string, error) {
		if calls.Add(1) == 1 {
			return refused, nil
		}
		return admitted, nil
	})
	s.onLogin(func(n int, login jwt.ConnectOptions) verdict { return verdict{refuse: n > 1 && login.Token == refused} })
	reports := make(chan error, 10)
	restored, again := reconnected()
	nc := s.mustConnect(source, restored, alwaysAnswered, WithNATSOptions(
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { reports <- err }),
		nats.CustomReconnectDelay(func(attempt int) time.Duration {
			if attempt == 2 {
				receive(t, "the report of the refusal", reports)
			}
			return 0
		})))
	s.kick(nc)
	receive(t, "a reconnect", again)
	if got := s.tokens(); !slices.Equal(got, []string{refused, refused, admitted}) {
		t.Errorf("sent %q", got)
	}
}
