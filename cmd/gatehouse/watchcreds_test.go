package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
)

// A user JWT is renewed well ahead of its end, however often that fails meanwhile.
func TestWatchCreds(t *testing.T) {
	t.Parallel()
	unavailable := &api.Error{Code: 503, Reason: "unavailable", Message: "try again", RetryAfter: 1}
	expired := &api.Error{Code: 401, Reason: "token_expired", Message: "get a new one"}
	blocked := &api.Error{Code: 403, Reason: "blocked", Message: "ask an admin"}
	for name, c := range map[string]struct {
		answers []error // nil: renewed for an hour
		want    string  // in the error at the end; empty: goes on
		late    bool    // renewed after the end
		after   time.Duration
	}{
		"renewed twice":                   {answers: []error{nil, nil}, after: 3 * time.Hour},
		"a service that was away":         {answers: []error{unavailable, errors.New("connection refused"), nil}, after: 2 * time.Hour},
		"a token that was old":            {answers: []error{expired, expired, nil}, after: 2 * time.Hour},
		"a blocked identity":              {answers: []error{nil, blocked}, want: "ask an admin", after: 2 * time.Hour},
		"a service that is away for long": {answers: append(repeat(unavailable, 40), nil), late: true, after: 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				signup := func() *api.UserSignup { return &api.UserSignup{Issued: time.Now(), Expires: time.Now().Add(time.Hour)} }
				current, calls := signup(), 0
				renew := func(context.Context) (*api.UserSignup, error) {
					if !time.Now().Before(current.Expires) && !c.late {
						t.Errorf("asked %s after the start, when the user JWT had ended", time.Since(start))
					}
					if calls == 0 && time.Since(start) < 30*time.Minute {
						t.Errorf("asked after %s already", time.Since(start))
					}
					err := error(nil)
					if calls < len(c.answers) {
						err = c.answers[calls]
					}
					calls++
					if err != nil {
						return nil, fmt.Errorf("sign up: %w", err)
					}
					current = signup()
					return current, nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), c.after)
				defer cancel()
				var out, errs bytes.Buffer
				client := &cli{stdio: stdio{out: &out, err: &errs}}
				err := client.watchCreds(ctx, "job.creds", current, renew)
				switch {
				case c.want == "" && (err != nil || calls < len(c.answers)):
					t.Errorf("%v after %d calls\n%s", err, calls, errs.String())
				case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || ctx.Err() != nil):
					t.Errorf("%v, want one with %q\n%s", err, c.want, errs.String())
				}
			})
		})
	}
}

func repeat(err error, n int) []error {
	list := make([]error, n)
	for i := range list {
		list[i] = err
	}
	return list
}
