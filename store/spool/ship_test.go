package spool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/store"
)

func TestShipOutlastsAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, t.TempDir())
		var k sink
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Ship(ctx, k.send) }()

		want := logins(10)
		add(t, s, want[:3]...)
		time.Sleep(linger)
		synctest.Wait()
		if got := k.all(); !cmp.Equal(got, want[:3]) {
			t.Errorf("%d came", len(got))
		}
		k.fail(store.ErrUnavailable)
		for _, e := range want[3:] {
			add(t, s, e)
			time.Sleep(10 * time.Second)
		}
		if p := s.Pending(); p.Entries != 7 || time.Since(p.Oldest) < time.Minute {
			t.Errorf("pending: %+v", p)
		}
		k.fail(nil)
		time.Sleep(mostBackoff)
		synctest.Wait()
		if got := k.all(); !cmp.Equal(got, want) {
			t.Errorf("%d came", len(got))
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Ship: %v", err)
		}
	})
}

// TestShipGathers: what comes after a quiet moment goes at once, a stream in a few large batches, and a whole batch
// waits for nothing.
func TestShipGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, t.TempDir())
		var k sink
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Ship(ctx, k.send) }()

		time.Sleep(linger)
		add(t, s, login("alice"))
		synctest.Wait()
		if n := len(k.all()); n != 1 {
			t.Errorf("%d came at once after a quiet moment", n)
		}
		for range 5000 {
			add(t, s, login("alice"))
			time.Sleep(time.Millisecond)
		}
		if n := len(k.batches); n > 1+3+10 || s.Pending().Entries > 500 {
			t.Errorf("%d entries went in %d batches, and %d wait", len(k.all()), n, s.Pending().Entries)
		}
		time.Sleep(mostLinger)
		before := len(k.all())
		add(t, s, logins(maxBatch+1)...)
		synctest.Wait()
		if n := len(k.all()) - before; n < maxBatch {
			t.Errorf("%d of a whole batch came at once", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Ship: %v", err)
		}
	})
}

func TestShipEndsWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, fault := range []error{nil, store.ErrUnavailable} {
			s := openSpool(t, t.TempDir())
			k := sink{fault: fault}
			done := make(chan error)
			go func() { done <- s.Ship(t.Context(), k.send) }()
			add(t, s, login("alice"))
			time.Sleep(time.Minute)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func BenchmarkShip(b *testing.B) {
	s := openSized(b, b.TempDir(), 64<<30)
	entries := logins(maxBatch)
	send := func(context.Context, []store.AuditEntry) error { return nil }
	for b.Loop() {
		add(b, s, entries...)
		if err := s.Drain(b.Context(), send); err != nil {
			b.Fatal(err)
		}
	}
}
