package provision

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// maxEmail bounds an e-mail address in bytes (RFC 5321 section 4.5.3).
const maxEmail = 254

var errFull = refuse(http.StatusConflict, api.ReasonMembersFull, "an account has at most %d members, invitations included: remove some", account.MaxMembers)

// MemberAdd gives somebody a role in an account. Who is named alone has to accept.
func (s *Service) MemberAdd(ctx context.Context, c Caller, req api.MemberAddRequest) (api.Member, error) {
	return asParty(ctx, s, api.OpMemberAdd, c, req, s.addMember)
}

func (s *Service) addMember(ctx context.Context, p party, req api.MemberAddRequest) (api.Member, error) {
	m, err := s.newMember(p, req)
	if err != nil {
		return api.Member{}, err
	}
	c := act{op: api.OpMemberAdd, account: req.Account, key: req.IdempotencyKey, request: req, reason: "added", detail: describeMember(m)}
	var added account.Member // zero where the call was made before
	shortened, ended := false, account.Left{}
	same := func(o account.Member) bool {
		return o.Role == m.Role && o.Principal == m.Principal && o.Match == m.Match && o.Email == m.Email && o.Invitation == ""
	}
	a, err := s.change(ctx, p, c, func(a *account.Account) error {
		added, shortened = m, false
		if i := slices.IndexFunc(a.Members, same); i >= 0 {
			added.ID, added.Accepted = a.Members[i].ID, a.Members[i].Accepted
			if added.Accepted.IsZero() {
				a.Members[i].By, a.Members[i].From = m.By, m.From // who offered it first may be an owner no more
			}
			before := a.Members[i].Until
			shortened = !added.Accepted.IsZero() && !m.Until.IsZero() && (before.IsZero() || m.Until.Before(before))
			if a.Members[i].Until = m.Until; shortened {
				ended = s.leave(p, a, a.Members[i], m.Until)
			}
			return nil
		}
		return s.join(a, m)
	})
	if err != nil {
		return api.Member{}, err
	}
	i := slices.IndexFunc(a.Members, func(o account.Member) bool { return o.ID == added.ID || added.ID == "" && same(o) })
	if i < 0 {
		return api.Member{}, refuse(http.StatusNotFound, api.ReasonNotFound, "whom the first call with this idempotency key has added to account %s was removed since: use a new key to add them again", a.Name)
	}
	if shortened {
		// What was opened before may last for longer; who may still connect comes back.
		_, _, _, err = s.end(ctx, left{ended, &a})
	}
	return wireMember(a.Members[i]), err
}

// newMember returns what a request adds. Whoever is meant by claims need not accept: nobody is, until they name the account.
func (s *Service) newMember(p party, req api.MemberAddRequest) (account.Member, error) {
	m := account.Member{ID: newID(), Role: req.Role, Until: stored(req.Until), By: p.Actor, From: p.principal()}
	url, err := s.memberIssuer(req.Issuer)
	if err != nil {
		return m, err
	}
	m.Issuer = url
	given := 0
	for _, is := range []bool{req.Subject != "", req.Email != "", len(req.Match) > 0} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return m, badRequest("say who: give one of subject, email and match")
	case !req.Until.IsZero() && !m.Until.After(s.now()):
		return m, badRequest("until lies in the past: give a time to come")
	case req.Role == account.OwnerRole && (!req.Until.IsZero() || len(req.Match) > 0):
		return m, badRequest("an owner is one identity, without an end: leave until and match out")
	case req.Subject != "":
		m.Person, err = s.person(api.Owner{Issuer: url, Subject: req.Subject})
	case req.Email != "":
		m.Email, err = s.email(url, req.Email)
	default:
		m.Accepted = s.now()
		if m.Match, err = policy.FormatMatch(req.Match); err == nil {
			_, err = policy.ParseMatch(m.Match)
		}
		if err != nil {
			err = badRequest("%v", err)
		}
	}
	return m, err
}

// memberIssuer returns the exact iss of a configured issuer of logins.
func (s *Service) memberIssuer(issuer string) (string, error) {
	url, err := s.issuerURL(issuer)
	if err == nil && url == AdminTokenIssuer {
		return "", badRequest("issuer %.80q makes tokens for administration alone: name one of logins", issuer)
	}
	return url, err
}

// email returns an address as addresses are compared: in lower case. No issuer is trusted for it that is not marked so.
func (s *Service) email(issuer, address string) (string, error) {
	local, domain, ok := strings.Cut(address, "@")
	switch {
	case !ok || local == "" || domain == "" || len(address) > maxEmail || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", badRequest("email %.80q is not an address", address)
	case issuer != "" && !s.Accounts.TrustsEmail(issuer):
		return "", refuse(http.StatusConflict, api.ReasonEmailUntrusted, "issuer %.200q is not trusted for e-mail addresses: set its trust_email, or give a subject", issuer)
	}
	return strings.ToLower(address), nil
}

// join adds a member whose role the account's plan has.
func (s *Service) join(a *account.Account, m account.Member) error {
	if a.State == account.Deleting || a.State == account.Deleted {
		return wrongState(a, "nobody joins an account that is deleted")
	}
	if plan := s.Accounts.Plans()[a.Plan]; m.Role != account.OwnerRole && (plan == nil || !slices.Contains(plan.Roles, m.Role)) {
		var roles []string
		if plan != nil {
			roles = plan.Roles
		}
		return refuse(http.StatusBadRequest, api.ReasonRoleUnknown, "role %.80q is not one of plan %s: use %s", m.Role, a.Plan, strings.Join(append(slices.Clone(roles), account.OwnerRole), ", "))
	}
	now := s.now()
	a.Members = slices.DeleteFunc(a.Members, func(m account.Member) bool {
		return m.Invitation != "" && !now.Before(m.Until) // nobody can take it any more
	})
	if len(a.Members) >= account.MaxMembers {
		return errFull
	}
	a.Members = append(a.Members, m)
	return nil
}

// describeMember says for the audit trail whom an entry of the members means.
func describeMember(m account.Member) string {
	switch {
	case m.Match != "":
		return "role " + m.Role + " for whoever of " + m.Issuer + " has " + m.Match
	case m.Subject != "":
		return "role " + m.Role + " for " + m.Subject + " of " + m.Issuer
	case m.Email != "":
		return "role " + m.Role + " for " + m.Email
	default:
		return "role " + m.Role + " for whoever has the secret"
	}
}

// MemberList lists the members of an account, for its owners and admins.
func (s *Service) MemberList(ctx context.Context, c Caller, req api.MemberListRequest) (api.MembersPage, error) {
	return asParty(ctx, s, api.OpMemberList, c, req, func(ctx context.Context, p party, req api.MemberListRequest) (api.MembersPage, error) {
		page := api.MembersPage{Members: []api.Member{}}
		if req.Limit < 0 || req.Limit > store.MaxPage {
			return page, badRequest("limit is %d: use 1 to %d, or none", req.Limit, store.MaxPage)
		}
		a, err := s.find(ctx, p, api.OpMemberList, req.Account)
		if err == nil {
			err = s.may(p, act{op: api.OpMemberList, closed: true}, &a)
		}
		if err != nil {
			return page, err
		}
		list := a.Members
		if req.Cursor != "" {
			i := slices.IndexFunc(list, func(m account.Member) bool { return m.ID == req.Cursor })
			if i < 0 {
				return page, badRequest("the cursor is not one that this list gave, or that member was removed: start again from the first page")
			}
			list = list[i+1:]
		}
		if limit := req.Limit; limit > 0 && len(list) > limit {
			list = list[:limit]
			page.Cursor = list[limit-1].ID
		}
		for _, m := range list {
			page.Members = append(page.Members, wireMember(m))
		}
		return page, nil
	})
}

// MemberRemove removes a member or an invitation. The connections of who was a member end.
func (s *Service) MemberRemove(ctx context.Context, c Caller, req api.MemberRemoveRequest) (api.MemberRemoval, error) {
	return asParty(ctx, s, api.OpMemberRemove, c, req, s.removeMember)
}

func (s *Service) removeMember(ctx context.Context, p party, req api.MemberRemoveRequest) (api.MemberRemoval, error) {
	r := keyed[api.MemberRemoval](p, api.OpMemberRemove, req.IdempotencyKey, req)
	r.may = s.stillMay(ctx, p, act{op: r.op})
	return once(ctx, s, r, func() (out api.MemberRemoval, err error) {
		out, r.about, err = s.dismiss(ctx, p, req)
		return out, err
	})
}

// dismiss removes a member of the account with that id, and ends what it has opened.
func (s *Service) dismiss(ctx context.Context, p party, req api.MemberRemoveRequest) (out api.MemberRemoval, id string, err error) {
	var gone account.Member
	var ended account.Left
	c := act{op: api.OpMemberRemove, account: req.Account, reason: "removed", detail: "member " + clipped(req.ID)}
	inherited := false
	c.most = func(a *account.Account) int {
		if plan := s.Accounts.Plans()[a.Plan]; inherited && plan != nil && !p.admin {
			return plan.PerSubject // or two could hand each other accounts for ever
		}
		return 0
	}
	a, err := s.change(ctx, p, c, func(a *account.Account) error {
		owner := a.Owner.Principal
		defer func() { inherited = a.Owner.Principal != owner }()
		i := slices.IndexFunc(a.Members, func(m account.Member) bool { return m.ID == req.ID })
		if i < 0 {
			return refuse(http.StatusNotFound, api.ReasonNotFound, "account %s has no member with the id %.80q: gatehouse account members lists them", a.Name, req.ID)
		}
		gone = a.Members[i]
		a.Members = slices.Delete(a.Members, i, i+1)
		if !gone.Accepted.IsZero() {
			ended = s.leave(p, a, gone, time.Time{})
		}
		return disown(a, gone)
	})
	if err != nil {
		return out, "", err
	}
	if out.Member = wireMember(gone); gone.Accepted.IsZero() {
		return out, a.ID, nil
	}
	out.Revoked, out.Closed, out.Unanswered, err = s.end(ctx, left{ended, &a})
	return out, a.ID, err
}

// disown refuses to leave an account without an owner, and names another one in the record where the one in it has gone.
func disown(a *account.Account, gone account.Member) error {
	if gone.Role != account.OwnerRole || gone.Accepted.IsZero() || a.IsOwner(gone.Principal) {
		return nil
	}
	i := slices.IndexFunc(a.Members, func(m account.Member) bool { return m.Role == account.OwnerRole && !m.Accepted.IsZero() })
	if i < 0 {
		return refuse(http.StatusConflict, api.ReasonLastOwner, "that is the last owner of account %s: add another one first, and have them accept", a.Name)
	}
	if a.Owner.Principal == gone.Principal {
		a.Owner = a.Members[i].Person
	}
	return nil
}

// wireMember returns a member as answers show it: never what an invitation is kept as.
func wireMember(m account.Member) api.Member {
	out := api.Member{
		ID: m.ID, Role: m.Role, State: "member", Issuer: m.Issuer, Subject: m.Subject, Name: m.Name, Match: policy.MatchClaims(m.Match),
		Email: m.Email, Until: m.Until, Accepted: m.Accepted, By: m.By,
	}
	switch {
	case m.Invitation != "":
		out.State = "invited"
	case m.Accepted.IsZero():
		out.State = "added"
	}
	return out
}
