package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// buryEvery is the least time between two attempts to have servers drop what is deleted: they may not be configured to.
const buryEvery = time.Minute

// errNotDropped says that servers keep accounts that are deleted.
var errNotDropped = errors.New("servers keep accounts that are deleted: set allow_delete in their resolver, or remove the files")

// bury has servers drop the accounts whose records are deleted and that they were seen to store, and looks whether they
// have: a server that was away brings one back.
func (c *Claims) bury(ctx context.Context) error {
	signer := c.Signer()
	r := c.roster
	r.mu.Lock()
	gone := slices.Clone(r.checks.gone)
	wait := len(gone) == 0 || time.Since(r.checks.buried) < buryEvery && slices.Equal(gone, r.checks.tried)
	r.mu.Unlock()
	if wait || signer == nil {
		return nil
	}
	if err := c.ensureLease(ctx); err != nil {
		return err
	}
	gone = gone[:min(len(gone), mostAtOnce)]
	refused, err := c.r.drop(ctx, gone, signer)
	if err != nil {
		return err
	}
	batch := make([]*delivery, len(gone))
	for i, id := range gone {
		batch[i] = &delivery{account: id}
	}
	if err := c.r.lookupAll(ctx, batch); err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, d := range batch {
		if len(d.stored) < c.r.count() || slices.ContainsFunc(d.stored, func(token string) bool { return token != "" }) {
			kept[d.account] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range gone {
		if !kept[id] {
			delete(r.checks.strangers, id)
		}
	}
	r.checks.gone = slices.DeleteFunc(r.checks.gone, func(id string) bool { return slices.Contains(gone, id) && !kept[id] })
	r.checks.buried, r.checks.tried, r.checks.keep = time.Now(), slices.Clone(r.checks.gone), nil
	if len(kept) > 0 {
		r.checks.keep = fmt.Errorf("%w (%d accounts; %s)", errNotDropped, len(kept), strings.Join(refused, "; "))
		c.log.Error("deleted accounts are still stored", "error", r.checks.keep)
	}
	return nil
}

// drop asks every server to delete the accounts, and returns what those said that refused.
func (r *Resolver) drop(ctx context.Context, accounts []string, signer nkeys.KeyPair) (refused []string, err error) {
	public, err := signer.PublicKey()
	if err != nil {
		return nil, err
	}
	claims := jwt.NewGenericClaims(public) // by itself: nats-server takes no other
	claims.Data["accounts"] = accounts
	token, err := claims.Encode(signer)
	if err != nil {
		return nil, err
	}
	answers, servers := 0, r.count()
	err = r.askAll(ctx, []question{{"$SYS.REQ.CLAIMS.DELETE", []byte(token)}}, func(_ int, data []byte) bool {
		var p pushed
		if answers++; json.Unmarshal(data, &p) == nil && p.Error != nil {
			refused = append(refused, p.Server.Name+": "+strings.TrimSpace(p.Error.Description))
		}
		return answers >= servers
	})
	return refused, err
}
