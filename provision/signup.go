package provision

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Bounds of what is asked for at sign-up, in bytes.
const (
	maxAudience    = 512
	maxAccountName = 256
)

// SigningKeys finds the key that a direct user's JWT is signed with.
type SigningKeys interface {
	// ReadEverywhere returns once it is known what every server has applied of the account, or when ctx ends.
	ReadEverywhere(ctx context.Context, account *policy.Account)
	SigningKeyOfAll(account *policy.Account, scoped string, leafNodes bool, now time.Time) (string, *policy.Refusal)
}

// UserKeys records the keys of direct users, so that they can be revoked with their owners.
type UserKeys interface {
	// AddUserKey records the key, or its renewal. [store.ErrTooMany] when the identity has most others in the
	// account that have not ended, [store.ErrTaken] when it is another identity's there.
	AddUserKey(ctx context.Context, k store.UserKey, most int) error
}

// Direct is what the sign-up of direct users needs.
type Direct struct {
	Audience string   // address of the service, which proofs name
	Closed   []string // ids of accounts where nobody is placed
	Servers  SigningKeys
	Keys     func() *mint.Keyring
	UserKeys UserKeys
}

// UserSignup gives the caller a user JWT for a key of its own. The same call with the same key renews it.
func (s *Service) UserSignup(ctx context.Context, c Caller, req api.UserSignupRequest) (api.UserSignup, error) {
	if s.Direct == nil {
		return api.UserSignup{}, refuse(http.StatusNotFound, api.ReasonNotFound, "this service signs nobody up")
	}
	if c.Token == "" {
		return api.UserSignup{}, refuse(http.StatusUnauthorized, api.ReasonUnauthenticated, "send the token in the header Authorization: Bearer …")
	}
	if err := s.checkSignup(req); err != nil {
		return api.UserSignup{}, err
	}
	id, r := s.verify(ctx, c.Token)
	if id == nil {
		return api.UserSignup{}, unverified(r)
	}
	if wait := s.rates.take(id.Principal(), s.Now()); wait > 0 {
		return api.UserSignup{}, tooMany(wait)
	}
	var up signedUp
	answer := unverified
	if r == nil {
		up, r = s.signUp(ctx, c, id, req)
		answer = refusedIdentity
	}
	if err := s.noteSignup(c, id, req, up, r); err != nil {
		s.Logger.Error("a sign-up could not be recorded and got nothing", "request_id", c.RequestID, "error", err)
		r = policy.Refuse(policy.RecordUnavailable, "%v", err)
	}
	if r != nil {
		return api.UserSignup{}, answer(r)
	}
	d := up.decision
	return api.UserSignup{
		JWT: up.credential.JWT, UserKey: req.UserKey, Name: up.name, Account: d.Account.Name, AccountID: d.Account.ID,
		Roles: d.Roles, Bindings: d.Bindings, Issued: up.credential.Issued.UTC(), Expires: up.credential.Expires.UTC(),
		Keys: d.Direct.Keys, RequestID: c.RequestID,
	}, nil
}

// checkSignup refuses what no proof could be made of, or what another service's proof is for.
func (s *Service) checkSignup(req api.UserSignupRequest) error {
	printable := func(text string, most int) bool {
		return len(text) <= most && !strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) })
	}
	switch {
	case !policy.IsUserKey(req.UserKey):
		return badRequest("user_key is not a user public key: give one (U…), 56 characters; never a seed (SU…)")
	case !printable(req.Account, maxAccountName):
		return badRequest("account is not a name: give up to %d printable bytes", maxAccountName)
	case req.Program != "" && !policy.IsProgram(req.Program):
		return badRequest("program is not a name: give 1 to 32 of a-z, 0-9, _ and -")
	case !printable(req.Proof.Audience, maxAudience):
		return badRequest("proof.audience is not an address: give that of this service, %s", s.Direct.Audience)
	case req.Proof.Audience != s.Direct.Audience:
		return refuse(http.StatusForbidden, string(policy.SignUpProofInvalid),
			"the proof is for %q, and this service is %s: call it by that address, or have http.url say the right one", req.Proof.Audience, s.Direct.Audience)
	default:
		return nil
	}
}

// signedUp is a sign-up on its way.
type signedUp struct {
	rules      *policy.Rules
	decision   policy.Decision
	name       string
	credential mint.Credential
}

// signUp decides, mints and records the key. Nothing of it has left the service when it returns.
func (s *Service) signUp(ctx context.Context, c Caller, id *policy.Identity, req api.UserSignupRequest) (up signedUp, r *policy.Refusal) {
	now := s.Now()
	conn := policy.Connection{Source: c.Source, Account: req.Account, SignUp: &policy.SignUp{
		Key: req.UserKey, Statement: api.SignupStatement(req, c.Token), Signature: req.Proof.Signature,
		At: time.UnixMilli(req.Proof.Time),
	}}
	if up.rules, up.decision = s.decide(id, conn, now); !up.decision.Allowed() {
		return up, up.decision.Refusal
	}
	if r := s.proofs.first(conn.SignUp.Statement, now); r != nil {
		return up, r
	}
	up.name = id.Name()
	if req.Program != "" {
		up.name = policy.ProgramName(req.Program, id.IssuerURL, id.Subject)
	}
	s.Direct.Servers.ReadEverywhere(ctx, up.decision.Account)
	if up.credential, r = s.mint(up.decision, up.name, req.UserKey, now); r != nil {
		return up, r
	}
	if r := s.addUserKey(ctx, id, req, up); r != nil {
		return up, r
	}
	// A revocation that was stored before the key does not know of it, and one that is stored later does. So
	// whoever was revoked meanwhile is found out now, while nobody has the user JWT.
	if err := s.Refresh(ctx); err != nil {
		return up, policy.Refuse(policy.SnapshotStale, "what was stored could not be read back: %v", err)
	}
	again := up
	if again.rules, again.decision = s.decide(id, conn, now); !again.decision.Allowed() {
		return again, again.decision.Refusal
	}
	return up, nil
}

// decide decides by the state of now.
func (s *Service) decide(id *policy.Identity, conn policy.Connection, now time.Time) (*policy.Rules, policy.Decision) {
	state := s.State()
	if state == nil {
		return nil, policy.Decision{Refusal: policy.Refuse(policy.SnapshotStale, "the state has not been loaded from the store yet")}
	}
	d := policy.Decide(state, id, conn, now, nil)
	if d.Allowed() && slices.Contains(s.Direct.Closed, d.Account.ID) {
		d = policy.Decision{Refusal: policy.Refuse(policy.AccountNotGranted, "account %s is the callout or the system account, where nobody is placed", d.Account.Name)}
	}
	return state.Rules, d
}

// mint signs a user JWT with a key that every server knows.
func (s *Service) mint(d policy.Decision, name, userKey string, now time.Time) (mint.Credential, *policy.Refusal) {
	public, r := s.Direct.Servers.SigningKeyOfAll(d.Account, d.ScopedKey, slices.Contains(d.Types, policy.LeafNode), now)
	if r != nil {
		return mint.Credential{}, r
	}
	key := s.Direct.Keys().Key(public)
	if key == nil {
		return mint.Credential{}, policy.Refuse(policy.AccountUnready, "signing key %s of account %s is not in the keyring", public, d.Account.Name)
	}
	credential, err := mint.Direct(d, mint.User{Name: name, UserKey: userKey}, key)
	if err != nil {
		return mint.Credential{}, policy.Refuse(policy.Internal, "%v", err)
	}
	return credential, nil
}

func (s *Service) addUserKey(ctx context.Context, id *policy.Identity, req api.UserSignupRequest, up signedUp) *policy.Refusal {
	d := up.decision
	err := s.Direct.UserKeys.AddUserKey(ctx, store.UserKey{
		Key: req.UserKey, Account: d.Account.Name, AccountID: d.Account.ID,
		Issuer: id.IssuerURL, Subject: id.Subject, Name: up.name, Program: req.Program,
		Issued: up.credential.Issued.UTC(), Expires: up.credential.Expires.UTC(),
		Obtained: []store.Obtained{{
			Session: id.SessionID, Token: id.TokenID, Issued: up.credential.Issued.UTC(), Expires: up.credential.Expires.UTC(),
		}},
	}, d.Direct.Keys)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrTooMany):
		return policy.Refuse(policy.TooManyKeys, "%d keys of the identity in account %s have not ended", d.Direct.Keys, d.Account.Name)
	case errors.Is(err, store.ErrTaken):
		return policy.Refuse(policy.UserKeyTaken, "another identity has key %s in account %s", req.UserKey, d.Account.Name)
	default:
		s.Logger.Error("the store did not take a user key", "error", err)
		return policy.Refuse(policy.RecordUnavailable, "the store did not take the key: %v", err)
	}
}

// noteSignup records a sign-up of an identity, before it is answered, as a login that op tells from others.
func (s *Service) noteSignup(c Caller, id *policy.Identity, req api.UserSignupRequest, up signedUp, r *policy.Refusal) error {
	e := store.AuditEntry{
		ID: c.RequestID, At: s.now(), Kind: store.LoginEntry, Op: api.OpUserSignup,
		Outcome: string(policy.OutcomeAllowed), Reason: string(policy.Allowed),
		Issuer: id.IssuerURL, Subject: id.Subject, Name: id.Name(),
		TokenID: id.TokenID, SessionID: id.SessionID, Issued: id.IssuedAt.UTC(),
		UserKey: req.UserKey, Asked: req.Account, Target: req.Program, Replica: s.Replica,
	}
	if c.Source.IsValid() {
		e.Source = c.Source.String()
	}
	if up.rules != nil {
		e.Rules, e.Display = up.rules.Version, up.rules.Shown(id)
		e.Claims, e.ClaimsCut = up.rules.Record(id)
	}
	if r != nil {
		e.Outcome, e.Reason, e.Detail = string(r.Reason.Outcome()), string(r.Reason), r.Detail
	} else {
		e.Account, e.Roles, e.Bindings = up.decision.Account.Name, up.decision.Roles, up.decision.Bindings
		e.Expires = up.credential.Expires.UTC()
	}
	s.Logger.Info("sign-up", "request_id", e.ID, "outcome", e.Outcome, "reason", e.Reason, "detail", e.Detail, "name", e.Name,
		"program", req.Program, "user_key", e.UserKey, "account", e.Account, "source", e.Source)
	return s.keep(e)
}

// proofs remembers the proofs that were used, so that none is used twice: here, not on other replicas,
// where whoever repeats one gets another user JWT for a key that only its holder can use.
type proofs struct {
	mu   sync.Mutex
	used map[[sha256.Size]byte]time.Time // when they were
}

// maxProofs bounds those that are remembered: beyond it nobody is signed up.
const maxProofs = 1 << 16

// first notes what a valid proof states and refuses it the second time.
func (p *proofs) first(statement []byte, now time.Time) *policy.Refusal {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := sha256.Sum256(statement)
	if at, ok := p.used[sum]; ok {
		return policy.Refuse(policy.SignUpProofReplayed, "the proof was used at %s", at.UTC().Format(time.RFC3339))
	}
	if len(p.used) >= maxProofs {
		p.forget(now)
	}
	if len(p.used) >= maxProofs {
		return policy.Refuse(policy.Overloaded, "%d proofs were used within %s", maxProofs, 2*policy.ProofWindow)
	}
	if p.used == nil {
		p.used = map[[sha256.Size]byte]time.Time{}
	}
	p.used[sum] = now
	return nil
}

// forget drops proofs that are stale by now, whatever time they bear.
func (p *proofs) forget(now time.Time) {
	for sum, at := range p.used {
		if now.Sub(at) > 2*policy.ProofWindow {
			delete(p.used, sum)
		}
	}
}
