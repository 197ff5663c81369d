package main

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/policy/mint"
	"github.com/gatehouse-nats/gatehouse/store"
)

// mustAgree fails the test unless the store, of which no service runs, has that many accounts, each once, active, with a seed that
// opens and one audit entry of its sign-up, and every server stores and has applied what the store wants, and no other account.
func (r *replica) mustAgree(accounts int) {
	r.Helper()
	cfg, err := config.Load(r.config(), r.env)
	if err != nil {
		r.Fatal(err)
	}
	s, err := openStore(r.Context(), cfg, false, slog.New(slog.DiscardHandler))
	if err != nil {
		r.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	records, seeds := r.records(s), map[string]bool{}
	err = eachSealedKey(r.Context(), s, cfg.Seal(), func(k store.SealedKey, _ *mint.Seed, err error) {
		if seeds[k.Account+" "+k.Public] = err == nil; err != nil {
			r.Errorf("a seed of account %s does not open: %v", k.Account, err)
		}
	})
	if err != nil {
		r.Fatal(err)
	}
	if len(records) != accounts {
		r.Errorf("%d accounts are stored, want %d", len(records), accounts)
	}
	signups := r.signUpEntries(s)
	configured := map[string]bool{}
	for _, id := range []string{r.set.App.ID, r.set.Callout.ID, r.set.System.ID, r.set.Lobby.ID} {
		configured[id] = true
	}
	r.mustStore(records, configured)
	names := map[string]bool{}
	for id, a := range records {
		key := account.Key(a.Name)
		if names[key] {
			r.Errorf("the name %s is of two accounts", a.Name)
		}
		names[key] = true
		if a.State != account.Active || a.Applied != a.Revision {
			r.Errorf("account %s is %s at revision %d, of which servers have %d", a.Name, a.State, a.Revision, a.Applied)
		}
		for _, public := range a.Current() {
			if !seeds[id+" "+public] {
				r.Errorf("the seed of account %s's signing key is lost", a.Name)
			}
		}
		if len(a.Current()) != 1 || signups[id] != 1 {
			r.Errorf("account %s has %d signing keys, and %d audit entries of its sign-up", a.Name, len(a.Current()), signups[id])
		}
		r.mustHave(&a, cfg.Plans()[a.Plan].Limits)
	}
}

// records returns the records of all accounts that are not deleted.
func (r *replica) records(s store.Store) map[string]account.Account {
	r.Helper()
	all := map[string]account.Account{}
	for f := (store.AccountFilter{Limit: store.MaxPage}); ; {
		page, next, err := s.Accounts(r.Context(), f)
		if err != nil {
			r.Fatal(err)
		}
		for _, a := range page {
			all[a.ID] = a
		}
		if f.Cursor = next; next == "" {
			return all
		}
	}
}

// signUpEntries counts the audit entries of sign-ups, by account id.
func (r *replica) signUpEntries(s store.Store) map[string]int {
	r.Helper()
	count := map[string]int{}
	for f := (store.AuditFilter{Kind: store.AdminEntry, Op: api.OpAccountSignup, Outcome: "done", Limit: store.MaxPage}); ; {
		page, next, err := s.Audit(r.Context(), f)
		if err != nil {
			r.Fatal(err)
		}
		for _, e := range page {
			if e.Reason == "signed up" {
				count[e.Target]++
			}
		}
		if f.Cursor = next; next == "" {
			return count
		}
	}
}

// mustStore fails the test unless each server stores these accounts and the configured ones, and no other.
func (w *world) mustStore(records map[string]account.Account, configured map[string]bool) {
	w.Helper()
	for server := range w.servers {
		stored := w.stored(server)
		for id := range stored {
			if _, there := records[id]; !there && !configured[id] {
				w.Errorf("server %d stores account %s, which the store has not", server, id)
			}
		}
		for id, a := range records {
			if stored[id] == "" {
				w.Errorf("server %d does not store account %s", server, a.Name)
			}
		}
	}
}

// mustHave fails the test unless every server stores and has applied the claims that the record asks for.
func (w *world) mustHave(a *account.Account, limits account.Limits) {
	w.Helper()
	operator, err := nkeys.CreateOperator()
	if err != nil {
		w.Fatal(err)
	}
	token, err := account.Claims(a, limits).Encode(operator)
	if err != nil {
		w.Fatal(err)
	}
	want := says(token)
	for subject, lists := range map[string][]string{"stores": w.storedOf(a.ID), "has applied": w.appliedOf(a.ID)} {
		if len(lists) != len(w.servers) {
			w.Errorf("%d of %d servers say what each %s of account %s", len(lists), len(w.servers), subject, a.Name)
		}
		for _, token := range lists {
			claims, err := jwt.DecodeAccountClaims(token)
			if err != nil || says(token) != want || claims.IssuedAt != a.Issued {
				w.Errorf("a server %s of account %s (%v)\n%s, want, signed at %d,\n%s", subject, a.Name, err, says(token), a.Issued, want)
			}
		}
	}
}

// storedOf returns the JWT of an account that each server stores.
func (w *world) storedOf(id string) (tokens []string) {
	w.Helper()
	for server := range w.servers {
		tokens = append(tokens, content(w, filepath.Join(w.jwtFolder(server), id+".jwt")))
	}
	return tokens
}

// appliedOf returns the JWT of an account that each server has applied.
func (w *world) appliedOf(id string) (tokens []string) {
	w.Helper()
	answers, err := w.system.SubscribeSync(nats.NewInbox())
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := w.system.PublishRequest("$SYS.REQ.ACCOUNT."+id+".INFO", answers.Subject, nil); err != nil {
		w.Fatal(err)
	}
	for range w.servers {
		msg, err := answers.NextMsg(30 * time.Second)
		if err != nil {
			w.Fatal(err)
		}
		answer := decodeOne[struct {
			Data struct {
				JWT string `json:"jwt"`
			} `json:"data"`
		}](w, string(msg.Data))
		tokens = append(tokens, answer.Data.JWT)
	}
	return tokens
}
