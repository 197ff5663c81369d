package callout

import (
	"bytes"
	"errors"
	"testing"

	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"
)

func curve(t testing.TB) (nkeys.KeyPair, string, []byte) {
	t.Helper()
	kp, err := nkeys.CreateCurveKeys()
	if err != nil {
		t.Fatal(err)
	}
	public, err := kp.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := kp.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return kp, public, seed
}

// What the sealer writes nkeys opens, and the other way around, with a remembered secret
// and without.
func TestSealerSpeaksNkeys(t *testing.T) {
	_, servicePublic, seed := curve(t)
	server, serverPublic, _ := curve(t)
	s, err := NewSealer(seed)
	if err != nil {
		t.Fatal(err)
	}
	if s.Public() != servicePublic {
		t.Fatalf("public key %s, want %s", s.Public(), servicePublic)
	}
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 5000).Draw(t, "data")
		if rapid.Bool().Draw(t, "remember") {
			s.remember(serverPublic, otherServer)
		}
		sealed, err := server.Seal(data, servicePublic)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := s.open(nil, sealed, serverPublic); err != nil || !bytes.Equal(opened, data) {
			t.Fatalf("opened %d bytes, %v", len(opened), err)
		}
		sealed, err = s.seal(nil, data, serverPublic)
		if err != nil {
			t.Fatal(err)
		}
		if opened, err := server.Open(sealed, servicePublic); err != nil || !bytes.Equal(opened, data) {
			t.Fatalf("nkeys opened %d bytes, %v", len(opened), err)
		}
	})
}

func TestSealerRefuses(t *testing.T) {
	_, servicePublic, seed := curve(t)
	server, serverPublic, _ := curve(t)
	_, otherPublic, _ := curve(t)
	s, err := NewSealer(seed)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := server.Seal([]byte("hello"), servicePublic)
	if err != nil {
		t.Fatal(err)
	}
	forOther, err := server.Seal([]byte("hello"), otherPublic)
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.Clone(sealed)
	broken[len(broken)-1] ^= 1
	for name, c := range map[string]struct {
		data []byte
		peer string
		want error
	}{
		"plain":            {[]byte("eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.x"), serverPublic, errUnsealed},
		"no peer":          {sealed, "", errUnsealed},
		"empty":            {nil, serverPublic, errUnsealed},
		"too short":        {sealed[:28], serverPublic, errUnsealed},
		"for another key":  {forOther, serverPublic, errSeal},
		"from another key": {sealed, otherPublic, errSeal},
		"changed":          {broken, serverPublic, errSeal},
		"peer is no xkey":  {sealed, "UXXXX", errSeal},
	} {
		if _, err := s.open(nil, c.data, c.peer); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSealer(wrong); err == nil || bytes.Contains([]byte(err.Error()), wrong) {
		t.Errorf("an account seed: %v", err)
	}
}

// An xkey proves one server: the one that has signed that it is its own.
func TestSealerProves(t *testing.T) {
	_, _, seed := curve(t)
	_, xkey, _ := curve(t)
	s, err := NewSealer(seed)
	if err != nil {
		t.Fatal(err)
	}
	other := mustPublic(nkeys.PrefixByteServer)
	if s.proves(xkey, otherServer) || s.proves("", "") {
		t.Error("an xkey of nobody proves a server")
	}
	s.remember(xkey, otherServer)
	if !s.proves(xkey, otherServer) || s.proves(xkey, other) || s.proves(otherXKey, otherServer) {
		t.Error("a remembered xkey does not prove its server, or another one")
	}
	s.remember(xkey, other) // only its private half can have brought that about
	if s.proves(xkey, otherServer) || !s.proves(xkey, other) {
		t.Error("an xkey proves two servers")
	}
}

func BenchmarkSealer(b *testing.B) {
	_, servicePublic, seed := curve(b)
	server, serverPublic, _ := curve(b)
	s, err := NewSealer(seed)
	if err != nil {
		b.Fatal(err)
	}
	s.remember(serverPublic, otherServer)
	sealed, err := server.Seal(make([]byte, 3000), servicePublic)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.open(nil, sealed, serverPublic); err != nil {
			b.Fatal(err)
		}
	}
}
