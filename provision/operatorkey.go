package provision

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Where an operator signing key comes from.
const (
	fromFile  = "operator.signing_key"
	fromStore = "store"
)

// OperatorKeys is what the operations of the operator signing key need of a service that runs.
type OperatorKeys struct {
	// Trust says whose account claims each server takes.
	Trust func(ctx context.Context) ([]OperatorTrust, error)
	// Signed says which operator keys have signed what servers hold; the error what could not be asked.
	Signed func(ctx context.Context) ([]api.OperatorSigned, error)
	// Renew has this replica sign with the key that the store has now.
	Renew func(ctx context.Context) error
}

// OperatorTrust is whose account claims a server takes.
type OperatorTrust struct {
	Server   string
	Keys     []string // public; none when it does not say
	Identity []string // of its operators
	Strict   bool
}

// trusts says whether the server takes what the key signs.
func (t OperatorTrust) trusts(key string) string {
	switch {
	case len(t.Keys) == 0:
		return "unknown"
	case slices.Contains(t.Keys, key):
		return "yes"
	default:
		return "no"
	}
}

// OperatorKey says how the operator signing key stands: which one signs, which servers trust it, and which accounts it has signed.
func (s *Service) OperatorKey(ctx context.Context, c Caller, _ api.OperatorKeyRequest) (api.OperatorKey, error) {
	if err := s.sealingFor(c); err != nil {
		return api.OperatorKey{}, err
	}
	out, err := s.operatorKey(ctx, api.OpOperatorKey)
	if err != nil || s.Keys.Running == nil || out.Key == "" {
		return out, err
	}
	trust, err := s.Keys.Running.Trust(ctx)
	if err != nil {
		out.Incomplete = err.Error()
		return out, nil
	}
	for _, t := range trust {
		out.Servers = append(out.Servers, api.OperatorServer{Server: t.Server, Trusts: t.trusts(out.Key), Strict: t.Strict})
	}
	if out.SignedBy, err = s.Keys.Running.Signed(ctx); err != nil {
		out.Incomplete = err.Error()
	}
	return out, nil
}

// operatorKey returns which key signs, and which one the store has.
func (s *Service) operatorKey(ctx context.Context, op string) (api.OperatorKey, error) {
	var out api.OperatorKey
	rows, _, err := s.Store.SealedKeys(ctx, store.SealedKeyFilter{Accounts: []string{store.OfOperator}})
	if err != nil {
		return out, s.storeError(op, err)
	}
	for _, k := range rows {
		out.Key, out.From, out.Sealed, out.SealedWith = k.Public, fromStore, k.Public, seal.KeyID(k.Box)
		if seed, err := open(s.Keys.Seal(), k); err != nil {
			out.Problem = err.Error()
		} else {
			clear(seed)
		}
	}
	if key := s.Keys.Operator(); key != "" {
		out.Key, out.From = key, fromFile
	}
	return out, nil
}

// OperatorKeyImport seals an operator signing key and keeps it in place of the one in the store. Admins on the host only: a seed
// comes along. Servers must trust it already, for they drop accounts whose claims another key signed.
func (s *Service) OperatorKeyImport(ctx context.Context, c Caller, req api.OperatorKeyImport) (api.OperatorKey, error) {
	if err := s.sealingFor(c); err != nil {
		return api.OperatorKey{}, err
	}
	if len(req.Reason) > MaxReason {
		return api.OperatorKey{}, badRequest("reason has %d bytes, at most %d are kept", len(req.Reason), MaxReason)
	}
	seed := []byte(req.Seed)
	defer clear(seed)
	public, err := operatorPublic(seed)
	if err != nil {
		return api.OperatorKey{}, err
	}
	ring := s.Keys.Seal()
	if ring == nil {
		return api.OperatorKey{}, refuse(http.StatusConflict, api.ReasonSealMissing, "the seed could not be kept safely: configure seal.key, a file with a key that gatehouse keys seal-key makes")
	}
	if err := s.trusted(ctx, public); err != nil {
		return api.OperatorKey{}, err
	}
	before, err := s.operatorKey(ctx, api.OpOperatorKeyImport)
	if err != nil {
		return before, err
	}
	k := store.SealedKey{Public: public, Account: store.OfOperator}
	k.Box = ring.Seal(seed, k.Row())
	e := s.ofOperator(c, api.OpOperatorKeyImport, public, reasonOr(req.Reason, "operator signing key imported"))
	if before.Sealed != "" && before.Sealed != public {
		e.Detail = "in place of " + before.Sealed
	}
	return s.setOperatorKey(ctx, c, &k, e)
}

// OperatorKeyRemove deletes the operator signing key that the store has. What it has signed stays as it is.
func (s *Service) OperatorKeyRemove(ctx context.Context, c Caller, req api.OperatorKeyRemove) (api.OperatorKey, error) {
	if err := s.sealingFor(c); err != nil {
		return api.OperatorKey{}, err
	}
	if req.Reason == "" || len(req.Reason) > MaxReason {
		return api.OperatorKey{}, badRequest("reason has %d bytes: say why, in at most %d", len(req.Reason), MaxReason)
	}
	before, err := s.operatorKey(ctx, api.OpOperatorKeyRemove)
	if err != nil {
		return before, err
	}
	return s.setOperatorKey(ctx, c, nil, s.ofOperator(c, api.OpOperatorKeyRemove, before.Sealed, req.Reason))
}

// setOperatorKey keeps the key, or none, and has this replica sign with it.
func (s *Service) setOperatorKey(ctx context.Context, c Caller, k *store.SealedKey, e store.AuditEntry) (api.OperatorKey, error) {
	err := s.Store.SetOperatorKey(ctx, k, e)
	if errors.Is(err, store.ErrNotFound) {
		return api.OperatorKey{}, refuse(http.StatusNotFound, api.ReasonNotFound, "the store has no operator signing key")
	}
	if err != nil {
		return api.OperatorKey{}, s.storeError(e.Op, err)
	}
	s.Logger.Info("the operator signing key of the store was changed", "op", e.Op, "operator_key", e.Target, "actor", c.Actor, "request_id", c.RequestID)
	if s.Keys.Running != nil {
		if err := s.Keys.Running.Renew(ctx); err != nil {
			s.Logger.Warn("the operator signing key of the store could not be read yet; trying again", "error", err)
		}
	}
	return s.operatorKey(ctx, e.Op)
}

func (s *Service) ofOperator(c Caller, op, public, reason string) store.AuditEntry {
	return store.AuditEntry{
		ID: newID(), At: s.now(), Kind: store.AdminEntry, Op: op, Actor: c.Actor, Outcome: "done", Reason: reason,
		Target: public, ConnType: string(c.Transport), Replica: s.Replica,
	}
}

// operatorPublic returns the public key of the seed of an operator. No error holds anything of what was given.
func operatorPublic(seed []byte) (string, error) {
	prefix, raw, err := nkeys.DecodeSeed(seed)
	clear(raw)
	if err != nil || prefix != nkeys.PrefixByteOperator {
		return "", badRequest("seed is not that of an operator key (SO…): nsc generate nkey --operator makes one")
	}
	key, err := nkeys.FromSeed(seed)
	if err != nil {
		return "", badRequest("seed is damaged")
	}
	defer key.Wipe()
	return key.PublicKey()
}

// trusted returns an error unless every server that says whom it trusts trusts the key, and as a signing key.
func (s *Service) trusted(ctx context.Context, public string) error {
	if s.Keys.Running == nil {
		return nil
	}
	list, err := s.Keys.Running.Trust(ctx)
	if err != nil {
		return again(http.StatusServiceUnavailable, api.ReasonUnavailable, "the servers cannot be asked whether they trust the key: %v", err)
	}
	for _, t := range list {
		switch {
		case slices.Contains(t.Identity, public):
			return badRequest("the seed is of the operator's identity key, which is never kept: give a signing key, and leave that where it is")
		case t.trusts(public) == "no":
			return refuse(http.StatusConflict, api.ReasonKeyUntrusted, "server %s does not trust %s: add it to the operator JWT (nsc edit operator --sk), give every server that, restart them one by one, then import the key; its accounts would be gone otherwise", t.Server, public)
		}
	}
	return nil
}
