package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
)

// servedPolicy lets developers sign up for accounts whose members may hold user JWTs for keys of their own.
const servedPolicy = `roles:
  app:
    publish: { allow: [">"] }
    subscribe: { allow: [">"] }
plans:
  free: { roles: [app], per_subject: 3, direct: { ttl: 1h } }
bindings:
  - name: sign-up
    issuer: demo
    match: { groups: dev }
    grant: { sign_up: [free] }
`

// fetched returns what the service gives a server that fetches the path, with its status.
func (r *replica) fetched(path string) (code int, body string) {
	r.Helper()
	resp, err := http.Get(r.http + api.AccountsPath + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	if is := resp.Header.Get("Content-Type"); resp.StatusCode == http.StatusOK && is != "application/jwt" {
		r.Errorf("%q is of type %s", path, is)
	}
	return resp.StatusCode, string(content)
}

// newForgetful makes a set-up with servers that store no claims, and its service. Gatehouse starts first.
func newForgetful(t *testing.T, o worldOptions) *replica {
	t.Helper()
	o.policy, o.noServers = servedPolicy, true
	w := newWorld(t, o)
	r := w.newReplica(serveOptions{})
	r.start(false)
	if o.resolver == "url" {
		eventually(t, func() error {
			if code, body := r.fetched(""); code != http.StatusOK {
				return fmt.Errorf("%d %s", code, body)
			}
			return nil
		})
	}
	w.startServers(o)
	r.mustGetReady()
	return r
}

// signUpFor signs up for an account, and returns it once its state is as wanted.
func (r *replica) signUpFor(name, file, state string) (up api.AccountSignup) {
	r.Helper()
	eventually(r, func() error {
		up = decodeOne[api.AccountSignup](r, r.must("account", "signup", "--name", name, "--plan", "free", "--url", r.http, "--token-file", file, "--json"))
		if up.State != state {
			return fmt.Errorf("account %s is %s", name, up.State)
		}
		return nil
	})
	return up
}

// TestAccountsOfForgetfulServers: where servers store no claims, an account is had, is published and never active, its members log
// in by their tokens and by creds, and what is revoked and suspended is so on a server that starts anew.
func TestAccountsOfForgetfulServers(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]worldOptions{
		"url":            {resolver: "url", servers: 3},
		"url process":    {resolver: "url", mode: devtest.AsProcess},
		"memory":         {resolver: "memory"},
		"memory process": {resolver: "memory", servers: 3, mode: devtest.AsProcess},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newForgetful(t, o)
			alice := r.personFile("alice")
			if o.resolver == "memory" {
				r.signUpFor("orders", alice, "creating")
				eventually(t, func() error {
					if status := r.must("status"); !strings.Contains(status, "write what gatehouse account preload prints into their resolver_preload") {
						return errors.New(status)
					}
					return nil
				})
				r.preloadServers(o.mode)
			}
			up := r.signUpFor("orders", alice, "published")
			if got := decodeOne[api.Account](t, r.must("account", "get", "orders", "--json")); got.State != "published" || got.Applied != got.Revision {
				t.Errorf("got %+v", got)
			}
			last := len(r.servers) - 1
			r.mustEnterAccount(last, "orders", alice)
			file := filepath.Join(r.dir, "alice.creds")
			r.must("creds", "--account", "orders", "--out", file, "--token-file", alice, "--url", r.http)
			connect := func() error {
				nc, err := nats.Connect(r.servers[last].ClientURL(), nats.UserCredentials(file), nats.NoReconnect(), nats.IgnoreDiscoveredServers())
				if err == nil {
					nc.Close()
				}
				return err
			}
			eventually(t, connect)
			r.mustBeServed(o.resolver, up.Account)

			r.restartServer(last, o.mode)
			eventually(t, connect)
			r.mustEnterAccount(last, "orders", alice)

			r.must("revoke", "--issuer", "demo", "--subject", "alice", "--reason", "left", "--wait")
			if connect() == nil {
				t.Error("a revoked user JWT lets in")
			}
			r.restartServer(last, o.mode)
			eventually(t, func() error { // a memory resolver has the claims from before, until it is told
				if connect() == nil {
					return errors.New("a revoked user JWT lets in")
				}
				return nil
			})
			r.must("account", "suspend", "orders", "--reason", "unpaid")
			eventually(t, func() error {
				if claims := r.appliedOn(last, up.Account); claims == nil || claims.Limits.Conn != 0 {
					return fmt.Errorf("the server has %v", claims)
				}
				return nil
			})
			if o.resolver == "url" {
				_, token := r.fetched(up.Account)
				if claims, err := jwt.DecodeAccountClaims(token); err != nil || claims.Limits.Conn != 0 {
					t.Errorf("served of a suspended account: %v %v", claims, err)
				}
			}
		})
	}
}

// mustBeServed looks at what servers may fetch.
func (r *replica) mustBeServed(resolver, account string) {
	r.Helper()
	if resolver == "memory" {
		if code, _ := r.fetched(account); code != http.StatusNotFound {
			r.Errorf("servers that fetch nothing are given an account: %d", code)
		}
		return
	}
	for path, want := range map[string]int{
		account: http.StatusOK, r.set.System.ID: http.StatusOK, r.set.App.ID: http.StatusOK, "": http.StatusOK,
		strings.Repeat("A", 56): http.StatusNotFound, "orders": http.StatusNotFound, account + "%0A": http.StatusNotFound,
		r.set.App.ID[:55]: http.StatusNotFound, account + "/": http.StatusNotFound,
	} {
		if code, body := r.fetched(path); code != want {
			r.Errorf("%q is answered %d: %s", path, code, body)
		}
	}
}

// preloadServers writes what servers are to preload, and has them read it.
func (r *replica) preloadServers(mode devtest.Mode) {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "preload.conf"), []byte(r.must("account", "preload")), 0o600); err != nil {
		r.Fatal(err)
	}
	for _, s := range r.servers {
		if mode == devtest.InProcess {
			s.Restart()
		} else {
			s.Reload()
		}
	}
}

// restartServer restarts a server and returns when it is ready.
func (r *replica) restartServer(i int, mode devtest.Mode) {
	r.Helper()
	if mode == devtest.InProcess {
		r.servers[i].Restart()
	} else {
		r.servers[i].Kill()
		r.servers[i].Start()
	}
	devtest.AwaitReady(r, r.servers...)
	r.mustGetReady()
}

// appliedOn returns what a server has applied of an account; nil when it has not loaded it.
func (r *replica) appliedOn(i int, account string) *jwt.AccountClaims {
	r.Helper()
	resp, err := http.Get(r.servers[i].MonitorURL() + "/accountz?acc=" + account)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	out := decodeOne[struct {
		Detail struct {
			JWT string `json:"jwt"`
		} `json:"account_detail"`
	}](r, string(content))
	claims, err := jwt.DecodeAccountClaims(out.Detail.JWT)
	if err != nil {
		return nil
	}
	return claims
}
