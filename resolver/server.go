package resolver

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// watcher is told which servers join, or come back after a silence, and which say that they shut down. It is
// called without a lock.
type watcher interface {
	joined(Server)
	left(id string)
}

// server is what is known of one server; guarded by Resolver.mu.
type server struct {
	Server
	moved    time.Duration // [Resolver.moved] when Offset was measured
	missed   int           // rounds without an answer
	accounts map[string]AccountState
}

// Server is one nats-server of the cluster.
type Server struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Cluster string        `json:"cluster,omitempty"`
	Offset  time.Duration `json:"offset"` // its clock less ours
	Seen    time.Time     `json:"seen"`
}

// observe merges the answers of a round, forgets servers that have been silent for too long,
// and starts a search for each that is new; it returns when those end, and which servers were silent before.
func (r *Resolver) observe(answers []statsz) (searches []<-chan struct{}, back []Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	// Before the searches, which a flood of forged ids must not keep from happening.
	for id, until := range r.negative {
		if now.After(until) {
			delete(r.negative, id)
		}
	}
	maps.DeleteFunc(r.reborn, func(_ string, seen time.Time) bool { return now.Sub(seen) > stillCounted })
	seen := map[string]bool{}
	r.active = 0
	for _, a := range answers {
		seen[a.Server.ID] = true
		r.active = max(r.active, a.Statsz.ActiveServers)
		if s, ok := r.servers[a.Server.ID]; ok {
			if s.meet(a, now) {
				back = append(back, s.Server)
			}
		} else if done := r.search(a.Server.ID); done != nil {
			searches = append(searches, done)
		}
	}
	for id, s := range r.servers {
		if seen[id] {
			continue
		}
		if s.missed++; s.missed > forgetAfter {
			r.log.Info("a server is gone", "server", s.Name, "server_id", id)
			delete(r.servers, id)
			r.lost[id] = s.Server
		}
	}
	return searches, back
}

// watch has the watcher told of servers from now on.
func (r *Resolver) watch(w watcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers = append(r.watchers, w)
}

// tell tells the watcher of servers that joined or came back; r.mu is not held.
func (r *Resolver) tell(servers []Server) {
	r.mu.Lock()
	watchers := r.watchers
	if len(servers) > 0 {
		r.came = time.Now()
	}
	r.mu.Unlock()
	for _, s := range servers {
		for _, w := range watchers {
			w.joined(s)
		}
	}
}

// meet notes a sign of life and reports whether there was none for a while before.
func (s *server) meet(a statsz, now time.Time) (back bool) {
	back = s.missed > 0
	s.missed = 0
	s.Server = Server{ID: a.Server.ID, Name: a.Server.Name, Version: a.Server.Version, Cluster: a.Server.Cluster, Seen: now, Offset: s.Offset}
	if a.measured {
		s.Offset, s.moved = a.offset, a.moved
	}
	return back
}

// bury forgets a server of the same name that is not there any more: it was restarted, and is known by the
// new id now.
func (r *Resolver) bury(found Server) {
	for _, s := range append(r.Servers(), r.silent(time.Time{})...) {
		if s.Name != found.Name || s.ID == found.ID {
			continue
		}
		if _, err := r.ping(r.life, s.ID); errors.Is(err, nats.ErrNoResponders) {
			r.log.Info("a server was restarted", "server", s.Name, "server_id", s.ID)
			r.mu.Lock()
			r.reborn[s.ID] = s.Seen
			r.mu.Unlock()
			r.forget(s.ID)
		}
	}
}

// forget makes a server unknown whose connections have ended; it reports whether it was known.
func (r *Resolver) forget(id string) bool {
	r.mu.Lock()
	_, known := r.servers[id]
	delete(r.servers, id)
	delete(r.lost, id)
	watchers := r.watchers
	r.mu.Unlock()
	for _, w := range watchers {
		w.left(id)
	}
	return known
}

// Servers returns the servers that are known, by name.
func (r *Resolver) Servers() []Server {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Server, 0, len(r.servers))
	for _, s := range r.servers {
		one := s.Server
		one.Offset = r.offset(s)
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Server) int {
		if a.Name != b.Name {
			return strings.Compare(a.Name, b.Name)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// silent returns the servers that were forgotten because they fell silent, and forgets for good those that were seen
// last before the time.
func (r *Resolver) silent(since time.Time) []Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.lost, func(_ string, s Server) bool { return s.Seen.Before(since) })
	return slices.Collect(maps.Values(r.lost))
}

// knows reports whether the server is known, without a search.
func (r *Resolver) knows(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, ok := r.servers[id]
	return ok
}

// replaced reports whether a server of that name is known under another id.
func (r *Resolver) replaced(id, name string) bool {
	return slices.ContainsFunc(r.Servers(), func(s Server) bool { return s.Name == name && s.ID != id })
}

// stillCounted is for how long servers may count one that ended without saying so (nats-server server/events.go,
// orphMax and chkOrph: 150 s and 90 s). One that says so is not counted any more.
const stillCounted = 4 * time.Minute

// unknown returns how many servers the others count that are neither known nor were restarted; r.mu is held.
func (r *Resolver) unknown() int {
	n := r.active - len(r.servers)
	for _, seen := range r.reborn {
		if r.now().Sub(seen) <= stillCounted {
			n--
		}
	}
	return max(n, 0)
}

// complete reports whether as many servers are known as the servers say there are.
func (r *Resolver) complete() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.blind || r.unknown() == 0
}
