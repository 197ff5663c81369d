package storetest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
)

var lifecycleTests = map[string]func(*testing.T, store.Store){
	"EndedContext": testEndedContext,
	"Closed":       testClosed,
	"CloseAmid":    testCloseAmidCalls,
}

// calls are all methods that take a context and answer with an error.
var calls = map[string]func(context.Context, store.Store) error{
	"Revoke": func(ctx context.Context, s store.Store) error {
		_, _, err := s.Revoke(ctx, block("alice"), "key")
		return err
	},
	"Lift": func(ctx context.Context, s store.Store) error {
		_, err := s.Lift(ctx, store.Lift{ID: "x", At: base})
		return err
	},
	"Revocations": func(ctx context.Context, s store.Store) error {
		_, _, err := s.Revocations(ctx, store.RevocationFilter{})
		return err
	},
	"Record": func(ctx context.Context, s store.Store) error {
		return s.Record(ctx, []store.AuditEntry{login("alice")})
	},
	"Audit": func(ctx context.Context, s store.Store) error {
		_, _, err := s.Audit(ctx, store.AuditFilter{})
		return err
	},
	"PruneAudit": func(ctx context.Context, s store.Store) error {
		_, err := s.PruneAudit(ctx, time.Now(), 10)
		return err
	},
	"Load": func(ctx context.Context, s store.Store) error {
		_, err := s.Load(ctx)
		return err
	},
	"Changes": func(ctx context.Context, s store.Store) error {
		_, _, err := s.Changes(ctx, store.Position{}, 10)
		return err
	},
	"Beat": func(ctx context.Context, s store.Store) error {
		_, err := s.Beat(ctx, "r1")
		return err
	},
	"PruneFeed": func(ctx context.Context, s store.Store) error {
		return s.PruneFeed(ctx, time.Now())
	},
}

func testEndedContext(t *testing.T, s store.Store) {
	why := errors.New("the caller gave up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for name, call := range calls {
		if err := call(ctx, s); !errors.Is(err, why) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if state := load(t, s); state.Position.Seq != 0 || len(state.Revocations) != 0 {
		t.Errorf("something was written: %+v", state)
	}
}

func testClosed(t *testing.T, s store.Store) {
	hints := s.Hints(t.Context())
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, call := range calls {
		if err := call(t.Context(), s); !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ch := range []<-chan struct{}{hints, s.Hints(t.Context())} {
		for range ch { // ends when the channel is closed
		}
	}
}

func testCloseAmidCalls(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	var started sync.WaitGroup
	for w := range 8 {
		started.Add(1)
		wg.Go(func() {
			for i := 0; ; i++ {
				_, _, err := s.Revoke(t.Context(), logout(strconv.Itoa(w)), "")
				if i == 0 {
					started.Done()
				}
				if errors.Is(err, store.ErrClosed) {
					return
				}
				if err != nil {
					t.Errorf("call %d: %v", i, err)
					return
				}
			}
		})
	}
	started.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}
