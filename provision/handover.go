package provision

import (
	"context"
	"net/http"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store"
)

// AccountHandover returns an account as others keep it, so that leaving Gatehouse is possible. Admins on the host only: seeds may
// go out, which the audit trail and the log tell of.
func (s *Service) AccountHandover(ctx context.Context, c Caller, req api.AccountHandoverRequest) (api.AccountHandover, error) {
	return asParty(ctx, s, api.OpAccountHandover, c, req, s.export)
}

func (s *Service) export(ctx context.Context, p party, req api.AccountHandoverRequest) (api.AccountHandover, error) {
	var out api.AccountHandover
	if s.Accounts.Others == nil {
		return out, refuse(http.StatusConflict, api.ReasonNotManaged, "accounts are exported as the servers hold them, which a user of the system account can ask: configure nats.system")
	}
	if len(req.Reason) > MaxReason {
		return out, badRequest("reason has %d bytes, at most %d are kept", len(req.Reason), MaxReason)
	}
	a, err := s.find(ctx, p, api.OpAccountHandover, req.Account)
	if err != nil {
		return out, err
	}
	if !a.Lives() {
		return out, refuse(http.StatusConflict, api.ReasonWrongState, "account %s is %s: there are no claims of it", a.Name, a.State)
	}
	out = api.AccountHandover{Name: a.Name, Account: a.ID}
	if out.JWT, err = s.Accounts.Others.Claims(ctx, a.ID); err != nil {
		return out, again(http.StatusServiceUnavailable, api.ReasonUnavailable, "the servers could not say what they hold of account %s: %v", a.Name, err)
	}
	if out.JWT == "" {
		return out, refuse(http.StatusConflict, api.ReasonWrongState, "no server holds account %s: see gatehouse status", a.Name)
	}
	entry := s.acted(p, api.OpAccountHandover, &a, req.Reason)
	entry.Detail = "its claims, without keys"
	if req.Keys {
		var publics []string
		if out.Seeds, publics, err = s.unsealed(ctx, a); err != nil {
			return api.AccountHandover{}, err
		}
		entry.Detail = "the seeds of its signing keys left the service unsealed: " + strings.Join(publics, ", ")
	}
	if err := s.keep(entry); err != nil {
		s.Logger.Error("an export could not be recorded, and nothing was given", "account", a.Name, "request_id", p.RequestID, "error", err)
		return api.AccountHandover{}, again(http.StatusServiceUnavailable, api.ReasonUnavailable, "the export could not be recorded, and so nothing is given: call again")
	}
	if req.Keys {
		s.Logger.Warn("the seeds of an account's signing keys were exported: whoever has them makes users of the account without Gatehouse",
			"account", a.Name, "account_id", a.ID, "keys", len(out.Seeds), "actor", p.Actor, "request_id", p.RequestID)
	}
	return out, nil
}

// unsealed returns the seeds of the account's signing keys, with their public keys.
func (s *Service) unsealed(ctx context.Context, a account.Account) (seeds, publics []string, err error) {
	ring := s.Accounts.Seal()
	if ring == nil {
		return nil, nil, refuse(http.StatusConflict, api.ReasonSealMissing, "the seeds are sealed: configure seal.key")
	}
	f := store.SealedKeyFilter{Accounts: []string{a.ID}}
	for {
		page, next, err := s.Store.SealedKeys(ctx, f)
		if err != nil {
			return nil, nil, s.accountError(api.OpAccountHandover, err)
		}
		for _, k := range page {
			seed, err := ring.Open(k.Box, "signing key "+k.Public)
			if err != nil {
				return nil, nil, refuse(http.StatusConflict, api.ReasonSealMissing, "signing key %s of account %s: %v", k.Public, a.Name, err)
			}
			if kp, err := nkeys.FromSeed(seed); err != nil || !isOf(kp, k.Public) {
				return nil, nil, refuse(http.StatusConflict, api.ReasonWrongState, "signing key %s of account %s: the store has the seed of another key", k.Public, a.Name)
			}
			seeds, publics = append(seeds, string(seed)), append(publics, k.Public)
		}
		if f.Cursor = next; next == "" {
			return seeds, publics, nil
		}
	}
}

func isOf(kp nkeys.KeyPair, public string) bool {
	got, err := kp.PublicKey()
	return err == nil && got == public
}
