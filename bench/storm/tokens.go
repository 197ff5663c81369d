package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// badKinds are the ways in which tokens of -bad and -background are bad. Those of the slow issuer are
// not: nobody can know that before it has answered.
var badKinds = []string{badSignature, badExpired, badKid}

const (
	badSignature = "signature"
	badExpired   = "expired"
	badKid       = "kid" // a key id that the issuer has never used
)

// badToken makes a bad token of the kind, from a good one where it can.
func (l *load) badToken(i int) string {
	switch *badKind {
	case badExpired:
		past := time.Now().Add(-2 * time.Hour)
		return l.world.Token(*alg, fmt.Sprintf("late-%d", i), time.Hour, map[string]any{
			"iat": past.Unix(), "exp": past.Add(time.Hour).Unix(),
		})
	case badKid:
		return l.world.ForeignToken(fmt.Sprintf("unknown-%d", i), fmt.Sprintf("user-%d", i), time.Hour)
	default:
		t := l.token(i)
		return t[:len(t)-8] + "AAAAAAAA"
	}
}

// isBad reports whether the i-th of so many clients without a burst has a bad token: they are spread evenly.
func isBad(i int) bool { return int(float64(i+1)**bad) > int(float64(i)**bad) }

// badCount returns how many of the measured clients have bad tokens.
func badCount() int {
	if *burst > 0 {
		return min(*burst, firstGood())
	}
	if *pace > 0 {
		return 0
	}
	return int(float64(*n) * *bad)
}

// firstGood is the first client of a burst whose token is good.
func firstGood() int {
	for i := range *burst {
		if float64(i) >= *bad*float64(*burst) {
			return i
		}
	}
	return *burst
}

// good returns how many clients should get in.
func (l *load) good() int {
	all := *n
	if *burst > 0 {
		all = *burst
	}
	return all - badCount()
}

const showTries = 5

// showTokens logs in once with each token.
func (l *load) showTokens() error {
	var wg sync.WaitGroup
	var next, missed atomic.Int64
	for range *conc {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(l.tokens) {
					return
				}
				if !l.show(l.tokens[i]) {
					missed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if missed.Load() > 0 {
		return fmt.Errorf("the service did not admit %d of %d tokens in %d tries each before the measurement", missed.Load(), len(l.tokens), showTries)
	}
	return nil
}

func (l *load) show(token string) bool {
	for range showTries {
		if c, err := l.connect(token); err == nil {
			c.Close()
			return true
		}
	}
	return false
}

// checkFlags returns what cannot be measured together.
func checkFlags() error {
	switch {
	case !slices.Contains(badKinds, *badKind):
		return fmt.Errorf("-bad-kind %q: it is one of %v", *badKind, badKinds)
	case *bad < 0 || *bad > 1:
		return errors.New("-bad is a share of 0 to 1")
	case *background > 0 && *pace == 0:
		return errors.New("-background needs -pace: without it the good logins take all there is")
	case *slow > 0 && *background == 0:
		return errors.New("-slow-issuer needs -background: logins that hold its tokens")
	case *pace > 0 && (*burst > 0 || *bad > 0):
		return errors.New("-pace goes with neither -burst nor -bad")
	case *client != bare && *client != library:
		return fmt.Errorf("-client %q: it is %s or %s", *client, bare, library)
	case *client == library && (*burst == 0 || *bad > 0):
		return fmt.Errorf("-client %s needs -burst, and takes no -bad", library)
	}
	return nil
}
