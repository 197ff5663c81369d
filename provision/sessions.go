package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// maxSessions bounds the sessions of one answer.
const maxSessions = 10000

// Servers is what the operations ask of the servers.
type Servers interface {
	// Connected returns the live connections of users on all servers, with what is recorded of them, and the
	// names of servers that did not answer. An account id or a name as servers show it may narrow it down.
	Connected(ctx context.Context, account, name string) (list []policy.Session, unanswered []string, err error)
	// Close closes connections, and returns how many it closed and the names of servers that did not answer.
	Close(ctx context.Context, list []policy.Session) (closed int, unanswered []string)
}

var errNoSystem = refuse(http.StatusConflict, api.ReasonUnavailable, "there is no system user, so that connections can neither be seen nor closed: configure nats.system, and have the service run")

// Sessions lists who is connected.
func (s *Service) Sessions(ctx context.Context, c Caller, req api.SessionsRequest) (api.SessionsPage, error) {
	var page api.SessionsPage
	if err := c.admin(); err != nil {
		return page, err
	}
	if req.Limit < 0 || req.Limit > maxSessions {
		return page, badRequest("limit is %d: use 1 to %d, or none", req.Limit, maxSessions)
	}
	list, unanswered, err := s.connected(ctx, req)
	if err != nil {
		return page, err
	}
	page = api.SessionsPage{Sessions: []api.Session{}, Total: len(list), Unanswered: unanswered}
	limit := cmp.Or(req.Limit, maxSessions)
	for i := range list[:min(limit, len(list))] {
		page.Sessions = append(page.Sessions, s.wireSession(&list[i]))
	}
	return page, nil
}

// Kick closes connections without revoking anything.
func (s *Service) Kick(ctx context.Context, c Caller, req api.KickRequest) (api.KickResult, error) {
	var result api.KickResult
	if err := c.admin(); err != nil {
		return result, err
	}
	filter := req.SessionsRequest
	switch {
	case filter.Limit != 0:
		return result, badRequest("limit is for lists: all connections that the other fields choose are closed")
	case req.Reason == "" && !req.DryRun || len(req.Reason) > MaxReason:
		return result, badRequest("reason must have 1 to %d bytes: say why, for the audit trail", MaxReason)
	case filter == (api.SessionsRequest{}) && !req.All:
		return result, badRequest("nothing says whose connections: give an identity, an account or another filter; to close every connection say that all are meant")
	}
	if err := checkRepeat(req.IdempotencyKey); err != nil {
		return result, err
	}
	if req.DryRun {
		list, unanswered, err := s.connected(ctx, filter)
		return api.KickResult{Found: len(list), Unanswered: unanswered}, err
	}
	r := keyed[api.KickResult](party{Caller: c}, api.OpKick, req.IdempotencyKey, req)
	return once(ctx, s, r, func() (api.KickResult, error) { return s.kick(ctx, c, filter, req.Reason) })
}

// kick closes the connections that the filter chooses.
func (s *Service) kick(ctx context.Context, c Caller, filter api.SessionsRequest, reason string) (api.KickResult, error) {
	list, unanswered, err := s.connected(ctx, filter)
	if err != nil {
		return api.KickResult{}, err
	}
	result := api.KickResult{Found: len(list), Unanswered: unanswered}
	if len(list) == 0 {
		return result, nil
	}
	e := store.AuditEntry{
		ID: newID(), At: s.now(), Kind: store.AdminEntry, Op: api.OpKick, Actor: c.Actor, Outcome: "done", Reason: reason,
		Target: fmt.Sprintf("%.1024s", describe(filter)), Detail: fmt.Sprintf("%d connections found", len(list)), Replica: s.Replica,
	}
	if err := s.Store.Record(ctx, []store.AuditEntry{e}); err != nil {
		return result, s.storeError(api.OpKick, err)
	}
	closed, silent := s.Servers.Close(ctx, list)
	result.Closed = closed
	result.Unanswered = slices.Compact(slices.Sorted(slices.Values(append(unanswered, silent...))))
	s.Logger.Info("kick", "target", e.Target, "actor", c.Actor, "reason", reason, "found", len(list), "closed", closed, "unanswered", result.Unanswered, "request_id", c.RequestID)
	return result, nil
}

// describe names whose connections a filter chooses, for the audit trail.
func describe(f api.SessionsRequest) string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"display", f.Display}, {"issuer", f.Issuer}, {"subject", f.Subject}, {"name", f.Name}, {"account", f.Account},
		{"source", f.Source}, {"binding", f.Binding}, {"kind", f.Kind}, {"server", f.Server},
	} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if f.CID != 0 {
		parts = append(parts, fmt.Sprintf("cid %d", f.CID))
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, ", ")
}

// connected returns the live connections that the filter chooses, the oldest first.
func (s *Service) connected(ctx context.Context, req api.SessionsRequest) ([]policy.Session, []string, error) {
	if s.Servers == nil {
		return nil, nil, errNoSystem
	}
	keep, account, name, err := s.sessionFilter(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	list, unanswered, err := s.Servers.Connected(ctx, account, name)
	if err != nil {
		return nil, nil, s.serversError(err)
	}
	list = slices.DeleteFunc(list, func(session policy.Session) bool {
		// The service's own connections, and those of whoever operates the servers, are nobody's sessions.
		return slices.Contains(s.Closed, session.Account) || !keep(&session)
	})
	slices.SortFunc(list, func(a, b policy.Session) int { return a.Since.Compare(b.Since) })
	return list, unanswered, nil
}

func (s *Service) serversError(err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	s.Logger.Error("the servers could not be asked who is connected", "error", err)
	return again(http.StatusServiceUnavailable, api.ReasonUnavailable, "the servers, or the records of logins, could not be asked: gatehouse status says what is wrong")
}

// sessionFilter returns what the request chooses, and what the servers themselves can choose by.
func (s *Service) sessionFilter(ctx context.Context, req api.SessionsRequest) (keep func(*policy.Session) bool, account, name string, err error) {
	if req.Kind != "" && req.Kind != "callout" && req.Kind != "direct" {
		return nil, "", "", badRequest("kind %.40q is not one: use callout or direct", req.Kind)
	}
	if req.CID != 0 && req.Server == "" {
		return nil, "", "", badRequest("a cid is one of a server: name the server too")
	}
	if req.Account != "" {
		if account, err = s.account(req.Account); err != nil {
			return nil, "", "", err
		}
	}
	source, err := network(req.Source)
	if err != nil {
		return nil, "", "", err
	}
	who, err := s.whose(ctx, req)
	if err != nil {
		return nil, "", "", err
	}
	return func(session *policy.Session) bool {
		return (account == "" || session.Account == account) &&
			(req.Name == "" || session.Name == req.Name) &&
			(req.Server == "" || session.Server == req.Server || session.ServerID == req.Server) &&
			(req.CID == 0 || session.CID == req.CID) &&
			(req.Kind == "" || session.Direct() == (req.Kind == "direct")) &&
			(!source.IsValid() || within(source, session.Source)) &&
			(req.Binding == "" || session.Login != nil && slices.Contains(session.Login.Bindings, req.Binding)) &&
			who(session)
	}, account, req.Name, nil
}

func network(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, badRequest("source %.80q is neither an address nor a network such as 10.0.0.0/8", text)
	}
	return a.Unmap().Prefix(a.Unmap().BitLen())
}

func within(p netip.Prefix, address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && p.Contains(a.Unmap())
}

// whose returns whether a session is one of the identities that the request means.
func (s *Service) whose(ctx context.Context, req api.SessionsRequest) (func(*policy.Session) bool, error) {
	issuer := ""
	if req.Issuer != "" {
		url, err := s.storedIssuerURL(req.Issuer)
		if err != nil {
			return nil, err
		}
		issuer = url
	}
	switch {
	case req.Display != "" && req.Subject != "":
		return nil, badRequest("give either what somebody is known by or a subject, not both")
	case req.Display != "":
		return s.displayed(ctx, req.Display, issuer)
	case req.Subject == "" && issuer == "":
		return func(*policy.Session) bool { return true }, nil
	}
	names := s.Issuers()
	return func(session *policy.Session) bool {
		for name, url := range names {
			if issuer != "" && url != issuer {
				continue
			}
			r := policy.Revocation{Kind: policy.Block, Target: policy.Target{Principal: policy.Principal{Issuer: url, Subject: req.Subject}}}
			if r.Ends(session, name, 0) {
				return true
			}
		}
		l := session.Login
		return l != nil && (issuer == "" || l.Issuer == issuer) && (req.Subject == "" || l.Subject == req.Subject)
	}, nil
}

// displayed means the identities that are known by a display value, or else have it as their subject.
func (s *Service) displayed(ctx context.Context, display, issuer string) (func(*policy.Session) bool, error) {
	known, names := map[policy.Principal]bool{}, map[string]bool{}
	for _, f := range []store.IdentityFilter{{Display: display, Issuer: issuer}, {Subject: display, Issuer: issuer}} {
		for more := len(known) == 0; more; more = f.Cursor != "" {
			list, next, err := s.Store.Identities(ctx, f)
			if err != nil {
				return nil, s.storeError(api.OpSessions, err)
			}
			for _, i := range list {
				known[policy.Principal{Issuer: i.Issuer, Subject: i.Subject}], names[i.Name] = true, true
			}
			f.Cursor = next
		}
	}
	if len(known) == 0 {
		return nil, refuse(http.StatusNotFound, api.ReasonNotFound, "nobody who is known by %.200q, or has it as subject, has logged in: check its spelling; display of the issuer says by which claims people are known", display)
	}
	return func(session *policy.Session) bool {
		return names[session.Name] || session.Login != nil && known[session.Login.Principal]
	}, nil
}

func (s *Service) wireSession(session *policy.Session) api.Session {
	out := api.Session{
		Name: session.Name, Kind: "callout", Account: session.Account, AccountID: session.Account, Server: session.Server, ServerID: session.ServerID, CID: session.CID,
		Source: session.Source, Type: string(session.Type), Client: session.Client, Since: session.Since.UTC(),
	}
	if session.Direct() {
		out.Kind = "direct"
	}
	if name := s.shownAccount(session.Account); name != "" {
		out.Account = name
	}
	if l := session.Login; l != nil {
		out.Expires, out.Binding, out.Issuer, out.Subject = l.Expires, strings.Join(l.Bindings, ","), l.Issuer, l.Subject
		out.Display, out.Program, out.RequestID = l.Display, l.Program, l.RequestID
	}
	return out
}
