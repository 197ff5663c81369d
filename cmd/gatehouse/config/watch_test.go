package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// watched is a watcher of the small configuration.
func watched(t *testing.T) (*fixture, *Watcher) {
	t.Helper()
	f := newFixture(t)
	w, err := NewWatcher(f.mustLoad(small), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return f, w
}

// next returns the next update, which must come.
func next(t *testing.T, w *Watcher) Update {
	t.Helper()
	select {
	case u := <-w.Updates():
		return u
	case <-time.After(10 * time.Second):
		t.Fatal("no update came")
		return Update{}
	}
}

func TestWatchReportsChanges(t *testing.T) {
	t.Parallel()
	f, w := watched(t)

	f.yaml(strings.Replace(small, "app.>", "app.*", 1))
	if u := next(t, w); u.Err != nil || u.Config.Roles["app"].Publish.Allow[0] != "app.*" || u.Restart != nil {
		t.Fatalf("update %+v, want the new role", u)
	}

	f.yaml(strings.Replace(small, "role: app", "role: ap", 1))
	if u := next(t, w); u.Config != nil || !errors.Is(u.Err, ErrInvalid) {
		t.Fatalf("update %+v, want a refusal", u)
	}

	// The way editors write: a new file takes the old one's place.
	temporary := f.write("gatehouse.yaml.tmp", f.names.Replace(small))
	if err := os.Rename(temporary, filepath.Join(f.dir, "gatehouse.yaml")); err != nil {
		t.Fatal(err)
	}
	if u := next(t, w); u.Err != nil || u.Config.Roles["app"].Publish.Allow[0] != "app.>" {
		t.Fatalf("update %+v, want the old role", u)
	}
}

func TestWatchFollowsKeyFiles(t *testing.T) {
	t.Parallel()
	f, w := watched(t)
	seed, err := os.ReadFile(filepath.Join(f.dir, "keys/app-new.nk"))
	if err != nil {
		t.Fatal(err)
	}
	before := w.started.Rules().Accounts["APP"].SigningKeys[0]
	f.write("keys/app.nk", string(seed))
	if u := next(t, w); u.Err != nil || u.Config.Rules().Accounts["APP"].SigningKeys[0] == before {
		t.Fatalf("update %+v, want another signing key", u)
	}
}

func TestWatchSeesWhatChangedBeforeIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	c := f.mustLoad(small)
	f.yaml(small + "leeway: 20s\n")
	w, err := NewWatcher(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	if u := next(t, w); u.Err != nil || u.Config.Leeway.String() != "20s" {
		t.Fatalf("update %+v, want the leeway", u)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	f, w := watched(t)
	if u := w.Reload(); u.Err != nil || u.Config == nil || u.Restart != nil {
		t.Errorf("reload of the same: %+v", u)
	}
	f.yaml(strings.Replace(small, "callout: {", "url: nats://127.0.0.1:4223\n  callout: { connections: 2,", 1) +
		"store: sqlite:other.db\nhttp: { listen: 127.0.0.1:1 }\nleeway: 20s\naudit: { retention: 1d, spool: 5MiB }\n")
	u := w.Reload()
	if u.Err != nil {
		t.Fatal(u.Err)
	}
	want := []string{"audit.spool", "http.listen", "leeway", "nats.callout.connections", "nats.url", "store"}
	if diff := cmp.Diff(want, u.Restart); diff != "" {
		t.Errorf("settings that need a restart (-want +got):\n%s", diff)
	}
	// They are compared with what the service started with, not with the reading before.
	if again := w.Reload(); !slices.Equal(again.Restart, want) {
		t.Errorf("restart after a second reload: %v, want %v", again.Restart, want)
	}
}

func TestSameReadingIsNoUpdate(t *testing.T) {
	t.Parallel()
	f, w := watched(t)
	if _, changed := w.read(); changed {
		t.Error("the same files read as a change")
	}
	f.yaml(small + "# a comment\n")
	if _, changed := w.read(); changed {
		t.Error("a comment reads as a change")
	}
	f.yaml("x: y\n")
	if _, changed := w.read(); !changed {
		t.Error("an error does not read as a change")
	}
	if _, changed := w.read(); changed {
		t.Error("the same error reads as a change")
	}
}
