package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

// Keys is what the operations of keys need.
type Keys struct {
	Seal       func() *seal.Ring // nil: no sealing key is configured
	Operator   func() string     // public operator signing key of the configuration; empty: none is configured; nil: servers have no operator
	Configured func() []api.ConfiguredKey
	Running    *OperatorKeys // nil where nothing serves
}

const (
	maxKeyAccounts = 500 // accounts of one answer
	resealAtOnce   = 250 // seeds that one call seals anew
)

// KeysList lists signing keys: those of the configuration, and those of self-service accounts by the names of the accounts, which
// there are not without an operator.
func (s *Service) KeysList(ctx context.Context, c Caller, req api.KeysRequest) (api.KeysPage, error) {
	if err := s.keysFor(c); err != nil {
		return api.KeysPage{}, err
	}
	if req.Limit < 0 || req.Limit > maxKeyAccounts {
		return api.KeysPage{}, badRequest("limit is %d: use 1 to %d, or none", req.Limit, maxKeyAccounts)
	}
	if s.Keys.Operator == nil && req.Account == "" {
		return api.KeysPage{Configured: s.Keys.Configured(), Keys: []api.SigningKey{}}, nil
	}
	if err := s.sealingFor(c); err != nil {
		return api.KeysPage{}, err
	}
	ring := s.Keys.Seal()
	operator, err := s.operatorKey(ctx, api.OpKeysList)
	if err != nil {
		return api.KeysPage{}, err
	}
	page := api.KeysPage{Operator: operator.Key, OperatorFrom: operator.From, OpeningKeys: ring.Keys(), Keys: []api.SigningKey{}}
	if ring != nil {
		page.SealingKey = ring.Current()
	}
	if req.Cursor == "" && req.Account == "" {
		page.Configured = s.Keys.Configured()
	}
	accounts, next, err := s.keyAccounts(ctx, req)
	if err != nil {
		return page, err
	}
	page.Next = next
	rows, err := s.sealedKeys(ctx, accounts)
	if err != nil {
		return page, err
	}
	for i := range accounts {
		for _, k := range accounts[i].Keys {
			page.Keys = append(page.Keys, wireKey(ring, &accounts[i], k, rows[k.Public]))
		}
	}
	return page, nil
}

// keysFor refuses who may not see keys, and a service that has none.
func (s *Service) keysFor(c Caller) error {
	if err := c.admin(); err != nil {
		return err
	}
	if s.Keys == nil {
		return refuse(http.StatusNotFound, api.ReasonNotFound, "this service has no accounts of sign-up")
	}
	return nil
}

// sealingFor is [Service.keysFor] for the operator's key, and for those that are sealed: there are none where servers have no operator.
func (s *Service) sealingFor(c Caller) error {
	if err := s.keysFor(c); err != nil {
		return err
	}
	if s.Keys.Operator == nil {
		return refuse(http.StatusNotFound, api.ReasonNotFound, "the servers have no operator (nats.callout.mode is config): their own files define the accounts, and there is no operator key, no account of sign-up and nothing sealed; gatehouse keys list shows the keys of the configuration")
	}
	return nil
}

// keyAccounts returns the accounts whose keys are asked for.
func (s *Service) keyAccounts(ctx context.Context, req api.KeysRequest) ([]account.Account, string, error) {
	if req.Account == "" {
		list, next, err := s.Store.Accounts(ctx, store.AccountFilter{Limit: cmp.Or(req.Limit, maxKeyAccounts), Cursor: req.Cursor})
		if err != nil {
			err = s.storeError(api.OpKeysList, err)
		}
		return list, next, err
	}
	a, err := s.lookUp(ctx, api.OpKeysList, req.Account)
	switch {
	case err != nil:
		return nil, "", err
	case a.ID == "":
		return nil, "", refuse(http.StatusNotFound, api.ReasonNotFound, "there is no account %.80q: gatehouse account list lists them", req.Account)
	default:
		return []account.Account{a}, "", nil
	}
}

// sealedKeys returns the sealed seeds of the accounts, by public key.
func (s *Service) sealedKeys(ctx context.Context, accounts []account.Account) (map[string]store.SealedKey, error) {
	rows := map[string]store.SealedKey{}
	f := store.SealedKeyFilter{}
	for i := range accounts {
		f.Accounts = append(f.Accounts, accounts[i].ID)
	}
	for len(accounts) > 0 {
		page, next, err := s.Store.SealedKeys(ctx, f)
		if err != nil {
			return nil, s.storeError(api.OpKeysList, err)
		}
		for _, k := range page {
			rows[k.Public] = k
		}
		if f.Cursor = next; next == "" {
			break
		}
	}
	return rows, nil
}

func wireKey(ring *seal.Ring, a *account.Account, k account.SigningKey, row store.SealedKey) api.SigningKey {
	out := api.SigningKey{
		Key: k.Public, Account: a.Name, AccountID: a.ID, Stage: string(k.Stage), Since: k.Since, Until: k.Until,
		SealedWith: seal.KeyID(row.Box),
	}
	switch {
	case row.Account != a.ID:
		out.Problem, out.SealedWith = "the store has no seed of the account for it", ""
	default:
		if seed, err := open(ring, row); err != nil {
			out.Problem = err.Error()
		} else {
			clear(seed)
		}
	}
	return out
}

var errNoSealKey = errors.New("sealed, and seal.key is not configured")

func open(ring *seal.Ring, row store.SealedKey) ([]byte, error) {
	if ring == nil {
		return nil, errNoSealKey
	}
	return ring.Open(row.Box, row.Row())
}

// KeysReseal seals some seeds anew with the key that seals now, and says from where to go on. What is sealed with it already
// stays as it is, so that it can be called again at any time.
func (s *Service) KeysReseal(ctx context.Context, c Caller, req api.ResealRequest) (api.Resealed, error) {
	if err := s.sealingFor(c); err != nil {
		return api.Resealed{}, err
	}
	ring := s.Keys.Seal()
	if ring == nil {
		return api.Resealed{}, refuse(http.StatusConflict, api.ReasonSealMissing, "there is no key to seal with: configure seal.key, a file with a key that gatehouse keys seal-key makes")
	}
	page, next, err := s.Store.SealedKeys(ctx, store.SealedKeyFilter{Limit: resealAtOnce, Cursor: req.Cursor})
	if err != nil {
		return api.Resealed{}, s.storeError(api.OpKeysReseal, err)
	}
	out := api.Resealed{SealingKey: ring.Current(), Next: next}
	for _, k := range page {
		if err := s.reseal(ctx, ring, k, &out); err != nil {
			return out, s.storeError(api.OpKeysReseal, err)
		}
	}
	if out.Resealed == 0 {
		return out, nil
	}
	e := store.AuditEntry{
		ID: newID(), At: s.now(), Kind: store.AdminEntry, Op: api.OpKeysReseal, Actor: c.Actor, Outcome: "done", Reason: "seal.key was changed",
		Target: "sealing key " + out.SealingKey, Detail: fmt.Sprintf("seeds sealed anew: %d", out.Resealed), ConnType: string(c.Transport), Replica: s.Replica,
	}
	if err := s.Store.Record(ctx, []store.AuditEntry{e}); err != nil {
		return out, s.storeError(api.OpKeysReseal, err)
	}
	s.Logger.Info("seeds sealed anew", "sealing_key", out.SealingKey, "seeds", out.Resealed, "left", len(out.Left), "actor", c.Actor, "request_id", c.RequestID)
	return out, nil
}

// reseal seals one seed anew, and counts it.
func (s *Service) reseal(ctx context.Context, ring *seal.Ring, k store.SealedKey, out *api.Resealed) error {
	seed, err := open(ring, k)
	if err != nil {
		out.Left = append(out.Left, api.SealedSeed{Key: k.Public, AccountID: k.Account, SealedWith: seal.KeyID(k.Box), Problem: err.Error()})
		return nil
	}
	defer clear(seed)
	if seal.KeyID(k.Box) == ring.Current() {
		out.Already++
		return nil
	}
	before := k.Box
	k.Box = ring.Seal(seed, k.Row())
	switch err := s.Store.Reseal(ctx, k, before); {
	case errors.Is(err, store.ErrChanged):
		out.Left = append(out.Left, api.SealedSeed{Key: k.Public, AccountID: k.Account, SealedWith: seal.KeyID(before), Problem: "it was changed meanwhile: seal anew once more"})
	case err != nil:
		return err
	default:
		out.Resealed++
	}
	return nil
}
