package resolver

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/internal/devstack/devtest"
	"github.com/gatehouse-nats/gatehouse/policy"
)

// What the replica that stored a revocation did not finish, another does; two never do it at once.
func TestAnotherReplicaFinishes(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 3, devtest.InProcess)
	alice := p.everywhere("alice")
	r := p.store(policy.Block, identity("alice"))
	p.office.mu.Lock()
	p.stored[0].At = r.At.Add(-writerTime)
	p.leases[leaseName(r.ID)] = "killed"
	p.office.mu.Unlock()
	if err := p.s.takeOver(t.Context()); err != nil || p.s.carries(r.ID) {
		t.Fatalf("took over what another replica carries: %v", err)
	}
	mustStay(t, alice)
	p.office.mu.Lock()
	delete(p.leases, leaseName(r.ID)) // its time is up
	p.office.mu.Unlock()
	for _, c := range alice {
		await(t, c.closed)
	}
	if got := p.finished(t, r); got.Closed != 3 {
		t.Errorf("progress %+v", got)
	}
}

// What the replica before had no answer from is waited for by the next one too, which may never have known it.
func TestSuccessorWaitsForAbsentServers(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	absent := newServerKey(t)
	r := p.store(policy.Block, identity("alice"))
	progress, err := json.Marshal(saved{Progress: api.Progress{Closed: 4}, Absent: map[string]string{absent: "frozen", "$SYS.>": "forged"}})
	if err != nil {
		t.Fatal(err)
	}
	r.Progress = progress
	p.s.Start(r)
	eventually(t, func() error {
		got, _ := p.s.Progress(r.ID)
		return check(got.ServersKnown == 2 && got.ServersAnswered == 1 && slices.Equal(got.ServersMissing, []string{"frozen"}) && got.Closed == 4, "%+v", got)
	})
	eventually(t, func() error { // and hands it on
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		return check(maps.Equal(p.absent[r.ID], map[string]string{absent: "frozen"}), "saved as absent: %v", p.absent[r.ID])
	})
	p.s.left(absent)
	p.finished(t, r)
}

// A replica that starts enforces what is in force on every server: nobody may have asked them since long.
func TestStartEnforces(t *testing.T) {
	t.Parallel()
	s := startSystem(t, 1)
	r := s.run(t, Options{Interval: never}, s.need(t))
	ready(t, r)
	g := s.admit(t)
	alice, bob := g.login(s.ClientURL(), "alice"), g.login(s.ClientURL(), "bob")
	o := newOffice(g)
	o.store(policy.Block, identity("alice")) // which counts as carried out
	o.progress[o.stored[0].ID] = api.Progress{Done: true}
	o.sweeper(t, r, "here")
	await(t, alice.closed)
	mustStay(t, []*client{bob})
}

// A replica that ends gives up what it carries.
func TestEndingReplicaLeavesItsSweeps(t *testing.T) {
	t.Parallel()
	p := newPlace(t, 1, devtest.InProcess)
	p.missing = []string{"frozen"}
	other := p.run(t, Options{Interval: never}, p.need(t))
	ready(t, other)
	s, stop := p.sweeper(t, other, "there")
	r := p.store(policy.Block, identity("alice"))
	s.Start(r)
	eventually(t, func() error {
		p.office.mu.Lock()
		defer p.office.mu.Unlock()
		return check(p.leases[leaseName(r.ID)] == "there", "leases %v", maps.Clone(p.leases))
	})
	stop()
	p.office.mu.Lock()
	p.missing = nil
	p.office.mu.Unlock()
	p.finished(t, r)
}
