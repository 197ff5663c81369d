package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// mostAtOnce bounds the accounts of one batch, and so what is on the way to servers at once.
	mostAtOnce = 256
	// batchStall ends the gathering of a batch when no answer comes for that long, and [stall] where a server may not
	// have heard the questions; batchLimit ends it whatever comes.
	batchStall = 3 * time.Second
	batchLimit = 15 * time.Second
)

// question is a request that every server answers.
type question struct {
	subject string
	body    []byte
}

// askAll publishes the questions at once and hands each answer to take with the number of its question. It returns
// when take has said of every question that it is done, when no answer comes for as long as [Resolver.patience] says,
// or after [batchLimit]. Questions that nobody listens to are done.
func (r *Resolver) askAll(ctx context.Context, questions []question, take func(i int, data []byte) (done bool)) error {
	if len(questions) == 0 {
		return nil
	}
	if !r.nc.IsConnected() {
		return errDisconnected
	}
	inbox := r.nc.NewInbox()
	sub, err := r.nc.SubscribeSync(inbox + ".*")
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return err
	}
	for i, q := range questions {
		if err := r.nc.PublishRequest(q.subject, inbox+"."+strconv.Itoa(i), q.body); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, batchLimit)
	defer cancel()
	open := map[int]bool{}
	for i := range questions {
		open[i] = true
	}
	for len(open) > 0 {
		one, stop := context.WithTimeout(ctx, r.patience())
		msg, err := sub.NextMsgWithContext(one)
		stop()
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
			return nil
		}
		if err != nil {
			return err
		}
		i, err := strconv.Atoi(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:])
		if err != nil || i < 0 || i >= len(questions) {
			continue
		}
		if msg.Header.Get("Status") == "503" || take(i, msg.Data) {
			delete(open, i)
		}
	}
	return nil
}

// patience returns for how long the next answer of a batch is waited for. Of a server that has just come, or is counted and
// not known yet, the others may not have known who listens there when they were asked to pass the questions on.
func (r *Resolver) patience() time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.unknown() > 0 || time.Since(r.came) < batchStall {
		return stall
	}
	return batchStall
}

// delivery is an account JWT on its way to the servers, and what became of it.
type delivery struct {
	account, token string

	answers int               // of servers that wrote it down
	refused []string          // what servers said that did not
	applied map[string]string // the JWT that each server has applied, by server id; empty: none
	stored  []string          // the JWTs that servers store, in no order; empty: none
}

// deliver gives the JWTs to every server.
func (r *Resolver) deliver(ctx context.Context, batch []*delivery) error {
	servers := r.count()
	questions := make([]question, len(batch))
	for i, d := range batch {
		questions[i] = question{"$SYS.REQ.CLAIMS.UPDATE", []byte(d.token)}
	}
	return r.askAll(ctx, questions, func(i int, data []byte) bool {
		return batch[i].answered(data) >= servers
	})
}

// applies reports whether a server was seen to have applied claims of a configured account that the key signed.
func (r *Resolver) applies(key string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.servers {
		for _, state := range s.accounts {
			if state.Applied && state.Claims != nil && state.Claims.Issuer == key {
				return true
			}
		}
	}
	return false
}

// count returns how many servers are to answer what all are asked.
func (r *Resolver) count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return max(r.active, len(r.servers))
}

// readBack has every server load the accounts, and asks what each stores and has applied of them: only of accounts that
// every server stores, since a server that has to look for one answers nothing else meanwhile.
func (r *Resolver) readBack(ctx context.Context, batch []*delivery) error {
	err := r.load(ctx, batch)
	if err == nil {
		err = r.readApplied(ctx, batch)
	}
	if err == nil {
		err = r.lookupAll(ctx, batch)
	}
	return err
}

// readApplied asks every server what it has applied of each account; "" when it has not loaded it.
func (r *Resolver) readApplied(ctx context.Context, batch []*delivery) error {
	questions, servers := make([]question, len(batch)), r.count()
	for i, d := range batch {
		questions[i], d.applied = question{"$SYS.REQ.ACCOUNT." + d.account + ".INFO", nil}, map[string]string{}
	}
	return r.askAll(ctx, questions, func(i int, data []byte) bool {
		var a info
		if json.Unmarshal(data, &a) != nil || a.Server.ID == "" {
			return false
		}
		batch[i].applied[a.Server.ID] = a.token()
		return len(batch[i].applied) >= servers
	})
}

// lookupAll asks every server what it stores of each account.
func (r *Resolver) lookupAll(ctx context.Context, batch []*delivery) error {
	questions, servers := make([]question, len(batch)), r.count()
	for i, d := range batch {
		questions[i], d.stored = question{"$SYS.REQ.ACCOUNT." + d.account + ".CLAIMS.LOOKUP", nil}, nil
	}
	return r.askAll(ctx, questions, func(i int, data []byte) bool {
		batch[i].stored = append(batch[i].stored, string(data))
		return len(batch[i].stored) >= servers
	})
}

// info is a server's answer to INFO of an account; Data is empty when it has not loaded it.
type info struct {
	Server serverInfo `json:"server"`
	Data   struct {
		JWT     string `json:"jwt"`
		Expired bool   `json:"expired"`
	} `json:"data"`
}

// token returns the JWT that is applied; "" when there is none, as of an account that was deleted there.
func (a info) token() string {
	if a.Data.Expired {
		return ""
	}
	return a.Data.JWT
}

// lackingOf returns the names of the servers that have not applied the JWT of a delivery, and whether any has. With
// unloaded a server need not have loaded it.
func (r *Resolver) lackingOf(d *delivery, unloaded bool) (missing []string, any bool) {
	for _, s := range r.Servers() {
		has, said := d.applied[s.ID]
		any = any || has == d.token
		if has != d.token && !(unloaded && said && has == "") {
			missing = append(missing, s.Name)
		}
	}
	return missing, any
}
