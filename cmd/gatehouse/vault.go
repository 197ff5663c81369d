package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	vaultTimeout = 5 * time.Second // of one reading of an account's seeds
	vaultRetry   = time.Second     // after a reading that the store failed
	vaultShown   = 5               // keys that do not open which warnings name
)

// sealedKeys is what the vault needs of the store.
type sealedKeys interface {
	SealedKeys(ctx context.Context, f store.SealedKeyFilter) (page []store.SealedKey, next string, err error)
}

// vault holds the seeds of the signing keys of self-service accounts, opened, as the records of the accounts name them.
type vault struct {
	store   sealedKeys
	log     *slog.Logger
	publish func() // is called when there are other seeds
	seeds   atomic.Pointer[mint.Seeds]
	// operator is the operator signing key that the store has, sealed.
	operator atomic.Pointer[sealedOperator]

	mu      sync.Mutex                     // held while seeds are read, so that a reading never overtakes a later one
	ring    *seal.Ring                     // nil: no sealing key is configured
	held    map[string][]string            // public keys of the seeds, by account id
	missing map[string]map[string]struct{} // public keys whose seeds are still to be read, by account id
	shut    map[string]map[string]error    // why seeds cannot be had, by account id and public key
}

// openVault reads all seeds that the store has. Those of another sealing key are an error that names it: to go on without would
// keep out whoever is in their accounts. A box that is damaged keeps out of one account, and is logged.
func openVault(ctx context.Context, s sealedKeys, ring *seal.Ring, log *slog.Logger, publish func()) (*vault, error) {
	v := &vault{
		store: s, log: log, publish: publish, ring: ring,
		held: map[string][]string{}, missing: map[string]map[string]struct{}{}, shut: map[string]map[string]error{},
	}
	var seeds []*mint.Seed
	if _, err := v.readOperator(ctx); err != nil {
		return nil, fmt.Errorf("read the sealed operator signing key: %w", err)
	}
	err := eachSealedKey(ctx, s, ring, func(k store.SealedKey, seed *mint.Seed, err error) {
		if k.Account == store.OfOperator {
			if err != nil {
				log.Error("the operator signing key in the store cannot be used: account claims are left alone", "operator_key", k.Public, "error", err)
			}
			return
		}
		if err != nil {
			v.shutOut(k.Account, k.Public, err)
			return
		}
		seeds = append(seeds, seed)
		v.held[k.Account] = append(v.held[k.Account], k.Public)
	})
	if err != nil {
		return nil, err
	}
	v.seeds.Store(v.seeds.Load().With(seeds, nil))
	return v, nil
}

// eachSealedKey calls f with each sealed key of the store, opened or why it does not open. Boxes of keys that the ring has
// not are an error that names those keys, once all were looked at; but a single one among others that open is a damaged one.
func eachSealedKey(ctx context.Context, s sealedKeys, ring *seal.Ring, f func(store.SealedKey, *mint.Seed, error)) error {
	others, known := map[string][]store.SealedKey{}, 0
	for filter := (store.SealedKeyFilter{}); ; {
		page, next, err := s.SealedKeys(ctx, filter)
		if err != nil {
			return fmt.Errorf("read the sealed signing keys: %w", err)
		}
		for _, k := range page {
			seed, err := openSeed(ring, k)
			if errors.Is(err, seal.ErrOtherKey) {
				id := seal.KeyID(k.Box)
				others[id] = append(others[id], k)
				continue
			}
			known++
			f(k, seed, err)
		}
		if filter.Cursor = next; next != "" {
			continue
		}
		for id, boxes := range others {
			if len(boxes) == 1 && known > 0 {
				_, err := openSeed(ring, boxes[0])
				f(boxes[0], nil, err)
				delete(others, id)
			}
		}
		return otherKeys(others)
	}
}

// otherKeys returns an error that names sealing keys that are not configured; nil when there are none.
func otherKeys(boxes map[string][]store.SealedKey) error {
	var list []string
	for _, id := range slices.Sorted(maps.Keys(boxes)) {
		list = append(list, fmt.Sprintf("%s with the one of id %s", count(len(boxes[id]), "seed"), id))
	}
	if list == nil {
		return nil
	}
	return fmt.Errorf("signing keys were %w, %s: name its file in seal.key or seal.old; gatehouse keys list shows what was sealed with which key", seal.ErrOtherKey, strings.Join(list, ", "))
}

var errNoSealKey = fmt.Errorf("%w: seal.key is not configured", seal.ErrOtherKey)

// openSeed opens what is sealed, of an operator key to see that it opens. No error holds anything of the seed.
func openSeed(ring *seal.Ring, k store.SealedKey) (*mint.Seed, error) {
	if ring == nil {
		return nil, errNoSealKey
	}
	text, err := ring.Open(k.Box, k.Row())
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if k.Account == store.OfOperator {
		return nil, nil
	}
	return mint.NewSeed(k.Public, text)
}

// follow has the vault hold what the records of accounts name, and no more; with all they are all that there are. Seeds that the
// store does not give now are asked for again by [vault.run].
func (v *vault) follow(accounts []account.Account, all bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var gone []string
	if all {
		gone = v.forgetOthers(accounts)
	}
	for i := range accounts {
		gone = append(gone, v.want(&accounts[i])...)
	}
	v.replace(v.load(), gone)
}

// want notes which seeds the account is in need of, and returns the public keys of those that it no longer is.
func (v *vault) want(a *account.Account) (gone []string) {
	wanted := map[string]struct{}{}
	for _, k := range a.Keys {
		if k.Stage != account.Leaving && a.State != account.Deleted {
			wanted[k.Public] = struct{}{}
		}
	}
	gone = v.forget(a.ID, func(public string) bool { _, ok := wanted[public]; return !ok })
	for _, public := range v.held[a.ID] {
		delete(wanted, public)
	}
	if len(wanted) > 0 {
		v.missing[a.ID] = wanted
	}
	return gone
}

// forget drops what is known of an account's keys that are not wanted, and returns those that were held.
func (v *vault) forget(id string, unwanted func(public string) bool) (gone []string) {
	delete(v.missing, id)
	delete(v.shut, id)
	kept := v.held[id][:0]
	for _, public := range v.held[id] {
		if unwanted(public) {
			gone = append(gone, public)
		} else {
			kept = append(kept, public)
		}
	}
	if v.held[id] = kept; len(kept) == 0 {
		delete(v.held, id)
	}
	return gone
}

// forgetOthers drops what is known of accounts that are none of these.
func (v *vault) forgetOthers(accounts []account.Account) (gone []string) {
	known := make(map[string]bool, len(accounts))
	for i := range accounts {
		known[accounts[i].ID] = true
	}
	for id, publics := range v.held {
		if !known[id] {
			gone = append(gone, publics...)
			delete(v.held, id)
		}
	}
	maps.DeleteFunc(v.missing, func(id string, _ map[string]struct{}) bool { return !known[id] })
	maps.DeleteFunc(v.shut, func(id string, _ map[string]error) bool { return !known[id] })
	return gone
}

// load reads the seeds that are missing; those that the store does not give stay so.
func (v *vault) load() (seeds []*mint.Seed) {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(v.missing)), store.MaxPage) {
		rows, err := v.rows(ids)
		if err != nil {
			v.log.Error("the store does not give the signing keys of accounts, which nobody can use before; trying again", "accounts", len(v.missing), "error", err)
			break
		}
		for _, id := range ids {
			for public := range v.missing[id] {
				seed, err := v.open(id, public, rows[public])
				if err != nil {
					v.shutOut(id, public, err)
					continue
				}
				seeds = append(seeds, seed)
				v.held[id] = append(v.held[id], public)
			}
			delete(v.missing, id)
		}
	}
	return seeds
}

// rows returns the sealed keys of the accounts by public key.
func (v *vault) rows(ids []string) (map[string]store.SealedKey, error) {
	ctx, cancel := context.WithTimeout(context.Background(), vaultTimeout)
	defer cancel()
	rows := map[string]store.SealedKey{}
	for f := (store.SealedKeyFilter{Accounts: ids}); ; {
		page, next, err := v.store.SealedKeys(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, k := range page {
			rows[k.Public] = k
		}
		if f.Cursor = next; next == "" {
			return rows, nil
		}
	}
}

var errNoBox = errors.New("the store has no seed of the account for it")

func (v *vault) open(id, public string, row store.SealedKey) (*mint.Seed, error) {
	if row.Public != public || row.Account != id {
		return nil, errNoBox
	}
	return openSeed(v.ring, row)
}

// shutOut notes that a seed cannot be had.
func (v *vault) shutOut(id, public string, why error) {
	if v.shut[id] == nil {
		v.shut[id] = map[string]error{}
	}
	v.shut[id][public] = why
	v.log.Error("the signing key of an account cannot be used: nobody gets into the account with it", "account_id", id, "signing_key", public, "error", why)
}

// replace puts other seeds in force.
func (v *vault) replace(seeds []*mint.Seed, gone []string) {
	if len(seeds) == 0 && len(gone) == 0 {
		return
	}
	v.seeds.Store(v.seeds.Load().With(seeds, gone))
	v.publish()
}

// run asks for what the store did not give, until ctx ends; it returns nil then.
func (v *vault) run(ctx context.Context) error {
	tick := time.NewTicker(vaultRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			v.retry()
		}
	}
}

func (v *vault) retry() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.replace(v.load(), nil)
}

// check returns an error when the ring does not open what the store has, which a start with it would fail for. With the keys
// that the vault has already nothing is read.
func (v *vault) check(ctx context.Context, ring *seal.Ring) error {
	v.mu.Lock()
	same := slices.Equal(v.ring.Keys(), ring.Keys())
	v.mu.Unlock()
	if same {
		return nil
	}
	return eachSealedKey(ctx, v.store, ring, func(store.SealedKey, *mint.Seed, error) {})
}

// use puts other sealing keys in force, and opens with them what did not open before.
func (v *vault) use(ring *seal.Ring) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ring = ring
	for id, keys := range v.shut {
		if v.missing[id] == nil {
			v.missing[id] = map[string]struct{}{}
		}
		for public := range keys {
			v.missing[id][public] = struct{}{}
		}
	}
	clear(v.shut)
	v.replace(v.load(), nil)
}

// warnings says which signing keys cannot be used, and why.
func (v *vault) warnings() (list []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(v.shut)) {
		if len(list) == vaultShown {
			return append(list, fmt.Sprintf("signing keys of %d more accounts cannot be used: gatehouse keys list shows all", len(v.shut)-vaultShown))
		}
		for _, public := range slices.Sorted(maps.Keys(v.shut[id])) {
			list = append(list, fmt.Sprintf("signing key %s of account %s cannot be used: %v", public, id, v.shut[id][public]))
			break // one for each account
		}
	}
	return list
}

// openVault reads the signing keys of self-service accounts, waiting for a store that does not answer. Servers without an operator
// have no such accounts.
func (d *daemon) openVault(ctx context.Context, cfg *config.Config) error {
	if cfg.NATS.Callout.Mode == config.ConfigMode {
		return nil
	}
	return d.waiting(ctx, cfg, func() error {
		var err error
		if d.vault, err = openVault(ctx, d.store, cfg.Seal(), d.log, d.putKeys); err == nil {
			d.putKeys()
		}
		return err
	})
}

// putKeys puts the signing keys of the configuration and of the vault in force.
func (d *daemon) putKeys() {
	d.keys.Lock()
	defer d.keys.Unlock()
	ring := d.cfg.Load().Keyring()
	if d.vault != nil {
		ring = ring.With(d.vault.seeds.Load())
	}
	d.keyring.Store(ring)
}

// onAccounts is told which self-service accounts have changed, before decisions follow that.
func (d *daemon) onAccounts(changed []account.Account, all bool) {
	if d.vault != nil {
		d.vault.follow(changed, all)
	}
	d.claims.Accounts(changed, all)
	d.provision.FollowKeys(changed, all)
	d.provision.FollowLeft(changed, all)
	d.provision.FollowDeleted(changed, all)
}

// checkSeal checks that a configuration has the sealing keys that are needed.
func (d *daemon) checkSeal(ctx context.Context, cfg *config.Config) error {
	if d.vault == nil {
		return nil
	}
	return d.vault.check(ctx, cfg.Seal())
}

// useSeal puts the keys of a configuration in force, sealing keys among them.
func (d *daemon) useSeal(cfg *config.Config) {
	d.putKeys()
	if d.vault != nil {
		d.vault.use(cfg.Seal())
	}
}

// keepVault reads what the store did not give at first.
func (d *daemon) keepVault(ctx context.Context) error {
	if d.vault == nil {
		return nil
	}
	return d.vault.run(ctx)
}
