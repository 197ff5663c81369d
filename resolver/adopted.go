package resolver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

// mostPacked bounds the claims that are read to find an account by its name, in bytes.
const mostPacked = 1 << 30

// adopted are the accounts that others made and Gatehouse has taken over, by id. Their claims are kept as those of accounts
// that revocations concern: the base is others', and what the record asks is laid over it.
type adopted struct {
	mu      sync.Mutex
	records map[string]*account.Account
}

// take notes the records that have changed, or with all those of every account that is not deleted; it reports whether servers
// are to have something else.
func (l *adopted) take(changed []account.Account, all bool) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.records
	if all || before == nil {
		l.records = map[string]*account.Account{}
	}
	for i := range changed {
		a := &changed[i]
		was := before[a.ID]
		if was != nil && was.Revision > a.Revision {
			l.records[a.ID] = was // one that came late
			continue
		}
		if !a.Adopted || !a.Lives() {
			delete(l.records, a.ID)
			continue
		}
		record := *a
		l.records[a.ID] = &record
		news = news || was == nil || was.Revision < a.Revision
	}
	return news
}

// ask returns what the records ask.
func (l *adopted) ask() map[string]overlay {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := make(map[string]overlay, len(l.records))
	for id, a := range l.records {
		asked[id] = ownedOf(a)
	}
	return asked
}

// lay puts what revocations want over what records ask, in the place of what they want alone.
func lay(asked, wanted map[string]overlay) {
	for id, o := range asked {
		maps.Copy(o, wanted[id])
		wanted[id] = o
	}
}

// unapplied returns the revision of the account that the overlay carries out, unless it is noted as applied or is not the newest.
func (l *adopted) unapplied(id string, o overlay) (revision int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.records[id]
	if a == nil || a.Applied >= a.Revision || o[place{part: ownRevision}] != a.Revision {
		return 0, false
	}
	return a.Revision, true
}

// ownedOf returns what the record of an adopted account asks of its claims: its signing keys, the limits that an admin has
// given it, and while it is being deleted that nobody connects. All else is others' to say.
func ownedOf(a *account.Account) overlay {
	o := overlay{place{part: ownRevision}: a.Revision}
	for _, k := range a.Keys {
		o[place{part: ownKey, name: k.Public}] = 0
	}
	if l := a.Limits; l != nil {
		for name, value := range map[string]*int64{
			"conn": l.Connections, "leaf": l.LeafNodes, "subs": l.Subscriptions, "payload": l.Payload, "data": l.Data,
		} {
			if value != nil {
				o[place{part: ownLimit, name: name}] = *value
			}
		}
		if js := l.JetStream; js != nil {
			o[place{part: ownLimit, name: "mem_storage"}], o[place{part: ownLimit, name: "disk_storage"}] = js.Memory, js.Disk
			o[place{part: ownLimit, name: "streams"}], o[place{part: ownLimit, name: "consumer"}] = js.Streams, js.Consumers
		}
	}
	if a.State == account.Deleting {
		o[place{part: limit, name: "conn"}], o[place{part: limit, name: "leaf"}] = 0, 0
	}
	return o
}

// confirm notes that all servers have what the record of an adopted account asks, once they were seen to.
func (c *Claims) confirm(ctx context.Context, id string, o overlay) error {
	revision, ok := c.adopted.unapplied(id, o)
	if !ok || c.Records == nil {
		return nil
	}
	if !c.r.complete() {
		return errors.New("not every server that the others count is known")
	}
	return c.Records.MarkApplied(ctx, []store.Applied{{ID: id, Revision: revision, Published: !c.r.kind.stores()}})
}

// Keep notes the JWT of an account that is being adopted as what others made of it, but for the signing keys that are ours
// from now on: those go when the record no longer has them. Servers that have no claims of the account, or older ones, get it.
func (c *Claims) Keep(ctx context.Context, token string, owned []string) error {
	d, err := parseDocument(token)
	if err != nil {
		return err
	}
	signer := c.Signer()
	if signer == nil {
		return ErrNotManaged
	}
	for range 16 {
		err := c.keep(ctx, d, owned, signer)
		if !errors.Is(err, errOvertaken) {
			return err
		}
	}
	return errors.New("the account's claims change all the time: try again")
}

func (c *Claims) keep(ctx context.Context, d *document, owned []string, signer nkeys.KeyPair) error {
	record := store.AccountClaims{Account: text(d.claims["sub"])}
	all, err := c.Store.AccountClaims(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Account == record.Account {
			record = r
		}
	}
	h, err := historyOf(record)
	if err != nil {
		return err
	}
	if h.base == nil {
		h = history{base: d, desired: d}
	}
	entries := maps.Clone(h.base.entries)
	for _, key := range owned {
		delete(entries, place{part: signingKey, name: key})
	}
	if record.Base, err = h.base.with(entries).sign(signer, h.base.issued(), record.Revision); err != nil {
		return err
	}
	if record.Desired == "" {
		// Signed by ours: who signed it before may be known to no server.
		if record.Desired, err = h.desired.sign(signer, h.desired.issued(), record.Revision); err != nil {
			return err
		}
	}
	return c.save(ctx, record)
}

// Newest returns the newest claims that servers apply, or else store, of an account, by its id or by the name in them; "" when none
// has any. Only servers that store claims know accounts by name.
func (r *Resolver) Newest(ctx context.Context, ref string) (string, error) {
	if r.blind {
		return "", ErrNoSystemUser
	}
	id := ref
	if !nkeys.IsValidPublicAccountKey(ref) {
		var err error
		if id, err = r.named(ctx, ref); id == "" || err != nil {
			return "", err
		}
	}
	held, err := r.appliedEverywhere(ctx, id)
	if latest := newestOf(held); latest != "" {
		return latest, nil
	}
	if err != nil {
		return "", err
	}
	tokens, err := r.lookup(ctx, id)
	if err != nil {
		return "", err
	}
	for _, token := range tokens {
		if found, err := parseDocument(token); err == nil {
			held = append(held, serverClaims{token: token, found: found})
		}
	}
	return newestOf(held), nil
}

func newestOf(held []serverClaims) string {
	latest := serverClaims{}
	for _, h := range held {
		if h.found != nil && (latest.found == nil || h.found.issued() > latest.found.issued()) {
			latest = h
		}
	}
	return latest.token
}

// named returns the id of the account with that name in its claims, as one server stores them; "" when there is none.
func (r *Resolver) named(ctx context.Context, name string) (string, error) {
	var ids []string
	size, ended := 0, false
	err := r.gather(ctx, "$SYS.REQ.CLAIMS.PACK", nil, func(data []byte) bool {
		if size += len(data); len(data) == 0 || size > mostPacked {
			ended = len(data) == 0
			return true
		}
		id, token, _ := strings.Cut(string(data), "|")
		if d, err := parseDocument(token); err == nil && text(d.claims["name"]) == name {
			ids = append(ids, id)
		}
		return false
	})
	slices.Sort(ids)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return "", errors.New("the servers store no claims, and know accounts by their public keys alone: give that (A…)")
	case err != nil:
		return "", err
	case !ended:
		return "", errors.New("no server has told all accounts that it stores: call again, or give the public key (A…)")
	case len(ids) > 1:
		return "", fmt.Errorf("several accounts have that name: give the public key of one: %v", ids)
	case len(ids) == 0:
		return "", nil
	}
	return ids[0], nil
}

// Signers returns the keys that have signed what servers apply of the accounts, sorted.
func (r *Resolver) Signers(ctx context.Context, accounts []string) (keys []string, err error) {
	for _, id := range accounts {
		held, failed := r.appliedEverywhere(ctx, id)
		for _, h := range held {
			if h.found != nil && !slices.Contains(keys, h.found.issuer()) {
				keys = append(keys, h.found.issuer())
			}
		}
		err = errors.Join(err, failed)
	}
	slices.Sort(keys)
	return keys, err
}
