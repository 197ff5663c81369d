package spool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/gatehouse-nats/gatehouse/store"
)

// childDir tells a copy of this test binary to append to the spool there until it is killed.
const childDir = "GATEHOUSE_TEST_SPOOL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		appendForever(dir)
	}
	goleak.VerifyTestMain(m)
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func openSpool(t testing.TB, dir string) *Spool {
	t.Helper()
	return openSized(t, dir, 64<<20)
}

func openSized(t testing.TB, dir string, maxBytes int64) *Spool {
	t.Helper()
	s, err := Open(dir, Options{MaxBytes: maxBytes, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func login(subject string) store.AuditEntry {
	return store.AuditEntry{
		ID:      uuid.Must(uuid.NewV7()).String(),
		At:      time.Now().UTC().Truncate(time.Microsecond),
		Kind:    store.LoginEntry,
		Outcome: "allowed",
		Reason:  "allowed",
		Issuer:  "https://login.example.com",
		Subject: subject,
		Name:    "corp-" + subject,
		Display: map[string]string{"email": subject + "@example.com"},
		Account: "APP", Roles: []string{"app"}, Bindings: []string{"developers"},
		ServerID: "NBIT3GDRJ7DJ6UM57NXQBCDQWHCUULL3WMGUPCNYZ7AFJ4XCL7PHN4CK", CID: 17,
		UserKey: "UAAT3GDRJ7DJ6UM57NXQBCDQWHCUULL3WMGUPCNYZ7AFJ4XCL7PHN4CK",
		Source:  "10.0.0.1", ConnType: "standard", Client: "nats.go 1.55.0",
	}
}

func add(t testing.TB, s *Spool, entries ...store.AuditEntry) {
	t.Helper()
	for _, e := range entries {
		if err := s.Append(e); err != nil {
			t.Fatal(err)
		}
	}
}

func logins(n int) []store.AuditEntry {
	list := make([]store.AuditEntry, n)
	for i := range list {
		list[i] = login(fmt.Sprint("subject-", i))
	}
	return list
}

// sink is where batches are sent.
type sink struct {
	mu      sync.Mutex
	fault   error
	batches [][]store.AuditEntry
}

func (k *sink) send(_ context.Context, entries []store.AuditEntry) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault != nil {
		return k.fault
	}
	k.batches = append(k.batches, entries)
	return nil
}

func (k *sink) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fault = err
}

func (k *sink) all() (list []store.AuditEntry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Concat(k.batches...)
}

func drain(t testing.TB, s *Spool) []store.AuditEntry {
	t.Helper()
	var k sink
	if err := s.Drain(t.Context(), k.send); err != nil {
		t.Fatal(err)
	}
	for _, b := range k.batches {
		if len(b) > maxBatch {
			t.Errorf("a batch has %d entries", len(b))
		}
	}
	return k.all()
}

func segments(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestDrainGivesWhatWasAppended(t *testing.T) {
	t.Parallel()
	s := openSpool(t, filepath.Join(t.TempDir(), "made", "spool"))
	want := logins(1234)
	before := time.Now()
	add(t, s, want...)
	if p := s.Pending(); p.Entries != len(want) || p.Bytes == 0 || p.Oldest.After(before.Add(time.Minute)) || p.Oldest.IsZero() {
		t.Errorf("pending: %+v", p)
	}
	if diff := cmp.Diff(want, drain(t, s)); diff != "" {
		t.Error(diff)
	}
	if p := s.Pending(); p != (Pending{}) {
		t.Errorf("pending: %+v", p)
	}
	if again := drain(t, s); len(again) != 0 {
		t.Errorf("%d were sent again", len(again))
	}
	more := logins(3)
	add(t, s, more...)
	if diff := cmp.Diff(more, drain(t, s)); diff != "" {
		t.Error(diff)
	}
}

// TestLinesOfTheReleaseBefore: what was left in the spool before an upgrade is sent after it.
func TestLinesOfTheReleaseBefore(t *testing.T) {
	dir := t.TempDir()
	const line = `{"id":"0197b3c0","at":"2026-11-01T10:00:00Z","kind":"login","outcome":"allowed","reason":"allowed","issuer":"https://login.example.com","subject":"alice","display":{"email":"alice@example.com"},"cid":7}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "00000000000000000001.jsonl"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	got := drain(t, openSpool(t, dir))
	if len(got) != 1 || got[0].Subject != "alice" || got[0].Display["email"] != "alice@example.com" || got[0].CID != 7 || got[0].Claims != nil {
		t.Errorf("got %+v", got)
	}
}

func TestEntriesSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := logins(maxBatch + 200)
	s := openSpool(t, dir)
	add(t, s, want...)
	full := errors.New("no more")
	var k sink
	err := s.Drain(t.Context(), func(ctx context.Context, entries []store.AuditEntry) error {
		if len(k.all()) > 0 {
			return full
		}
		return k.send(ctx, entries)
	})
	if !errors.Is(err, full) {
		t.Fatal(err)
	}
	left := s.Pending()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSpool(t, dir)
	if p := s.Pending(); p.Entries != 200 || p.Bytes != left.Bytes || !p.Oldest.Equal(want[maxBatch].At) {
		t.Errorf("pending after the restart: %+v, before: %+v", p, left)
	}
	add(t, s, login("later"))
	got := slices.Concat(k.all(), drain(t, s))
	if len(got) != len(want)+1 || got[len(want)].Subject != "later" || !cmp.Equal(got[:len(want)], want) {
		t.Errorf("%d entries came, the last by %s", len(got), got[len(got)-1].Subject)
	}
	if n := len(segments(t, dir)); n != 1 {
		t.Errorf("%d segments are left", n)
	}
}

// TestProgressOfAnotherSegment: a note about a segment that is gone must not be taken for one about
// a new segment with its number.
func TestProgressOfAnotherSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSpool(t, dir)
	add(t, s, logins(10)...)
	drain(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range segments(t, dir) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	want := logins(20)
	s = openSpool(t, dir)
	add(t, s, want...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, drain(t, openSpool(t, dir))); diff != "" {
		t.Error(diff)
	}
}

func TestSegmentsRotateAndGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSized(t, dir, MinBytes)
	var want []store.AuditEntry
	for len(segments(t, dir)) < 4 {
		list := logins(100)
		add(t, s, list...)
		want = append(want, list...)
	}
	for _, name := range segments(t, dir) {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if diff := cmp.Diff(want, drain(t, s)); diff != "" {
		t.Error(diff)
	}
	if n := len(segments(t, dir)); n != 1 {
		t.Errorf("%d segments are left", n)
	}
}

func TestSegmentsRotateByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := openSpool(t, dir)
		time.Sleep(2 * segmentAge)
		add(t, s, login("first"))
		if n := len(segments(t, dir)); n != 1 {
			t.Errorf("an empty segment was followed: %d", n)
		}
		add(t, s, login("second"))
		if n := len(segments(t, dir)); n != 2 {
			t.Errorf("%d segments", n)
		}
	})
}

func TestFullSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSized(t, dir, MinBytes)
	var want []string
	for {
		e := login("alice")
		err := s.Append(e)
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, e.ID)
	}
	var size int64
	for _, name := range segments(t, dir) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > MinBytes || size < MinBytes*9/10 {
		t.Errorf("full at %d of %d bytes", size, MinBytes)
	}
	if got := ids(drain(t, s)); !slices.Equal(got, want) {
		t.Errorf("%d of %d entries came", len(got), len(want))
	}
	if err := s.Append(login("alice")); err != nil {
		t.Errorf("after it was drained: %v", err)
	}
}

func ids(list []store.AuditEntry) (ids []string) {
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

// TestEntryOfReleaseBefore: what a release before has left in the spool is taken.
func TestEntryOfReleaseBefore(t *testing.T) {
	t.Parallel()
	e, err := decode([]byte(`{"id":"0197b3c0","at":"2026-01-02T03:04:05.000006Z","kind":"login","outcome":"allowed","reason":"allowed",` +
		`"issuer":"https://login.example.com","subject":"alice","token_id":"jti","account":"APP","cid":7}` + "\n"))
	if err != nil || e.Subject != "alice" || e.CID != 7 || e.SessionID != "" || !e.Issued.IsZero() {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestEntriesThatCannotBeKept(t *testing.T) {
	t.Parallel()
	s := openSpool(t, t.TempDir())
	for name, change := range map[string]func(*store.AuditEntry){
		"no id":      func(e *store.AuditEntry) { e.ID = "" },
		"long id":    func(e *store.AuditEntry) { e.ID = strings.Repeat("x", 129) },
		"odd id":     func(e *store.AuditEntry) { e.ID = "a\x00" },
		"backslash":  func(e *store.AuditEntry) { e.ID = `a\b` },
		"no kind":    func(e *store.AuditEntry) { e.Kind = "" },
		"other kind": func(e *store.AuditEntry) { e.Kind = "other" },
		"long":       func(e *store.AuditEntry) { e.Detail = strings.Repeat("x", maxLine) },
	} {
		e := login("alice")
		change(&e)
		if err := s.Append(e); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p := s.Pending(); p.Entries != 0 {
		t.Errorf("pending: %+v", p)
	}
	// What an issuer may put into a token must not keep its login from being recorded.
	e := login("alice\x00\n\"\u2028" + strings.Repeat("\x01", 10_000))
	e.Expires, e.Issued = time.Unix(1<<60, 0), time.Unix(-1<<60, 0)
	add(t, s, e)
	got := drain(t, s)
	if len(got) != 1 || got[0].Subject != e.Subject || got[0].Expires.Year() != 9999 || got[0].Issued.Year() != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestTornAndCorruptLines(t *testing.T) {
	t.Parallel()
	good := logins(3)
	line := func(i int) string {
		b, err := new(encoderOf).bytes(good[i])
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	whole := line(0)
	for name, c := range map[string]struct {
		content string
		want    []store.AuditEntry
		corrupt int
	}{
		"torn end":        {line(0) + line(1) + whole[:len(whole)/2], good[:2], 1},
		"only a torn one": {whole[:10], nil, 1},
		"no newline":      {line(0) + strings.TrimSuffix(line(1), "\n"), good[:2], 0},
		"garbage between": {line(0) + "garbage\n\n{}\n" + line(1), good[:2], 3},
		"zeros":           {line(0) + strings.Repeat("\x00", 5000) + "\n" + line(1), good[:2], 1},
		"a line too long": {line(0) + strings.Repeat("x", 3*maxLine) + "\n" + line(1), good[:2], 1},
		"one, too long":   {strings.Repeat("x", 2*maxLine), nil, 1},
		"another object":  {`{"id":"x","kind":"other"}` + "\n" + line(2), good[2:], 1},
		"empty":           {"", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "00000000000000000007"+suffix), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			s := openSpool(t, dir)
			later := login("later")
			add(t, s, later)
			if p := s.Pending(); p.Entries != len(c.want)+c.corrupt+1 {
				t.Errorf("pending before: %+v", p)
			}
			if diff := cmp.Diff(append(slices.Clone(c.want), later), drain(t, s)); diff != "" {
				t.Error(diff)
			}
			if p := s.Pending(); p != (Pending{Corrupt: c.corrupt}) {
				t.Errorf("pending after: %+v", p)
			}
		})
	}
}

// encoderOf encodes with an encoder of its own, so that the lines stay.
type encoderOf struct{}

func (*encoderOf) bytes(e store.AuditEntry) ([]byte, error) {
	b, _, err := encoders.New().(*encoder).encode(&e)
	return bytes.Clone(b), err
}

// TestHalfAWrite: what a full disk lets in of a line must not spoil the next one.
func TestHalfAWrite(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]bool{"taken back": false, "left": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openSpool(t, dir)
			want := logins(2)
			add(t, s, want[0])
			s.mu.Lock()
			n, err := s.active.WriteString(`{"id":"half`)
			if err != nil {
				t.Fatal(err)
			}
			if broken {
				_ = s.active.Close()
			}
			err = s.untear(&s.segments[0], n)
			s.mu.Unlock()
			if (err != nil) != broken {
				t.Errorf("untear: %v", err)
			}
			add(t, s, want[1])
			if diff := cmp.Diff(want, drain(t, s)); diff != "" {
				t.Error(diff)
			}
			if p := s.Pending(); p.Entries != 0 || p.Bytes != 0 || (p.Corrupt == 1) != broken {
				t.Errorf("pending: %+v", p)
			}
		})
	}
}

func TestOneSpoolAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSpool(t, dir)
	if _, err := Open(dir, Options{MaxBytes: MinBytes}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(login("alice")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	if err := s.Drain(t.Context(), nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Drain after Close: %v", err)
	}
	openSpool(t, dir)
	if _, err := Open(t.TempDir(), Options{MaxBytes: MinBytes - 1}); err == nil {
		t.Error("a spool without room was opened")
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "notes"+suffix), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(other, Options{MaxBytes: MinBytes}); err == nil {
		t.Error("a folder with files of others was opened")
	}
}

func TestConcurrentAppends(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 500
	s := openSized(t, t.TempDir(), 8<<20)
	var k sink
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Ship(ctx, k.send) }()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := s.Append(login(fmt.Sprintf("%d-%04d", w, i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Drain(t.Context(), k.send); err != nil {
		t.Fatal(err)
	}
	next := make(map[string]int)
	for _, e := range k.all() {
		writer, number, _ := strings.Cut(e.Subject, "-")
		if want := fmt.Sprintf("%04d", next[writer]); number != want {
			t.Fatalf("writer %s: %s came where %s was due", writer, number, want)
		}
		next[writer]++
	}
	if n := len(k.all()); n != writers*each {
		t.Errorf("%d entries came", n)
	}
}

func FuzzDecode(f *testing.F) {
	line, err := new(encoderOf).bytes(login("alice"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"id":"x","kind":"admin","at":"9999-12-31T23:59:59.999999999+23:59","cid":18446744073709551615}`))
	f.Add([]byte("{}\n"))
	f.Add([]byte{0, '\n'})
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := decode(line)
		if err != nil {
			return
		}
		again, err := new(encoderOf).bytes(e)
		if errors.Is(err, ErrEntry) && len(line) > maxLine/8 {
			return // grew too long
		}
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if bytes.IndexByte(again, '\n') != len(again)-1 {
			t.Fatalf("more than a line: %q", again)
		}
		back, err := decode(again)
		if err != nil {
			t.Fatal(err)
		}
		third, err := new(encoderOf).bytes(back)
		if err != nil || !bytes.Equal(third, again) {
			t.Errorf("%q became %q, %v", again, third, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for name, claims := range map[string]string{"plain": "", "claims": `{"email_verified":true,"groups":["dev","team-x"],"team":"blue"}`} {
		b.Run(name, func(b *testing.B) {
			s := openSized(b, b.TempDir(), 64<<30)
			e := login("alice")
			e.Claims = json.RawMessage(claims)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Append(e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
