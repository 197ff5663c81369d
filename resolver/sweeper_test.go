package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// A blocked identity's connections are closed on every server, and nobody else's.
func TestSweepClosesEverywhere(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.InProcess)
	alice, bob := append(p.everywhere("alice"), p.everywhere("alice")...), p.everywhere("bob")
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	for _, c := range alice {
		await(t, c.closed)
	}
	got := p.finished(t, r)
	if got.Closed != len(alice) || got.Left != 0 || got.ServersAnswered != 3 || got.ServersKnown != 3 || len(got.ServersMissing) != 0 || got.Replicas != 1 ||
		time.Duration(got.TookMS)*time.Millisecond < authTimeout {
		t.Errorf("progress %+v, want %d closed on 3 servers, no sooner than %s", got, len(alice), authTimeout)
	}
	mustStay(t, bob)
	if len(p.leases) != 0 {
		t.Errorf("leases are left: %v", p.leases)
	}
}

// A login that was allowed before the block, and connects after the first look, is closed when it arrives.
func TestSweepClosesWhoArrivesLate(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.InProcess)
	release := p.hold("alice")
	connected := make(chan *client, 1)
	go func() {
		c := &client{closed: make(chan struct{})}
		var err error
		c.Conn, err = nats.Connect(p.servers[1].ClientURL(), nats.Token("alice"), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.Timeout(soon),
			nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }))
		if err != nil { // it was closed as soon as it was there
			c.Conn = nil
			close(c.closed)
		}
		connected <- c
	}()
	await(t, p.deciding)
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		for _, st := range p.s.sweeps[r.ID].servers {
			if st.looks == 0 {
				return errors.New("a server was not looked at yet")
			}
		}
		return nil
	})
	release()
	c := await(t, connected)
	if c.Conn != nil {
		defer c.Close()
	}
	await(t, c.closed)
	if got := p.finished(t, r); got.ServersAnswered != 3 {
		t.Errorf("progress %+v", got)
	}
}

// The proof waits for every replica, while connections are closed at once.
func TestProofWaitsForReplicas(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	p.missing = []string{"frozen"}
	alice := p.everywhere("alice")
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	await(t, alice[0].closed)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(slices.Equal(got.ReplicasMissing, []string{"frozen"}) && got.ReplicasKnown == 2 && got.Closed == 1, "%+v", got)
	})
	// It goes on telling them.
	eventually(t, func() error {
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		return check(p.told[r.ID] > 3, "told %d times", p.told[r.ID])
	})
	if got, _ := p.s.Progress(r.ID); got.Done || got.ServersAnswered != 0 {
		t.Errorf("proven while a replica may admit: %+v", got)
	}
	p.office.mu.Lock()
	p.missing = nil
	p.office.mu.Unlock()
	if got := p.finished(t, r); got.Replicas != 1 || got.ReplicasKnown != 1 {
		t.Errorf("progress %+v", got)
	}
}

// Direct users are known by the records alone, so that nothing is proven while those cannot be read.
func TestProofWaitsForRecords(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	alice := p.everywhere("alice")
	p.office.mu.Lock()
	p.failing = errors.New("the store does not answer")
	p.office.mu.Unlock()
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	await(t, alice[0].closed)
	before := -1 // how often keys were asked for when what servers show began to count
	eventually(t, func() error {
		p.s.mu.Lock()
		w := p.s.sweeps[r.ID]
		if w == nil || w.took > 0 {
			p.s.mu.Unlock()
			t.Fatal("proven without the records")
		}
		settled := w.settled
		p.s.mu.Unlock()
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		if before < 0 && !settled.IsZero() && time.Now().After(settled) {
			before = p.asked
		}
		return check(before >= 0 && p.asked > before+1, "asked %d times, %d before it counted", p.asked, before)
	})
	p.office.mu.Lock()
	p.failing = nil
	p.office.mu.Unlock()
	p.finished(t, r)
}

// Of whom the records do not tell whether a block by claims means them is closed and comes back: not again and again,
// however long another replica takes, or whatever joins.
func TestWhoIsLetInAgainStays(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	p.missing = []string{"frozen"}
	p.gate.mu.Lock()
	p.gate.replica = "here"
	p.gate.mu.Unlock()
	bob := p.login(p.ClientURL(), "bob")
	r := p.store(policy.Block, policy.Target{Principal: policy.Principal{Issuer: issuer}, Match: `{"groups":["contractors"]}`})
	p.s.Start(r)
	await(t, bob.closed)
	id := p.r.Servers()[0].ID
	stays := func(shown func(since time.Time) error) {
		t.Helper()
		since := time.Now()
		bob = p.login(p.ClientURL(), "bob")
		eventually(t, func() error {
			select {
			case <-bob.closed: // as before a moment ago
				since = time.Now()
				bob = p.login(p.ClientURL(), "bob")
			default:
			}
			return shown(since)
		})
		mustStay(t, []*client{bob})
	}
	stays(func(since time.Time) error {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		st := p.s.sweeps[r.ID].servers[id]
		return check(st.clean.After(since), "no look that spares who was let in at %s", since)
	})
	p.office.mu.Lock()
	p.missing = nil
	p.office.mu.Unlock()
	p.finished(t, r)
	p.s.joined(p.r.Servers()[0])
	await(t, bob.closed)
	stays(func(since time.Time) error {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		f := p.s.fronts[id]
		return check(f == nil || f.enforce.IsZero(), "everything is still enforced on who was let in at %s", since)
	})
}

// A server that stands still during the revocation is named, and its connections are closed when it goes on.
func TestFrozenServerIsSweptWhenItIsBack(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.AsProcess)
	frozen, name := p.away(t, p.r.nc)
	alice, bob := p.login(frozen.ClientURL(), "alice"), p.login(frozen.ClientURL(), "bob")
	frozen.Freeze()
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(slices.Equal(got.ServersMissing, []string{name}) && got.ServersAnswered == 2, "%+v, want %s missing", got, name)
	})
	if got, _ := p.s.Progress(r.ID); got.Done {
		t.Errorf("proven without %s: %+v", name, got)
	}
	frozen.Thaw()
	await(t, alice.closed)
	if got := p.finished(t, r); got.ServersAnswered != 3 || len(got.ServersMissing) != 0 || got.Closed != 1 {
		t.Errorf("progress %+v", got)
	}
	mustStay(t, []*client{bob})
}

// The server through which the others are asked may be the one that stands still.
func TestFrozenServerOfTheSystemConnection(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.AsProcess)
	elsewhere, _ := p.away(t, p.r.nc)
	frozen, name := p.home(t, p.r.nc)
	alice := p.login(elsewhere.ClientURL(), "alice")
	frozen.Freeze()
	defer frozen.Thaw()
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	await(t, alice.closed)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(slices.Equal(got.ServersMissing, []string{name}) && got.ServersAnswered == 2, "%+v, want %s missing alone", got, name)
	})
}

// A server that was silent while a revocation was carried out without it has it enforced when it is back.
func TestReturningServerIsEnforced(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.AsProcess)
	frozen, _ := p.away(t, p.r.nc)
	alice, bob := p.login(frozen.ClientURL(), "alice"), p.login(frozen.ClientURL(), "bob")
	id := alice.ConnectedServerId()
	frozen.Freeze()
	eventually(t, func() error {
		p.r.mu.RLock()
		defer p.r.mu.RUnlock()
		return check(p.r.servers[id].missed > 0, "the frozen server is not missed")
	})
	p.store(policy.Block, identity("alice")) // that another replica has carried out
	frozen.Thaw()
	await(t, alice.closed)
	mustStay(t, []*client{bob})
}

// A server that joins may lack the claims that all others have applied: they are asked for anew, and until they are
// there nothing is proven and direct users are left alone.
func TestJoiningServerUnsettles(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	absent := newServerKey(t)
	r := p.store(policy.Block, identity("alice"))
	progress, err := json.Marshal(saved{Absent: map[string]string{absent: "frozen"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Progress = progress
	p.s.Start(r)
	settled := func() bool {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		return !p.s.sweeps[r.ID].settled.IsZero()
	}
	eventually(t, func() error { return check(settled(), "not settled") })
	p.office.mu.Lock()
	p.claims[r.ID] = false
	p.office.mu.Unlock()
	p.s.joined(p.r.Servers()[0])
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(got.Claims != "", "the claims are not asked for again: %+v", got)
	})
	p.s.left(absent)
	if settled() {
		t.Error("settled without the claims")
	}
	p.office.mu.Lock()
	p.claims[r.ID] = true
	p.office.mu.Unlock()
	p.finished(t, r)
}

// A server that was forgotten before the revocation, since it had fallen silent, is waited for as any other: what it
// let in is there still.
func TestLostServerIsWaitedFor(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	lost, expired := newServerKey(t), newServerKey(t)
	p.r.mu.Lock()
	for id, seen := range map[string]time.Time{lost: time.Now(), expired: time.Now().Add(-2 * p.maxTTL)} {
		p.r.servers[id] = &server{Server: Server{ID: id, Name: "lost", Seen: seen}, missed: forgetAfter, accounts: map[string]AccountState{}}
	}
	p.r.mu.Unlock()
	p.r.Wake()
	eventually(t, func() error { return check(!p.r.knows(lost) && !p.r.knows(expired), "not forgotten yet") })
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(got.ServersKnown == 2 && got.ServersAnswered == 1 && slices.Equal(got.ServersMissing, []string{"lost"}), "%+v", got)
	})
	if p.r.forget(lost) {
		t.Error("known again")
	}
	p.finished(t, r)
	other := p.store(policy.Block, identity("bob")) // it ended: nobody waits for it any more
	p.s.Start(other)
	if got := p.finished(t, other); got.ServersKnown != 1 {
		t.Errorf("progress %+v", got)
	}
}

// However many revocations wait for a server that does not answer, a new one is carried out.
func TestNewRevocationFindsRoom(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	alice := p.everywhere("alice")
	p.s.mu.Lock()
	now := time.Now()
	for i := range maxSweeps {
		w := &sweep{
			revocation: store.Revocation{Revocation: policy.Revocation{ID: uuid.NewString(), Kind: policy.Suspension, At: now.Add(time.Duration(-i) * time.Minute)}},
			settled:    now, servers: map[string]*standing{"lost": {failed: 1}, "here": {clean: now}},
		}
		if i == maxSweeps-1 {
			w.servers["here"].clean = now.Add(-time.Second) // the oldest still has something to do
		}
		p.s.sweeps[w.revocation.ID] = w
	}
	p.s.mu.Unlock()
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	await(t, alice[0].closed)
	p.finished(t, r)
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	oldest := now
	for _, w := range p.s.sweeps {
		if w.idle() && w.revocation.At.Before(oldest) {
			oldest = w.revocation.At
		}
	}
	if want := now.Add((3 - maxSweeps) * time.Minute); !oldest.Equal(want) {
		t.Errorf("the oldest that waits is of %s, want %s: the one before it makes room", oldest, want)
	}
}

// What is given up to make room is taken up again when there is some.
func TestDroppedSweepIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	p.missing = []string{"frozen"}
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		return check(p.leases[leaseName(r.ID)] == "here", "no lease")
	})
	p.s.mu.Lock()
	w := p.s.sweeps[r.ID]
	p.s.drop(w)
	w.stir()
	p.s.mu.Unlock()
	await(t, w.ended)
	if w.took > 0 {
		t.Error("it was carried out")
	}
	p.office.mu.Lock()
	p.missing = nil
	p.office.mu.Unlock()
	p.finished(t, r)
}

// While a sweep waits for a server that does not answer, logins elsewhere are none of its business: each would have all
// connections of its server asked for.
func TestSettledSweepLeavesArrivalsAlone(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	r := p.store(policy.Logout, policy.Target{Principal: policy.Principal{Issuer: issuer}, Session: "phone"})
	progress, err := json.Marshal(saved{Absent: map[string]string{newServerKey(t): "frozen"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Progress = progress
	p.s.Start(r)
	here := p.r.Servers()[0]
	var settled time.Time
	eventually(t, func() error {
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		w := p.s.sweeps[r.ID]
		settled = w.settled
		return check(w.servers[here.ID].over(settled), "%s has not shown that nothing is left", here.Name)
	})
	// arrives reports whether the server is asked again because of a login at the time by our clock.
	arrives := func(at time.Time) bool {
		event := connectEvent{Server: serverInfo{ID: here.ID, Name: here.Name}}
		event.Client.ID, event.Client.User, event.Client.Start = 1<<40, policy.PrincipalName(issuerName, "bob"), at.Add(p.r.Offset(here.ID))
		data, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		p.s.mu.Lock()
		looks := p.s.sweeps[r.ID].servers[here.ID].looks
		p.s.mu.Unlock()
		p.s.onConnect(&nats.Msg{Data: data})
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		st := p.s.sweeps[r.ID].servers[here.ID]
		return !st.due.IsZero() || st.looks > looks
	}
	if arrives(settled.Add(time.Minute)) {
		t.Error("asked again for a login that was decided on by replicas that knew")
	}
	if !arrives(settled.Add(-authTimeout)) {
		t.Error("not asked again for a login of before")
	}
}

// A server that shuts down, or is back under another id, is not waited for.
func TestServersThatEndAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.AsProcess)
	dead, name := p.away(t, p.r.nc)
	dead.Kill()
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(slices.Equal(got.ServersMissing, []string{name}), "%+v, want %s missing", got, name)
	})
	dead.Start()
	if got := p.finished(t, r); got.ServersAnswered != 3 {
		t.Errorf("after a restart: %+v", got)
	}
	other := p.store(policy.Block, identity("bob"))
	dead.Stop()
	p.s.Start(other)
	if got := p.finished(t, other); got.ServersAnswered != 2 || got.ServersKnown != 2 {
		t.Errorf("after a shutdown: %+v", got)
	}
}

// Nothing is waited for once every credential of before has expired.
func TestProofByExpiry(t *testing.T) {
	t.Parallel()
	w := &sweep{servers: map[string]*standing{"N": {failed: 3}}}
	now := time.Now()
	if w.over(now, 0) {
		t.Error("over before any replica has confirmed")
	}
	w.settle(now)
	for after, want := range map[time.Duration]bool{time.Minute: false, time.Hour: false, time.Hour + 1: true} {
		if got := w.over(now.Add(after), time.Hour); got != want {
			t.Errorf("over after %s: %t", after, got)
		}
	}
}

// What only claims can void is not closed before they are applied, and a lift ends the sweep.
func TestSweepWaitsForClaims(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	alice := p.everywhere("alice")
	r := p.store(policy.SigningKey, policy.Target{Account: p.App.ID, Key: p.app.SigningKeys[0]})
	p.office.mu.Lock()
	p.claims[r.ID] = false
	p.office.mu.Unlock()
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(got.Claims != "" && got.Left == 1, "%+v", got)
	})
	mustStay(t, alice)
	p.office.mu.Lock()
	p.claims[r.ID] = true
	p.office.mu.Unlock()
	await(t, alice[0].closed)
	if got := p.finished(t, r); got.Claims != "" || got.Closed != 1 {
		t.Errorf("progress %+v", got)
	}
}

func TestLiftEndsTheSweep(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	p.missing = []string{"frozen"}
	r := p.store(policy.Block, identity("alice"))
	p.s.Start(r)
	eventually(t, func() error {
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		return check(p.leases[leaseName(r.ID)] == "here", "no lease")
	})
	p.office.mu.Lock()
	p.stored[0].LiftedAt = time.Now()
	p.office.mu.Unlock()
	p.gate.permit("alice")
	back := p.login(p.ClientURL(), "alice") // at once, while the sweep is still there
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	p.s.Wait(ctx, r.ID)
	mustStay(t, []*client{back})
	if ctx.Err() != nil || p.s.carries(r.ID) || p.progress[r.ID].Done {
		t.Errorf("still carried, or done: %v, %+v", ctx.Err(), p.progress[r.ID])
	}
}

// A logout of a login session spares the identity's other connections, once it is known which they are.
func TestSweepByRecord(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	phone, laptop := p.login(p.ClientURL(), "alice"), p.login(p.ClientURL(), "alice")
	p.gate.mu.Lock()
	for id, login := range p.gate.logins {
		login.Session = "other"
		if id.cid == phone.cid(t) {
			login.Session = "phone"
		}
		p.gate.logins[id] = login
	}
	p.gate.mu.Unlock()
	r := p.store(policy.Logout, policy.Target{Principal: policy.Principal{Issuer: issuer}, Session: "phone"})
	p.office.mu.Lock()
	p.failing = errors.New("the store does not answer")
	p.office.mu.Unlock()
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(got.Left == 2, "%+v", got)
	})
	p.office.mu.Lock()
	p.failing = nil
	p.office.mu.Unlock()
	await(t, phone.closed)
	if got := p.finished(t, r); got.Closed != 1 {
		t.Errorf("progress %+v", got)
	}
	mustStay(t, []*client{laptop})
}
