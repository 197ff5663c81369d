package hint

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		ctx, cancel := context.WithCancel(t.Context())
		one, two := h.Subscribe(ctx), h.Subscribe(t.Context())
		for range 3 {
			h.Give() // nobody takes them, and nobody waits
		}
		for _, ch := range []<-chan struct{}{one, two} {
			<-ch
			select {
			case <-ch:
				t.Error("hints that were not taken did not run together")
			default:
			}
		}
		cancel()
		synctest.Wait()
		if _, open := <-one; open {
			t.Error("the channel of an ended context stays open")
		}
		h.Give()
		if _, open := <-two; !open {
			t.Error("the other channel is closed")
		}
		h.Close()
		h.Close()
		h.Give()
		for _, ch := range []<-chan struct{}{two, h.Subscribe(t.Context())} {
			if _, open := <-ch; open {
				t.Error("a channel of a closed hub is open")
			}
		}
	})
}
