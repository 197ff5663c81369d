package resolver

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
)

// Whoever asks how the claims stand and whoever keeps the accounts never wait for each other.
func TestStatusWhileAccountsAreKept(t *testing.T) {
	t.Parallel()
	signer, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	c := NewClaims(ClaimsOptions{Resolver: New(Options{Blind: true}), Signer: func() nkeys.KeyPair { return signer }})
	c.setHolds(true)
	c.roster.clear(true)
	const times = 20_000
	var both sync.WaitGroup
	both.Go(func() {
		for range times {
			if !c.Status().Holder {
				t.Error("it does not hold the lease")
			}
		}
	})
	both.Go(func() {
		for range times {
			c.roster.anew = anew{}
			c.signAnew(time.Now())
		}
	})
	done := make(chan struct{})
	go func() { both.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("they wait for each other")
	}
}
