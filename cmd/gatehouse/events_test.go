package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/store/events"
)

// signUpPolicy lets developers sign up for accounts, and log into theirs.
const signUpPolicy = worldPolicy + `  - name: sign-up
    issuer: demo
    match: { groups: dev }
    grant: { sign_up: [team] }
plans:
  team: { roles: [developer], per_subject: 1000 }
`

// newSignUpWorld is a world of accounts by sign-up; more is added to its configuration.
func newSignUpWorld(t *testing.T, o worldOptions, more string) *world {
	t.Helper()
	if o.policy == "" {
		o.policy = signUpPolicy
	}
	w := newWorld(t, o)
	if more != "" {
		w.edit(func(yaml string) string { return yaml + more })
	}
	return w
}

// call calls an operation over HTTP and decodes what it answers.
func (r *replica) call(op, token string, req, into any) error {
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	call, err := http.NewRequestWithContext(r.Context(), http.MethodPost, r.http+api.Path(op), bytes.NewReader(body))
	if err != nil {
		return err
	}
	call.Header.Set("Authorization", "Bearer "+token)
	call.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(call)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d: %s", op, resp.StatusCode, text)
	}
	return json.Unmarshal(text, into)
}

// told are the events that somebody has, by account and type.
type told struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (v *told) add(e events.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seen == nil {
		v.seen = map[string]bool{}
	}
	v.seen[e.Account+" "+e.Type] = true
}

func (v *told) any() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.seen) > 0
}

func (v *told) has(account, name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seen[account+" account."+name]
}

// A portal is told of every account, on NATS and by its webhook, however often the service is killed and the portal is down.
func TestEventsSurvive(t *testing.T) {
	t.Parallel()
	var posted, published told
	var requests atomic.Int64
	portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e events.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || requests.Add(1)%4 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		posted.add(e)
	}))
	t.Cleanup(portal.Close)
	w := newSignUpWorld(t, worldOptions{}, fmt.Sprintf("events: { webhooks: [{ url: %q, secret: keys/portal.secret }] }\n", portal.URL))
	if err := os.WriteFile(filepath.Join(w.dir, "keys", "portal.secret"), []byte("whsec_"+strings.Repeat("QUJD", 10)), 0o600); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(w.set.ClientURL(), nats.UserCredentials(filepath.Join(w.dir, "creds", "callout.creds")), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := nc.Subscribe(events.Subjects+".>", func(m *nats.Msg) {
		var e events.Event
		if err := json.Unmarshal(m.Data, &e); err != nil || m.Subject != events.Subjects+"."+e.Short()+"."+e.Account {
			t.Errorf("%s: %s", m.Subject, m.Data)
		}
		published.add(e)
	}); err != nil {
		t.Fatal(err)
	}
	r := w.serve(serveOptions{process: true})
	token := w.token("alice", developer(someone()))
	var out api.AccountSignup
	probes := 0
	eventually(t, func() error { // whoever is new is told of what happens from then on
		probes++
		err := r.call(api.OpAccountSignup, token, api.AccountSignupRequest{Name: fmt.Sprintf("probe-%d", probes), Plan: "team"}, &out)
		if err == nil && (!posted.any() || !published.any()) {
			err = errors.New("nothing is told")
		}
		return err
	})
	var accounts []string
	for round := range 3 {
		for i := range 5 {
			name := fmt.Sprintf("team-%d-%d", round, i)
			eventually(t, func() error {
				return r.call(api.OpAccountSignup, token, api.AccountSignupRequest{Name: name, Plan: "team"}, &out)
			})
			accounts = append(accounts, out.Account)
		}
		r.kill() // with events in the store, sent and not noted, or noted
		r.start(true)
		r.mustGetReady()
	}
	for what, v := range map[string]*told{"posted": &posted, "published": &published} {
		eventually(t, func() error {
			for _, id := range accounts {
				for _, name := range []string{events.Created, events.Active} {
					if !v.has(id, name) {
						return fmt.Errorf("%s of %s was not %s", name, id, what)
					}
				}
			}
			return nil
		})
	}
}
