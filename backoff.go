package gatehouse

import "time"

const (
	firstDelay = time.Second
	maxDelay   = 30 * time.Second
)

// delayBound returns the longest delay before an attempt to reconnect, where 1 is the first
// attempt: it doubles from one second to half a minute.
func delayBound(attempt int) time.Duration {
	bound := firstDelay
	for i := 1; i < attempt && bound < maxDelay; i++ {
		bound *= 2
	}
	return min(bound, maxDelay)
}

// reconnectDelay returns the delay before an attempt to reconnect: full jitter, that is any part
// of [delayBound]. random returns a number in [0, n).
func reconnectDelay(attempt int, random func(n int64) int64) time.Duration {
	return time.Duration(random(int64(delayBound(attempt))))
}
