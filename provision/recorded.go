package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// tokenLife is how long the token of somebody who is not there is taken to last.
	tokenLife     = 24 * time.Hour
	maxCandidates = 10
)

// explainRecorded says what somebody would get now who is not there: by the claims of the last
// recorded login and, where the request does not say otherwise, from where that came. The token is
// taken to be as old as that login, so that a logout since then shows.
func (s *Service) explainRecorded(ctx context.Context, req api.ExplainRequest) (api.Explanation, error) {
	var none api.Explanation
	if req.Token != "" || req.Claims != nil {
		return none, badRequest("subject goes with neither token nor claims: give one of them")
	}
	state := s.State()
	if state == nil {
		return none, errNoState
	}
	e, err := s.lastRecorded(ctx, req.Issuer, req.Subject)
	if err != nil {
		return none, err
	}
	conn, err := Connection(or(req.Source, e.Source), or(req.ConnectionType, e.ConnType), or(req.Account, e.Asked))
	if err != nil {
		return none, err
	}
	id, err := recordedIdentity(state.Rules, e, s.Now())
	if err != nil {
		return none, err
	}
	out := Explain(state, id, conn, s.Now())
	out.Identity.Expires = time.Time{} // of a token that nobody has
	out.Recorded = &api.RecordedLogin{
		At: e.At, RequestID: e.ID, Reason: e.Reason, Source: e.Source, ConnectionType: e.ConnType, Asked: e.Asked,
		OtherRules: e.Rules != state.Rules.Version,
	}
	return out, nil
}

func or(given, recorded string) string {
	if given != "" {
		return given
	}
	return recorded
}

// recordedIdentity returns whom an entry with claims speaks of.
func recordedIdentity(rules *policy.Rules, e store.AuditEntry, now time.Time) (*policy.Identity, error) {
	id := &policy.Identity{IssuerURL: e.Issuer, Subject: e.Subject, IssuedAt: e.At, Expires: now.Add(tokenLife)}
	for name, url := range rules.Issuers {
		if url == e.Issuer {
			id.Issuer = name
		}
	}
	if id.Issuer == "" {
		return nil, badRequest("issuer %.200q is not configured any more, so that nobody of it can log in", e.Issuer)
	}
	dec := json.NewDecoder(bytes.NewReader(e.Claims))
	dec.UseNumber()
	if err := dec.Decode(&id.Claims); err != nil {
		return nil, fmt.Errorf("claims of login %s: %w", e.ID, err)
	}
	return id, nil
}

// lastRecorded returns the newest login with claims of the subject or, when there is no such
// subject, of the one identity that is known by that value.
func (s *Service) lastRecorded(ctx context.Context, issuer, subject string) (store.AuditEntry, error) {
	f := store.AuditFilter{Kind: store.LoginEntry, Principal: policy.Principal{Subject: subject}}
	if issuer != "" {
		url, err := s.issuerURL(issuer)
		if err != nil {
			return store.AuditEntry{}, err
		}
		f.Principal.Issuer = url
	}
	f.Claims = true
	found, err := s.identities(ctx, f)
	if err == nil && len(found) == 0 {
		f.Principal.Subject, f.Display = "", subject
		found, err = s.identities(ctx, f)
	}
	switch {
	case err != nil:
		return store.AuditEntry{}, s.storeError(api.OpExplain, err)
	case len(found) == 0:
		return store.AuditEntry{}, s.notRecorded(ctx, f, subject)
	case len(found) > 1:
		return store.AuditEntry{}, severalRecorded(subject, found)
	default:
		return found[0], nil
	}
}

// identities returns the newest entry that the filter chooses of each identity, the latest first, as
// far as one page of entries shows them.
func (s *Service) identities(ctx context.Context, f store.AuditFilter) ([]store.AuditEntry, error) {
	page, _, err := s.Store.Audit(ctx, f)
	var found []store.AuditEntry
	for _, e := range page {
		same := func(o store.AuditEntry) bool { return o.Issuer == e.Issuer && o.Subject == e.Subject }
		if !slices.ContainsFunc(found, same) {
			found = append(found, e)
		}
	}
	return found, err
}

// notRecorded says why there is no login to decide on, and what to do.
func (s *Service) notRecorded(ctx context.Context, f store.AuditFilter, subject string) error {
	f.Principal.Subject, f.Display, f.Claims, f.Limit = subject, "", false, 1
	page, _, err := s.Store.Audit(ctx, f)
	switch {
	case err != nil:
		return s.storeError(api.OpExplain, err)
	case len(page) == 0:
		return refuse(http.StatusNotFound, api.ReasonNotFound,
			"no login of %.200q is recorded: give the exact sub, or the value of a display claim, as gatehouse audit shows them; or explain claims with --claims", subject)
	case page[0].ClaimsCut:
		return refuse(http.StatusNotFound, api.ReasonNotFound,
			"the last login of %.200q (%s) had more claims than the audit trail keeps: explain its token with --token-file, or claims with --claims", subject, page[0].ID)
	default:
		return refuse(http.StatusNotFound, api.ReasonNotFound,
			"the logins of %.200q are recorded without claims (the last is %s, %s): they were not decided on, or audit.claims was none, or they are of a release before; explain a token with --token-file, or claims with --claims",
			subject, page[0].ID, page[0].Reason)
	}
}

// severalRecorded lists the identities that somebody is known as.
func severalRecorded(subject string, found []store.AuditEntry) error {
	var lines []string
	for _, e := range found[:min(len(found), maxCandidates)] {
		lines = append(lines, fmt.Sprintf("  --issuer %s --subject %q, last seen %s", e.Issuer, e.Subject, e.At.Format("2006-01-02 15:04:05Z07:00")))
	}
	if more := len(found) - maxCandidates; more > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more", more))
	}
	return refuse(http.StatusConflict, api.ReasonConflict, "%.200q is several identities: choose one\n%s", subject, strings.Join(lines, "\n"))
}
