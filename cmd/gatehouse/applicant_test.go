package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// applicantPolicy lets developers into the lobby, and sign up for as many accounts as they like.
const applicantPolicy = `roles:
  app:
    publish: { allow: [">"] }
    subscribe: { allow: [">"] }
plans:
  free: { roles: [app], per_subject: 1000, connections: 20 }
bindings:
  - name: sign-up
    issuer: demo
    match: { groups: dev }
    grant: { sign_up: [free] }
  - name: visitors
    issuer: demo
    match: { groups: dev }
    grant: { lobby: true }
`

// callLimit ends a call that is not answered.
const callLimit = 10 * time.Second

// applicant is a client that signs up for accounts, one after another.
type applicant struct {
	*world
	token string
	// call signs up once.
	call func(ctx context.Context, req api.AccountSignupRequest) (api.AccountSignup, error)
	made []signedUp
}

// signedUp is an account that an applicant was told is active.
type signedUp struct {
	api.AccountSignup
	answered time.Duration // after the first call
	entered  time.Duration // after the first call
	calls    int
	logins   int
}

// applicants returns clients of identities of their own. Every other one calls from the lobby, over NATS; the rest over HTTP, the
// replicas in turn whenever one does not answer.
func (w *world) applicants(n int, replicas ...*replica) []*applicant {
	w.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: n}
	w.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	list := make([]*applicant, n)
	for i := range list {
		subject := someone()
		a := &applicant{world: w, token: w.token("alice", developer(subject))}
		if i%2 == 0 {
			a.call = w.fromLobby(subject, a.token)
		} else {
			next := i / 2
			a.call = func(ctx context.Context, req api.AccountSignupRequest) (api.AccountSignup, error) {
				up, err := post[api.AccountSignup](ctx, client, replicas[next%len(replicas)].http, api.OpAccountSignup, a.token, req)
				if _, answered := errors.AsType[*api.Error](err); err != nil && !answered {
					next++
				}
				return up, err
			}
		}
		list[i] = a
	}
	return list
}

// fromLobby returns how an identity signs up over NATS.
func (w *world) fromLobby(subject, token string) func(context.Context, api.AccountSignupRequest) (api.AccountSignup, error) {
	w.Helper()
	var nc *nats.Conn
	eventually(w, func() (err error) {
		nc, err = nats.Connect(w.set.ClientURL(), nats.UserInfo("account:"+policy.LobbyName, token), nats.Timeout(5*time.Second),
			nats.CustomInboxPrefix(policy.InboxPrefix(w.provider.Issuer(), subject)), nats.MaxReconnects(-1))
		return err
	})
	w.Cleanup(nc.Close)
	return func(ctx context.Context, req api.AccountSignupRequest) (up api.AccountSignup, err error) {
		msg := nats.NewMsg(api.Subject(api.OpAccountSignup))
		msg.Header.Set("Authorization", "Bearer "+token)
		if msg.Data, err = json.Marshal(req); err != nil {
			return up, err
		}
		answer, err := nc.RequestMsgWithContext(ctx, msg)
		if err != nil {
			return up, err
		}
		if answer.Header.Get("Nats-Service-Error-Code") != "" {
			refused := &api.Error{}
			return up, errors.Join(json.Unmarshal(answer.Data, refused), refused)
		}
		return up, json.Unmarshal(answer.Data, &up)
	}
}

// signUp calls until an account is active, then logs in to it at the server until that works, and notes it.
func (a *applicant) signUp(t testing.TB, name string, server int) {
	t.Helper()
	began := time.Now()
	done := signedUp{}
	if !untilWithin(t, 2*time.Minute, func() error {
		done.calls++
		ctx, cancel := context.WithTimeout(context.Background(), callLimit)
		defer cancel()
		up, err := a.call(ctx, api.AccountSignupRequest{Name: name, Plan: "free"})
		if err != nil {
			return fmt.Errorf("sign up for %s: %w", name, err)
		}
		if done.Account != "" && up.Account != done.Account {
			t.Errorf("%s was answered with the accounts %s and %s", name, done.Account, up.Account)
		}
		if done.AccountSignup = up; up.State != "active" {
			return fmt.Errorf("%s is %s", name, up.State)
		}
		return nil
	}) {
		return
	}
	done.answered = time.Since(began)
	if untilWithin(t, 2*time.Minute, func() error {
		done.logins++
		nc, err := nats.Connect(a.servers[server].ClientURL(), nats.UserInfo("account:"+name, a.token), nats.Timeout(5*time.Second),
			nats.NoReconnect(), nats.IgnoreDiscoveredServers())
		if err != nil {
			return fmt.Errorf("log in to %s: %w", name, err)
		}
		done.entered = time.Since(began)
		nc.Close()
		return nil
	}) {
		a.made = append(a.made, done)
	}
}

// untilWithin is [eventuallyWithin] for goroutines that are not the test's own: it reports whether check succeeded. It gives up
// at once when the service says that trying again does not help.
func untilWithin(t testing.TB, limit time.Duration, check func() error) bool {
	t.Helper()
	for deadline := time.Now().Add(limit); ; <-time.After(20 * time.Millisecond) {
		err := check()
		if err == nil {
			return true
		}
		refused, answered := errors.AsType[*api.Error](err)
		if time.Now().After(deadline) || answered && refused.RetryAfter == 0 {
			t.Errorf("not after %s: %v", limit, err)
			return false
		}
	}
}
