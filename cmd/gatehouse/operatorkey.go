package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/seal"
	"github.com/gatehouse-nats/gatehouse/store"
)

// operatorEvery is how often the store is asked for the operator signing key: another replica may have imported one.
const operatorEvery = 5 * time.Second

// sealedOperator is the operator signing key that the store has; the zero value is none.
type sealedOperator struct{ key store.SealedKey }

// readOperator reads the operator signing key that the store has, and reports whether it is another than before.
func (v *vault) readOperator(ctx context.Context) (changed bool, err error) {
	rows, _, err := v.store.SealedKeys(ctx, store.SealedKeyFilter{Accounts: []string{store.OfOperator}})
	if err != nil {
		return false, err
	}
	is := &sealedOperator{}
	for _, k := range rows {
		is.key = k
	}
	was := v.operator.Swap(is)
	return was != nil && was.key.Public != is.key.Public, nil
}

// signer returns the key that the store has, which is unsealed for each signature and no longer; nil and nil when there is none, and
// why it cannot sign when there is one.
func (o *sealedOperator) signer(ring func() *seal.Ring) (nkeys.KeyPair, error) {
	if o == nil || o.key.Public == "" {
		return nil, nil
	}
	s := sealedSigner{box: o.key, ring: ring}
	seed, err := s.open()
	if err != nil {
		return nil, err
	}
	clear(seed)
	s.KeyPair, err = nkeys.FromPublicKey(o.key.Public)
	return s, err
}

// sealedSigner signs with a seed that is sealed but while it signs.
type sealedSigner struct {
	nkeys.KeyPair // of the public key
	box           store.SealedKey
	ring          func() *seal.Ring
}

func (s sealedSigner) open() ([]byte, error) {
	ring := s.ring()
	if ring == nil {
		return nil, errNoSealKey
	}
	return ring.Open(s.box.Box, s.box.Row())
}

// Sign implements [nkeys.KeyPair].
func (s sealedSigner) Sign(input []byte) ([]byte, error) {
	seed, err := s.open()
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	key, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, errors.New("the seed is damaged")
	}
	defer key.Wipe()
	if public, err := key.PublicKey(); err != nil || public != s.box.Public {
		return nil, fmt.Errorf("the seed is not that of %s", s.box.Public)
	}
	return key.Sign(input)
}

// sealedOperator returns the operator signing key of the store where that is the one that signs, or why it cannot; nil and nil
// where there is none.
func (d *daemon) sealedOperator() (nkeys.KeyPair, error) {
	if d.vault == nil || d.cfg.Load().Operator.SigningKey.Given() {
		return nil, nil
	}
	return d.vault.operator.Load().signer(func() *seal.Ring { return d.cfg.Load().Seal() })
}

// operatorKey returns the operator signing key, of the configuration or else of the store; nil while account claims cannot be
// changed.
func (d *daemon) operatorKey() nkeys.KeyPair {
	cfg := d.cfg.Load()
	if cfg.Unmanaged() != "" {
		key, err := d.sealedOperator()
		if err != nil {
			return nil // unmanaged says so
		}
		return key
	}
	key, err := nkeys.FromSeed(cfg.Operator.SigningKey.Seed())
	if err != nil {
		return nil // it was read when it was loaded
	}
	return key
}

// operatorPublic returns the public operator signing key; empty when there is none.
func (d *daemon) operatorPublic() string {
	key := d.operatorKey()
	if key == nil {
		return ""
	}
	public, err := key.PublicKey()
	if err != nil {
		return ""
	}
	return public
}

// unmanaged says what keeps this service from changing account claims; "" when nothing does.
func (d *daemon) unmanaged() string {
	why := d.cfg.Load().Unmanaged()
	if why == "" {
		return ""
	}
	switch key, err := d.sealedOperator(); {
	case err != nil:
		return fmt.Sprintf("the operator signing key in the store cannot be used: %v", err)
	case key != nil:
		return ""
	default:
		return why
	}
}

// followOperator reads the operator signing key of the store now and then, until ctx ends.
func (d *daemon) followOperator(ctx context.Context) error {
	if d.vault == nil {
		return nil
	}
	tick := time.NewTicker(operatorEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_ = d.renewOperator(ctx) // what was read before stays in force
		}
	}
}

// renewOperator has this replica sign with the operator key that the store has now.
func (d *daemon) renewOperator(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, vaultTimeout)
	defer cancel()
	changed, err := d.vault.readOperator(ctx)
	if changed {
		d.log.Info("the store has another operator signing key", "operator_key", d.operatorPublic())
		d.claims.Wake()
	}
	return err
}

// reloadOperator reads the operator key anew that the store has, since it may have been sealed anew before sealing keys were taken
// away.
func (d *daemon) reloadOperator(ctx context.Context) {
	if d.vault == nil {
		return
	}
	if err := d.renewOperator(ctx); err != nil {
		d.log.Warn("the operator signing key of the store could not be read; trying again", "error", err)
	}
}

// keysOf returns what the operations of keys need.
func (d *daemon) keysOf() *provision.Keys {
	keys := keysOf(d.cfg.Load)
	if keys.Operator == nil || d.system == nil {
		return keys
	}
	keys.Running = &provision.OperatorKeys{
		Renew: d.renewOperator,
		Trust: func(ctx context.Context) (list []provision.OperatorTrust, err error) {
			servers, err := d.resolver.Trust(ctx)
			for _, t := range servers {
				list = append(list, provision.OperatorTrust(t))
			}
			return list, err
		},
		Signed: func(ctx context.Context) ([]api.OperatorSigned, error) {
			list := []api.OperatorSigned{}
			signed, err := d.claims.Signing(ctx)
			for _, by := range signed {
				list = append(list, api.OperatorSigned(by))
			}
			return list, err
		},
	}
	return keys
}

// unmanaged returns with which reason, and why, account claims cannot be changed; two empty texts when why is.
func unmanaged(cfg *config.Config, why string) (reason, text string) {
	switch {
	case why == "":
		return "", ""
	case cfg.NATS.Callout.Mode == config.ConfigMode:
		return api.ReasonNotInConfigMode, why
	default:
		return api.ReasonNotManaged, why + ": name the key file of an operator signing key, or import one: gatehouse keys operator import"
	}
}

// storedUnmanaged is unmanaged where nothing serves: by the configuration and by what the store has.
func storedUnmanaged(ctx context.Context, cfg *config.Config, s sealedKeys) (reason, text string) {
	why := cfg.Unmanaged()
	if why == "" || cfg.NATS.Callout.Mode == config.ConfigMode {
		return unmanaged(cfg, why)
	}
	rows, _, err := s.SealedKeys(ctx, store.SealedKeyFilter{Accounts: []string{store.OfOperator}})
	if err == nil && len(rows) > 0 {
		return "", ""
	}
	return unmanaged(cfg, why)
}
