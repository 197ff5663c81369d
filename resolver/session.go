package resolver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-nats/gatehouse/policy"
)

// Bounds of the connections that are asked for at once. An answer is one message, which the servers do not
// hold to max_payload but to max_pending (64 MiB unless configured): one that is larger closes the system
// connection. A connection takes about 525 bytes of it, a direct user's twice that, and one whose client gave a
// long name up to max_control_line more, so that whoever is looked for could make the answer too large.
const (
	firstPage = 1 << 13
	mostPage  = 1 << 16
	leastPage = 1 << 6
	pageStep  = 4
)

// answerTimeout bounds one answer of one server about its connections.
const answerTimeout = 3 * time.Second

// ErrNoSystemUser says that connections can neither be seen nor closed.
var ErrNoSystemUser = errors.New("there is no system user, so that connections can neither be seen nor closed: configure nats.system")

// errCut says that a server has more connections than it was asked for.
var errCut = errors.New("the server has more connections than one answer can hold")

// SessionFilter chooses sessions; zero fields do not filter.
type SessionFilter struct {
	Server  string // id
	Account string // id; where there is no operator, the name
	User    string // as servers show it: a principal name, or a direct user's public key
	CID     uint64 // of a connection of Server
}

// Sessions returns the live connections of users that the filter chooses, of all servers that are known, by
// server and age, with nothing recorded joined to them. It asks each server until its answer is complete;
// servers that did not answer, or are not known yet, are named. Without any server it is an error.
func (r *Resolver) Sessions(ctx context.Context, f SessionFilter) (list []policy.Session, unanswered []string, err error) {
	if r.blind {
		return nil, nil, ErrNoSystemUser
	}
	servers := r.Servers()
	switch {
	case !r.nc.IsConnected():
		return nil, nil, errDisconnected
	case len(servers) == 0:
		return nil, nil, errors.New("no server is known yet")
	case f.Server == "" && !r.complete():
		unanswered = append(unanswered, "a server that is not known yet")
	}
	if f.Server != "" {
		servers = slices.DeleteFunc(servers, func(s Server) bool { return s.ID != f.Server })
		if len(servers) == 0 {
			return nil, nil, fmt.Errorf("server %s is not known: gatehouse status lists the servers", f.Server)
		}
	}
	pages := make([][]policy.Session, len(servers))
	failed := make([]error, len(servers))
	var g errgroup.Group
	for i, s := range servers {
		g.Go(func() error {
			pages[i], failed[i] = r.allOf(ctx, s.ID, f, firstPage, mostPage)
			return nil
		})
	}
	_ = g.Wait() // what failed is kept by server
	for i, s := range servers {
		if failed[i] != nil {
			r.log.Warn("the connections of a server could not be listed", "server", s.Name, "server_id", s.ID, "error", failed[i])
			unanswered = append(unanswered, s.Name)
			continue
		}
		list = append(list, pages[i]...)
	}
	return list, unanswered, ctx.Err()
}

// allOf returns every connection of a server that the filter chooses. A page of limit connections that is cut
// is asked for again from the start with a larger limit, up to most: a next page by offset misses connections
// while others close.
func (r *Resolver) allOf(ctx context.Context, server string, f SessionFilter, limit, most int) ([]policy.Session, error) {
	for {
		list, cut, err := r.page(ctx, server, f, limit)
		if err != nil || !cut {
			return list, err
		}
		if limit == most {
			return nil, fmt.Errorf("%w (%d)", errCut, most)
		}
		limit = min(limit*pageStep, most)
	}
}

// connzRequest is the part of nats-server's ConnzOptions that is used (server/monitor.go).
type connzRequest struct {
	Auth    bool   `json:"auth"` // the filters need it
	User    string `json:"user,omitempty"`
	Account string `json:"acc,omitempty"`
	CID     uint64 `json:"cid,omitempty"`
	Limit   int    `json:"limit"`
}

// connz is the part of a server's answer to CONNZ that is needed.
type connz struct {
	Server serverInfo `json:"server"`
	Data   *struct {
		Connections []connInfo `json:"connections"`
	} `json:"data"`
	Error *struct {
		Description string `json:"description"`
	} `json:"error"`
}

// connInfo is one connection of nats-server's ConnInfo.
type connInfo struct {
	CID       uint64    `json:"cid"`
	Kind      string    `json:"kind"`
	Type      string    `json:"type"`
	IP        string    `json:"ip"`
	Start     time.Time `json:"start"`
	Lang      string    `json:"lang"`
	Version   string    `json:"version"`
	User      string    `json:"authorized_user"`
	Account   string    `json:"account"`
	IssuerKey string    `json:"issuer_key"`
	JWT       string    `json:"jwt"` // of a direct user; servers show none of a callout user
}

// page asks one server for at most limit connections, oldest first, and reports whether there may be more.
func (r *Resolver) page(ctx context.Context, server string, f SessionFilter, limit int) (list []policy.Session, cut bool, err error) {
	data, err := r.ask(ctx, server, "CONNZ", connzRequest{Auth: true, User: f.User, Account: f.Account, CID: f.CID, Limit: limit})
	if err != nil {
		return nil, false, err
	}
	var answer connz
	switch err := json.Unmarshal(data, &answer); {
	case err != nil:
		return nil, false, fmt.Errorf("CONNZ of server %s: %w", server, err)
	case answer.Error != nil:
		return nil, false, fmt.Errorf("CONNZ of server %s: %s", server, answer.Error.Description)
	case answer.Data == nil || answer.Server.ID != server:
		return nil, false, fmt.Errorf("CONNZ of server %s: server %q answered with something else", server, answer.Server.ID)
	}
	offset := r.Offset(server)
	list = make([]policy.Session, 0, len(answer.Data.Connections))
	for _, c := range answer.Data.Connections {
		if c.User != "" { // it has not said yet who it is
			list = append(list, c.session(answer.Server, offset))
		}
	}
	return list, f.CID == 0 && len(answer.Data.Connections) >= limit, nil
}

// ask asks one server about its connections. When it is the server of the system connection that does not answer
// in time, another one is connected to: while it stands still no other can be asked through it, and pings notice
// only after their interval.
func (r *Resolver) ask(ctx context.Context, server, op string, request any) ([]byte, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	own, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	msg, err := r.nc.RequestWithContext(own, "$SYS.REQ.SERVER."+server+"."+op, body)
	if err == nil {
		return msg.Data, nil
	}
	if own.Err() != nil && ctx.Err() == nil && r.nc.ConnectedServerId() == server {
		r.log.Warn("the server of the system connection does not answer; connecting to another one", "server_id", server)
		_ = r.nc.ForceReconnect() // fails when the connection is closed, which others say
	}
	return nil, fmt.Errorf("%s of server %s: %w", op, server, err)
}

// name returns as whom the connection is known. Servers show a user or an nkey that the client itself has named in
// place of a direct user's key: it must not pass for somebody else.
func (c connInfo) name() string {
	_, rest, _ := strings.Cut(c.JWT, ".")
	payload, _, _ := strings.Cut(rest, ".")
	data, err := base64.RawURLEncoding.DecodeString(payload)
	var claims struct {
		Subject string `json:"sub"`
	}
	if err == nil && json.Unmarshal(data, &claims) == nil && policy.IsUserKey(claims.Subject) {
		return claims.Subject
	}
	return c.User
}

// session returns the connection as policy knows it, its start by our clock.
func (c connInfo) session(server serverInfo, offset time.Duration) policy.Session {
	return policy.Session{
		ServerID: server.ID, Server: server.Name, CID: c.CID, Name: c.name(), Account: c.Account, SigningKey: c.IssuerKey,
		Source: c.IP, Type: connectionType(c.Kind, c.Type), Client: strings.TrimSpace(c.Lang + " " + c.Version), Since: c.Start.Add(-offset),
	}
}

// connectionType returns the type by the kind and the type that a server shows of a client
// (server/client.go, kindString and clientTypeString).
func connectionType(kind, shown string) policy.ConnectionType {
	switch {
	case kind == "Leafnode":
		return policy.LeafNode
	case shown == "mqtt":
		return policy.MQTT
	case shown == "websocket":
		return policy.WebSocket
	default:
		return policy.Standard
	}
}
