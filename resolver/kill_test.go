package resolver

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"
)

// While clients sign up at once, whoever keeps the accounts ends again and again, wherever it is: each account is applied on
// every server in the end, as the records and the servers then say alike, and lets in through another server. With
// GATEHOUSE_PROVE=1 it is 1,000 accounts and 50 ends.
func TestProveKeepersEnd(t *testing.T) {
	t.Parallel()
	clients, each, ends := 8, 10, 5
	if os.Getenv("GATEHOUSE_PROVE") == "1" {
		clients, each, ends = 32, 32, 50
	}
	s := startSystem(t, 3)
	l, records := newLedger(), newRecords()
	keepers := []*keeper{keep(t, s, l, records, nil), keep(t, s, l, records, nil)}
	accounts := make([][]signed, clients)
	made := make(chan struct{}, clients*each)
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			for j := range each {
				a := newSigned(t, fmt.Sprintf("team-%d-%d", i, j))
				a.Account = records.save(a.Account)
				accounts[i] = append(accounts[i], a)
				made <- struct{}{}
				for deadline := time.Now().Add(2 * time.Minute); records.get(a.ID).Applied != 1; time.Sleep(5 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Errorf("account %s waits", a.Name)
						return
					}
				}
			}
		})
	}
	for range ends {
		for range rand.IntN(max(1, clients*each/ends)) { // somewhere on the way
			select {
			case <-made:
			case <-time.After(soon):
			}
		}
		for i, k := range keepers {
			if k.c.Status().Holder {
				k.stop()
				keepers[i] = keep(t, s, l, records, nil)
				break
			}
		}
	}
	running.Wait()
	for i, list := range accounts {
		keepers[0].storedAs(t, list...)
		for j, a := range list {
			if err := a.dial(t, s.servers[(i+j)%3].ClientURL()); err != nil {
				t.Errorf("account %s: %v", a.Name, err)
			}
		}
	}
}
