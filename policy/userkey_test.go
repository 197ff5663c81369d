package policy

import (
	"bytes"
	"encoding/base32"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

// publicKey returns a new key and its public text.
func publicKey(t testing.TB, prefix nkeys.PrefixByte) (nkeys.KeyPair, string) {
	t.Helper()
	key, err := nkeys.CreatePair(prefix)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

// The decoder and nkeys agree on what is a user public key, and on the key in it.
func TestDecodeUserKeyAsNkeysDoes(t *testing.T) {
	for range 200 {
		_, user := publicKey(t, nkeys.PrefixByteUser)
		want, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(user))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := decodeUserKey(user); !ok || !bytes.Equal(got, want) {
			t.Fatalf("%s decodes to %x, want %x", user, got, want)
		}
		for i := range user {
			other := user[:i] + string(rotate(user[i])) + user[i+1:]
			if _, ok := decodeUserKey(other); ok || nkeys.IsValidPublicUserKey(other) {
				t.Fatalf("%s counts as a key", other)
			}
		}
	}
}

// rotate returns another letter of the base32 alphabet.
func rotate(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	return alphabet[(strings.IndexByte(alphabet, c)+1)%len(alphabet)]
}

func TestDecodeUserKeyRefusesOthers(t *testing.T) {
	pair, user := publicKey(t, nkeys.PrefixByteUser)
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base32.StdEncoding.DecodeString(user)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		"nothing": "", "a seed": string(seed), "lower case": strings.ToLower(user), "a blank after it": user + " ",
		"a line break in it": user[:20] + "\n" + user[20:], "a line break for a letter": user[:20] + "\n" + user[21:],
		"cut": user[:55], "longer": user + "A", "too few bytes": base32.StdEncoding.EncodeToString(raw[:30]),
		"an ordinary nonce": "n-0S6_WzA2Mj", "56 letters": "U" + strings.Repeat("A", 55),
	}
	for name, prefix := range map[string]nkeys.PrefixByte{
		"an account": nkeys.PrefixByteAccount, "a server": nkeys.PrefixByteServer, "an operator": nkeys.PrefixByteOperator, "a curve key": nkeys.PrefixByteCurve,
	} {
		_, cases[name] = publicKey(t, prefix)
	}
	for name, text := range cases {
		if _, ok := decodeUserKey(text); ok {
			t.Errorf("%s counts as a user key: %q", name, text)
		}
	}
}

// FuzzDecodeUserKey expects that what the decoder takes for a key nkeys does too, and the other way round
// but for what nkeys skips: line breaks, and characters behind a whole key.
func FuzzDecodeUserKey(f *testing.F) {
	_, user := publicKey(f, nkeys.PrefixByteUser)
	_, account := publicKey(f, nkeys.PrefixByteAccount)
	for _, s := range []string{user, account, user[:55], user + "\n", "U" + strings.Repeat("A", 55), ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, ours := decodeUserKey(s)
		theirs := len(s) == userKeyLength && nkeys.IsValidPublicUserKey(s) && !strings.ContainsAny(s, "\r\n")
		if ours != theirs {
			t.Fatalf("%q is a key: %t, by nkeys %t", s, ours, theirs)
		}
	})
}
