package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// stall ends a gathering: servers that answer at all do so within a few milliseconds of
// each other, over gateways within the round trip.
const (
	stall       = 300 * time.Millisecond
	gatherLimit = 2 * time.Second
)

// serverInfo is the part of nats-server's ServerInfo that is needed (server/events.go).
type serverInfo struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Version string    `json:"ver"`
	Cluster string    `json:"cluster"`
	Time    time.Time `json:"time"`
}

// statsz is a server's answer to a STATSZ request, or the event it publishes by itself.
type statsz struct {
	Server serverInfo `json:"server"`
	Statsz struct {
		ActiveServers int `json:"active_servers"`
	} `json:"statsz"`

	offset   time.Duration // the server's clock less ours
	moved    time.Duration // [Resolver.moved] then
	measured bool          // offset was measured by a request
}

// measure derives the offset from the moments between which the server wrote its time.
func (s *statsz) measure(sent, received time.Time) {
	if s.Server.Time.IsZero() {
		return
	}
	s.offset = s.Server.Time.Sub(sent.Add(received.Sub(sent) / 2))
	s.measured = true
}

// pingAll asks every server for its STATSZ and gathers the answers until as many have come
// as the servers say there are, or none comes for a while.
func (r *Resolver) pingAll(ctx context.Context) ([]statsz, error) {
	var answers []statsz
	moved, sent := r.moved(), r.now()
	err := r.gather(ctx, "$SYS.REQ.SERVER.PING.STATSZ", nil, func(data []byte) bool {
		var a statsz
		if json.Unmarshal(data, &a) != nil || a.Server.ID == "" {
			return false
		}
		a.measure(sent, r.now())
		a.moved = moved
		answers = append(answers, a)
		return len(answers) >= a.Statsz.ActiveServers
	})
	if err == nil && len(answers) == 0 {
		err = errors.New("no server answered $SYS.REQ.SERVER.PING.STATSZ: is this a user of the system account?")
	}
	return answers, err
}

// ping asks one server for its STATSZ.
func (r *Resolver) ping(ctx context.Context, id string) (statsz, error) {
	var a statsz
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	moved, sent := r.moved(), r.now()
	msg, err := r.nc.RequestWithContext(ctx, "$SYS.REQ.SERVER."+id+".STATSZ", nil)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(msg.Data, &a); err != nil {
		return a, fmt.Errorf("answer of server %s: %w", id, err)
	}
	if a.Server.ID != id {
		return a, fmt.Errorf("server %s answered for %s", a.Server.ID, id)
	}
	a.measure(sent, r.now())
	a.moved = moved
	return a, nil
}

// gather publishes a request that several servers answer and hands each answer to take,
// until take returns true, no answer comes for [stall], or [gatherLimit] has passed.
func (r *Resolver) gather(ctx context.Context, subject string, body []byte, take func([]byte) bool) error {
	inbox := r.nc.NewInbox()
	sub, err := r.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := r.nc.PublishRequest(subject, inbox, body); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, gatherLimit)
	defer cancel()
	for first := true; ; first = false {
		wait := stall
		if first {
			wait = gatherLimit
		}
		one, stop := context.WithTimeout(ctx, wait)
		msg, err := sub.NextMsgWithContext(one)
		stop()
		switch {
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
			return nil
		case err != nil:
			return err
		case msg.Header.Get("Status") == "503":
			return nats.ErrNoResponders
		case take(msg.Data):
			return nil
		}
	}
}

// subscribe listens to what servers say unasked: that they live, that they go, and that an
// account's claims were pushed or deleted.
func (r *Resolver) subscribe() ([]*nats.Subscription, error) {
	var subs []*nats.Subscription
	handlers := map[string]nats.MsgHandler{
		"$SYS.SERVER.*.STATSZ":             r.onStatsz,
		"$SYS.SERVER.*.SHUTDOWN":           r.onShutdown,
		"$SYS.REQ.CLAIMS.DELETE":           r.onClaims,
		"$SYS.REQ.CLAIMS.UPDATE":           r.onClaims,
		"$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE": r.onClaims,
		"$SYS.ACCOUNT.*.CLAIMS.UPDATE":     r.onClaims,
	}
	if r.packed != nil {
		handlers["$SYS.REQ.CLAIMS.PACK"] = r.onPack // without operator nobody may hear it
	}
	for subject, handle := range handlers {
		sub, err := r.nc.Subscribe(subject, handle)
		if err != nil {
			return subs, err
		}
		subs = append(subs, sub)
	}
	return subs, nil
}

func (r *Resolver) onStatsz(msg *nats.Msg) {
	var a statsz
	if json.Unmarshal(msg.Data, &a) != nil || a.Server.ID == "" {
		return
	}
	r.mu.Lock()
	s, known := r.servers[a.Server.ID]
	var back []Server
	switch {
	case !known:
		r.search(a.Server.ID)
	case s.meet(a, r.now()):
		back = append(back, s.Server)
	}
	r.mu.Unlock()
	r.tell(back)
}

// onShutdown forgets the server that the subject $SYS.SERVER.<id>.SHUTDOWN names, and starts
// a round to learn how many are left.
func (r *Resolver) onShutdown(msg *nats.Msg) {
	tokens := strings.Split(msg.Subject, ".")
	if len(tokens) != 4 {
		return
	}
	if r.forget(tokens[2]) {
		r.log.Info("a server shut down", "server_id", tokens[2])
		r.Wake()
	}
}

// applyTime is what servers are given to apply claims that somebody pushed.
const applyTime = 200 * time.Millisecond

// onClaims starts a round after somebody pushed or deleted claims, unless they are of a self-service account.
func (r *Resolver) onClaims(msg *nats.Msg) {
	if strings.HasSuffix(msg.Subject, ".DELETE") {
		r.keys.clear()
		if r.pushed != nil {
			r.pushed("", "")
		}
	} else if r.ofSelfService(string(msg.Data)) {
		return
	}
	time.AfterFunc(applyTime, func() {
		r.Wake()
		r.stir()
	})
}
