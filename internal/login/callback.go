package login

import (
	"context"
	"crypto/subtle"
	_ "embed"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// redirectPath is the path of the redirect URI; its host is 127.0.0.1 and its port any (RFC 8252, section 7.3).
const redirectPath = "/callback"

// callback waits for the browser to come back from the issuer.
type callback struct {
	state    string
	listener net.Listener
	server   *http.Server
	taken    atomic.Bool
	answers  chan answer // one, by the request that took it
	outcome  chan error  // one, for the page that the browser shows
	ended    chan struct{}
}

// answer is what the issuer sends through the browser.
type answer url.Values

// listen listens on 127.0.0.1, on any free port when port is 0.
func listen(port int, state string) (*callback, error) {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listen for the browser's return: %w", err)
	}
	c := &callback{
		state: state, listener: l,
		answers: make(chan answer, 1), outcome: make(chan error, 1), ended: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+redirectPath, c.serve)
	c.server = &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	go func() {
		defer close(c.ended)
		_ = c.server.Serve(l) // ends with close
	}()
	return c, nil
}

func (c *callback) redirectURI() string { return "http://" + c.listener.Addr().String() + redirectPath }

// serve takes the first answer that belongs to this login, and shows what became of it. Any web
// page can send a browser here: without the state, which only the issuer got to see, nothing happens.
func (c *callback) serve(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(c.state)) != 1 {
		show(w, http.StatusBadRequest, page{"Not the login that is waited for", "This address belongs to another login, or to one that has ended. Look at the terminal: it shows the address to open."})
		return
	}
	if c.taken.Swap(true) {
		show(w, http.StatusConflict, page{"This login has been answered", "Look at the terminal for what became of it."})
		return
	}
	c.answers <- answer(query)
	select {
	case err := <-c.outcome:
		if err != nil {
			show(w, http.StatusOK, page{"You are not logged in", err.Error()})
			return
		}
		show(w, http.StatusOK, page{"You are logged in", "You can close this window and go back to the terminal."})
	case <-r.Context().Done(): // the browser has gone; the terminal tells
	}
}

// wait returns the browser's answer.
func (c *callback) wait(ctx context.Context) (answer, error) {
	select {
	case a := <-c.answers:
		return a, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// finish shows in the browser what became of the login.
func (c *callback) finish(err error) { c.outcome <- err }

// close ends the server, after the last page has been sent.
func (c *callback) close() {
	// Browsers also open connections that they do not use yet; Shutdown would wait for those.
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if c.server.Shutdown(ctx) != nil {
		_ = c.server.Close()
	}
	<-c.ended
}

// code returns the authorization code, or why there is none.
func (a answer) code(issuer string) (string, error) {
	q := url.Values(a)
	// RFC 9207: an answer that names its issuer must name the one that was asked.
	if iss := q.Get("iss"); iss != "" && iss != issuer {
		return "", fmt.Errorf("%w: the answer came from %q", ErrIssuer, plain(iss))
	}
	if code := q.Get("error"); code != "" {
		return "", &DeniedError{Code: plain(code), Description: plain(q.Get("error_description"))}
	}
	if q.Get("code") == "" {
		return "", fmt.Errorf("%w: its answer holds neither a code nor an error", ErrIssuer)
	}
	return q.Get("code"), nil
}

type page struct{ Title, Text string }

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

func show(w http.ResponseWriter, status int, p page) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer") // the address holds the code
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, p) // a browser that has gone
}
