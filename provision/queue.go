package provision

import (
	"context"
	"net/netip"
	"sync"

	"golang.org/x/sync/semaphore"
)

// queue bounds the fetches that are under way, all of them and those of one address: as seats do, but whoever finds no room waits for
// it. A server that starts fetches as many accounts at once as its clients need, and does not ask again for a client that it turned away.
type queue struct {
	all *semaphore.Weighted

	mu sync.Mutex
	of map[netip.Addr]*queueOf // addresses with fetches that are under way or wait
}

type queueOf struct {
	room *semaphore.Weighted
	n    int // that are under way or wait; guarded by queue.mu
}

func newQueue() *queue {
	return &queue{all: semaphore.NewWeighted(maxConcurrent), of: map[netip.Addr]*queueOf{}}
}

// take waits for room, which give must give back, and returns an error when ctx ends before there is some. At most [maxOfAddress] of
// one address wait for the room of all, so that each other address has its turn soon.
func (q *queue) take(ctx context.Context, source netip.Addr) (give func(), err error) {
	from, counted := site(source)
	if !counted {
		if q.all.Acquire(ctx, 1) != nil {
			return nil, errBusy
		}
		return func() { q.all.Release(1) }, nil
	}
	room, leave := q.enter(from)
	if room.Acquire(ctx, 1) != nil {
		leave()
		return nil, errCrowded
	}
	if q.all.Acquire(ctx, 1) != nil {
		room.Release(1)
		leave()
		return nil, errBusy
	}
	return func() {
		q.all.Release(1)
		room.Release(1)
		leave()
	}, nil
}

// enter returns the room of an address, which is kept until as many have left as have entered.
func (q *queue) enter(from netip.Addr) (room *semaphore.Weighted, leave func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	of := q.of[from]
	if of == nil {
		of = &queueOf{room: semaphore.NewWeighted(maxOfAddress)}
		q.of[from] = of
	}
	of.n++
	return of.room, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if of.n--; of.n == 0 {
			delete(q.of, from)
		}
	}
}
