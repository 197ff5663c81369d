package natsfacts

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Fact: IDZ answers name, host and id, flat, from every server. The list of known
// servers is gathered with it.
func TestIDZNamesEveryServer(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	var ids []string
	for _, msg := range d.ask(t, "$SYS.REQ.SERVER.PING.IDZ", nil, 3) {
		var reply map[string]string
		decode(t, msg.Data, &reply)
		if len(reply) != 3 || reply["name"] == "" || reply["host"] != "127.0.0.1" {
			t.Errorf("reply = %s, want exactly name, host and id", msg.Data)
		}
		ids = append(ids, reply["id"])
	}
	if got, want := slices.Sorted(slices.Values(ids)), slices.Sorted(slices.Values(d.ids())); !slices.Equal(got, want) {
		t.Errorf("ids = %v, want %v", got, want)
	}
}

// Fact: a directed IDZ is answered by that server at once, and one to an id that no
// server has finds no responders at once. callout admits the requests of a server that
// it does not know yet, such as one just restarted, by this question; a forged id fails
// it.
func TestDirectedIDZ(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	for _, s := range d.servers {
		var reply server.ServerID
		d.askOne(t, fmt.Sprintf("$SYS.REQ.SERVER.%s.IDZ", s.ID()), nil, &reply)
		if reply.ID != s.ID() || reply.Name != s.Name() {
			t.Errorf("IDZ of %s = %+v", s.ID(), reply)
		}
	}
	_, err := d.admin.Request(fmt.Sprintf("$SYS.REQ.SERVER.%s.IDZ", foreignServer), nil, patience)
	if !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("IDZ of a forged id: %v, want %v", err, nats.ErrNoResponders)
	}
}

// Fact: a server that has just started answers its directed IDZ before its first client
// connects, so that a restarted server's first login is not refused.
func TestNewServerAnswersIDZ(t *testing.T) {
	t.Parallel()
	d := newPrivate(t)
	s := d.startServer(t, d.config("new", t.TempDir(), false))
	var reply server.ServerID
	d.askOne(t, fmt.Sprintf("$SYS.REQ.SERVER.%s.IDZ", s.ID()), nil, &reply)
	if reply.ID != s.ID() {
		t.Errorf("IDZ = %+v, want id %s", reply, s.ID())
	}
}

// checkStatsz checks what Gatehouse reads from a STATSZ message of d's servers and
// returns the server's id.
func checkStatsz(t *testing.T, d *deployment, msg *nats.Msg) string {
	t.Helper()
	var m struct {
		Server struct {
			ID      string    `json:"id"`
			Name    string    `json:"name"`
			Version string    `json:"ver"`
			Time    time.Time `json:"time"`
		} `json:"server"`
		Statsz struct {
			ActiveServers int       `json:"active_servers"`
			Start         time.Time `json:"start"`
		} `json:"statsz"`
	}
	decode(t, msg.Data, &m)
	if !slices.Contains(d.ids(), m.Server.ID) || m.Server.Name == "" || m.Server.Version != server.VERSION {
		t.Errorf("server = %+v, want id, name and version", m.Server)
	}
	if offset := time.Since(m.Server.Time); offset < 0 || offset > patience {
		t.Errorf("server.time is %v before our clock, want the server's clock of just now", offset)
	}
	if m.Server.Time.Nanosecond() == 0 {
		t.Errorf("server.time = %v, want a fraction of a second", m.Server.Time)
	}
	if m.Statsz.ActiveServers != len(d.servers) {
		t.Errorf("active_servers of %s = %d, want %d", m.Server.Name, m.Statsz.ActiveServers, len(d.servers))
	}
	if m.Statsz.Start.IsZero() {
		t.Error("statsz.start is missing")
	}
	return m.Server.ID
}

// Fact: a STATSZ reply carries the server's id, version and clock, and the number of
// servers that it counts as active. The resolver measures clock offsets from server.time
// and takes active_servers as the number of replies to expect.
func TestStatszReply(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	var ids []string
	for _, msg := range d.ask(t, "$SYS.REQ.SERVER.PING.STATSZ", nil, 3) {
		ids = append(ids, checkStatsz(t, d, msg))
	}
	if got, want := slices.Sorted(slices.Values(ids)), slices.Sorted(slices.Values(d.ids())); !slices.Equal(got, want) {
		t.Errorf("ids = %v, want %v", got, want)
	}
	for _, s := range d.servers {
		msg := d.ask(t, fmt.Sprintf("$SYS.REQ.SERVER.%s.STATSZ", s.ID()), nil, 1)[0]
		if got := checkStatsz(t, d, msg); got != s.ID() {
			t.Errorf("directed STATSZ was answered by %s, want %s", got, s.ID())
		}
	}
}

// Fact: the STATSZ event that servers publish from time to time carries the same, and a
// STATSZ request without a reply subject makes them publish it now.
func TestStatszEvent(t *testing.T) {
	t.Parallel()
	d := onThreeServers(t)
	events := d.subscribe(t, "$SYS.SERVER.*.STATSZ")
	check(t, d.admin.Publish("$SYS.REQ.SERVER.PING.STATSZ", nil))
	ids := map[string]bool{}
	for len(ids) < 3 {
		msg := next(t, events)
		id := checkStatsz(t, d, msg)
		if want := fmt.Sprintf("$SYS.SERVER.%s.STATSZ", id); msg.Subject != want {
			t.Errorf("subject = %s, want %s", msg.Subject, want)
		}
		ids[id] = true
	}
}
