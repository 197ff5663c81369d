package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store/postgres"
	"github.com/gatehouse-nats/gatehouse/store/storetest"
)

// person is an identity with connections on several servers.
type person struct {
	subject, token string
	conns          []*nats.Conn
	closed         sync.WaitGroup // of the connections
	free           sync.WaitGroup // of the block before
	last           atomic.Int64   // when the last one closed, in nanoseconds
}

// connectPerson opens n connections, in turn on each server.
func (w *world) connectPerson(p *person, n int) {
	w.Helper()
	p.conns = make([]*nats.Conn, n)
	p.closed.Add(n)
	for i := range p.conns {
		url := w.servers[i%len(w.servers)].ClientURL()
		eventually(w, func() error {
			nc, err := dial(url, p.token, nats.ClosedHandler(func(*nats.Conn) {
				p.last.Store(time.Now().UnixNano())
				p.closed.Done()
			}))
			p.conns[i] = nc
			return err
		})
	}
}

// admits asks a replica whether it would admit the token.
func (r *replica) admits(token string) (bool, error) {
	got, err := post[api.Whoami](r.Context(), http.DefaultClient, r.http, api.OpWhoami, token, api.WhoamiRequest{})
	return got.Allowed, err
}

// deniedAt waits until the replica denies the token, and returns when it was first seen to.
func (r *replica) deniedAt(token string) time.Time {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		allowed, err := r.admits(token)
		if refused, ok := errors.AsType[*api.Error](err); err == nil && !allowed || ok && refused.Reason != api.ReasonRateLimited {
			return time.Now()
		}
		<-time.After(time.Millisecond)
	}
	return time.Time{}
}

// call carries out an operation through the replica's local socket.
func call[Resp any](r *replica, op string, req any) (Resp, error) {
	return post[Resp](r.Context(), provision.Client(r.socket()), "http://local", op, "", req)
}

func (r *replica) socket() string {
	for _, e := range r.env {
		if path, ok := strings.CutPrefix(e, "GATEHOUSE_SOCKET="); ok {
			return path
		}
	}
	r.Fatal("the replica has no socket")
	return ""
}

// durations are measured by several goroutines.
type durations struct {
	mu   sync.Mutex
	list []time.Duration
}

func (d *durations) add(one time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, one)
}

// percentile returns the value that so many percent of the list do not exceed.
func percentile(list []time.Duration, percent int) time.Duration {
	list = slices.Clone(list)
	slices.Sort(list)
	return list[min(len(list)-1, len(list)*percent/100)]
}

// trickle logs in and leaves, so many times a second, until the test ends or stop is called.
func (w *world) trickle(perSecond int) (stop func() (admitted, refused int64)) {
	var ok, bad atomic.Int64
	token := w.token("alice", developer(someone()))
	quit, done := make(chan struct{}), sync.WaitGroup{}
	done.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			done.Go(func() {
				nc, err := dial(w.servers[n%len(w.servers)].ClientURL(), token)
				switch {
				case err == nil:
					ok.Add(1)
					nc.Close()
				case errors.Is(err, nats.ErrAuthorization):
					bad.Add(1)
				}
			})
		}
	})
	return func() (int64, int64) {
		select {
		case <-quit:
		default:
			close(quit)
		}
		done.Wait()
		return ok.Load(), bad.Load()
	}
}

// TestProveBlock blocks one identity after the other while others connect: every replica denies it, all of its
// connections on all servers close, and nobody else's do.
func TestProveBlock(t *testing.T) {
	t.Parallel()
	people, times := 10, 12
	if long() {
		people, times = 200, 1000
	}
	const each = 5
	w := newWorld(t, worldOptions{servers: 3, mode: devtest.AsProcess})
	o := serveOptions{process: true, store: storetest.Postgres(t, postgres.Migrate)}
	replicas := []*replica{w.serve(o), w.serve(o)}
	all := make([]*person, people)
	for i := range all {
		subject := someone()
		all[i] = &person{subject: subject, token: w.token("alice", developer(subject))}
		w.connectPerson(all[i], each)
	}
	stop := w.trickle(100)
	defer stop()
	var denied, closed []time.Duration
	var proved durations
	pace := time.NewTicker(200 * time.Millisecond)
	defer pace.Stop()
	for n := range times {
		p := all[n%people]
		p.free.Wait()
		<-pace.C
		var confirmed sync.WaitGroup
		at := make([]time.Time, len(replicas))
		for i, r := range replicas {
			confirmed.Go(func() { at[i] = r.deniedAt(p.token) })
		}
		req := api.RevokeRequest{Target: api.Target{Issuer: "demo", Subject: p.subject}, Reason: "a proof"}
		got, err := call[api.RevokeResult](replicas[n%2], api.OpRevoke, req)
		if err != nil {
			t.Fatal(err)
		}
		commit := got.Revocation.At // before the transaction began
		confirmed.Wait()
		for i := range replicas {
			if at[i].IsZero() {
				t.Fatalf("%s still admits the blocked identity", replicas[i].name)
			}
			denied = append(denied, at[i].Sub(commit))
		}
		p.closed.Wait() // the test's own time limit ends it
		closed = append(closed, time.Unix(0, p.last.Load()).Sub(commit))
		p.free.Go(func() {
			// While others are blocked: the proof takes the servers' auth timeout.
			progress := w.proved(replicas[(n+1)%2], got.Revocation.ID)
			if progress.Replicas < len(replicas) || progress.ServersAnswered < len(w.servers) || progress.Left != 0 {
				t.Errorf("proved with %+v", progress)
			}
			proved.add(time.Duration(progress.TookMS) * time.Millisecond)
			if _, err := call[api.LiftResult](replicas[n%2], api.OpRevokeLift, api.LiftRequest{ID: got.Revocation.ID, Reason: "a proof"}); err != nil {
				t.Error(err)
				return
			}
			w.connectPerson(p, each)
		})
	}
	for _, p := range all {
		p.free.Wait()
	}
	admitted, refused := stop()
	if refused > 0 {
		t.Errorf("%d logins of somebody else were refused", refused)
	}
	for _, p := range all {
		for i, nc := range p.conns {
			if !nc.IsConnected() {
				t.Errorf("connection %d of somebody who is not blocked was closed: %v", i, nc.LastError())
			}
		}
	}
	t.Logf("%d blocks, 2 replicas, 3 servers, %d identities with %d connections, %d other logins: denied on every replica p50 %s p99 %s, last connection closed p50 %s p99 %s, proved p50 %s p99 %s after the commit; every other connection stayed",
		times, people, each, admitted, ms(percentile(denied, 50)), ms(percentile(denied, 99)), ms(percentile(closed, 50)), ms(percentile(closed, 99)), ms(percentile(proved.list, 50)), ms(percentile(proved.list, 99)))
	if long() {
		if p := percentile(denied, 99); p > 50*time.Millisecond {
			t.Errorf("denied p99 %s, at most 50ms", p)
		}
		if p := percentile(closed, 99); p > 250*time.Millisecond {
			t.Errorf("closed p99 %s, at most 250ms", p)
		}
	}
}

func ms(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// proved waits for the proof of a revocation.
func (w *world) proved(r *replica, id string) api.Progress {
	w.Helper()
	var progress api.Progress
	eventually(w, func() (err error) {
		progress, err = call[api.Progress](r, api.OpProgress, api.RevocationProgressRequest{ID: id, Wait: 8})
		if err == nil && !progress.Done {
			text, _ := json.Marshal(progress)
			err = fmt.Errorf("not proved: %s", text)
		}
		return err
	})
	return progress
}

// TestProveAccountLogout logs out everybody of an account at once.
func TestProveAccountLogout(t *testing.T) {
	t.Parallel()
	many := 100
	if long() {
		many = 5000
	}
	w := newWorld(t, worldOptions{servers: 3, mode: devtest.AsProcess})
	r := w.serve(serveOptions{process: true})
	p := &person{subject: someone()}
	p.token = w.token("alice", developer(p.subject))
	var wait sync.WaitGroup
	crowd := make([]*person, 20)
	for i := range crowd {
		crowd[i] = &person{subject: p.subject, token: p.token}
		wait.Go(func() { w.connectPerson(crowd[i], many/len(crowd)) })
	}
	wait.Wait()
	got, err := call[api.RevokeResult](r, api.OpRevoke, api.RevokeRequest{Kind: "logout", Target: api.Target{Account: "APP"}, Reason: "a proof"})
	if err != nil {
		t.Fatal(err)
	}
	var last time.Time
	for _, p := range crowd {
		p.closed.Wait()
		if at := time.Unix(0, p.last.Load()); at.After(last) {
			last = at
		}
	}
	took := last.Sub(got.Revocation.At)
	w.mustBeRefused(p.token)
	progress := w.proved(r, got.Revocation.ID)
	t.Logf("%d connections of one account on 3 servers: the last closed %s after the commit, proved after %d ms with %d closed", many, ms(took), progress.TookMS, progress.Closed)
	if long() && took > 3*time.Second {
		t.Errorf("closed after %s, at most 3s", took)
	}
}

// TestSessionLogout logs out one login session: what was opened with its tokens is closed on every server, and another
// session of the same person is not.
func TestSessionLogout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{servers: 3})
	r := w.serve(serveOptions{})
	goes, stays := developer(someone()), map[string]any{}
	maps.Copy(stays, goes)
	goes["sid"], stays["sid"] = someone(), someone()
	ended, kept := w.token("alice", goes), w.token("alice", stays)
	var gone, alive []closing
	for _, server := range w.servers {
		gone, alive = append(gone, w.loginAt(server, ended)), append(alive, w.loginAt(server, kept))
	}
	r.recorded(slices.Concat(gone, alive))
	r.must("revoke", "--issuer", "demo", "--sid", goes["sid"].(string), "--reason", "laptop stolen", "--yes", "--wait")
	for _, c := range gone {
		w.awaitClosed(c)
	}
	w.mustBeRefused(ended)
	w.mustBeAlive(alive...)
	w.login(kept)
}

// TestSessionLogoutEndsCreds logs out a login session in which creds were got: they are void on every server, a program's too, and
// those of another session of the same person are not. A renewal in the other session brings nothing back.
func TestSessionLogoutEndsCreds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, worldOptions{policy: strings.Replace(directPolicy, "keys: 2", "keys: 3", 1)})
	r := w.serve(serveOptions{})
	subject, stolen, own := someone(), someone(), someone()
	signUp := func(name, session string, more ...string) string {
		file := filepath.Join(w.dir, name)
		token := w.tokenFile(map[string]any{"sub": subject, "sid": session, "groups": []string{"jobs"}})
		r.must(append([]string{"creds", "--account", "APP", "--out", file, "--token-file", token}, more...)...)
		return file
	}
	goes, program, stays := signUp("goes", stolen), signUp("program", stolen, "--program", "nightly"), signUp("stays", own)
	ended, alive := []*nats.Conn{w.mustBeDirect(goes), w.mustBeDirect(program)}, closing{Conn: w.mustBeDirect(stays)}
	void := filepath.Join(w.dir, "void")
	if err := os.WriteFile(void, []byte(content(t, goes)), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(files ...string) {
		t.Helper()
		for _, file := range files {
			if _, err := w.direct(file); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("what was got in the session that has ended: %v", err)
			}
		}
	}
	r.must("revoke", "--issuer", "demo", "--sid", stolen, "--reason", "laptop stolen", "--yes", "--wait")
	for _, nc := range ended {
		eventually(t, func() error {
			if !nc.IsClosed() {
				return errors.New("the connection stays open")
			}
			return nil
		})
	}
	refused(goes, program, void)
	w.mustBeAlive(alive)
	w.mustBeDirect(signUp("goes", own))
	refused(void)
}

// TestBlockByClaims closes the connections of whoever has the claims, and of nobody else.
func TestBlockByClaims(t *testing.T) {
	t.Parallel()
	for name, where := range map[string][]string{"of the issuer": nil, "in an account": {"--account", "APP"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, worldOptions{servers: 3})
			r := w.serve(serveOptions{})
			var gone, alive []closing
			for _, server := range w.servers {
				contractor := w.token("alice", map[string]any{"sub": someone(), "groups": []string{"dev", "contractors"}})
				gone, alive = append(gone, w.loginAt(server, contractor)), append(alive, w.loginAt(server, w.token("bob", developer(someone()))))
			}
			r.recorded(slices.Concat(gone, alive))
			r.must(append([]string{"revoke", "--issuer", "demo", "--match", "groups=contractors", "--reason", "contract ended", "--yes", "--wait"}, where...)...)
			for _, c := range gone {
				w.awaitClosed(c)
			}
			w.mustBeRefused(w.token("alice", map[string]any{"sub": someone(), "groups": []string{"contractors", "dev"}}))
			w.mustBeAlive(alive...)
			w.login(w.token("bob", developer(someone())))
		})
	}
}

// recorded waits for the records of logins: whose is not there yet may be closed once though it is not concerned.
func (r *replica) recorded(list []closing) {
	r.Helper()
	for _, c := range list {
		r.auditOf(c.Conn)
	}
}

// TestProveDirectUser blocks identities that hold a valid creds file and whose clients reconnect at once, as long as a
// server lets them: they are out, and the proof is never given while one can still come back.
func TestProveDirectUser(t *testing.T) {
	t.Parallel()
	times := 3
	if long() {
		times = 50
	}
	w := newWorld(t, worldOptions{servers: 3, mode: devtest.AsProcess, policy: directPolicy})
	o := serveOptions{process: true, store: storetest.Postgres(t, postgres.Migrate)}
	replicas := []*replica{w.serve(o), w.serve(o)}
	hear(t, replicas...)
	bystander := closing{Conn: w.mustBeDirect(w.directCreds(replicas[0], someone()))}
	var out, proved []time.Duration
	var returns int64 // before the proof
	var all []*stubborn
	for n := range times {
		subject := someone()
		file := w.directCreds(replicas[n%2], subject)
		var clients []*stubborn
		for _, server := range w.servers {
			clients = append(clients, connectStubborn(t, server, file))
		}
		got, err := call[api.RevokeResult](replicas[n%2], api.OpRevoke, api.RevokeRequest{Target: api.Target{Issuer: "demo", Subject: subject}, Reason: "a proof"})
		if err != nil {
			t.Fatal(err)
		}
		progress := w.proved(replicas[(n+1)%2], got.Revocation.ID)
		if progress.Replicas != 2 || progress.ServersAnswered != 3 || progress.Left != 0 || progress.Claims != "" {
			t.Errorf("proved with %+v", progress)
		}
		proved = append(proved, time.Duration(progress.TookMS)*time.Millisecond)
		for i, server := range w.servers {
			nc, err := nats.Connect(server.ClientURL(), nats.UserCredentials(file), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.Timeout(10*time.Second))
			if err == nil {
				nc.Close()
			}
			if !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("after the proof the creds file gets %v", err)
			}
			c := clients[i]
			if err := c.FlushTimeout(100 * time.Millisecond); err == nil {
				t.Error("a server still answers the client after the proof")
			}
			c.proved = c.returned.Load()
			returns += c.proved
			out = append(out, time.Unix(0, c.lost.Load()).Sub(got.Revocation.At))
		}
		all = append(all, clients...)
	}
	for _, c := range all {
		if n := c.returned.Load() - c.proved; n != 0 || c.IsConnected() {
			t.Errorf("a client came back %d times after the proof", n)
		}
	}
	w.mustBeAlive(bystander)
	t.Logf("%d blocks of a direct user with a client on each of 3 servers that reconnects at once, 2 replicas: out for good p50 %s p99 %s after the commit, let in again %d times before that, proved p50 %s p99 %s; none came back after the proof",
		times, ms(percentile(out, 50)), ms(percentile(out, 99)), returns, ms(percentile(proved, 50)), ms(percentile(proved, 99)))
	if worst := percentile(out, 100); long() && worst > 2*time.Second {
		t.Errorf("out after %s, at most 2s", worst)
	}
}

// directCreds signs a job up and returns its creds file.
func (w *world) directCreds(r *replica, subject string) string {
	w.Helper()
	file := filepath.Join(w.dir, subject+".creds")
	r.must("creds", "--account", "APP", "--out", file, "--token-file", w.tokenFile(map[string]any{"sub": subject, "groups": []string{"jobs"}}))
	return file
}

// stubborn is a client that reconnects at once, whatever it is told.
type stubborn struct {
	*nats.Conn
	lost     atomic.Int64 // when it lost its connection last, in nanoseconds
	returned atomic.Int64 // how often it was let in again
	proved   int64        // of these before the proof
}

func connectStubborn(t testing.TB, server *devtest.Server, file string) *stubborn {
	t.Helper()
	c := &stubborn{}
	var err error
	c.Conn, err = nats.Connect(server.ClientURL(), nats.UserCredentials(file), nats.IgnoreDiscoveredServers(), nats.Timeout(5*time.Second),
		nats.MaxReconnects(-1), nats.ReconnectWait(5*time.Millisecond), nats.ReconnectJitter(0, 0), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), nats.DisconnectErrHandler(func(*nats.Conn, error) { c.lost.Store(time.Now().UnixNano()) }),
		nats.ReconnectHandler(func(*nats.Conn) { c.returned.Add(1) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
