package resolver

import "time"

const (
	// anewAtOnce self-service accounts at most are signed anew every anewEvery when the operator signing key has changed.
	anewAtOnce = 64
	anewEvery  = time.Second
)

// anew is how far self-service accounts are signed anew by another operator key than before; guarded by roster.mu.
type anew struct {
	key   string    // that is looked for
	done  bool      // no account was signed by another
	blind bool      // of some accounts it is not known what servers store: another key signed it before this replica had the lease
	next  time.Time // when the next may be taken
}

// signAnew takes some accounts that another operator key signed than the one that signs now, and returns when to take more.
// Whatever else is due does not wait for them all.
func (c *Claims) signAnew(now time.Time) (wait time.Duration) {
	signer := c.Signer()
	if signer == nil {
		return c.Interval
	}
	public, err := signer.PublicKey()
	if err != nil {
		return c.Interval
	}
	distrusted := c.isDistrusted(public) // not under the roster's lock, see [Claims.status]
	r := c.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.anew.key != public {
		r.anew = anew{key: public}
	}
	if r.anew.done || distrusted {
		return c.Interval
	}
	if left := r.anew.next.Sub(now); left > 0 {
		return left
	}
	taken, left := 0, 0
	r.anew.blind = false
	for _, k := range r.accounts {
		if k.signer == "" || k.signer == public {
			continue
		}
		left++
		r.anew.blind = r.anew.blind || k.print == print{}
		if r.due[k.id] == nil && taken < anewAtOnce {
			taken++
			r.enqueue(k)
		}
	}
	if r.anew.done = left == 0; r.anew.done {
		return c.Interval
	}
	r.anew.next = now.Add(anewEvery)
	return anewEvery
}
