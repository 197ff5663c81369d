package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

const (
	planlessShown = 5               // accounts of a plan that is gone which are named
	planlessWait  = 5 * time.Second // of gatehouse check, for who knows the accounts
)

// planless is a plan that accounts are of and the configuration has not.
type planless struct {
	plan     string
	accounts []string // their names, sorted
}

// String says what is wrong, and what to do.
func (p planless) String() string {
	names, more := p.accounts, ""
	if len(names) > planlessShown {
		names, more = names[:planlessShown], ", …"
	}
	return fmt.Sprintf("plan %s is not in the configuration, and %s of it (%s%s): nobody gets into them as a member, and their limits stay as they were last written; "+
		"put the plan back, or give them another (gatehouse account update NAME --plan PLAN)", p.plan, areOf(len(p.accounts)), strings.Join(names, ", "), more)
}

func areOf(n int) string {
	if n == 1 {
		return "1 account is"
	}
	return fmt.Sprintf("%d accounts are", n)
}

// planlessOf returns the plans that accounts are of and that are none of these, by name. accounts calls yield with each account.
func planlessOf[Plan any](plans map[string]Plan, accounts func(yield func(name, plan string))) []planless {
	lost := map[string][]string{}
	accounts(func(name, plan string) {
		if _, there := plans[plan]; !there {
			lost[plan] = append(lost[plan], name)
		}
	})
	var list []planless
	for _, plan := range slices.Sorted(maps.Keys(lost)) {
		slices.Sort(lost[plan])
		list = append(list, planless{plan, lost[plan]})
	}
	return list
}

// planlessIn is [planlessOf] for what decisions know.
func planlessIn(d *policy.Directory, plans map[string]*policy.Plan) []planless {
	return planlessOf(plans, func(yield func(name, plan string)) {
		d.All(func(e *policy.Entry) bool {
			yield(e.Account.Name, e.Plan)
			return true
		})
	})
}

// planlessWatch keeps what was found last: accounts are many, and seldom change between two looks.
type planlessWatch struct {
	mu       sync.Mutex
	accounts *policy.Directory
	rules    *policy.Rules
	list     []planless
}

// look returns the plans of accounts that the rules of the snapshot have not; none before there is one.
func (w *planlessWatch) look(s *policy.Snapshot) []planless {
	if s == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.accounts != s.Accounts || w.rules != s.Rules {
		w.accounts, w.rules, w.list = s.Accounts, s.Rules, planlessIn(s.Accounts, s.Rules.Plans)
	}
	return w.list
}

// missPlans records the plans of accounts that a reload has taken away, and returns what is to be said of all that are missing.
func (d *daemon) missPlans(before, now *config.Config) (warnings []string) {
	s := d.mirror.Snapshot()
	if s == nil {
		return nil
	}
	for _, p := range planlessIn(s.Accounts, now.Rules().Plans) {
		warnings = append(warnings, p.String())
		if before.Rules().Plans[p.plan] == nil {
			continue
		}
		d.log.Error("a plan that accounts are of was taken out of the configuration", "plan", p.plan, "accounts", len(p.accounts), "why", p.String())
		err := d.spool.Append(store.AuditEntry{
			ID: uuid.Must(uuid.NewV7()).String(), At: d.now().UTC(), Kind: store.AdminEntry, Op: api.OpReload, Actor: "gatehouse", Outcome: "done",
			Reason: "a plan that accounts are of was taken out of the configuration", Target: "plan " + p.plan, Detail: p.String(), Replica: d.replica, Rules: now.Rules().Version,
		})
		if err != nil {
			d.log.Error("that a plan was taken away could not be recorded", "plan", p.plan, "error", err)
		}
	}
	return warnings
}

// planlessHere returns the plans that accounts are of and the configuration has not: as the service on this host says, or the database
// file where none runs. A store that cannot be read, or is elsewhere, says nothing.
func (c *cli) planlessHere(ctx context.Context, cfg *config.Config) []planless {
	if c.remote.url != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, planlessWait)
	defer cancel()
	var failed error
	list := planlessOf(cfg.Plans(), func(yield func(name, plan string)) {
		if failed = eachServed(ctx, string(cfg.Socket), yield); provision.NobodyServes(failed) {
			failed = eachStored(ctx, cfg, yield)
		}
	})
	if failed != nil {
		return nil
	}
	return list
}

// eachServed calls yield with each account that the service on the socket knows.
func eachServed(ctx context.Context, socket string, yield func(name, plan string)) error {
	req := api.AccountListRequest{Limit: store.MaxPage}
	for {
		page, err := post[api.AccountsPage](ctx, provision.Client(socket), "http://local", api.OpAccountList, "", req)
		if err != nil {
			return err
		}
		for _, a := range page.Accounts {
			yield(a.Name, a.Plan)
		}
		if req.Cursor = page.Cursor; page.Cursor == "" {
			return nil
		}
	}
}

// eachStored calls yield with each account in the database file, if that is there.
func eachStored(ctx context.Context, cfg *config.Config, yield func(name, plan string)) error {
	if cfg.Store.Driver() != config.SQLite {
		return nil
	}
	if _, err := os.Stat(cfg.Store.Source()); err != nil {
		return err
	}
	s, err := openStore(ctx, cfg, false, nil)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	for f := (store.AccountFilter{}); ; {
		page, next, err := s.Accounts(ctx, f)
		if err != nil {
			return err
		}
		for i := range page {
			yield(page[i].Name, page[i].Plan)
		}
		if f.Cursor = next; next == "" {
			return nil
		}
	}
}
