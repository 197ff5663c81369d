package callout

import (
	"context"
	"log/slog"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// maxShown bounds texts that a client chose, in log lines and audit entries.
const maxShown = 256

// record keeps the entry of a login before it is answered. What happened before a
// signature was verified anybody can cause at will, so that is counted and sampled.
func (s *Service) record(l *login, r *policy.Refusal) error {
	e := s.entry(l, r)
	if l.identity == nil {
		return s.sampler.Offer(e, s.Now())
	}
	return s.keep(e)
}

// keep appends the entry to the spool and writes the wide event.
func (s *Service) keep(e store.AuditEntry) error {
	if err := s.Records.Append(e); err != nil {
		return err
	}
	level := slog.LevelInfo
	if e.Outcome == string(policy.OutcomeSilent) {
		level = slog.LevelWarn // something keeps honest clients waiting
	}
	var room [24]slog.Attr // a login has no more, and the list stays off the heap
	s.Logger.LogAttrs(context.Background(), level, "login", attrs(room[:0], &e)...)
	return nil
}

// entry returns the audit entry of a login.
func (s *Service) entry(l *login, r *policy.Refusal) store.AuditEntry {
	e := store.AuditEntry{
		ID: l.id, At: s.Now().UTC(), Kind: store.LoginEntry,
		Outcome: string(policy.OutcomeAllowed), Reason: string(policy.Allowed),
		Replica: s.Replica,
	}
	if r != nil {
		e.Outcome, e.Reason, e.Detail = string(r.Reason.Outcome()), string(r.Reason), clip(r.Detail)
	}
	if c := l.claims; c != nil {
		e.ServerID, e.ServerName = c.Server.ID, clip(c.Server.Name)
		e.CID, e.UserKey = c.Client.ID, c.UserNkey
		e.Source, e.ConnType = clip(c.Client.Host), string(l.conn.Type)
		e.Client = clip(c.Connect.Lang + " " + c.Connect.Version)
		e.Asked = clip(l.conn.Account)
	}
	if l.rules != nil {
		e.Rules = l.rules.Version
	}
	if id := l.identity; id != nil {
		e.Issuer, e.Subject, e.Name = id.IssuerURL, id.Subject, id.Name()
		// Whole, since revocations are compared with them.
		e.TokenID, e.SessionID, e.Issued = id.TokenID, id.SessionID, id.IssuedAt.UTC()
		if l.rules != nil { // otherwise nothing was decided on its claims
			e.Display = shown(l.rules, id)
			e.Claims, e.ClaimsCut = l.rules.Record(id)
		}
	}
	if r == nil {
		e.Account, e.Roles, e.Bindings = l.decision.Account.Name, l.decision.Roles, l.decision.Bindings
		e.Expires = l.credential.Expires.UTC()
		if key := l.identity.BoundKey(); key != nil {
			e.Detail = "the client signed with the token's " + key.String()
		}
	}
	return e
}

// shown returns the claims that people are known by.
func shown(rules *policy.Rules, id *policy.Identity) map[string]string {
	all := rules.Shown(id)
	for path, text := range all {
		all[path] = clip(text)
	}
	return all
}

func clip(s string) string {
	if len(s) > maxShown {
		return s[:maxShown] + "…"
	}
	return s
}

// attrs appends the wide event of an entry: every field that is set.
func attrs(list []slog.Attr, e *store.AuditEntry) []slog.Attr {
	list = append(list, slog.String("request_id", e.ID), slog.String("outcome", e.Outcome), slog.String("reason", e.Reason))
	text := func(key, value string) {
		if value != "" {
			list = append(list, slog.String(key, value))
		}
	}
	text("detail", e.Detail)
	text("name", e.Name)
	text("issuer", e.Issuer)
	text("subject", e.Subject)
	text("account", e.Account)
	if len(e.Bindings) > 0 {
		list = append(list, slog.Any("bindings", e.Bindings), slog.Any("roles", e.Roles))
	}
	if !e.Expires.IsZero() {
		list = append(list, slog.Time("expires", e.Expires))
	}
	text("server", e.ServerName)
	text("server_id", e.ServerID)
	if e.CID != 0 {
		list = append(list, slog.Uint64("cid", e.CID))
	}
	text("source", e.Source)
	text("connection_type", e.ConnType)
	text("client", e.Client)
	text("rules", e.Rules)
	if e.Count > 1 {
		list = append(list, slog.Int("count", e.Count))
	}
	return list
}
