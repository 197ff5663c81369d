package gatehouse

import (
	"time"
)

const (
	// lastMoments is how near to its end a token no longer saves asking for another.
	lastMoments = 10 * time.Second
	// retryRefresh is the shortest pause between two calls of the source ahead of time.
	retryRefresh = 5 * time.Second
	// repeats is how often a token is sent by logins that follow soon on each other before the source is asked,
	// and soon is how close to each other they are.
	repeats = 3
	soon    = time.Minute
)

// kept is a token that is at hand for the logins to come. The zero value is none.
type kept struct {
	raw     string // as the source gave it
	token   string // without its envelope
	expires time.Time
	doubted bool // a server refused it
	used    time.Time
	row     int // logins that sent it, each soon after the one before
}

// keep returns a token as one to keep: none unless it is a JWT that expires, and has not.
func keep(raw string, now time.Time) kept {
	var claims struct {
		Expires float64 `json:"exp"`
	}
	e, err := openEnvelope(raw)
	if err != nil || payload(e.Token, &claims) != nil || claims.Expires <= 0 || claims.Expires >= 1<<40 {
		return kept{}
	}
	k := kept{raw: raw, token: e.Token, expires: time.Unix(int64(claims.Expires), 0)}
	if !k.valid(now) {
		return kept{}
	}
	return k
}

// valid reports whether the token may still be sent.
func (k *kept) valid(now time.Time) bool { return k.raw != "" && now.Before(k.expires) }

// saves reports whether a login may send the token without asking the source for another.
func (k *kept) saves(now time.Time) bool {
	repeated := k.row >= repeats && now.Sub(k.used) < soon
	return k.valid(now.Add(lastMoments)) && !k.doubted && !repeated
}

// use notes that the token is sent.
func (k *kept) use(now time.Time) {
	if now.Sub(k.used) >= soon {
		k.row = 0
	}
	k.row++
	k.used = now
}

// refreshAfter returns the pause before the source is asked for the successor of a token that is valid for the
// given time: a fresh one has 70 to 90 percent of it left to pass, any other 20 to 40. random returns a
// number in [0, n).
func refreshAfter(left time.Duration, fresh bool, random func(n int64) int64) time.Duration {
	share := left / 5
	if fresh {
		share = left / 10 * 7
	}
	return max(share+time.Duration(random(int64(left/5)+1)), retryRefresh)
}
