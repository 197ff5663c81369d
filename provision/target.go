package provision

import (
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// Bounds of what a target names.
const (
	MaxSubject = 1024 // bytes of a subject
	// maxHandle bounds a sid or jti: the records of logins keep no longer ones.
	maxHandle = 256
	maxExport = 1024 // bytes of the subject of an export
)

// target returns what a request names, checked for what the kind can concern; all says that a whole
// issuer is meant.
func (s *Service) target(kind policy.RevocationKind, req api.Target, all bool) (policy.Target, error) {
	t := policy.Target{
		Principal: policy.Principal{Subject: req.Subject}, Session: req.Session, Token: req.Token, Key: req.Key, Export: req.Export,
	}
	var err error
	switch kind {
	case policy.Block, policy.Logout:
		if t, err = s.people(t, req, all); err != nil {
			return t, err
		}
	case policy.UserKey, policy.SigningKey, policy.Activation, policy.Suspension:
		if t.Account, err = s.account(req.Account); err != nil {
			return t, err
		}
		if err := keys(kind, t); err != nil {
			return t, err
		}
		t.Issuer = req.Issuer // no such kind has one: Legal says so
	default:
		return t, badRequest("kind %.40q is not one: use %s", kind, kindList())
	}
	if wrong := (policy.Revocation{Kind: kind, Target: t}).Legal(); wrong != "" {
		return t, badRequest("%s", wrong)
	}
	return t, nil
}

func kindList() string {
	var names []string
	for _, k := range policy.RevocationKinds() {
		names = append(names, string(k))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// people completes the target of a block or a logout.
func (s *Service) people(t policy.Target, req api.Target, all bool) (policy.Target, error) {
	var err error
	if req.Account != "" {
		if t.Account, err = s.account(req.Account); err != nil {
			return t, err
		}
		if req.Issuer == "" && len(req.Match) == 0 && t.Subject == "" {
			return t, nil // every user of the account
		}
	}
	if t.Issuer, err = s.issuerURL(req.Issuer); err != nil {
		return t, err
	}
	if len(req.Match) > 0 {
		if t.Match, err = policy.FormatMatch(req.Match); err == nil {
			_, err = policy.ParseMatch(t.Match)
		}
		if err != nil {
			return t, badRequest("%v", err)
		}
	}
	switch {
	case t.Subject == "" && t.Session == "" && t.Token == "" && t.Match == "" && !all:
		return t, badRequest("subject is empty: give the sub of the identity, as gatehouse audit shows it; to revoke everybody of issuer %s say that all are meant", req.Issuer)
	case all && t.Scope() != policy.OfIssuer:
		return t, badRequest("all means every identity of the issuer, but the target names less")
	}
	return t, handles(t)
}

// handles checks the texts by which tokens name identities, sessions and tokens.
func handles(t policy.Target) error {
	for _, h := range []struct {
		name, value string
		most        int
	}{{"subject", t.Subject, MaxSubject}, {"session", t.Session, maxHandle}, {"token", t.Token, maxHandle}} {
		switch {
		case len(h.value) > h.most:
			return badRequest("%s has %d bytes, at most %d are possible", h.name, len(h.value), h.most)
		case strings.ContainsRune(h.value, 0), strings.ContainsRune(h.value, utf8.RuneError):
			// Such a token is refused, so the revocation would look as if it did something.
			return badRequest("%s holds a character that is not text, which no token may: give it as gatehouse audit shows it", h.name)
		}
	}
	return nil
}

// keys checks the public keys of a target.
func keys(kind policy.RevocationKind, t policy.Target) error {
	switch {
	case kind == policy.UserKey && !nkeys.IsValidPublicUserKey(t.Key):
		return badRequest("key %.80q is not the public key of a user (U…)", t.Key)
	case kind == policy.SigningKey && (!nkeys.IsValidPublicAccountKey(t.Key) || t.Key == t.Account):
		return badRequest("key %.80q is not a signing key of the account (A…)", t.Key)
	case kind == policy.Activation && !nkeys.IsValidPublicAccountKey(t.Key):
		return badRequest("key %.80q is not the public key of the account that imports (A…)", t.Key)
	case kind == policy.Activation && (t.Export == "" || len(t.Export) > maxExport || strings.ContainsAny(t.Export, " \t\r\n")):
		return badRequest("export is the subject of the account's export that the other imports")
	}
	return nil
}

// account returns the id of an account that is given by its name, in the configuration or of sign-up, or its id. The callout and the
// system account are none of Gatehouse's to take access to.
func (s *Service) account(account string) (string, error) {
	if account == "" {
		return "", badRequest("account is empty: give its name in the configuration, or its public key (A…)")
	}
	id := account
	configured := s.accounts()
	if named, ok := configured[account]; ok {
		id = named
	} else if state := s.State(); state != nil {
		if e := state.Accounts.Named(account); e != nil {
			id = e.Account.ID
		}
	}
	switch {
	case slices.Contains(s.Closed, id) || slices.Contains(s.Closed, account):
		return "", refuse(http.StatusForbidden, api.ReasonForbidden, "account %.200q is the callout or the system account: to revoke there would lock everybody out", account)
	case id == account && !nkeys.IsValidPublicAccountKey(account) && !s.byName(account):
		return "", badRequest("account %.200q is not configured and not one of sign-up: give its name, or its public key (A…)", account)
	}
	return id, nil
}

// accounts returns the ids of the configured accounts by name.
func (s *Service) accounts() map[string]string {
	ids := map[string]string{}
	if state := s.State(); state != nil {
		for name, a := range state.Rules.Accounts {
			ids[name] = a.ID
		}
	}
	return ids
}

// byName reports whether the id is one of a configured account that goes by its name.
func (s *Service) byName(id string) bool {
	for _, known := range s.accounts() {
		if known == id {
			return true
		}
	}
	return false
}

// accountName returns the configured name of an account, "" when it is not configured.
func (s *Service) accountName(id string) string {
	for name, known := range s.accounts() {
		if known == id {
			return name
		}
	}
	return ""
}

// shownAccount returns the name of an account that the configuration or a record has; empty when neither has it.
func (s *Service) shownAccount(id string) string {
	if name := s.accountName(id); name != "" {
		return name
	}
	if state := s.State(); state != nil {
		if e := state.Accounts.ID(id); e != nil {
			return e.Account.Name
		}
	}
	return ""
}

// wireTarget returns a target as answers show it.
func wireTarget(t policy.Target) api.Target {
	return api.Target{
		Issuer: t.Issuer, Subject: t.Subject, Session: t.Session, Token: t.Token, Match: policy.MatchClaims(t.Match),
		Account: t.Account, Key: t.Key, Export: t.Export,
	}
}
