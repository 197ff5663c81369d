package provision

import (
	"context"
	"net/netip"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// verifyEither returns whom a token speaks of, be it for logins or for administration, and whether it is for
// the latter. The refusal is that of a login.
func (s *Service) verifyEither(ctx context.Context, token string) (id *policy.Identity, r *policy.Refusal, admin bool) {
	id, r = s.verify(ctx, token)
	if r == nil || r.Reason != policy.AudienceRefused {
		return id, r, false
	}
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	if other, refused := s.Tokens.VerifyAdmin(ctx, token); refused == nil {
		return other, r, true
	}
	return id, r, false
}

// notForLogins says why a token for administration is refused where somebody would log in.
const notForLogins = "The token is for administration, and logs nobody in."

// Administration returns what the identity may do as an admin who calls from source; nil where there is nothing
// to say: it has no rights, and its token is not for that.
func Administration(state *policy.Snapshot, id *policy.Identity, token bool, source netip.Addr, now time.Time, trace *policy.Trace) *api.Administration {
	rights, r := policy.Rights(state, id, source, now, trace)
	if r != nil && !token {
		return nil
	}
	out := &api.Administration{Token: token, Rights: []string{}}
	for _, right := range rights {
		out.Rights = append(out.Rights, string(right))
	}
	if r != nil {
		out.Reason, out.Message = string(r.Reason), refusal(r).Message
	}
	return out
}

// ExplainAdmin is [Explain] for the identity of a token for administration.
func ExplainAdmin(state *policy.Snapshot, id *policy.Identity, conn policy.Connection, now time.Time) api.Explanation {
	var trace policy.Trace
	out := api.Explanation{Identity: identity(id), Decision: refusal(policy.Refuse(policy.AudienceRefused, notForLogins))}
	out.Message = notForLogins
	out.Administration = Administration(state, id, true, conn.Source, now, &trace)
	out.Verdicts = verdicts(trace)
	return out
}
