package main

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
)

func TestRevokeFlags(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)
	for name, c := range map[string]struct {
		v    revocation
		want api.RevokeRequest
		bad  bool
	}{
		"a block":             {want: api.RevokeRequest{}},
		"a logout":            {v: revocation{logout: true}, want: api.RevokeRequest{Kind: "logout"}},
		"a session":           {v: revocation{req: api.RevokeRequest{Target: api.Target{Session: "s"}}}, want: api.RevokeRequest{Kind: "logout", Target: api.Target{Session: "s"}}},
		"a suspension":        {v: revocation{suspend: true, ends: "72h"}, want: api.RevokeRequest{Kind: "suspension", Until: now.Add(72 * time.Hour)}},
		"a user key":          {v: revocation{userKey: "U"}, want: api.RevokeRequest{Kind: "user_key", Target: api.Target{Key: "U"}}},
		"a signing key":       {v: revocation{signingKey: "A"}, want: api.RevokeRequest{Kind: "signing_key", Target: api.Target{Key: "A"}}},
		"an importer":         {v: revocation{importer: "A"}, want: api.RevokeRequest{Kind: "activation", Target: api.Target{Key: "A"}}},
		"in the past":         {v: revocation{logout: true, at: "2h"}, want: api.RevokeRequest{Kind: "logout", At: now.Add(-2 * time.Hour)}},
		"claims":              {v: revocation{match: []string{"groups=contractors", "groups=a=b", "level=3", "on=true", `id="3"`}}, want: api.RevokeRequest{Target: api.Target{Match: map[string][]any{"groups": {"contractors", "a=b"}, "level": {json.Number("3")}, "on": {true}, "id": {"3"}}}}},
		"two kinds":           {v: revocation{logout: true, suspend: true}, bad: true},
		"two keys":            {v: revocation{userKey: "U", signingKey: "A"}, bad: true},
		"no value":            {v: revocation{match: []string{"groups"}}, bad: true},
		"an empty value":      {v: revocation{match: []string{"groups="}}, bad: true},
		"no claim":            {v: revocation{match: []string{"=x"}}, bad: true},
		"a time that is none": {v: revocation{ends: "tomorrow"}, bad: true},
	} {
		err := c.v.complete(now)
		if (err != nil) != c.bad {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.v.req.IdempotencyKey = ""
		if !c.bad && !reflect.DeepEqual(c.v.req, c.want) {
			t.Errorf("%s: %+v, want %+v", name, c.v.req, c.want)
		}
	}
}

// What is said of keys before a revocation is what it does: only where one identity is revoked do its programs stay.
func TestKeysNote(t *testing.T) {
	t.Parallel()
	both := []api.UserKey{{Key: "U1"}, {Key: "U2", Program: "nightly"}}
	for name, c := range map[string]struct {
		keys []api.UserKey
		r    api.Revocation
		want string
	}{
		"no keys":                      {nil, api.Revocation{Kind: "block", Target: api.Target{Issuer: "i", Subject: "alice"}}, ""},
		"an identity":                  {both, api.Revocation{Kind: "block", Target: api.Target{Issuer: "i", Subject: "alice"}}, " 1 key of direct users would be void. 1 key of programs would stay: --programs includes them."},
		"an identity and its programs": {both, api.Revocation{Kind: "block", Target: api.Target{Issuer: "i", Subject: "alice"}, Programs: true}, " 2 keys of direct users would be void."},
		"claims":                       {both, api.Revocation{Kind: "block", Target: api.Target{Issuer: "i", Match: map[string][]any{"groups": {"dev"}}}}, " 2 keys of direct users would be void."},
		"a suspension":                 {both, api.Revocation{Kind: "suspension", Target: api.Target{Account: "A"}}, " 2 keys of direct users would be void."},
	} {
		if got := keysNote(&api.Affected{Keys: c.keys}, c.r); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
