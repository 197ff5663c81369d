package resolver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/store"
)

// checks is how what servers store is compared with what they are to store, without a message for each account: each
// server makes known the print of its store now and then.
type checks struct {
	due     bool // servers are to be asked which accounts they store
	failed  error
	listed  time.Time            // when the store was asked for what is not applied
	others  map[string]print     // of accounts that are not ours, by server id
	said    map[string]print     // what a server said that does not match, by server id
	matched map[string]time.Time // when a server said last what it is to say, by server id
	unknown []string             // accounts of nobody that servers store, sorted
	gone    []string             // accounts that are deleted and that servers store, sorted
}

// onPack hears what a server stores: the print of its store, which it sends to the others every interval. The subject
// of the answer names the server by a hash of its name (nats-server server/events.go, newRespInbox).
func (r *Resolver) onPack(msg *nats.Msg) {
	tokens := strings.Split(msg.Reply, ".")
	if len(msg.Data) != sha256.Size || len(tokens) < 3 || r.packed == nil {
		return
	}
	for _, s := range r.Servers() {
		if shortName(s.Name) == tokens[2] {
			r.packed(s, print(msg.Data))
		}
	}
}

// shortName returns the hash by which servers call a server in subjects (nats-server server/events.go, getHash).
func shortName(name string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(name))
	short := sum[:8]
	for i := range short {
		short[i] = digits[int(short[i])%len(digits)]
	}
	return string(short)
}

// onPacked compares what a server says that it stores with what it is to store.
func (c *Claims) onPacked(s Server, said print) {
	r := c.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open || !r.loaded {
		return
	}
	now := time.Now()
	if others, known := r.checks.others[s.ID]; known && r.prints.matches(said.xor(others), now) {
		delete(r.checks.said, s.ID)
		setIn(&r.checks.matched, s.ID, now)
		return
	}
	setIn(&r.checks.said, s.ID, said)
	r.checks.due = true
	r.stir()
}

func setIn[V any](to *map[string]V, key string, v V) {
	if *to == nil {
		*to = map[string]V{}
	}
	(*to)[key] = v
}

// joined has what a server stores looked at that has come or come back.
func (c *Claims) joined(Server) {
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	c.roster.checks.due = true
	c.roster.stir()
}

// left does nothing: a server that comes back joins.
func (c *Claims) left(string) {}

// onPush looks at an account that somebody else pushed, or with "" at all since some were deleted, and reports whether
// that is all that is to be done.
func (c *Claims) onPush(account, token string) bool {
	r := c.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open {
		c.r.keys.forget(account)
		return true // the holder of the lease hears it too
	}
	if account == "" {
		r.checks.due = true
		r.stir()
	}
	k := r.accounts[account]
	if k == nil {
		return false
	}
	if p := printOf(token); p != k.print {
		c.r.keys.forget(account)
		k.look = true
		r.enqueue(k)
		r.stir()
	}
	return true
}

// list returns which accounts each server stores, by server id.
func (r *Resolver) list(ctx context.Context) (map[string]map[string]bool, error) {
	servers, lists := r.count(), map[string]map[string]bool{}
	err := r.askAll(ctx, []question{{"$SYS.REQ.CLAIMS.LIST", nil}}, func(_ int, data []byte) bool {
		var answer struct {
			Server serverInfo `json:"server"`
			Data   []string   `json:"data"`
		}
		if json.Unmarshal(data, &answer) != nil || answer.Server.ID == "" {
			return false
		}
		lists[answer.Server.ID] = map[string]bool{}
		for _, id := range answer.Data {
			lists[answer.Server.ID][id] = true
		}
		return len(lists) >= servers
	})
	return lists, err
}

// check looks closer at what servers store: which accounts, and, where that does not explain what they said, what of each.
func (c *Claims) check(ctx context.Context) error {
	c.roster.mu.Lock()
	c.roster.checks.due = false
	c.roster.mu.Unlock()
	lists, err := c.r.list(ctx)
	if err != nil {
		return err
	}
	others, err := c.others(ctx, lists)
	if err != nil {
		return err
	}
	if err := c.strangers(ctx, others); err != nil {
		return err
	}
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	whole := false
	for server, list := range lists {
		if !c.explained(server, list, others) {
			whole = true
		}
	}
	if whole {
		for _, k := range c.roster.accounts {
			k.look = true
			c.roster.enqueue(k)
		}
	}
	return nil
}

// others returns the prints of accounts that servers store and that are not ours; zero when servers store different
// claims of one.
func (c *Claims) others(ctx context.Context, lists map[string]map[string]bool) (map[string]print, error) {
	others := map[string]print{}
	var batch []*delivery
	c.roster.mu.Lock()
	for _, list := range lists {
		for id := range list {
			if _, there := others[id]; !there && c.roster.accounts[id] == nil {
				others[id] = print{}
				batch = append(batch, &delivery{account: id})
			}
		}
	}
	c.roster.mu.Unlock()
	for part := range slices.Chunk(batch, mostAtOnce) {
		if err := c.r.lookupAll(ctx, part); err != nil {
			return nil, err
		}
	}
	for _, d := range batch {
		found := slices.DeleteFunc(d.stored, func(token string) bool { return token == "" })
		slices.Sort(found)
		if found = slices.Compact(found); len(found) == 1 {
			others[d.account] = printOf(found[0])
		}
	}
	return others, nil
}

// lookupAll reads what servers store of the accounts.
func (r *Resolver) lookupAll(ctx context.Context, batch []*delivery) error {
	servers := r.count()
	questions := make([]question, len(batch))
	for i, d := range batch {
		questions[i] = question{"$SYS.REQ.ACCOUNT." + d.account + ".CLAIMS.LOOKUP", nil}
	}
	return r.askAll(ctx, questions, func(i int, data []byte) bool {
		batch[i].stored = append(batch[i].stored, string(data))
		return len(batch[i].stored) >= servers
	})
}

// explained has accounts looked at that a server lacks, and reports whether that and the accounts of others explain what
// the server said last. roster.mu is held.
func (c *Claims) explained(server string, list map[string]bool, others map[string]print) bool {
	r, rest, lacking := c.roster, print{}, print{}
	for id := range list {
		if r.accounts[id] == nil {
			rest = rest.xor(others[id])
		}
	}
	for id, k := range r.accounts {
		if k.print != (print{}) && !list[id] {
			lacking = lacking.xor(k.print)
			k.look = true
			r.enqueue(k)
		}
	}
	setIn(&r.checks.others, server, rest)
	said, spoke := r.checks.said[server]
	if !spoke {
		return true
	}
	delete(r.checks.said, server)
	return r.prints.matches(said.xor(rest).xor(lacking), time.Now())
}

// strangers notes the accounts that servers store and that are nobody's, or that are deleted.
func (c *Claims) strangers(ctx context.Context, others map[string]print) error {
	var ids, unknown, gone []string
	closed := c.Closed()
	for id := range others {
		if _, own := closed[id]; !own && !c.r.needs(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	stored := map[string]bool{}
	for part := range slices.Chunk(ids, store.MaxPage) {
		page, _, err := c.Records.Accounts(ctx, store.AccountFilter{IDs: part, Deleted: true, Limit: store.MaxPage})
		if err != nil {
			return err
		}
		for i := range page {
			if stored[page[i].ID] = true; !page[i].Lives() {
				gone = append(gone, page[i].ID)
			}
		}
	}
	for _, id := range ids {
		if !stored[id] {
			unknown = append(unknown, id)
		}
	}
	slices.Sort(gone)
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	c.roster.checks.unknown, c.roster.checks.gone = unknown, gone
	return nil
}

// ofSelfService reports whether a push is of a self-service account, which is looked at then.
func (r *Resolver) ofSelfService(token string) bool {
	d, err := parseDocument(token)
	if err != nil {
		return false
	}
	id := text(d.claims["sub"])
	if r.needs(id) || r.pushed == nil {
		r.keys.forget(id)
		return false
	}
	return r.pushed(id, token)
}
