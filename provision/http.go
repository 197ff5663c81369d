package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
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

// Handler serves the operations that anybody with a token may call.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	handle(mux, s, api.OpWhoami, publicCaller, limit(maxConcurrent, s.Whoami))
	mux.HandleFunc("/", s.notFound)
	return mux
}

// LocalHandler serves every operation to the peers of the local socket, whose names the
// connection's context carries, see [Listen].
func (s *Service) LocalHandler() http.Handler {
	mux := http.NewServeMux()
	handle(mux, s, api.OpWhoami, localCaller, s.Whoami)
	handle(mux, s, api.OpExplain, localCaller, s.ExplainLive)
	handle(mux, s, api.OpRevoke, localCaller, s.Revoke)
	handle(mux, s, api.OpRevokeLift, localCaller, s.Lift)
	handle(mux, s, api.OpRevocations, localCaller, s.Revocations)
	handle(mux, s, api.OpAudit, localCaller, s.Audit)
	handle(mux, s, api.OpReload, localCaller, s.ReloadConfig)
	handle(mux, s, api.OpStatus, localCaller, s.ShowStatus)
	mux.HandleFunc("/", s.notFound)
	return mux
}

// operation is a method of [Service].
type operation[Req, Resp any] func(context.Context, Caller, Req) (Resp, error)

// handle serves one operation: decode, call, encode.
func handle[Req, Resp any](mux *http.ServeMux, s *Service, op string, who func(*http.Request) Caller, do operation[Req, Resp]) {
	mux.HandleFunc(api.Path(op), func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), handlerTimeout)
		defer cancel()
		caller := who(r)
		caller.RequestID = newID()
		defer func() {
			if p := recover(); p != nil {
				s.Logger.Error("an operation made the service panic", "op", op, "request_id", caller.RequestID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				writeError(w, caller.RequestID, errors.New("panic"))
			}
		}()
		var req Req
		if err := decode(w, r, &req); err != nil {
			writeError(w, caller.RequestID, err)
			return
		}
		resp, err := do(ctx, caller, req)
		if err != nil {
			writeError(w, caller.RequestID, err)
			return
		}
		writeJSON(w, http.StatusOK, resp)
	})
}

// decode reads the request's body, which may be empty, strictly into req.
func decode(w http.ResponseWriter, r *http.Request, req any) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return refuse(http.StatusMethodNotAllowed, api.ReasonMethodNotAllowed, "use POST")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return refuse(http.StatusRequestEntityTooLarge, api.ReasonTooLarge, "the body is over %d bytes", maxBody)
		}
		return badRequest("the body could not be read")
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	dec.DisallowUnknownFields()
	if err := dec.Decode(req); err != nil {
		// The decoder's own text may quote the body, which may hold a token.
		return badRequest("the body is not the JSON that this operation takes; unknown fields are not accepted")
	}
	if _, err := dec.Token(); err != io.EOF {
		return badRequest("the body holds more than one JSON value")
	}
	return nil
}

// writeJSON encodes before it writes, so that a failure cannot pass for an empty success.
func writeJSON(w http.ResponseWriter, code int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // subjects are full of >, and nosniff keeps browsers from rendering
	if err := enc.Encode(v); err != nil {
		panic(fmt.Errorf("encode %T: %w", v, err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body.Bytes()) // a client that is gone cannot be told
}

// writeError answers with the error if it is one for callers, else with a constant one.
func writeError(w http.ResponseWriter, requestID string, err error) {
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		e = refuse(http.StatusInternalServerError, string(policy.Internal), "the service failed; its log tells more under this request id")
	}
	out := *e
	out.RequestID = requestID
	if e.Code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	writeJSON(w, e.Code, out)
}

func (s *Service) notFound(w http.ResponseWriter, r *http.Request) {
	writeError(w, newID(), refuse(http.StatusNotFound, api.ReasonNotFound, "there is nothing at %.200q", r.URL.Path))
}

func publicCaller(r *http.Request) Caller {
	c := Caller{Token: bearer(r)}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Source = ap.Addr().Unmap()
	}
	return c
}

func localCaller(r *http.Request) Caller {
	actor, _ := r.Context().Value(peerKey{}).(string)
	return Caller{Token: bearer(r), Actor: actor}
}

// bearer returns the token of the request. Two such headers count as none: a proxy may have
// looked at the other one.
func bearer(r *http.Request) string {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// limit refuses calls while n are under way. It counts from when the request has been read, so
// that clients which send theirs slowly keep nobody out.
func limit[Req, Resp any](n int, do operation[Req, Resp]) operation[Req, Resp] {
	slots := make(chan struct{}, n)
	return func(ctx context.Context, c Caller, req Req) (Resp, error) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			return do(ctx, c, req)
		default:
			var none Resp
			return none, again(http.StatusTooManyRequests, api.ReasonRateLimited, "too many calls at once: try again")
		}
	}
}
