package provision

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
)

// Bounds of the HTTP transports.
const (
	maxBody        = 64 << 10
	maxHeader      = 48 << 10 // a token of the largest size fits
	readTimeout    = 10 * time.Second
	handlerTimeout = 10 * time.Second
	idleTimeout    = time.Minute
	maxConcurrent  = 64 // public calls at work at once: each verifies a signature
)

// NewServer returns an HTTP server with the bounds of this package around the handler.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadTimeout: readTimeout, ReadHeaderTimeout: readTimeout,
		WriteTimeout: handlerTimeout + readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
}

// Handler serves every operation to whoever brings a token: those of administration take one that is made
// for it and a right, see [policy.Rights], and some are for the host alone. Pages of the configured origins may call.
func (s *Service) Handler() http.Handler {
	// Those that everybody may call must not keep admins out.
	open, admin := newSeats(), newSeats()
	mux := http.NewServeMux()
	for _, op := range s.operations() {
		if op.access.everybody {
			mux.HandleFunc(api.Path(op.name), s.serve(op, s.publicCaller, open))
		} else {
			mux.HandleFunc(api.Path(op.name), s.serve(op, s.publicCaller, admin))
		}
	}
	mux.HandleFunc("GET "+documentPath, s.showDocument)
	if s.Discovery != nil {
		mux.HandleFunc("GET "+api.DiscoveryPath, s.discover)
	}
	if s.Logouts != nil {
		mux.HandleFunc(api.LogoutPath("{issuer}"), s.takeLogout)
	}
	s.serveAccounts(mux)
	mux.HandleFunc("/", s.notFound)
	return s.fromPages(mux)
}

// LocalHandler serves every operation to the peers of the local socket, whose names the
// connection's context carries, see [Listen].
func (s *Service) LocalHandler() http.Handler {
	mux := http.NewServeMux()
	for _, op := range s.operations() {
		mux.HandleFunc(api.Path(op.name), s.serve(op, localCaller, nil))
	}
	mux.HandleFunc("/", s.notFound)
	return mux
}

// serve serves one operation over HTTP, on one of the seats unless they are nil.
func (s *Service) serve(op operation, who func(*http.Request) Caller, free *seats) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		caller := who(r)
		caller.RequestID = newID()
		body, err := read(w, r)
		if err != nil {
			writeError(w, caller.RequestID, err)
			return
		}
		// Counted from when the request has been read, so that clients which send theirs slowly keep nobody out.
		if err := free.take(caller.Source); err != nil {
			writeError(w, caller.RequestID, err)
			return
		}
		defer free.give(caller.Source)
		resp, err := s.call(r.Context(), op, caller, body)
		if err != nil {
			writeError(w, caller.RequestID, err)
			return
		}
		s.writeJSON(w, caller.RequestID, resp)
	}
}

// slots bound how much is under way at once.
type slots chan struct{}

func (f slots) take() bool {
	select {
	case f <- struct{}{}:
		return true
	default:
		return false
	}
}

func (f slots) give() { <-f }

// read returns the body of a request to an operation.
func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, refuse(http.StatusMethodNotAllowed, api.ReasonMethodNotAllowed, "use POST")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, refuse(http.StatusRequestEntityTooLarge, api.ReasonTooLarge, "the body is over %d bytes", maxBody)
		}
		return nil, badRequest("the body could not be read")
	}
	return body, nil
}

// writeJSON encodes before it writes, so that a failure cannot pass for an empty success.
func (s *Service) writeJSON(w http.ResponseWriter, requestID string, v any) {
	body, err := encode(v)
	if err != nil {
		s.Logger.Error("an answer could not be encoded", "request_id", requestID, "error", err)
		writeError(w, requestID, err)
		return
	}
	write(w, http.StatusOK, body)
}

func write(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body) // a client that is gone cannot be told
}

// writeError answers with the error if it is one for callers, else with a constant one.
func writeError(w http.ResponseWriter, requestID string, err error) {
	e := answerable(err, requestID)
	if e.Code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	body, _ := encode(e) // texts and a number
	write(w, e.Code, body)
}

func (s *Service) notFound(w http.ResponseWriter, r *http.Request) {
	writeError(w, newID(), refuse(http.StatusNotFound, api.ReasonNotFound, "there is nothing at %.200q", r.URL.Path))
}

func (s *Service) publicCaller(r *http.Request) Caller {
	return Caller{Token: bearer(r.Header.Values("Authorization")), Transport: HTTP, Source: source(r, s.web().Proxies), OnBehalf: onBehalf(r.Header.Values(api.OnBehalfHeader))}
}

func localCaller(r *http.Request) Caller {
	actor, _ := r.Context().Value(peerKey{}).(string)
	return Caller{Token: bearer(r.Header.Values("Authorization")), Actor: actor, Transport: Socket, OnBehalf: onBehalf(r.Header.Values(api.OnBehalfHeader))}
}

// bearer returns the token in the Authorization headers of a request. Two such headers count as none: a proxy
// may have looked at the other one.
func bearer(values []string) string {
	if len(values) != 1 {
		return ""
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
