package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// route is the only connection between two servers: it can be cut, and held so that what is sent over it waits.
type route struct {
	net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
	cut   bool
	held  chan struct{} // closed when it is not held
}

// startRoute returns one that leads to the address, and is whole.
func startRoute(t testing.TB, to string) *route {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &route{Listener: l, to: to, held: make(chan struct{})}
	close(r.held)
	var copies sync.WaitGroup
	copies.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil || !r.keep(in, out) {
				_ = in.Close()
				continue
			}
			copies.Go(func() { r.copy(out, in) })
			copies.Go(func() { r.copy(in, out) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		r.set(true)
		r.hold(false)
		copies.Wait()
	})
	return r
}

func (r *route) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		for _, c := range conns {
			_ = c.Close()
		}
		return false
	}
	r.conns = append(r.conns, conns...)
	return true
}

func (r *route) copy(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		held := r.held
		r.mu.Unlock()
		<-held
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// set cuts the route, or mends it.
func (r *route) set(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	if cut {
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.conns = nil
	}
}

// hold keeps what is sent over the route, or lets it arrive.
func (r *route) hold(held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.held:
		if held {
			r.held = make(chan struct{})
		}
	default:
		if !held {
			close(r.held)
		}
	}
}

// newPair starts two servers of a cluster, and returns the route between them.
func newPair(t testing.TB) (near, far *server.Server, between *route) {
	t.Helper()
	start := func(name string, routes string) *server.Server {
		system, all := server.NewAccount("SYS"), server.NewAccount("ALL")
		o := &server.Options{
			ServerName: name, Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
			Cluster:       server.ClusterOpts{Name: "pair", Host: "127.0.0.1", Port: -1, NoAdvertise: true},
			RoutesStr:     routes,
			Accounts:      []*server.Account{system, all},
			SystemAccount: "SYS", NoAuthUser: "all",
			Users: []*server.User{{Username: "all", Account: all}, {Username: "system", Password: "system", Account: system}},
		}
		if routes != "" {
			o.Routes = server.RoutesFromStr(routes)
		}
		s, err := server.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		if !s.ReadyForConnections(30 * time.Second) {
			t.Fatal("the server does not start")
		}
		return s
	}
	near = start("near", "")
	between = startRoute(t, near.ClusterAddr().String())
	far = start("far", "nats://"+between.Addr().String())
	return near, far, between
}

// system is a system connection that fences, as the resolver's does.
type system struct {
	*nats.Conn
	failed atomic.Int64 // how often a server was not reached
	kicked atomic.Int64
}

func (b *bed) system(at *server.Server) *system {
	b.Helper()
	nc, err := nats.Connect(at.ClientURL(), nats.UserInfo("system", "system"), nats.MaxReconnects(-1))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	return &system{Conn: nc}
}

func (s *system) reach(ctx context.Context, id string) error {
	_, err := s.RequestWithContext(ctx, "$SYS.REQ.SERVER."+id+".STATSZ", nil)
	if err != nil {
		s.failed.Add(1)
	}
	return err
}

func (s *system) kick(ctx context.Context, id string, cid uint64) error {
	s.kicked.Add(1)
	data, err := json.Marshal(server.KickClientReq{CID: cid})
	if err != nil {
		return err
	}
	_, err = s.RequestWithContext(ctx, "$SYS.REQ.SERVER."+id+".KICK", data)
	return err
}

// joinAt has a replica join whose connection is to that server, and its system connection to another one.
func (b *bed) joinAt(name string, at *server.Server, s *system) *member {
	b.Helper()
	return b.join(name, func(o *Options) {
		nc, err := nats.Connect(at.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(nc.Close)
		o.Conns = []*nats.Conn{nc}
		if s != nil {
			o.Kick, o.Reach = s.kick, s.reach
		}
	})
}

// hear waits until the replica hears the other one say something new, and would fence it were it silent.
func (m *member) hear(t testing.TB, name string) {
	t.Helper()
	before := m.last(name).Number
	eventually(t, func() error {
		m.mu.Lock()
		prompt := m.own.prompt(time.Now())
		m.mu.Unlock()
		if last := m.last(name).Number; last < before+2 || !prompt {
			return fmt.Errorf("%s is heard with beat %d after %d; prompt %t", name, last, before, prompt)
		}
		return nil
	})
}

// A replica at a server that is cut off from the others hears itself and nobody else. Although it could have the connections of its
// peers closed, it does not; it does once it is among them again and one of them is frozen.
func TestCutOffReplicaFencesNobody(t *testing.T) {
	t.Parallel()
	near, far, between := newPair(t)
	b := newBedAt(t, near.ClientURL())
	system := b.system(near)
	cutOff, healthy := b.joinAt("r1", far, system), b.joinAt("r2", near, nil)
	cutOff.hear(t, "r2")
	between.set(true)
	eventually(t, func() error {
		if system.failed.Load() < 2 && system.kicked.Load() == 0 {
			return errors.New("it has not tried to close anything, and again")
		}
		return nil
	})
	between.set(false)
	cutOff.hear(t, "r2")
	if n, again := system.kicked.Load(), healthy.Conns[0].Stats().Reconnects; n > 0 || again > 0 {
		t.Fatalf("%d connections of a healthy replica were to be closed, and it has connected %d times again", n, again)
	}
	healthy.mu.Lock() // it stands still
	defer healthy.mu.Unlock()
	eventually(t, func() error {
		if healthy.Conns[0].Stats().Reconnects == 0 {
			return errors.New("the connection of a replica that stands still is not closed")
		}
		return nil
	})
}

// What a replica has sent to a server while the network between them stood still arrives when it does not any more. A KICK must
// not be among it: by then the peer is heard again.
func TestNoKickArrivesLate(t *testing.T) {
	t.Parallel()
	near, far, between := newPair(t)
	b := newBedAt(t, near.ClientURL())
	system := b.system(far)
	one, two := b.joinAt("r1", far, system), b.joinAt("r2", near, nil)
	one.hear(t, "r2")
	between.hold(true)
	eventually(t, func() error {
		if system.failed.Load()+system.kicked.Load() == 0 {
			return errors.New("it has not tried to close anything")
		}
		return nil
	})
	between.hold(false)
	// Over the route after whatever was sent before.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := system.reach(ctx, near.ID()); err != nil {
		t.Fatal(err)
	}
	one.hear(t, "r2")
	if err := two.Conns[0].FlushTimeout(30 * time.Second); err != nil || two.Conns[0].Stats().Reconnects > 0 {
		t.Errorf("%v; the connection of a healthy replica was closed %d times", err, two.Conns[0].Stats().Reconnects)
	}
}
