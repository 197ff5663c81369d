package callout

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

func TestSamplerKeepsOneASecondAndCountsTheRest(t *testing.T) {
	var kept []store.AuditEntry
	s := newSampler(func(e store.AuditEntry) error {
		kept = append(kept, e)
		return nil
	})
	now := time.Unix(1_800_000_000, 0)
	for range 100 {
		if err := s.offer(store.AuditEntry{Reason: "token_malformed"}, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.offer(store.AuditEntry{Reason: "key_unknown"}, now); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 2 {
		t.Fatalf("%d entries kept, want one of each reason", len(kept))
	}
	s.flush(now.Add(sampleEvery / 2))
	if len(kept) != 2 {
		t.Fatal("an entry was kept too early")
	}
	s.flush(now.Add(sampleEvery))
	total := 0
	for _, e := range kept {
		total += e.Count
	}
	if len(kept) != 3 || total != 101 {
		t.Errorf("%d entries for %d refusals, want 3 for 101", len(kept), total)
	}
}

func TestSamplerHoldsWhatCannotBeKept(t *testing.T) {
	full := true
	var kept []store.AuditEntry
	s := newSampler(func(e store.AuditEntry) error {
		if full {
			return errors.New("spool is full")
		}
		kept = append(kept, e)
		return nil
	})
	now := time.Unix(1_800_000_000, 0)
	for range 2 {
		if s.offer(store.AuditEntry{Reason: "r"}, now) == nil {
			t.Fatal("the caller was not told that its entry could not be kept")
		}
	}
	full = false
	for range 3 {
		if err := s.offer(store.AuditEntry{Reason: "r"}, now); err != nil {
			t.Fatal(err)
		}
	}
	full = true
	s.flush(now.Add(sampleEvery))
	full = false
	s.flush(now.Add(2 * sampleEvery))
	if len(kept) != 2 || kept[0].Count != 1 || kept[1].Count != 2 {
		t.Errorf("kept %v", kept)
	}
}

func TestRejectionKind(t *testing.T) {
	for reason, want := range map[string]string{
		"": timedOut,
		"Auth callout service returned an error: refused, see request 1":                    refusedByUs,
		"Could not register auth callout user: maximum account active connections exceeded": overLimit,
		`User JWT issuer "A" is not known`:                                                  rejected,
	} {
		if got := rejectionKind(reason); got != want {
			t.Errorf("%q is %s, want %s", reason, got, want)
		}
	}
}

func TestEntryKeepsTheClaimsThatTheRulesRead(t *testing.T) {
	path, err := policy.ParseClaimPath("groups")
	if err != nil {
		t.Fatal(err)
	}
	bindings := []*policy.Binding{{Match: []policy.Condition{{Claim: path}}, Grant: policy.Grant{Role: &policy.Role{}}}}
	rules := &policy.Rules{Recorded: map[string]*policy.ClaimSet{"corp": policy.NewClaimSet(bindings)}}
	list := func(n int) []any { return []any{strings.Repeat("g", n)} }
	for name, c := range map[string]struct {
		rules  *policy.Rules
		issuer string
		groups any
		want   string
		cut    bool
	}{
		"kept":                      {rules, "corp", list(3), `{"groups":["ggg"]}`, false},
		"as many as fit":            {rules, "corp", list(maxClaims - len(`{"groups":[""]}`)), `{"groups":["` + strings.Repeat("g", maxClaims-15) + `"]}`, false},
		"one byte too many":         {rules, "corp", list(maxClaims - len(`{"groups":[""]}`) + 1), "", true},
		"not to be recorded":        {&policy.Rules{}, "corp", list(3), "", false},
		"an issuer that is no more": {rules, "gone", list(3), "", false},
		"nothing was decided":       {nil, "corp", list(3), "", false},
	} {
		id := &policy.Identity{Issuer: c.issuer, Claims: map[string]any{"groups": c.groups, "phone": "555"}}
		got, cut := recorded(c.rules, id)
		if string(got) != c.want || cut != c.cut {
			t.Errorf("%s: got %.40q (%d bytes), %t", name, got, len(got), cut)
		}
	}
}
