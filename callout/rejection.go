package callout

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

const (
	// rejectionSubject is where a server tells the callout account why it did not admit a
	// client whose login was sent to the callout (server/events.go, accountAuthErrorEvent).
	rejectionSubject = "$SYS.ACCOUNT.CLIENT.AUTH.ERR"
	rejectionQueue   = "gatehouse"
	refusalReason    = "Auth callout service returned an error"
	limitReason      = "maximum account active connections exceeded"
)

// ownRefusal is in the events of this service's own refusals.
var ownRefusal = []byte(`"reason":"` + refusalReason)

// listenForRejections counts the logins that end at the server, which nothing else shows:
// answers that it did not accept, and those that came too late. One replica counts each.
func (s *Service) listenForRejections() (*nats.Subscription, error) {
	sub, err := s.Conns[0].QueueSubscribe(rejectionSubject, rejectionQueue, func(msg *nats.Msg) {
		var event struct {
			Reason string `json:"reason"`
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Client struct {
				ID   uint64 `json:"id"`
				Host string `json:"host"`
			} `json:"client"`
		}
		// Each refusal of ours comes back here, so that a flood of bad tokens is one of these events too: they are told by
		// their text. What clients choose of it stands in quotes that are escaped.
		if bytes.Contains(msg.Data, ownRefusal) {
			s.Metrics.rejection(refusedByUs)
			return
		}
		if json.Unmarshal(msg.Data, &event) != nil {
			return
		}
		kind := rejectionKind(event.Reason)
		s.Metrics.rejection(kind)
		if kind == rejected {
			s.OnRejected()
			s.Logger.Error("a server did not accept an answer of the callout: clients are refused that should be admitted",
				"server", event.Server.Name, "cid", event.Client.ID, "source", event.Client.Host, "reason", clip(event.Reason))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("callout: subscribe to %s: %w", rejectionSubject, err)
	}
	return sub, nil
}

// The kinds of rejections.
const (
	refusedByUs = "refused"  // this service's own refusal
	timedOut    = "timeout"  // no answer in time
	rejected    = "rejected" // the server did not accept the answer
	overLimit   = "limit"    // the account has as many connections as it may
)

// rejectionKind classifies the reason that a server gives; it has none for a timeout.
func rejectionKind(reason string) string {
	switch {
	case reason == "":
		return timedOut
	case strings.HasPrefix(reason, refusalReason):
		return refusedByUs
	case strings.Contains(reason, limitReason):
		return overLimit
	default:
		return rejected
	}
}
