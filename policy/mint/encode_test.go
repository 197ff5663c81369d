package mint

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"pgregory.net/rapid"
)

// TestEncodesAsTheLibrary gives every field a value, those that Gatehouse never sets and those of a later release too.
func TestEncodesAsTheLibrary(t *testing.T) { rapid.Check(t, encodesAsTheLibrary(t)) }

func FuzzEncode(f *testing.F) { f.Fuzz(rapid.MakeFuzz(encodesAsTheLibrary(f))) }

func encodesAsTheLibrary(tb testing.TB) func(*rapid.T) {
	key, _ := newKey(tb)
	user := userKey(tb)
	return func(t *rapid.T) {
		uc := rapid.Make[jwt.UserClaims]().Draw(t, "user")
		uc.Subject = user // the library refuses others, and so does sign
		rc := rapid.Make[jwt.AuthorizationResponseClaims]().Draw(t, "response")
		rc.Subject += "U"
		for {
			want, err := uc.Encode(key)
			if err != nil {
				t.Fatal(err)
			}
			at := uc.IssuedAt
			got := string(appendUser(nil, &uc, key))
			if uc.IssuedAt != at {
				continue // the second is over
			}
			if got != want {
				t.Fatalf("user JWT\n%s, want\n%s", got, want)
			}
			break
		}
		for {
			want, err := rc.Encode(key)
			if err != nil {
				t.Fatal(err)
			}
			at := rc.IssuedAt
			got := string(AppendResponse([]byte("before"), &rc, key))
			if rc.IssuedAt != at {
				continue
			}
			if got != "before"+want {
				t.Fatalf("response\n%s, want\n%s", got, want)
			}
			return
		}
	}
}

// FuzzText has texts that are no UTF-8 too.
func FuzzText(f *testing.F) {
	for _, text := range []string{"", "app.>", `<&"\`, "\x00\x1f\x7f", "é\u2028", "\xff>", "a\n\t"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendText([]byte("["), text); string(got) != "["+string(want) {
			t.Errorf("%q: %s, want %s", text, got[1:], want)
		}
	})
}

func BenchmarkAppendResponse(b *testing.B) {
	key, _ := newKey(b)
	var c jwt.AuthorizationResponseClaims
	c.Subject, c.Audience, c.IssuerAccount, c.Jwt = userKey(b), key.public, key.public, strings.Repeat("j", 900)
	var to []byte
	b.ReportAllocs()
	for b.Loop() {
		to = AppendResponse(to[:0], &c, key)
	}
}
