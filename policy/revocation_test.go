package policy

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func identity(p Principal) *Identity { return &Identity{IssuerURL: p.Issuer, Subject: p.Subject} }

func TestRevocations(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	p := Principal{Issuer: "https://a", Subject: "s"}
	var x *Revocations
	if _, ok := x.Blocked(identity(p), at); ok {
		t.Error("a nil index blocks")
	}
	x = NewRevocations(nil)
	forever := Revocation{ID: "1", Kind: Block, Target: Target{Principal: p}, At: at}
	ending := Revocation{ID: "2", Kind: Block, Target: Target{Principal: p}, At: at, Until: at.Add(time.Hour)}
	first := x.With(RevocationChange{Revocation: ending})
	if _, ok := x.Blocked(identity(p), at); ok {
		t.Error("a change reached the generation before it")
	}
	if b, ok := first.Blocked(identity(p), at); !ok || b.ID != "2" {
		t.Errorf("blocked by %v, %v", b, ok)
	}
	if _, ok := first.Blocked(identity(p), at.Add(time.Hour)); ok {
		t.Error("a block denies at its end")
	}
	if _, ok := first.Blocked(identity(Principal{Issuer: "https://a/", Subject: "s"}), at); ok {
		t.Error("another issuer's subject is blocked")
	}
	both := first.With(RevocationChange{Revocation: forever})
	if both.Len() != 2 {
		t.Errorf("%d entries, want 2", both.Len())
	}
	if _, ok := both.Blocked(identity(p), at.Add(2*time.Hour)); !ok {
		t.Error("the block without an end does not deny")
	}
	lifted := both.With(RevocationChange{Revocation: forever, Lifted: true}, RevocationChange{Revocation: ending, Lifted: true})
	if _, ok := lifted.Blocked(identity(p), at); ok || lifted.Len() != 0 {
		t.Errorf("lifted blocks deny still, or count: %d", lifted.Len())
	}
	out := lifted.With(
		RevocationChange{Revocation: Revocation{ID: "3", Kind: Logout, Target: Target{Principal: p}, At: at.Add(time.Minute)}},
		RevocationChange{Revocation: Revocation{ID: "4", Kind: Logout, Target: Target{Principal: p}, At: at}},
	)
	if l, ok := out.LoggedOut(identity(p), at); !ok || l.ID != "3" {
		t.Errorf("the latest logout is %v, %v", l, ok)
	}
}

// Changes applied one by one lead to the same index as loading what is left at the end.
func TestRevocationsApplyIsLoad(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	rapid.Check(t, func(t *rapid.T) {
		x := NewRevocations(nil)
		left := map[string]Revocation{}
		// More changed principals than foldAt, so that folding is part of it.
		n := rapid.IntRange(1, 2*foldAt).Draw(t, "n")
		people := rapid.IntRange(1, 2*foldAt).Draw(t, "people")
		seed := rapid.IntRange(0, 1<<20).Draw(t, "seed")
		for i := range n {
			k := (i*7919 + seed) % people
			r := Revocation{ID: fmt.Sprint((i*31 + seed) % (people * 2)), Kind: Block, Target: Target{Principal: Principal{Issuer: "i", Subject: fmt.Sprint(k)}}, At: at}
			if k%3 == 0 {
				r.Kind = Logout
			}
			if old, ok := left[r.ID]; ok {
				r = old // an id belongs to one principal
			}
			lift := (i+seed)%3 == 0
			x = x.With(RevocationChange{Revocation: r, Lifted: lift})
			if lift {
				delete(left, r.ID)
			} else {
				left[r.ID] = r
			}
		}
		var all []Revocation
		for _, r := range left {
			all = append(all, r)
		}
		loaded := NewRevocations(all)
		if x.Len() != loaded.Len() {
			t.Fatalf("%d entries by changes, %d loaded", x.Len(), loaded.Len())
		}
		for k := range people {
			p := Principal{Issuer: "i", Subject: fmt.Sprint(k)}
			_, a := x.Blocked(identity(p), at)
			_, b := loaded.Blocked(identity(p), at)
			if a != b {
				t.Fatalf("%v: blocked %v by changes, %v loaded", p, a, b)
			}
			_, a = x.LoggedOut(identity(p), at)
			_, b = loaded.LoggedOut(identity(p), at)
			if a != b {
				t.Fatalf("%v: logged out %v by changes, %v loaded", p, a, b)
			}
		}
	})
}
