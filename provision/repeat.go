package provision

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store"
)

// begun is what is kept of a call until its answer is.
var begun = json.RawMessage(`null`)

// repeatable is a call that may be sent again with its idempotency key.
type repeatable[Resp any] struct {
	op, who string // who calls, told from everybody else
	key     string // empty: each call is another one
	request any
	// may refuses who may make the call no more, given the id of the account that the first call was about; nil where the rights that it
	// takes are those of the operation, which were looked at before.
	may   func(about string) error
	about string // id of the account that the call turned out to be about
	// withhold takes a secret out of the answer before it is kept, and returns what the same call is told later. nil: it is
	// answered as at first.
	withhold func(*Resp) error
}

// keptAnswer is what is kept of a call.
type keptAnswer struct {
	About  string          `json:"about,omitempty"`
	Answer json.RawMessage `json:"answer"`
}

// keyed returns the call of a party that may be sent again with the key.
func keyed[Resp any](p party, op, key string, request any) *repeatable[Resp] {
	return &repeatable[Resp]{op: op, who: p.key(), key: key, request: request}
}

// once carries the call out unless it was before, and returns the first answer to who may make the call still. What is begun and neither answered nor failed, because
// the service ended meanwhile, is not done again: it may be done. A call that fails may be sent again.
func once[Resp any](ctx context.Context, s *Service, r *repeatable[Resp], do func() (Resp, error)) (Resp, error) {
	var none Resp
	if r.key == "" {
		return do()
	}
	o, err := onceOnly(r.op, r.who, r.key, r.request)
	if err != nil {
		return none, err
	}
	o.Answer = begun
	first, err := s.Store.Remember(ctx, *o, nil)
	switch {
	case err != nil:
		return none, s.storeError(r.op, err)
	case first != nil:
		return r.answered(first)
	}
	resp, err := do()
	o.Answer = nil
	if err == nil {
		kept := resp
		if r.withhold != nil {
			_ = r.withhold(&kept) // it is what a later call is told
		}
		if o.Answer, err = r.keep(kept); err != nil {
			return none, err
		}
	}
	// The caller may be gone, and what was done is done.
	keep, cancel := context.WithTimeout(context.WithoutCancel(ctx), handlerTimeout)
	defer cancel()
	if _, lost := s.Store.Remember(keep, *o, begun); lost != nil {
		s.Logger.Error("the answer of a call could not be kept: the same call is told that it was begun", "op", r.op, "error", lost)
	}
	return resp, err
}

// keep returns what is kept of an answer.
func (r *repeatable[Resp]) keep(answer Resp) (json.RawMessage, error) {
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return json.Marshal(keptAnswer{r.about, text})
}

// answered returns what the call is told that was made before.
func (r *repeatable[Resp]) answered(first json.RawMessage) (resp Resp, err error) {
	if bytes.Equal(first, begun) {
		return resp, refuse(http.StatusConflict, api.ReasonUnfinished,
			"%s: the call with this idempotency key was begun, and has not ended or was interrupted: call again in a moment for its answer; if there is none, look what was done and use a new key", r.op)
	}
	var kept keptAnswer
	if err := json.Unmarshal(first, &kept); err != nil {
		return resp, err
	}
	if r.may != nil {
		if err := r.may(kept.About); err != nil {
			return resp, err
		}
	}
	if err := json.Unmarshal(kept.Answer, &resp); err != nil {
		return resp, err
	}
	if r.withhold != nil {
		err = r.withhold(&resp)
	}
	return resp, err
}

// checkRepeat refuses an idempotency key that is too long to keep.
func checkRepeat(key string) error {
	if len(key) > maxKey {
		return badRequest("idempotency key has %d bytes, at most %d are possible", len(key), maxKey)
	}
	return nil
}

// apart joins texts so that no others give the same.
func apart(texts ...string) string {
	var b strings.Builder
	for _, t := range texts {
		b.WriteString(strconv.Itoa(len(t)))
		b.WriteByte(':')
		b.WriteString(t)
	}
	return b.String()
}

// onceOnly returns what tells a call from others: its answer is still to be given.
func onceOnly(op, who, key string, request any) (*store.Once, error) {
	if err := checkRepeat(key); err != nil {
		return nil, err
	}
	asked, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	call := sha256.Sum256(append([]byte(op+"\x00"), asked...))
	return &store.Once{Key: apart(who, key), Call: call[:]}, nil
}

// shownOnce refuses to show a secret again.
func shownOnce(format string, args ...any) error {
	return refuse(http.StatusConflict, api.ReasonShownOnce, format, args...)
}
