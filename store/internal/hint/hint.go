// Package hint spreads "there may be something new" to whoever waits for it.
package hint

import (
	"context"
	"sync"
)

// Hub passes hints on. Its zero value is ready for use.
type Hub struct {
	mu     sync.Mutex
	subs   map[chan struct{}]bool
	closed bool
}

// Subscribe returns a channel that receives after each [Hub.Give]; hints that are not taken
// run together. It is closed when ctx ends or the hub is closed.
func (h *Hub) Subscribe(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(ch)
		return ch
	}
	if h.subs == nil {
		h.subs = make(map[chan struct{}]bool)
	}
	h.subs[ch] = true
	context.AfterFunc(ctx, func() { h.drop(ch) })
	return ch
}

func (h *Hub) drop(ch chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs[ch] {
		delete(h.subs, ch)
		close(ch)
	}
}

// Give hints to all subscribers and never waits for one.
func (h *Hub) Give() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Close closes the channels of all subscribers, also of later ones.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for ch := range h.subs {
		close(ch)
	}
	h.subs = nil
}
