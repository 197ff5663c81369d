package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/cmd/gatehouse/config"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// A revocation that is stored reaches the claims without anybody's help: a direct user, who never passes through
// Gatehouse, is out at once and in again once it is lifted; the key of a program only when programs are meant.
func TestStoredRevocationsReachTheClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{servers: 3})
	cfg, err := config.Load(w.dir+"/gatehouse.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d, err := newDaemon(ctx, cfg, nil, time.Now, devtest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		d.close()
	})
	lost, back := make(chan struct{}, 1000), make(chan struct{}, 1000)
	nc, err := nats.Connect(w.set.ClientURL(), w.emergency("app"), nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.IgnoreAuthErrorAbort(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
		nats.DisconnectErrHandler(func(*nats.Conn, error) { lost <- struct{}{} }), nats.ReconnectHandler(func(*nats.Conn) { back <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	app := w.set.App.ID
	suspension := store.Revocation{Revocation: policy.Revocation{ID: "s", Kind: policy.Suspension, Target: policy.Target{Account: app}, At: time.Now()}, Reason: "test", Actor: "test"}
	if _, _, err := d.store.Revoke(ctx, suspension, ""); err != nil {
		t.Fatal(err)
	}
	happens := func(what string, events <-chan struct{}) {
		t.Helper()
		select {
		case <-events:
		case <-time.After(time.Minute):
			t.Fatalf("the direct user is not %s", what)
		}
	}
	happens("closed", lost)
	eventually(t, func() error {
		converged, why, err := d.claims.Converged(ctx, suspension)
		if err == nil && !converged {
			err = errors.New(why)
		}
		return err
	})
	if s := d.claimsStatus(); s.Unmanaged != "" || !s.Writer || s.Accounts != 1 {
		t.Errorf("status %+v", s)
	}
	if _, err := d.store.Lift(ctx, store.Lift{ID: "s", At: time.Now(), Actor: "test", Note: "over"}); err != nil {
		t.Fatal(err)
	}
	happens("let in again", back)

	owner := policy.Principal{Issuer: w.provider.Issuer(), Subject: "alice"}
	program := store.UserKey{Key: "U", Account: "APP", AccountID: app, Issuer: owner.Issuer, Subject: owner.Subject, Name: "prog-1", Program: "1", Issued: time.Now(), Expires: time.Now().Add(time.Hour)}
	if err := d.store.AddUserKey(ctx, program, 1); err != nil {
		t.Fatal(err)
	}
	keys := []store.UserKey{program}
	for id, programs := range map[string]bool{"without": false, "with": true} {
		block := store.Revocation{Revocation: policy.Revocation{ID: id, Kind: policy.Block, Target: policy.Target{Principal: owner}, At: time.Now(), Programs: programs}, Reason: "test", Actor: "test"}
		if _, _, err := d.store.Revoke(ctx, block, ""); err != nil {
			t.Fatal(err)
		}
		claimed, err := d.claimed(ctx, keys)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, r := range claimed {
			found = found || r.ID == id && r.Programs == programs
		}
		if !found {
			t.Errorf("block %s programs: %+v", id, claimed)
		}
	}
	if claimed, err := d.claimed(ctx, nil); err != nil || len(claimed) != 0 {
		t.Errorf("blocks of who has no key: %+v, %v", claimed, err)
	}
}

// TestProblemsNameAccounts: whoever looks at the status sees by its name which account has a problem.
func TestProblemsNameAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: exchangePolicy})
	path := filepath.Join(w.dir, w.set.ServerFile(0))
	conf, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(conf, "\nmax_payload: 4096\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	w.servers[0].Restart()
	devtest.AwaitReady(t, w.servers...)
	r := w.serve(serveOptions{})
	var tags []string
	for i := range account.MaxTags {
		tags = append(tags, fmt.Sprintf("%062d%02d", 0, i))
	}
	made := r.command("account", "signup", "--name", "large", "--plan", "free", "--issuer", "demo", "--subject", "alice", "--json",
		"--description", strings.Repeat("x", account.MaxDescription), "--tag", strings.Join(tags, ","))
	large := decodeOne[api.AccountSignup](t, made.out)
	eventually(t, func() error {
		status, want := r.command("status").out, "account claims: account large ("+large.Account+"): "
		if !strings.Contains(status, want) || !strings.Contains(status, "max_payload") {
			return fmt.Errorf("status says\n%s\nwithout %q", status, want)
		}
		return nil
	})
}
