package provision

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// Bounds of how long an invitation may be taken.
const (
	invitationLife     = 7 * 24 * time.Hour
	mostInvitationLife = 30 * 24 * time.Hour
)

// maxSecret bounds what may be the secret of an invitation, in bytes; it has 26.
const maxSecret = 64

// MemberInvite makes an invitation, whose secret is shown in the answer and nowhere else.
func (s *Service) MemberInvite(ctx context.Context, c Caller, req api.MemberInviteRequest) (api.MemberInvitation, error) {
	return asParty(ctx, s, api.OpMemberInvite, c, req, func(ctx context.Context, p party, req api.MemberInviteRequest) (api.MemberInvitation, error) {
		r := keyed[api.MemberInvitation](p, api.OpMemberInvite, req.IdempotencyKey, req)
		r.withhold = withholdInvitation
		r.may = s.stillMay(ctx, p, act{op: r.op})
		return once(ctx, s, r, func() (made api.MemberInvitation, err error) {
			made, r.about, err = s.invite(ctx, p, req)
			return made, err
		})
	})
}

// withholdInvitation takes the secret out of an answer.
func withholdInvitation(made *api.MemberInvitation) error {
	made.Secret = ""
	return shownOnce("invitation %s to account %s was made by the first call with this idempotency key, and its secret was shown in that answer alone: remove it, and invite anew with a new key", made.Member.ID, made.Account)
}

// invite makes an invitation to the account with that id.
func (s *Service) invite(ctx context.Context, p party, req api.MemberInviteRequest) (made api.MemberInvitation, id string, err error) {
	life := invitationLife
	if req.TTL != "" {
		d, err := time.ParseDuration(req.TTL)
		if err != nil || d < time.Minute || d > mostInvitationLife {
			return made, "", badRequest("ttl %.40q is not one: use 1m to %s, such as 24h", req.TTL, mostInvitationLife)
		}
		life = d
	}
	secret := rand.Text() // 130 bits
	m := account.Member{ID: newID(), Role: req.Role, Invitation: digest(secret), Until: s.now().Add(life), By: p.Actor, From: p.principal()}
	if req.Email != "" {
		if m.Email, err = s.email("", req.Email); err != nil {
			return made, "", err
		}
	}
	a, err := s.change(ctx, p, act{op: api.OpMemberInvite, account: req.Account, reason: "invited", detail: describeMember(m)}, func(a *account.Account) error {
		return s.join(a, m)
	})
	if err != nil {
		return made, "", err
	}
	return api.MemberInvitation{Member: wireMember(m), Account: a.Name, Secret: secret}, a.ID, nil
}

// digest is what is kept of a secret.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// MemberAccept takes an invitation, or whatever an owner gave the caller.
func (s *Service) MemberAccept(ctx context.Context, c Caller, req api.MemberAcceptRequest) (api.Membership, error) {
	return asParty(ctx, s, api.OpMemberAccept, c, req, func(ctx context.Context, p party, req api.MemberAcceptRequest) (api.Membership, error) {
		r := keyed[api.Membership](p, api.OpMemberAccept, req.IdempotencyKey, req)
		r.may = s.stillMay(ctx, p, act{op: r.op, anybody: true})
		return once(ctx, s, r, func() (out api.Membership, err error) {
			out, err = s.accept(ctx, p, req)
			r.about = out.Account
			return out, err
		})
	})
}

// errInvitation is all that is said of what cannot be accepted, so that nobody learns which accounts there are.
var errInvitation = refuse(http.StatusForbidden, api.ReasonInvitationInvalid, "there is nothing for you to accept: the account is not there, or the secret is not that of an invitation, was used, has ended, is for another address, or was made by somebody who is an owner no more")

func (s *Service) accept(ctx context.Context, p party, req api.MemberAcceptRequest) (api.Membership, error) {
	switch {
	case p.admin:
		return api.Membership{}, refuse(http.StatusForbidden, api.ReasonForbidden, "whoever accepts does so with a token of their own, for logins")
	case len(req.Secret) > maxSecret:
		return api.Membership{}, errInvitation
	}
	var accepted []account.Member
	c := act{op: api.OpMemberAccept, account: req.Account, anybody: true, reason: "accepted"}
	a, err := s.change(ctx, p, c, func(a *account.Account) error {
		accepted = nil
		if a.State == account.Deleting || a.State == account.Deleted || a.ID == "" {
			return errInvitation
		}
		who := account.Person{Principal: p.principal(), Name: p.Identity.Name()}
		for i := range a.Members {
			m := &a.Members[i]
			if !s.offered(p.Identity, m, req.Secret) || !s.vouched(a, m) {
				continue
			}
			if m.Invitation != "" {
				m.Until = time.Time{} // it was that of the invitation
			}
			m.Person, m.Invitation, m.Accepted = who, "", s.now()
			accepted = append(accepted, *m)
		}
		if len(accepted) == 0 {
			return errInvitation
		}
		return nil
	})
	if err != nil {
		return api.Membership{}, err
	}
	out := api.Membership{Name: a.Name, Account: a.ID, State: string(a.State), Members: []api.Member{}}
	for _, m := range accepted {
		out.Members = append(out.Members, wireMember(m))
	}
	return out, nil
}

// offered reports whether the identity may take the entry: with the secret of an invitation, or without one as who is named.
func (s *Service) offered(id *policy.Identity, m *account.Member, secret string) bool {
	now := s.now()
	if !m.Accepted.IsZero() || !m.Until.IsZero() && !now.Before(m.Until) || m.Email != "" && !s.hasEmail(id, m.Email) {
		return false
	}
	if m.Invitation != "" {
		return secret != "" && subtle.ConstantTimeCompare([]byte(digest(secret)), []byte(m.Invitation)) == 1
	}
	return secret == "" && m.Issuer == id.IssuerURL && (m.Subject == id.Subject || m.Subject == "" && m.Email != "")
}

// vouched reports whether who made the entry could make it now: an admin, or an owner who is not blocked. Whoever is about to be
// removed may have invited themselves anew.
func (s *Service) vouched(a *account.Account, m *account.Member) bool {
	if m.From == (policy.Principal{}) {
		return true
	}
	state := s.State()
	if state == nil || !a.IsOwner(m.From) {
		return false
	}
	_, blocked := state.Revocations.Blocked(&policy.Identity{IssuerURL: m.From.Issuer, Subject: m.From.Subject}, s.Now())
	return !blocked
}

// hasEmail reports whether an issuer that is trusted for it says that the identity has the address, and that it has verified that.
func (s *Service) hasEmail(id *policy.Identity, address string) bool {
	email, _ := id.Claims["email"].(string)
	verified, _ := id.Claims["email_verified"].(bool)
	return verified && s.Accounts.TrustsEmail(id.IssuerURL) && ascii(email) && strings.ToLower(email) == address
}

// ascii keeps letters out that others become when they are made small, such as the Kelvin sign.
func ascii(text string) bool {
	return !slices.ContainsFunc([]byte(text), func(c byte) bool { return c >= 0x80 })
}
