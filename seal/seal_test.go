package seal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func key(t testing.TB, text string) *Key {
	t.Helper()
	k, err := ParseKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	older, newer := key(t, NewKey()), key(t, " "+NewKey()+"\n")
	before, both, after := NewRing(older), NewRing(newer, older), NewRing(newer)
	for _, secret := range [][]byte{nil, []byte("S"), bytes.Repeat([]byte("x"), 4096)} {
		box := before.Seal(secret, "row 1")
		if len(secret) > 1 && bytes.Contains(box, secret) {
			t.Error("the secret can be read")
		}
		for name, r := range map[string]*Ring{"the one that sealed": before, "one that has the key too": both} {
			if got, err := r.Open(box, "row 1"); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if _, err := after.Open(box, "row 1"); !errors.Is(err, ErrOtherKey) || !strings.Contains(err.Error(), older.ID()) {
			t.Errorf("without the key: %v, want one that names %s", err, older.ID())
		}
		if _, err := before.Open(box, "row 2"); !errors.Is(err, ErrBox) {
			t.Errorf("in another row: %v", err)
		}
		if KeyID(box) != older.ID() || KeyID(both.Seal(secret, "row 1")) != newer.ID() {
			t.Error("the box names another key")
		}
	}
	if got := both.Keys(); len(got) != 2 || !slices.Contains(got, older.ID()) || !slices.Contains(got, newer.ID()) || !slices.IsSorted(got) {
		t.Errorf("keys %v, want both, sorted", got)
	}
	if got := (*Ring)(nil).Keys(); got != nil {
		t.Errorf("no ring has keys %v", got)
	}
	if bytes.Equal(before.Seal([]byte("a"), "r"), before.Seal([]byte("a"), "r")) {
		t.Error("two boxes are equal")
	}
}

func TestDamagedBox(t *testing.T) {
	t.Parallel()
	r := NewRing(key(t, NewKey()))
	box := r.Seal([]byte("secret"), "row")
	for i := range box {
		bad := bytes.Clone(box)
		bad[i] ^= 1
		if got, err := r.Open(bad, "row"); err == nil {
			t.Errorf("byte %d changed: opens to %q", i, got)
		}
		if got, err := r.Open(box[:i], "row"); err == nil {
			t.Errorf("cut to %d bytes: opens to %q", i, got)
		}
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "AAAA", base64.StdEncoding.EncodeToString(make([]byte, 31)), base64.StdEncoding.EncodeToString(make([]byte, 33)), strings.Repeat("!", 44)} {
		if _, err := ParseKey([]byte(text)); !errors.Is(err, ErrKey) || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
	text := NewKey()
	if k := key(t, text); strings.Contains(fmt.Sprint(k), text) || len(k.ID()) != 16 {
		t.Errorf("shown as %v", k)
	}
}

func FuzzOpen(f *testing.F) {
	r := NewRing(key(f, NewKey()))
	f.Add([]byte{}, "row")
	f.Add(r.Seal([]byte("secret"), "row"), "other")
	f.Fuzz(func(t *testing.T, box []byte, row string) {
		if got, err := r.Open(box, row); err == nil {
			t.Errorf("%x opens to %q", box, got)
		}
	})
}
