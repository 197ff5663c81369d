package main

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// disturber is the source address of background logins: another one than that of the measured ones,
// which come from 127.0.0.1.
var disturber = net.IPv4(127, 0, 0, 2)

// badTokens is how many bad tokens the background uses in turn.
const badTokens = 1000

// paced makes n logins at the pace, whether earlier ones have ended or not. With -background it makes as
// many before, undisturbed. It returns how many logins the service had to handle in all.
func (l *load) paced() int {
	all := *n
	if *background > 0 {
		l.inTime(*n)
		l.latencies, l.quiet = l.quiet, l.latencies
		l.fails.Store(0)
		all += *n
		stop := l.disturb()
		defer stop()
	}
	l.inTime(*n)
	return all + int(l.disturbed.Load())
}

// inTime makes so many paced logins and waits for the last.
func (l *load) inTime(count int) {
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Duration(float64(time.Second) / *pace))
	defer tick.Stop()
	for i := range count {
		<-tick.C
		wg.Go(func() {
			start := time.Now()
			c, err := l.connect(l.token(i))
			if err != nil {
				l.failed(err)
				return
			}
			took := time.Since(start)
			c.Close()
			l.admitted(took)
		})
	}
	wg.Wait()
}

// disturb makes background logins until it is stopped; stop waits for those under way.
func (l *load) disturb() (stop func()) {
	var tokens []string
	if *slow == 0 {
		for i := range badTokens {
			tokens = append(tokens, l.badToken(i))
		}
	}
	token := func(i int) string {
		if *slow > 0 {
			return l.world.SlowToken(fmt.Sprintf("slow-%d", i), time.Hour)
		}
		return tokens[i%len(tokens)]
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Duration(float64(time.Second) / *background))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			wg.Go(func() { l.disturbOnce(token(i)) })
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

func (l *load) disturbOnce(token string) {
	l.disturbed.Add(1)
	c, err := l.connectFrom(disturber, token)
	if err == nil {
		c.Close()
	}
	switch {
	case *slow > 0: // in, or not yet: both are right
	case err == nil:
		l.badIn.Add(1)
	default:
		l.badOut.Add(1)
	}
}
