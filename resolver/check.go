package resolver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	// listEvery and listEach are the least time between two lists, and more for each account. For a list a server reads
	// and verifies all that it stores, 0.1 ms for each account, while what comes by the same route waits.
	listEvery = time.Second
	listEach  = time.Millisecond
	// mostSampled bounds the accounts that a server is asked for at once that has just come.
	mostSampled = mostAtOnce
)

// checks is how what servers store is compared with what they are to store, without a message for each account: each
// server makes known the print of its store now and then. guarded by roster.mu.
type checks struct {
	due       bool // what a server said, or may have, does not match
	sample    bool // a server has come: some accounts are to be looked at
	whole     bool // all accounts are to be looked at
	failed    error
	asked     time.Time            // when the store was asked for what is not applied
	listed    time.Time            // when servers were asked for lists
	strangers map[string]bool      // accounts that are not ours and that servers listed
	others    print                // of all accounts that are not ours, as servers store them
	stored    map[string]print     // of each of those of which all servers store one JWT
	said      map[string]print     // what a server said that does not match, by server id
	looked    map[string]print     // the difference of that, after which every account was looked at
	accepted  map[string]print     // a difference for which no account is the reason
	matched   map[string]time.Time // when a server last said what it is to say
	unknown   []string             // accounts of nobody that servers store, sorted
	gone      []string             // accounts that are deleted and that servers store, sorted
	buried    time.Time            // when servers were last asked to drop these
	tried     []string             // what was left of them
	keep      error                // why they are left

	unburied bool // a server has come: it may have what is deleted

	turn []string // of servers that store nothing: accounts that are still to be looked at before all are again
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
	if !r.open || !r.loaded || r.anew.blind {
		return
	}
	setIn(&r.checks.said, s.ID, said)
	if !r.explained(s.ID, r.checks.others, time.Now()) {
		r.checks.due = true
		r.stir()
	}
}

// explained reports whether what a server said last is what it is to say, with that of the accounts that are not ours; r.mu is
// held.
func (r *roster) explained(server string, others print, now time.Time) bool {
	said, spoke := r.checks.said[server]
	if !spoke {
		return true
	}
	accepted := r.checks.accepted[server]
	if !r.prints.matches(said.xor(others).xor(accepted), now) {
		return false
	}
	delete(r.checks.said, server)
	setIn(&r.checks.matched, server, now)
	return true
}

func setIn[V any](to *map[string]V, key string, v V) {
	if *to == nil {
		*to = map[string]V{}
	}
	(*to)[key] = v
}

// joined has some of what a server stores looked at that has come or come back: whether its folder is empty, and whether it takes what did
// not fit.
func (c *Claims) joined(Server) {
	c.disturb("")
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	c.roster.checks.sample, c.roster.checks.unburied = true, true
	for _, k := range c.roster.due {
		if errors.Is(k.problem, ErrClaimsFull) {
			k.next = time.Time{}
		}
	}
	c.roster.stir()
}

// left does nothing: a server that comes back joins.
func (c *Claims) left(string) {}

// onPush looks at an account that somebody else pushed, or with "" at all since some were deleted, and reports whether
// that is all that is to be done.
func (c *Claims) onPush(id, token string) bool {
	c.disturb(id)
	r := c.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open {
		c.r.keys.forget(id)
		return true // the holder of the lease hears it too
	}
	if id == "" {
		r.checks.due = true
		r.stir()
	}
	k := r.accounts[id]
	if k == nil {
		return false
	}
	if p := printOf(token); p != k.print {
		c.r.keys.forget(id)
		r.lookAt(k, atApplied)
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

// sampled has some accounts looked at; r.mu is held.
func (r *roster) sampled() {
	r.checks.sample = false
	n := 0
	for _, k := range r.accounts {
		if k.print == (print{}) {
			continue
		}
		k.sample = true
		r.lookAt(k, atStored)
		if n++; n >= mostSampled {
			return
		}
	}
}

// all has every account looked at; r.mu is held.
func (r *roster) all() {
	for _, k := range r.accounts {
		r.lookAt(k, atStored)
	}
}

// lookAt has an account looked at; r.mu is held.
func (r *roster) lookAt(k *kept, how look) {
	k.look = max(k.look, how)
	r.enqueue(k)
}

// check looks closer at what servers store, where it does not match: first at the accounts that are not ours, then at which
// there are, and at last at each.
func (c *Claims) check(ctx context.Context) error {
	r := c.roster
	r.mu.Lock()
	strangers, wait := r.checks.strangers, listEvery+time.Duration(len(r.accounts))*listEach-time.Since(r.checks.listed)
	r.mu.Unlock()
	if matches, err := c.compare(ctx, strangers); matches || err != nil {
		return err
	}
	if wait > 0 {
		r.later(wait)
		return nil
	}
	lists, err := c.r.list(ctx)
	if err != nil {
		return err
	}
	if len(lists) < c.r.count() {
		r.later(listEvery) // who is too busy to say may lack nothing
		return nil
	}
	strangers, lacking := r.sort(lists)
	if err := c.tell(ctx, strangers); err != nil {
		return err
	}
	if matches, err := c.compare(ctx, strangers); err != nil || matches {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for server, said := range r.checks.said {
		delete(r.checks.said, server)
		if r.prints.matches(said.xor(r.checks.others).xor(lacking[server]), time.Now()) {
			continue // that is all it is, and is repaired
		}
		difference := said.xor(r.checks.others).xor(r.prints.now)
		if before, looked := r.checks.looked[server]; looked && before == difference {
			setIn(&r.checks.accepted, server, difference)
			continue
		}
		setIn(&r.checks.looked, server, difference)
		r.all()
	}
	return nil
}

// later has what servers store looked at again after a while.
func (r *roster) later(wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks.due = true
	time.AfterFunc(wait, r.stir)
}

// sort notes what servers listed: it returns the accounts that are not ours, and the prints of those of ours that each
// lacks, which are looked at then.
func (r *roster) sort(lists map[string]map[string]bool) (strangers map[string]bool, lacking map[string]print) {
	r.mu.Lock()
	defer r.mu.Unlock()
	strangers, lacking = map[string]bool{}, map[string]print{}
	for server, list := range lists {
		for id := range list {
			if r.accounts[id] == nil {
				strangers[id] = true
			}
		}
		for id, k := range r.accounts {
			if k.print != (print{}) && !list[id] {
				lacking[server] = lacking[server].xor(k.print)
				r.lookAt(k, atStored)
			}
		}
	}
	r.checks.listed, r.checks.strangers, r.checks.accepted = time.Now(), strangers, nil
	return strangers, lacking
}

// compare reads what servers store of the accounts that are not ours, and reports whether what every server said is then
// what it is to say.
func (c *Claims) compare(ctx context.Context, strangers map[string]bool) (bool, error) {
	batch := []*delivery{}
	for id := range c.notOurs(strangers) {
		batch = append(batch, &delivery{account: id})
	}
	for part := range slices.Chunk(batch, mostAtOnce) {
		if err := c.r.lookupAll(ctx, part); err != nil {
			return false, err
		}
	}
	var others print
	stored, servers := map[string]print{}, c.r.count()
	for _, d := range batch {
		for _, token := range d.stored {
			if token != "" {
				others = others.xor(printOf(token))
				break // where servers differ, what they say does not match
			}
		}
		if len(d.stored) >= servers && d.stored[0] != "" && !slices.ContainsFunc(d.stored, func(token string) bool { return token != d.stored[0] }) {
			stored[d.account] = printOf(d.stored[0])
		}
	}
	r := c.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	if !maps.Equal(stored, r.checks.stored) {
		c.Wake() // those that are kept and have changed
	}
	r.checks.due, r.checks.others, r.checks.stored = false, others, stored
	all := true
	for server := range maps.Clone(r.checks.said) {
		all = r.explained(server, others, time.Now()) && all
	}
	return all, nil
}

// notOurs returns the accounts that servers store or are to store, and that are not on the roster.
func (c *Claims) notOurs(strangers map[string]bool) map[string]bool {
	all := maps.Clone(strangers)
	if all == nil {
		all = map[string]bool{}
	}
	for id := range c.Closed() {
		all[id] = true
	}
	c.r.mu.RLock()
	for id := range c.r.accounts {
		all[id] = true
	}
	c.r.mu.RUnlock()
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	maps.DeleteFunc(all, func(id string, _ bool) bool { return c.roster.accounts[id] != nil })
	return all
}

// tell notes the accounts that servers store and that are nobody's, or that are deleted.
func (c *Claims) tell(ctx context.Context, strangers map[string]bool) error {
	var ids, unknown, gone []string
	closed := c.Closed()
	for id := range strangers {
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
			if stored[page[i].ID] = true; page[i].State == account.Deleted {
				gone = append(gone, page[i].ID)
			}
		}
	}
	for _, id := range ids {
		if !stored[id] {
			unknown = append(unknown, id)
		}
	}
	c.roster.mu.Lock()
	defer c.roster.mu.Unlock()
	c.roster.checks.unknown = unknown
	c.roster.dig(gone...) // beside those that were deleted since servers were asked
	return nil
}

// ofSelfService reports whether a push is of a self-service account, which is looked at then.
func (r *Resolver) ofSelfService(token string) bool {
	d, err := parseDocument(token)
	if err != nil {
		return false
	}
	id := text(d.claims["sub"])
	ours := r.pushed != nil && r.pushed(id, token)
	if r.needs(id) || r.pushed == nil {
		r.keys.forget(id)
		return false
	}
	return ours
}
