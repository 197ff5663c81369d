package callout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
)

const (
	// xkeyHeader carries the server's public xkey (nats-server server/auth_callout.go).
	xkeyHeader      = "Nats-Server-Xkey"
	requestAudience = "nats-authorization-request"
	// maxEnvelope is what a request may hold besides the token: names, tags, a client's
	// certificate chain.
	maxEnvelope = 128 << 10
	// accountPrefix marks a CONNECT user that names an account; any other user is ignored.
	accountPrefix  = "account:"
	maxAccountName = 256
)

// login is one request on its way through the pipeline.
type login struct {
	req      micro.Request
	arrived  time.Time
	deadline time.Time

	// Set once the request is opened.
	opened    bool
	throttled bool
	claims    *request
	peer      string // the server's xkey; empty when the request came unsealed
	conn      policy.Connection
	source    netip.Prefix
	fresh     bool // the request was found not to be a replay
	// unfounded says why the account was not made that the login has waited for; nil before that.
	unfounded func() *policy.Refusal

	// Set on the way, for the record.
	id         string
	identity   *policy.Identity
	decision   policy.Decision
	credential mint.Credential
	rules      *policy.Rules
}

// wait is what a login waits for.
type wait struct {
	what  string
	done  <-chan struct{}
	late  policy.Reason // how it ends when that does not come in time
	count *atomic.Int64
}

// open unseals, decodes and verifies the request, and finds out where it comes from.
func (s *Service) open(l *login) *policy.Refusal {
	data := l.req.Data()
	if len(data) > s.MaxToken*2+maxEnvelope {
		return policy.Refuse(policy.RequestMalformed, "the request has %d bytes", len(data))
	}
	b := pool.Get().(*buffers)
	defer b.free()
	if s.Sealer != nil {
		l.peer = l.req.Headers().Get(xkeyHeader)
		plain, err := s.Sealer.open(b.jwt[:0], data, l.peer)
		if err != nil {
			return policy.Refuse(policy.RequestUnsealed, "%v", err)
		}
		b.jwt, data = plain, plain
	}
	claims, err := b.decodeRequest(data, func(issuer string) bool { return s.Sealer != nil && s.Sealer.proves(l.peer, issuer) })
	if err != nil {
		return policy.Refuse(policy.RequestMalformed, "the request does not decode and verify as an authorization request")
	}
	if r := s.authentic(claims, l.peer); r != nil {
		return r
	}
	l.claims = claims
	l.conn = connection(claims)
	l.source = sourceOf(l.conn.Source)
	// iat and exp come from the same clock, so their difference holds whatever ours says.
	serverWaits := time.Duration(claims.Expires-claims.IssuedAt) * time.Second
	if d := l.arrived.Add(serverWaits - answerTime); d.Before(l.deadline) {
		l.deadline = d
	}
	l.opened = true
	return nil
}

// authentic checks that the request was made by the server that it names, for this service.
func (s *Service) authentic(c *request, peer string) *policy.Refusal {
	switch {
	case c.Audience != requestAudience:
		return policy.Refuse(policy.RequestForged, "the request is for audience %.64q", c.Audience)
	case c.Issuer != c.Server.ID || !nkeys.IsValidPublicServerKey(c.Issuer):
		return policy.Refuse(policy.RequestForged, "the request names server %.64q and is signed by %.64q", c.Server.ID, c.Issuer)
	case c.Subject != s.Account:
		return policy.Refuse(policy.RequestForged, "the request is for account %.64q", c.Subject)
	case !nkeys.IsValidPublicUserKey(c.UserNkey):
		return policy.Refuse(policy.RequestMalformed, "the request names no user key")
	case c.Server.XKey != peer:
		return policy.Refuse(policy.RequestForged, "the request is sealed by another key than its server's")
	default:
		return nil
	}
}

// connection returns what the decision needs of the request.
func connection(c *request) policy.Connection {
	conn := policy.Connection{Type: policy.Standard}
	conn.Source, _ = netip.ParseAddr(c.Client.Host)
	switch {
	case c.Client.Kind == "Leafnode":
		conn.Type = policy.LeafNode
	case c.Client.Type == "mqtt":
		conn.Type = policy.MQTT
	case c.Client.Type == "websocket":
		conn.Type = policy.WebSocket
	}
	conn.Proof = policy.Proof{
		Nonce: c.Client.Nonce, Signature: c.Connect.SignedNonce, Key: c.Connect.Nkey,
	}
	if name, ok := strings.CutPrefix(c.Connect.Username, accountPrefix); ok {
		conn.Account = name
	}
	return conn
}

// login decides on an opened request. It returns what to wait for when something that the
// decision needs is on its way; otherwise the login is over, with l.credential when r is nil.
func (s *Service) login(l *login) (*wait, *policy.Refusal) {
	now := s.Now()
	if now.After(l.deadline) {
		return nil, policy.Refuse(policy.RequestLate, "the client has given up")
	}
	server := l.claims.Server.ID
	known, pending := s.Servers.Known(server)
	if pending != nil {
		return &wait{what: "the server to be found", done: pending, late: policy.ServerUnknown, count: &s.forServers}, nil
	}
	if !known {
		return nil, policy.Refuse(policy.ServerUnknown, "server %s (%.64s) is not in the cluster", server, l.claims.Server.Name)
	}
	if r := s.first(l, now); r != nil {
		return nil, r
	}
	token, r := s.token(l)
	if r != nil {
		return nil, r
	}
	started := s.Now()
	id, r, pending := s.Tokens.Verify(token)
	s.Metrics.stage(stageVerify, s.Now().Sub(started))
	if pending != nil {
		return &wait{what: "the issuer's keys", done: pending, late: policy.KeysUnavailable, count: &s.forKeys}, nil
	}
	l.identity = id
	if r != nil {
		return nil, r
	}
	return s.admit(l)
}

// first checks that the request is new: made about now by the server's own clock, and not
// seen before.
func (s *Service) first(l *login, now time.Time) *policy.Refusal {
	if l.fresh {
		return nil
	}
	iat := time.Unix(l.claims.IssuedAt, 0)
	age := now.Add(s.Servers.Offset(l.claims.Server.ID)).Sub(iat)
	if age > replayWindow || age < -replayWindow {
		return policy.Refuse(policy.RequestReplayed, "the request was made %s ago by its server's clock", age.Round(time.Second))
	}
	switch s.replays.seen(l.claims.UserNkey, now) {
	case seenBefore:
		return policy.Refuse(policy.RequestReplayed, "the request was worked on before")
	case notKept:
		return policy.Refuse(policy.Overloaded, "%d logins arrived within %s, more than could be told from replays", maxReplay, 2*replayWindow)
	}
	if s.Sealer != nil {
		s.Sealer.remember(l.peer, l.claims.Issuer)
	}
	l.fresh = true
	return nil
}

// token returns the token that the client sent, raw or in an envelope that also names an
// account.
func (s *Service) token(l *login) (string, *policy.Refusal) {
	raw := l.claims.Connect.Token
	if raw == "" {
		raw = l.claims.Connect.Password
	}
	token, account, r := ParseEnvelope(raw, s.MaxToken)
	if r != nil {
		return "", r
	}
	if account != "" {
		l.conn.Account = account
	}
	return token, nil
}

// ParseEnvelope returns the token in what a client sent as its token or password: the raw
// token, or the JSON object {"token":…,"account":…} of which account may be left out. The
// token may have maxToken bytes.
func ParseEnvelope(raw string, maxToken int) (token, account string, r *policy.Refusal) {
	switch {
	case raw == "":
		return "", "", policy.Refuse(policy.TokenMissing, "the client sent neither a token nor a password; a token in the jwt field is lost")
	case len(raw) > maxToken+maxAccountName+64, raw[0] != '{' && len(raw) > maxToken:
		return "", "", policy.Refuse(policy.TokenTooLarge, "the client sent %d bytes, at most %d are accepted", len(raw), maxToken)
	case raw[0] != '{':
		return raw, "", nil
	}
	var envelope struct {
		Token   *string `json:"token"`
		Account *string `json:"account"`
	}
	dec := json.NewDecoder(strings.NewReader(raw))
	dec.DisallowUnknownFields()
	// The decoder's own error may quote what the client sent.
	if dec.Decode(&envelope) != nil || !ended(dec) || envelope.Token == nil || *envelope.Token == "" {
		return "", "", policy.Refuse(policy.EnvelopeMalformed, `the envelope is not {"token":…,"account":…}`)
	}
	if n := len(*envelope.Token); n > maxToken {
		return "", "", policy.Refuse(policy.TokenTooLarge, "the token has %d bytes, at most %d are accepted", n, maxToken)
	}
	if envelope.Account != nil {
		account = *envelope.Account
		if account == "" || len(account) > maxAccountName {
			return "", "", policy.Refuse(policy.EnvelopeMalformed, "the envelope's account is empty or too long")
		}
	}
	return *envelope.Token, account, nil
}

// ended reports whether nothing but blanks follows what was decoded; More overlooks brackets.
func ended(dec *json.Decoder) bool {
	_, err := dec.Token()
	return errors.Is(err, io.EOF)
}

// admit decides on a verified identity and mints its credential. It returns what to wait for when it is not known what the
// server has applied of the account, or when that has to be made.
func (s *Service) admit(l *login) (*wait, *policy.Refusal) {
	state := s.State()
	if state == nil {
		return nil, policy.Refuse(policy.SnapshotStale, "the state has not been loaded from the store yet")
	}
	l.rules = state.Rules
	now := s.Now()
	l.decision = policy.Decide(state, l.identity, l.conn, now, nil)
	s.Metrics.stage(stageDecide, s.Now().Sub(now))
	if c := l.decision.Create; c != nil {
		return s.found(l, c)
	}
	if r := l.decision.Refusal; r != nil {
		return nil, r
	}
	// With allowed_accounts *, and always without an operator, nats-server would let users into
	// these, where they could read and answer everybody's logins, or command the servers.
	if slices.Contains(s.Closed, l.decision.Account.ID) {
		return nil, policy.Refuse(policy.AccountNotGranted, "account %s is the callout or the system account, where nobody is placed", l.decision.Account.Name)
	}
	if read := s.Servers.Reading(l.claims.Server.ID, l.decision.Account); read != nil {
		return &wait{what: "the account to be read back", done: read, late: policy.AccountUnready, count: &s.forAccounts}, nil
	}
	public, r := s.Servers.SigningKey(l.claims.Server.ID, l.decision.Account, l.decision.ScopedKey, now)
	if r != nil {
		return nil, r
	}
	key := s.Keys().Key(public)
	if key == nil {
		return nil, policy.Refuse(policy.AccountUnready, "signing key %s of account %s is not in the keyring", public, l.decision.Account.Name)
	}
	started := s.Now()
	credential, err := mint.Mint(l.decision, mint.User{Name: l.identity.Name(), UserKey: l.claims.UserNkey, Type: l.conn.Type}, key, now)
	s.Metrics.stage(stageMint, s.Now().Sub(started))
	if err != nil {
		return nil, policy.Refuse(policy.Internal, "%v", err)
	}
	l.credential = credential
	return nil, nil
}

// found has the login wait, once, for the account that it leads to.
func (s *Service) found(l *login, c *policy.Creation) (*wait, *policy.Refusal) {
	switch {
	case s.Found == nil:
		return nil, l.decision.Refusal
	case l.unfounded == nil:
		var done <-chan struct{}
		done, l.unfounded = s.Found(l.identity, l.conn.Source, c)
		return &wait{what: "account " + c.Name + " to be made", done: done, late: policy.AccountCreating, count: &s.forFirst}, nil
	}
	if r := l.unfounded(); r != nil {
		return nil, r
	}
	return nil, l.decision.Refusal
}

// end records a login and answers it.
func (s *Service) end(l *login, r *policy.Refusal) {
	defer func() {
		s.inFlight.Add(-1)
		// Logins also end outside of a worker, where nothing else keeps a panic from the process.
		if p := recover(); p != nil {
			s.panicked(p)
		}
	}()
	l.id = newID()
	if r == nil && s.Now().After(l.deadline) {
		r = policy.Refuse(policy.RequestLate, "the answer was ready after the client had given up")
	}
	reason := policy.Allowed
	if r != nil {
		reason = r.Reason
	}
	if reason.Outcome() == policy.OutcomeRefused && l.opened {
		s.throttle.refused(l.source, s.Now())
	}
	started := s.Now()
	if err := s.record(l, r); err != nil {
		s.Logger.Error("a login could not be recorded and was not answered", "request_id", l.id, "error", err)
		s.Metrics.login(policy.RecordUnavailable, l.issuer())
		return
	}
	s.Metrics.stage(stageRecord, s.Now().Sub(started))
	if r == nil && s.Now().After(l.deadline) {
		// A server may wait for longer, but whoever is revoked meanwhile is proved to be out by then.
		s.Logger.Warn("a login that was allowed and recorded was not answered: recording it took too long", "request_id", l.id)
		reason = policy.RequestLate
	}
	s.Metrics.login(reason, l.issuer())
	if reason.Silent() {
		return
	}
	if err := s.respond(l, r); err != nil {
		s.Logger.Error("a login could not be answered", "request_id", l.id, "error", err)
	}
	s.Metrics.stage(stageTotal, s.Now().Sub(l.arrived))
}

// respond sends the credential, or the constant refusal.
func (s *Service) respond(l *login, r *policy.Refusal) error {
	response := jwt.AuthorizationResponseClaims{}
	response.Subject, response.Audience = l.claims.UserNkey, l.claims.Server.ID
	if s.Signer.Public() != s.Account {
		response.IssuerAccount = s.Account
	}
	if r == nil {
		response.Jwt = l.credential.JWT
	} else {
		// Only the server's log shows this, never the client.
		response.Error = "refused, see request " + l.id
	}
	b := pool.Get().(*buffers)
	defer b.free() // the connection has its own copy by then
	b.jwt = mint.AppendResponse(b.jwt[:0], &response, s.Signer)
	if s.Sealer == nil {
		return l.req.Respond(b.jwt)
	}
	sealed, err := s.Sealer.seal(b.other[:0], b.jwt, l.peer)
	if err != nil {
		return fmt.Errorf("seal the response: %w", err)
	}
	b.other = sealed
	return l.req.Respond(sealed)
}

func (l *login) issuer() string {
	if l.identity == nil {
		return ""
	}
	return l.identity.Issuer
}

// newID returns a request id: a UUIDv7, so that ids sort by time.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
