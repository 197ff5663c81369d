package provision

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/gatehouse-nats/gatehouse/api"
)

// Bounds of the operations over NATS.
const (
	natsPending = 1024     // calls of one operation that wait; those beyond it get no answer
	natsBytes   = 16 << 20 // of them
)

// infoHeader is where nats-server says who sent a request that comes through an import with share, in place of what
// the sender wrote there (server/client.go, processServiceImport).
const infoHeader = "Nats-Request-Info"

// NATSOptions say where operations are served over NATS.
type NATSOptions struct {
	Conn    *nats.Conn // to the callout account, for this alone: floods here must not hold up logins
	Lobby   string     // public key of the only account whose calls are answered
	Version string     // semantic
}

// ServeNATS answers calls at gatehouse.v1.NAME until ctx ends, and returns nil then. The operations that are for
// the host are not there.
func (s *Service) ServeNATS(ctx context.Context, o NATSOptions) error {
	svc, err := micro.AddService(o.Conn, micro.Config{
		Name: "gatehouse-operations", Version: o.Version, Description: "Operations of Gatehouse, for users of the lobby account",
		Metadata: map[string]string{"replica": s.Replica},
		ErrorHandler: func(_ micro.Service, e *micro.NATSError) {
			s.Logger.Warn("an operation over NATS reported an error", "subject", e.Subject, "error", e.Description)
		},
	})
	if err != nil {
		return err
	}
	var calls calls
	defer calls.end()
	defer func() { _ = svc.Stop() }()
	group := svc.AddGroup(strings.TrimSuffix(api.Subject(""), "."))
	open, admin := newSeats(), newSeats()
	for _, op := range s.operations() {
		free := admin
		if op.access.everybody {
			free = open
		}
		if op.access == onHost {
			continue
		}
		request, response := schemasOf(op)
		err := group.AddEndpoint(strings.ReplaceAll(op.name, ".", "-"), micro.HandlerFunc(func(req micro.Request) {
			caller, err := natsCaller(req, o.Lobby)
			caller.RequestID = newID()
			if err == nil {
				err = free.take(caller.Source)
			}
			if err != nil {
				s.respond(o.Conn, req.Reply(), nil, answerable(err, caller.RequestID))
				return
			}
			if !calls.begin(func() {
				defer free.give(caller.Source)
				s.answer(ctx, op, o, caller, req)
			}) {
				free.give(caller.Source) // the service ends, and whoever called tries another replica
			}
		}), micro.WithEndpointSubject(op.name), micro.WithEndpointPendingLimits(natsPending, natsBytes),
			micro.WithEndpointMetadata(map[string]string{"access": op.access.String(), "request_schema": request, "response_schema": response}))
		if err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// calls are those under way. A request may come in while the service is being stopped.
type calls struct {
	mu    sync.Mutex
	ended bool
	tasks sync.WaitGroup
}

// begin carries out a call aside; false when no more begin.
func (c *calls) begin(do func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.tasks.Go(do)
	}
	return !c.ended
}

// end lets no more calls begin, and returns when those under way have ended.
func (c *calls) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.tasks.Wait()
}

// answer carries out one call.
func (s *Service) answer(ctx context.Context, op operation, o NATSOptions, caller Caller, req micro.Request) {
	resp, err := s.call(context.WithoutCancel(ctx), op, caller, req.Data())
	var body []byte
	if err == nil {
		body, err = encode(resp)
	}
	if err == nil && int64(len(body)) > o.Conn.MaxPayload() {
		err = refuse(http.StatusRequestEntityTooLarge, api.ReasonTooLarge, "the answer is larger than a NATS message may be: ask for fewer with limit")
	}
	if err != nil {
		s.respond(o.Conn, req.Reply(), nil, answerable(err, caller.RequestID))
		return
	}
	s.respond(o.Conn, req.Reply(), body, api.Error{})
}

// respond sends the body, or the error when it has a code, with the headers of the micro protocol. The micro request
// itself must not: it counts its errors in the goroutine that took it.
func (s *Service) respond(nc *nats.Conn, reply string, body []byte, e api.Error) {
	if reply == "" {
		return // nobody waits for it
	}
	msg := nats.NewMsg(reply)
	msg.Data = body
	if e.Code != 0 {
		msg.Header.Set(micro.ErrorHeader, e.Reason)
		msg.Header.Set(micro.ErrorCodeHeader, strconv.Itoa(e.Code))
		msg.Data, _ = encode(e) // texts and a number
	}
	if err := nc.PublishMsg(msg); err != nil {
		s.Logger.Debug("a call over NATS could not be answered", "request_id", e.RequestID, "error", err)
	}
}

// natsCaller returns who sent a request. Only those that nats-server says are of the lobby count: whoever imported the
// operations elsewhere, or publishes in the callout account, could have let others read them.
func natsCaller(req micro.Request, lobby string) (Caller, error) {
	c := Caller{Transport: NATS}
	if len(req.Data()) > maxBody {
		return c, refuse(http.StatusRequestEntityTooLarge, api.ReasonTooLarge, "the body is over %d bytes", maxBody)
	}
	var info struct {
		Account string `json:"acc"`
		Host    string `json:"host"`
	}
	values := req.Headers().Values(infoHeader)
	if len(values) != 1 || json.Unmarshal([]byte(values[0]), &info) != nil || info.Account != lobby || lobby == "" {
		return c, refuse(http.StatusForbidden, api.ReasonForbidden, "calls over NATS come from the lobby account: connect with a token, as account:LOBBY where it gives another account too")
	}
	if addr, err := netip.ParseAddr(info.Host); err == nil {
		c.Source = addr.Unmap()
	}
	authorization := req.Headers().Values("Authorization")
	if len(authorization) == 1 && len(authorization[0]) > maxHeader {
		return c, refuse(http.StatusRequestEntityTooLarge, api.ReasonTooLarge, "the Authorization header is over %d bytes", maxHeader)
	}
	// In whatever case, as over HTTP: a call on somebody's behalf must not be carried out for the backend itself.
	var named []string
	for name, values := range req.Headers() {
		if strings.EqualFold(name, api.OnBehalfHeader) {
			named = append(named, values...)
		}
	}
	c.Token, c.OnBehalf = bearer(authorization), onBehalf(named)
	return c, nil
}
