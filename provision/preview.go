package provision

import (
	"context"
	"slices"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// maxPreview bounds the sessions and the keys that an answer shows; all are counted.
const maxPreview = 1000

// affected says what a revocation ends as things are: live connections, and keys of direct users. What
// cannot be looked at now is left out: a revocation must not wait for that.
func (s *Service) affected(ctx context.Context, r store.Revocation) *api.Affected {
	out := &api.Affected{Sessions: []api.Session{}, Keys: []api.UserKey{}}
	keys, err := s.keysOf(ctx, r)
	if err != nil {
		s.Logger.Warn("the keys that a revocation concerns could not be read", "error", err)
		out.Incomplete = true
	}
	for _, k := range keys[:min(len(keys), maxPreview)] {
		out.Keys = append(out.Keys, api.UserKey{
			Key: k.Key, Account: k.Account, AccountID: k.AccountID, Issuer: k.Issuer, Subject: k.Subject, Program: k.Program, Issued: k.Issued, Expires: k.Expires,
		})
	}
	out.KeysFound = len(keys)
	if s.Servers == nil {
		out.Incomplete = true
		return out
	}
	list, unanswered, err := s.Servers.Connected(ctx, r.Account, "")
	if err != nil {
		s.Logger.Warn("the connections that a revocation concerns could not be listed", "error", err)
	}
	out.Incomplete = out.Incomplete || err != nil || len(unanswered) > 0
	out.Unanswered = unanswered
	name, leeway := s.issuerName(r.Issuer), s.leeway()
	list = slices.DeleteFunc(list, func(session policy.Session) bool {
		return !r.Ends(&session, name, leeway)
	})
	slices.SortFunc(list, func(a, b policy.Session) int { return a.Since.Compare(b.Since) })
	for i := range list[:min(len(list), maxPreview)] {
		out.Sessions = append(out.Sessions, s.wireSession(&list[i]))
	}
	out.Connections = len(list)
	return out
}

// keysOf returns the keys of direct users that a revocation concerns, programs that are not included among them,
// since whoever decides has to know of those.
func (s *Service) keysOf(ctx context.Context, r store.Revocation) ([]store.UserKey, error) {
	f := store.UserKeyFilter{AccountID: r.Account, ValidAt: s.now()}
	switch r.Scope() {
	case policy.OfIdentity, policy.OfIssuer, policy.OfMatch, policy.OfSession, policy.OfToken:
		f.Principal = r.Principal
	case policy.OfAccount:
	case policy.OfKey:
		f.Key = r.Key
	default:
		return nil, nil
	}
	var all []store.UserKey
	for {
		page, next, err := s.Store.UserKeys(ctx, f)
		if err != nil {
			return all, err
		}
		for _, k := range page {
			if ofToken := r.Scope() == policy.OfSession || r.Scope() == policy.OfToken; ofToken && len(k.ObtainedBy(r.Target)) == 0 {
				continue
			}
			if r.Whole() || !k.Issued.After(r.At.Add(s.leeway())) {
				all = append(all, k)
			}
		}
		if next == "" {
			return all, nil
		}
		f.Cursor = next
	}
}

// issuerName returns the configured name of an issuer, "" when it has none.
func (s *Service) issuerName(url string) string {
	for name, known := range s.Issuers() {
		if known == url {
			return name
		}
	}
	return ""
}

// leeway returns the difference accepted between issuers' clocks and ours.
func (s *Service) leeway() time.Duration {
	if state := s.State(); state != nil {
		return state.Rules.Leeway
	}
	return 0
}
