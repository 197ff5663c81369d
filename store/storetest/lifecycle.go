package storetest

import (
	"context"
	"encoding/json"
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
	"Arrivals": func(ctx context.Context, s store.Store) error {
		_, _, _, err := s.Arrivals(ctx, store.AuditFilter{})
		return err
	},
	"CopyCursor": func(ctx context.Context, s store.Store) error {
		_, err := s.CopyCursor(ctx, "stream")
		return err
	},
	"SaveCopyCursor": func(ctx context.Context, s store.Store) error {
		return s.SaveCopyCursor(ctx, "stream", "cursor")
	},
	"PruneAudit": func(ctx context.Context, s store.Store) error {
		_, err := s.PruneAudit(ctx, store.LoginEntry, time.Now(), 10)
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
		_, err := s.Beat(ctx, store.Heartbeat{Replica: "r1"})
		return err
	},
	"Unfinished": func(ctx context.Context, s store.Store) error {
		_, err := s.Unfinished(ctx, 1)
		return err
	},
	"SaveProgress": func(ctx context.Context, s store.Store) error {
		return s.SaveProgress(ctx, "x", json.RawMessage(`{}`), false)
	},
	"Logins": func(ctx context.Context, s store.Store) error {
		_, err := s.Logins(ctx, []store.ConnectionID{{ServerID: "N", CID: 1}})
		return err
	},
	"Identities": func(ctx context.Context, s store.Store) error {
		_, _, err := s.Identities(ctx, store.IdentityFilter{})
		return err
	},
	"Replicas": func(ctx context.Context, s store.Store) error {
		_, err := s.Replicas(ctx)
		return err
	},
	"Leave": func(ctx context.Context, s store.Store) error {
		return s.Leave(ctx, "r1")
	},
	"Acquire": func(ctx context.Context, s store.Store) error {
		_, _, err := s.Acquire(ctx, "lease", "me", time.Minute)
		return err
	},
	"Release": func(ctx context.Context, s store.Store) error {
		return s.Release(ctx, "lease", "me")
	},
	"AddUserKey": func(ctx context.Context, s store.Store) error {
		return s.AddUserKey(ctx, userKey("alice", "U1"), 1)
	},
	"UserKeys": func(ctx context.Context, s store.Store) error {
		_, _, err := s.UserKeys(ctx, store.UserKeyFilter{})
		return err
	},
	"AccountClaims": func(ctx context.Context, s store.Store) error {
		_, err := s.AccountClaims(ctx)
		return err
	},
	"SaveAccountClaims": func(ctx context.Context, s store.Store) error {
		return s.SaveAccountClaims(ctx, store.AccountClaims{Account: "A", Revision: 1})
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
