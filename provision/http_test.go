package provision_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
)

func TestMethods(t *testing.T) {
	t.Parallel()
	h := newBed(t).Handler()
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "BREW"} {
		a := call(t, h, method, whoamiPath, "alice", "")
		a.refused(t, http.StatusMethodNotAllowed, api.ReasonMethodNotAllowed)
		if a.Header().Get("Allow") != http.MethodPost {
			t.Errorf("%s: Allow is %q", method, a.Header().Get("Allow"))
		}
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	h := b.Handler()
	const secret = "eyJhbGciOiJub25lIn0.c2VjcmV0.c2ln"
	for name, test := range map[string]struct {
		body string
		code int
	}{
		"empty":            {"", http.StatusOK},
		"blank":            {" \r\n\t", http.StatusOK},
		"object":           {`{"account":"APP"}`, http.StatusOK},
		"blanks around":    {" {} \n", http.StatusOK},
		"null":             {"null", http.StatusOK},
		"as large as can":  {`{"account":"` + strings.Repeat(" ", 64<<10-14) + `"}`, http.StatusOK},
		"a byte too large": {`{"account":"` + strings.Repeat(" ", 64<<10-13) + `"}`, http.StatusRequestEntityTooLarge},
		"blank, too large": {strings.Repeat(" ", 64<<10+1), http.StatusRequestEntityTooLarge},
		"unknown field":    {`{"` + secret + `":"x"}`, http.StatusBadRequest},
		"of another type":  {`{"account":["` + secret + `"]}`, http.StatusBadRequest},
		"a bare token":     {secret, http.StatusBadRequest},
		"a text":           {`"` + secret + `"`, http.StatusBadRequest},
		"a list":           {`["` + secret + `"]`, http.StatusBadRequest},
		"a number":         {`1`, http.StatusBadRequest},
		"cut short":        {`{"account":"` + secret, http.StatusBadRequest},
		"two objects":      {`{}{"account":"` + secret + `"}`, http.StatusBadRequest},
		"two lines":        {"{}\n{}", http.StatusBadRequest},
		"brace behind":     {`{}}`, http.StatusBadRequest},
		"bracket behind":   {`{}]` + secret, http.StatusBadRequest},
		"text behind":      {`{} ` + secret, http.StatusBadRequest},
		"NUL behind":       {"{}\x00", http.StatusBadRequest},
		"deep":             {`{"account":` + strings.Repeat("[", 60_000), http.StatusBadRequest},
		"form":             {"token=" + secret, http.StatusBadRequest},
		"byte order mark":  {"\ufeff{}", http.StatusBadRequest},
	} {
		a := call(t, h, http.MethodPost, whoamiPath, "alice", test.body)
		switch {
		case test.code == http.StatusOK:
			if a.Code != test.code {
				t.Errorf("%s: %d %s", name, a.Code, a.Body)
			}
			a.checkHeader(t)
		case test.code == http.StatusRequestEntityTooLarge:
			a.refused(t, test.code, api.ReasonTooLarge)
		default:
			a.refused(t, test.code, api.ReasonBadRequest)
		}
		if strings.Contains(a.Body.String(), "c2VjcmV0") {
			t.Errorf("%s: the body is quoted: %s", name, a.Body)
		}
	}
	for body, says := range map[string]string{`{"nam":"x"}`: "a field nam, ", `{"account":["x"]}`: "field account "} {
		if a := call(t, h, http.MethodPost, whoamiPath, "alice", body); !strings.Contains(a.Body.String(), says) {
			t.Errorf("%s: %s", body, a.Body)
		}
	}
	if log := b.log.String(); strings.Contains(log, "c2VjcmV0") {
		t.Errorf("a body is in the log: %s", log)
	}
}

func TestBodyThatBreaksOff(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, whoamiPath, io.MultiReader(strings.NewReader("{"), broken{}))
	w := httptest.NewRecorder()
	newBed(t).Handler().ServeHTTP(w, r)
	answer{w}.refused(t, http.StatusBadRequest, api.ReasonBadRequest)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	h := newBed(t).Handler()
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/whoami/", "/v2/whoami", "/v1/Whoami", "/metrics", "/debug/pprof/", "/v1/%00", "/" + strings.Repeat("x", 5000)} {
		e := call(t, h, http.MethodPost, path, "alice", "").refused(t, http.StatusNotFound, api.ReasonNotFound)
		if len(e.Message) > 300 {
			t.Errorf("the message has %d bytes", len(e.Message))
		}
	}
}

// ofAccounts reports whether an operation is for the owners and members of accounts as well as for admins.
func ofAccounts(op string) bool {
	switch op {
	case api.OpAccountApprove, api.OpAccountReject, api.OpAccountSuspend, api.OpAccountResume:
		return false
	}
	return strings.HasPrefix(op, "account.") || strings.HasPrefix(op, "member.")
}

// Whoever is neither a peer of the local socket nor has a token for administration and rights is no admin.
func TestAdminOperationsNeedAnActor(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.Reload = func(context.Context) (api.Reloaded, error) { t.Error("reloaded"); return api.Reloaded{}, nil }
	b.Status = func() api.Status { t.Error("status was read"); return api.Status{} }
	public, local := b.Handler(), b.LocalHandler()
	for _, op := range operations(t) {
		if op == api.OpWhoami {
			if a := call(t, local, http.MethodPost, api.Path(op), "alice", ""); a.Code != http.StatusOK {
				t.Errorf("whoami on the local socket: %d %s", a.Code, a.Body)
			}
			continue
		}
		if op == api.OpUserSignup {
			continue // for whoever has a token, see its own tests
		}
		if slices.Contains([]string{api.OpAccountAdopt, api.OpAccountHandover, api.OpAccountPreload, api.OpOperatorKeyImport, api.OpOperatorKeyRemove}, op) {
			call(t, public, http.MethodPost, api.Path(op), "admin:alice", "{}").refused(t, http.StatusForbidden, api.ReasonForbidden)
			continue // for who is on the host
		}
		if ofAccounts(op) {
			call(t, public, http.MethodPost, api.Path(op), "", "{}").refused(t, http.StatusUnauthorized, api.ReasonUnauthenticated)
			call(t, public, http.MethodPost, api.Path(op), "admin:alice", "{}").refused(t, http.StatusForbidden, string(policy.NoRights))
			call(t, local, http.MethodPost, api.Path(op), "", "{}").refused(t, http.StatusForbidden, api.ReasonForbidden)
			continue // for whoever has a token, see their own tests
		}
		if op == api.OpReload || op == api.OpStatus || op == api.OpAdminToken {
			call(t, public, http.MethodPost, api.Path(op), "admin:alice", "{}").refused(t, http.StatusForbidden, api.ReasonForbidden)
		} else {
			call(t, public, http.MethodPost, api.Path(op), "", "{}").refused(t, http.StatusUnauthorized, api.ReasonUnauthenticated)
			call(t, public, http.MethodPost, api.Path(op), "alice", "{}").refused(t, http.StatusForbidden, string(policy.LoginToken))
			call(t, public, http.MethodPost, api.Path(op), "admin:alice", "{}").refused(t, http.StatusForbidden, string(policy.NoRights))
		}
		call(t, local, http.MethodPost, api.Path(op), "alice", "{}").refused(t, http.StatusForbidden, api.ReasonForbidden)
	}
	body := `{"issuer":"corp","subject":"alice","reason":"left"}`
	call(t, local, http.MethodPost, api.Path(api.OpRevoke), "alice", body).refused(t, http.StatusForbidden, api.ReasonForbidden)
	if list := b.list(t); len(list) != 0 {
		t.Errorf("something was stored: %+v", list)
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*provision.Options){
		"in the verifier": withTokens(func(context.Context, string) (*policy.Identity, *policy.Refusal) { panic("boom") }),
		"in the state":    func(o *provision.Options) { o.State = func() *policy.Snapshot { panic("boom") } },
	} {
		b := newBed(t, change)
		h := b.Handler()
		for range 100 { // more than may be under way at once: a panic gives its place back
			a := call(t, h, http.MethodPost, whoamiPath, "secret", "")
			e := a.refused(t, http.StatusInternalServerError, "internal")
			if want := "the service failed; its log tells more under this request id"; e.Message != want {
				t.Fatalf("%s: message %q, want %q", name, e.Message, want)
			}
			if log := b.log.String(); !strings.Contains(log, "request_id="+e.RequestID) || !strings.Contains(log, "panic=boom") {
				t.Fatalf("%s: the log does not tell: %s", name, log)
			}
		}
		if strings.Contains(b.log.String(), "secret") {
			t.Errorf("%s: the token is in the log", name)
		}
	}
}

func TestAnswerThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	b := newBed(t, withTokens(func(context.Context, string) (*policy.Identity, *policy.Refusal) {
		id := person("alice")
		id.Expires = id.Expires.AddDate(9000, 0, 0) // RFC 3339 has no such year
		return id, nil
	}))
	call(t, b.Handler(), http.MethodPost, whoamiPath, "alice", "").refused(t, http.StatusInternalServerError, "internal")
}

func TestSubjectsAreReadable(t *testing.T) {
	t.Parallel()
	a := call(t, newBed(t).Handler(), http.MethodPost, whoamiPath, "alice", "")
	if !bytes.Contains(a.Body.Bytes(), []byte(`"app.>"`)) {
		t.Errorf("%s", a.Body)
	}
}

// No address can take all places, and all places together are bounded. Each that is given back is free again.
func TestConcurrencyLimit(t *testing.T) {
	t.Parallel()
	const most, ofOne = 64, 16
	entered, release := make(chan struct{}, most), make(chan struct{})
	b := newBed(t, withTokens(func(ctx context.Context, token string) (*policy.Identity, *policy.Refusal) {
		entered <- struct{}{}
		<-release
		return refuse(policy.SignatureInvalid)(ctx, token)
	}))
	h := b.Handler()
	from := func(address string) answer {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, whoamiPath, nil)
		r.RemoteAddr = address
		r.Header.Set("Authorization", "Bearer alice")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return answer{w}
	}
	busy := func(address, message string) {
		t.Helper()
		a := from(address)
		e := a.refused(t, http.StatusTooManyRequests, api.ReasonRateLimited)
		if e.RetryAfter != 1 || a.Header().Get("Retry-After") != "1" || e.Message != message {
			t.Errorf("from %s: %q, retry after %d, header %q", address, e.Message, e.RetryAfter, a.Header().Get("Retry-After"))
		}
	}
	var wg sync.WaitGroup
	fill := func(n int, address func(i int) string) {
		for i := range n {
			wg.Go(func() {
				if a := from(address(i)); a.Code != http.StatusUnauthorized {
					t.Errorf("%d %s", a.Code, a.Body)
				}
			})
		}
		for range n {
			<-entered
		}
	}
	const crowded = "too many calls at once from this address: try again"
	fill(ofOne, func(i int) string { return fmt.Sprintf("198.51.100.7:%d", i+1) })
	busy("198.51.100.7:99", crowded)
	busy("[::ffff:198.51.100.7]:99", crowded)
	fill(ofOne, func(i int) string { return fmt.Sprintf("[2001:db8::%x]:1", i+1) })
	busy("[2001:db8::ffff:1]:1", crowded) // the same /64
	fill(1, func(int) string { return "[2001:db8:0:1::1]:1" })
	// A proxy on this host that is not named calls for everybody.
	fill(most-2*ofOne-1, func(int) string { return "127.0.0.1:1" })
	busy("127.0.0.1:1", "too many calls at once: try again")
	busy("203.0.113.1:1", "too many calls at once: try again")
	close(release)
	wg.Wait()
	for range most + 1 {
		from("198.51.100.7:1").refused(t, http.StatusUnauthorized, string(policy.SignatureInvalid))
		<-entered
	}
}

// Clients that send their requests slowly keep nobody out.
func TestSlowBodiesTakeNoPlace(t *testing.T) {
	t.Parallel()
	h := newBed(t).Handler()
	const slow = 100 // more than may be at work at once
	var wg sync.WaitGroup
	var bodies []*io.PipeWriter
	for range slow {
		body, w := io.Pipe()
		bodies = append(bodies, w)
		wg.Go(func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, whoamiPath, body)
			h.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	for _, w := range bodies {
		if _, err := w.Write([]byte("{")); err != nil { // returns once the handler reads
			t.Fatal(err)
		}
	}
	if a := call(t, h, http.MethodPost, whoamiPath, "alice", ""); a.Code != http.StatusOK {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	for _, w := range bodies {
		_ = w.Close()
	}
	wg.Wait()
}

// serve serves a handler on a port of its own with the bounds of the package.
func serve(t testing.TB, l net.Listener, s *http.Server) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-ended; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
}

func TestServerBounds(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := provision.NewServer(newBed(t).Handler())
	if server.ReadTimeout <= 0 || server.ReadHeaderTimeout <= 0 || server.WriteTimeout <= 0 || server.IdleTimeout <= 0 {
		t.Errorf("a time is not bounded: %+v", server)
	}
	serve(t, l, server)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, test := range []struct{ size, code int }{
		{16 << 10, http.StatusOK}, // the largest token by default
		{40 << 10, http.StatusOK},
		{64 << 10, http.StatusRequestHeaderFieldsTooLarge},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://%s%s", l.Addr(), whoamiPath), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.Repeat("x", test.size))
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != test.code {
			t.Errorf("token of %d bytes: %s, want %d", test.size, resp.Status, test.code)
		}
	}
}

// Requests that two readers could understand differently are refused by net/http.
func TestAmbiguousFraming(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, provision.NewServer(newBed(t).Handler()))
	for name, head := range map[string]string{
		"two lengths":           "Content-Length: 2\r\nContent-Length: 3\r\n",
		"a length with a sign":  "Content-Length: +2\r\n",
		"two encodings":         "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
		"an unknown encoding":   "Transfer-Encoding: xchunked\r\n",
		"a blank in a name":     "Authorization : Bearer root\r\nContent-Length: 2\r\n",
		"a folded header":       "Authorization: Bearer\r\n root\r\n Content-Length: 2\r\n\tx\r\nContent-Length: x\r\n",
		"two hosts":             "Host: other\r\nContent-Length: 2\r\n",
		"NUL in a header value": "Authorization: Bearer a\x00b\r\nContent-Length: 2\r\n",
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST "+whoamiPath+" HTTP/1.1\r\nHost: gatehouse\r\nConnection: close\r\n"+head+"\r\n{}")
		got, _ := io.ReadAll(conn)
		_ = conn.Close()
		if status, _, _ := bytes.Cut(got, []byte("\r\n")); !bytes.HasPrefix(status, []byte("HTTP/1.1 400 ")) && !bytes.HasPrefix(status, []byte("HTTP/1.1 501 ")) {
			t.Errorf("%s: %s", name, status)
		}
	}
}
