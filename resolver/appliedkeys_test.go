package resolver

import (
	"sync"
	"testing"
	"time"
)

// What was asked for before an account's claims changed is not kept after that, whichever comes first.
func TestAppliedKeysForgetWhatIsBeingRead(t *testing.T) {
	t.Parallel()
	var a appliedKeys
	now := time.Now()
	for range 20_000 {
		era := a.era()
		var both sync.WaitGroup
		for range 3 {
			both.Go(func() { a.putSince(era, "s", "a", AccountState{Applied: true}, now) })
		}
		both.Go(func() { a.forget("a") })
		both.Wait()
		if _, there := a.get("s", "a", now); there {
			t.Fatal("what was read before the change counts after it")
		}
	}
}
