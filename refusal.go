package gatehouse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
)

const (
	whoamiTimeout = 5 * time.Second
	maxAnswer     = 1 << 20
	// askEvery bounds how often a connection that is refused again and again asks why.
	askEvery = time.Minute
	// recent is how old the recorded refusal may be that explains one just met. The service's
	// clock may differ from this host's.
	recent = 2 * time.Minute
)

// RefusedError says that a login was refused. It wraps nats.go's error, so that
// errors.Is(err, nats.ErrAuthorization) holds.
//
// Reason is one of the codes of [api.Reasons], or what whoami itself answered, such as
// unauthenticated. It is empty when nothing is known: without
// [WithWhoami], when the service could not be asked (errors.Is finds why), or when the
// service would admit the token by now, which is so after an outage: a login that nobody
// answers looks like a refusal to a client.
type RefusedError struct {
	Reason     string
	Message    string        // for people: what happened and what to do
	RequestID  string        // finds the entry in the service's log and audit trail
	RetryAfter time.Duration // after which the same identity may be admitted; 0 when unknown or never
	cause      error
	unanswered bool // by all that is known nobody refused it
}

// Error returns the message, the reason code and the request id. It holds no token.
func (e *RefusedError) Error() string {
	var b strings.Builder
	b.WriteString("gatehouse: login refused: ")
	b.WriteString(e.Message)
	if e.Reason != "" {
		fmt.Fprintf(&b, " (%s)", e.Reason)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " [request %s]", e.RequestID)
	}
	return b.String()
}

// Unwrap returns nats.go's error and, when the reason could not be fetched, what kept it.
func (e *RefusedError) Unwrap() error { return e.cause }

// whoami asks the service what a token gets.
type whoami struct {
	base *url.URL
	http *http.Client
}

// ask returns the service's answer: an [*api.Error] when it refuses the token.
func (w *whoami) ask(ctx context.Context, e envelope) (*api.Whoami, error) {
	ctx, cancel := context.WithTimeout(ctx, whoamiTimeout)
	defer cancel()
	return operate[api.Whoami](ctx, w.http, w.base, api.OpWhoami, e.Token, api.WhoamiRequest{Account: e.Account})
}

// operate carries out an operation of the service: an [*api.Error] when it refuses.
func operate[Resp any](ctx context.Context, client *http.Client, base *url.URL, op, token string, request any) (*Resp, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base.JoinPath(api.Path(op)).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")

	own := *client
	// The token is for this address alone.
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := own.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readAnswer[Resp](op, resp)
}

func readAnswer[Resp any](op string, resp *http.Response) (*Resp, error) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		var answer Resp
		if err := json.Unmarshal(data, &answer); err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		return &answer, nil
	}
	refusal := &api.Error{Code: resp.StatusCode}
	if json.Unmarshal(data, refusal) != nil || refusal.Reason == "" {
		return nil, fmt.Errorf("%s: unexpected answer %s", op, resp.Status)
	}
	return nil, refusal
}

// refused reports whether an error of nats.go says that a login was refused.
func refused(err error) bool { return errors.Is(err, nats.ErrAuthorization) }

// explain returns a refusal that nats.go reported with its reason, as far as that can be known.
func (w *whoami) explain(ctx context.Context, cause error, e envelope) *RefusedError {
	if w == nil {
		return &RefusedError{Message: "the server tells no reason: WithWhoami fetches it", cause: cause}
	}
	answer, err := w.ask(ctx, e)
	if err == nil {
		return admissionRefused(answer, cause, time.Now())
	}
	if refusal, ok := errors.AsType[*api.Error](err); ok && (refusal.Code == http.StatusUnauthorized || refusal.Code == http.StatusForbidden) {
		return &RefusedError{
			Reason: refusal.Reason, Message: refusal.Message, RequestID: refusal.RequestID,
			RetryAfter: time.Duration(refusal.RetryAfter) * time.Second, cause: cause,
		}
	}
	return &RefusedError{
		Message: fmt.Sprintf("the reason could not be fetched: %v", err),
		cause:   errors.Join(cause, err),
	}
}

// notAnswered returns the refusal of a login that nobody answered in the time that the server gives.
func notAnswered(cause error) *RefusedError {
	return &RefusedError{
		Message:    "nobody answered the server in time: the service has too much to do or does not run, or the sentinel is not valid",
		cause:      cause,
		unanswered: true,
	}
}

// admissionRefused reads the reason of a refusal out of what the service says of the token. A
// login that it recorded knows what whoami cannot, such as the client's address on NATS.
func admissionRefused(answer *api.Whoami, cause error, now time.Time) *RefusedError {
	last := answer.LastRefusal
	if last != nil && now.Sub(last.At).Abs() > recent {
		last = nil
	}
	switch {
	case !answer.Allowed:
		e := &RefusedError{
			Reason: answer.Reason, Message: answer.Message, RequestID: answer.RequestID,
			RetryAfter: time.Duration(answer.RetryAfter) * time.Second, cause: cause,
		}
		if last != nil && last.Reason == e.Reason {
			e.RequestID = last.RequestID
		}
		return e
	case last != nil:
		return &RefusedError{Reason: last.Reason, Message: last.Message, RequestID: last.RequestID, cause: cause}
	default:
		return &RefusedError{
			Message:   "the service would admit this token by now; nobody may have answered in time: try again",
			RequestID: answer.RequestID, cause: cause, unanswered: true,
		}
	}
}
