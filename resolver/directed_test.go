package resolver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/jwt/v2"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/internal/setup"
	"github.com/gatehouse-nats/gatehouse/policy"
)

var (
	resolverBlock = regexp.MustCompile(`(?s)resolver \{.*?\n\}`)
	preloadBlock  = regexp.MustCompile(`(?s)resolver_preload \{.*?\n\}`)
	preloaded     = regexp.MustCompile(`(A[A-Z2-7]{55}): "(\S+)"`)
)

// library gives servers with a URL resolver the accounts that their files preload otherwise, and those that records serve.
type library struct {
	*httptest.Server
	records *records

	mu     sync.Mutex
	tokens map[string]string
}

func newLibrary(t *testing.T, records *records) *library {
	l := &library{records: records, tokens: map[string]string{}}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := strings.TrimPrefix(r.URL.Path, "/")
		l.mu.Lock()
		token := l.tokens[id]
		l.mu.Unlock()
		if token == "" && records.get(id).State != account.Deleted {
			records.mu.Lock()
			token = records.served[id]
			records.mu.Unlock()
		}
		if id != "" && token == "" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, token)
	}))
	t.Cleanup(l.Close)
	return l
}

// configure makes a server's file one with a URL resolver.
func (l *library) configure(conf string) string {
	for _, m := range preloaded.FindAllStringSubmatch(conf, -1) {
		l.mu.Lock()
		l.tokens[m[1]] = m[2]
		l.mu.Unlock()
	}
	return preloadBlock.ReplaceAllString(resolverBlock.ReplaceAllString(conf, "resolver: URL("+l.URL+"/)"), "")
}

// published waits until the accounts are, and no account is ever said to be active.
func (k *keeper) published(t *testing.T, accounts ...signed) {
	t.Helper()
	k.active(t, accounts...)
	for _, a := range accounts {
		if is := k.records.get(a.ID); is.State != account.Published {
			t.Errorf("account %s is %s", a.Name, is.State)
		}
	}
}

// mustHave waits until every server has applied claims of the account that are as told, loading what it has not.
func (k *keeper) mustHave(t *testing.T, id string, as func(*jwt.AccountClaims) bool) {
	t.Helper()
	within(t, soon, func() error {
		list, err := k.r.appliedEverywhere(t.Context(), id)
		if err != nil {
			return err
		}
		for _, has := range list {
			if has.token == "" {
				return fmt.Errorf("%s has none", has.server.Name)
			}
			claims, err := jwt.DecodeAccountClaims(has.token)
			if err != nil {
				return err
			}
			if !as(claims) {
				return fmt.Errorf("%s has other claims: %s", has.server.Name, claims)
			}
		}
		return check(len(list) == len(k.servers), "%d servers", len(list))
	})
}

func closed(c *jwt.AccountClaims) bool { return c.Limits.Conn == 0 && c.Limits.LeafNodeConn == 0 }
func open(c *jwt.AccountClaims) bool   { return c.Limits.Conn != 0 }

// Servers with a URL resolver fetch the accounts that are signed up, are told of each change, and come up with what there is then.
func TestURLResolver(t *testing.T) {
	t.Parallel()
	records := newRecords()
	l := newLibrary(t, records)
	s := startSystemOf(t, setup.Options{Servers: 3, NoJetStream: true}, devtest.InProcess, l.configure)
	k := keepOf(t, s, newLedger(), records, nil, URL)
	accounts := signUp(t, records, 30)
	k.published(t, accounts...)
	for i, a := range accounts {
		if err := a.dial(t, s.servers[i%3].ClientURL()); err != nil {
			t.Errorf("account %d: %v", i, err)
		}
	}
	k.store(policy.Suspension, policy.Target{Account: accounts[0].ID})
	k.mustHave(t, accounts[0].ID, closed)
	if err := accounts[0].dial(t, s.servers[1].ClientURL()); err == nil {
		t.Error("a suspended account lets in")
	}
	s.servers[1].Stop()
	changed := accounts[1]
	changed.Account = records.get(changed.ID)
	changed.Description = "changed meanwhile"
	changed.Account = records.save(changed.Account)
	s.servers[1].Start()
	k.published(t, accounts[1:]...)
	k.mustHave(t, accounts[0].ID, closed)
	k.mustHave(t, changed.ID, func(c *jwt.AccountClaims) bool { return c.Description == "changed meanwhile" })
	if n := k.drifted(string(foreign)) + k.drifted(string(older)) + k.drifted(string(absent)); n != 0 {
		t.Errorf("%d servers counted that had fetched what there was", n)
	}

	gone := accounts[2]
	gone.Account = records.get(gone.ID)
	gone.State = account.Deleted
	records.save(gone.Account)
	within(t, soon, func() error {
		if err := gone.dial(t, s.servers[2].ClientURL()); err == nil {
			return fmt.Errorf("a deleted account lets in")
		}
		return nil
	})
}

// What servers with a memory resolver were told they have lost when they start anew, and are told again. An account that their files
// do not preload waits until they do.
func TestMemoryResolverKeepsAccounts(t *testing.T) {
	t.Parallel()
	records := newRecords()
	accounts := signUp(t, records, 4)
	old := map[string]string{}
	preload := func(of []signed) func(string) string {
		return func(conf string) string {
			var lines []string
			for _, a := range of {
				records.mu.Lock()
				if token := records.served[a.ID]; token != "" {
					old[a.ID] = token
				}
				records.mu.Unlock()
				lines = append(lines, fmt.Sprintf("  %s: %q", a.ID, old[a.ID]))
			}
			return resolverBlock.ReplaceAllString(strings.Replace(conf, "resolver_preload {", "resolver_preload {\n"+strings.Join(lines, "\n"), 1), "resolver: MEMORY")
		}
	}
	s := startSystemOf(t, setup.Options{Servers: 3, NoJetStream: true}, devtest.InProcess, preload(nil))
	k := keepOf(t, s, newLedger(), records, nil, Memory)
	within(t, soon, func() error {
		problems := strings.Join(k.c.Status().Problems, "\n")
		return check(strings.Contains(problems, "account preload"), "problems: %s", problems)
	})
	for _, a := range accounts {
		if is := records.get(a.ID); is.State != account.Creating {
			t.Errorf("account %s is %s, and no server has it", a.Name, is.State)
		}
	}
	within(t, soon, func() error {
		records.mu.Lock()
		defer records.mu.Unlock()
		return check(len(records.served) == len(accounts), "%d are there to be preloaded", len(records.served))
	})
	for i, server := range s.servers {
		rewrite(t, s.confs[i], preload(accounts))
		server.Stop()
		server.Start()
	}
	k.published(t, accounts...)
	for i, a := range accounts {
		if err := a.dial(t, s.servers[i%3].ClientURL()); err != nil {
			t.Errorf("account %d: %v", i, err)
		}
	}
	k.store(policy.Suspension, policy.Target{Account: accounts[0].ID})
	k.mustHave(t, accounts[0].ID, closed)
	gone := accounts[1]
	gone.Account = records.get(gone.ID)
	gone.State = account.Deleted
	records.save(gone.Account)
	k.mustHave(t, gone.ID, closed)

	s.servers[2].Stop()
	s.servers[2].Start() // with what its file has
	k.mustHave(t, accounts[0].ID, closed)
	k.mustHave(t, gone.ID, closed)
	k.mustHave(t, accounts[3].ID, open)
	within(t, soon, func() error {
		return check(k.drifted(string(older)) > 0, "no server was counted that had older claims")
	})
}

// Servers are seen to have another resolver than is configured.
func TestResolverOfAnotherKind(t *testing.T) {
	t.Parallel()
	memory := startSystemOf(t, setup.Options{Servers: 1, NoJetStream: true}, devtest.InProcess, func(conf string) string { return resolverBlock.ReplaceAllString(conf, "resolver: MEMORY") })
	full := startSystem(t, 3)
	for name, test := range map[string]struct {
		*system
		kind Kind
		want string
	}{
		"memory for full": {memory, Full, "no server has a resolver of type full"},
		"memory":          {memory, Memory, ""},
		"full for memory": {full, Memory, "of 3 servers 3 have a resolver of type full"},
		"full for url":    {full, URL, "nats.resolver.type is url"},
		"full":            {full, Full, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := test.run(t, Options{Kind: test.kind, Interval: never}, map[string]Requirement{test.App.ID: {Name: test.App.Name, SigningKeys: test.app.SigningKeys}})
			within(t, soon, func() error {
				r.Wake()
				r.mu.RLock()
				taken := r.census.taken && r.census.among == len(test.servers)
				r.mu.RUnlock()
				return check(taken, "the servers were not counted")
			})
			warnings := strings.Join(r.Warnings(), "\n")
			if test.want == "" && warnings != "" || !strings.Contains(warnings, test.want) {
				t.Errorf("got %q, want %q", warnings, test.want)
			}
		})
	}
}
