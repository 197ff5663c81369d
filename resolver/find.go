package resolver

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Known reports whether the server belongs to the cluster. When it is not known yet and
// might be, pending is not nil: it is closed once that is found out, and Known is to be
// asked again. It never blocks.
func (r *Resolver) Known(id string) (known bool, pending <-chan struct{}) {
	if r.blind {
		return true, nil
	}
	r.mu.RLock()
	_, known = r.servers[id]
	wait, searching := r.pending[id]
	until, tried := r.negative[id]
	closed := r.closed
	r.mu.RUnlock()
	switch {
	case known:
		// A search that is under way still reads the server's accounts back.
		if searching {
			return false, wait
		}
		return true, nil
	case searching:
		return false, wait
	case closed, tried && r.now().Before(until), !r.nc.IsConnected():
		return false, nil
	default:
		r.mu.Lock()
		defer r.mu.Unlock()
		return false, r.search(id)
	}
}

// search starts to look for a server that is not known, once at a time for each id, and
// returns what is closed at its end; nil when it cannot. r.mu is held.
func (r *Resolver) search(id string) <-chan struct{} {
	if wait, ok := r.pending[id]; ok {
		return wait
	}
	if r.closed || len(r.negative)+len(r.pending) >= maxNegative || !isServerID(id) {
		return nil
	}
	done := make(chan struct{})
	r.pending[id] = done
	r.searches.Go(func() {
		found := r.find(id)
		r.mu.Lock()
		delete(r.pending, id)
		if !found {
			r.negative[id] = r.now().Add(negativeLife)
		}
		r.mu.Unlock()
		close(done)
	})
	return done
}

// serverIDSize is the length of a public nkey: 35 bytes in base32.
const serverIDSize = 56

// isServerID reports whether id may stand in a subject as the id of a server. nkeys takes
// line breaks within a key, as base32 decoders do.
func isServerID(id string) bool {
	return len(id) == serverIDSize && !strings.ContainsAny(id, "\r\n") && nkeys.IsValidPublicServerKey(id)
}

// find asks for one server by its id, twice at most, and reads the accounts back from it. The
// pending search keeps logins waiting until that is done.
func (r *Resolver) find(id string) bool {
	for range 2 {
		a, err := r.ping(r.life, id)
		if errors.Is(err, nats.ErrNoResponders) {
			return false
		}
		if err != nil {
			continue
		}
		r.mu.Lock()
		s := &server{accounts: map[string]AccountState{}}
		s.meet(a, r.now())
		r.servers[id] = s
		delete(r.lost, id)
		found := s.Server
		r.mu.Unlock()
		r.bury(found)
		r.tell([]Server{found})
		ctx, cancel := context.WithTimeout(r.life, readTimeout)
		r.readServer(ctx, id)
		cancel()
		r.stir()
		r.log.Info("a server is known", "server", a.Server.Name, "server_id", id, "version", a.Server.Version, "clock_offset", found.Offset)
		return true
	}
	return false
}
