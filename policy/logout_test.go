package policy_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-nats/gatehouse/policy"
)

func TestLogoutTokenRevocation(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	until := now.Add(time.Hour)
	alice := policy.Principal{Issuer: "https://issuer.test", Subject: "alice"}
	for name, test := range map[string]struct {
		token policy.LogoutToken
		want  policy.Revocation
	}{
		"of an identity, that arrived late": {
			token: policy.LogoutToken{Principal: alice, IssuedAt: now.Add(-time.Minute), Until: until},
			want:  policy.Revocation{At: now.Add(-time.Minute), Target: policy.Target{Principal: alice}},
		},
		"of a session, and whose it is": {
			token: policy.LogoutToken{Principal: alice, Session: "s1", IssuedAt: now, Until: until},
			want:  policy.Revocation{At: now, Target: policy.Target{Principal: alice, Session: "s1"}},
		},
		"of a session, by an issuer whose clock is ahead": {
			token: policy.LogoutToken{Principal: policy.Principal{Issuer: alice.Issuer}, Session: "s1", IssuedAt: now.Add(5 * time.Second), Until: until},
			want:  policy.Revocation{At: now, Target: policy.Target{Principal: policy.Principal{Issuer: alice.Issuer}, Session: "s1"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.want.ID, test.want.Kind, test.want.Until = "r1", policy.Logout, until
			got := test.token.Revocation("r1", now)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if why := got.Legal(); why != "" {
				t.Errorf("it may not be stored: %s", why)
			}
		})
	}
}
