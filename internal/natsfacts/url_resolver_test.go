package natsfacts

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/jwt/v2"
)

// library gives out account JWTs, and counts how often each was asked for.
type library struct {
	*httptest.Server
	mu     sync.Mutex
	tokens map[string]string
	asked  map[string]int
}

func newLibrary(t *testing.T, tokens ...string) *library {
	t.Helper()
	l := &library{tokens: map[string]string{"": ""}, asked: map[string]int{}}
	for _, token := range tokens {
		claims, err := jwt.DecodeAccountClaims(token)
		check(t, err)
		l.tokens[claims.Subject] = token
	}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		id := strings.TrimPrefix(r.URL.Path, "/")
		l.asked[id]++
		token, there := l.tokens[id]
		if !there {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, token)
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *library) count(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[id]
}

// Fact: a server with a URL resolver takes no preload, and does not start before the base URL is answered by 200. It fetches
// an account when something needs it, once, and has changes by a directed update alone.
func TestURLResolverFetchesOnce(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	a, err := makeAccount("APP")
	check(t, err)
	l := newLibrary(t, d.systemJWT, d.signed(t, a))
	operator := fmt.Sprintf("operator: %s\nresolver: URL(%s/)\n", d.operatorJWT, l.URL)
	if s, err := runServer(d.trust() + fmt.Sprintf("resolver: URL(%s/)\n", l.URL)); err == nil {
		s.Shutdown()
		t.Error("a server with a URL resolver and a preload has started")
	}
	closed := newLibrary(t)
	delete(closed.tokens, "")
	if s, err := runServer(fmt.Sprintf("operator: %s\nresolver: URL(%s/)\n", d.operatorJWT, closed.URL)); err == nil {
		s.Shutdown()
		t.Error("a server has started whose resolver is not there")
	}

	s := d.startServer(t, operator)
	if n := l.count(a.id); n != 0 {
		t.Errorf("it was asked %d times for an account that nothing needs", n)
	}
	connz := fmt.Sprintf("$SYS.REQ.ACCOUNT.%s.CONNZ", a.id)
	for range 2 {
		_, err := d.admin.Request(connz, []byte(`{"limit":1}`), patience)
		check(t, err)
	}
	if n := l.count(a.id); n != 1 {
		t.Errorf("it was asked %d times, want once", n)
	}
	a.claims.Limits.Conn = 7
	_, err = d.admin.Request(fmt.Sprintf("$SYS.REQ.ACCOUNT.%s.CLAIMS.UPDATE", a.id), []byte(d.signed(t, a)), patience)
	check(t, err)
	loaded, err := s.LookupAccount(a.id)
	check(t, err)
	if most := loaded.MaxActiveConnections(); most != 7 || l.count(a.id) != 1 {
		t.Errorf("%d connections, asked %d times: want 7, once", most, l.count(a.id))
	}
}
