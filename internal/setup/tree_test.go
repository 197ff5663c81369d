package setup_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/internal/setup"
)

// snapshot returns mode and content of everything below dir.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		all[rel] = info.Mode().String()
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[rel] += " " + string(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWrite(t *testing.T) {
	t.Parallel()
	_, dir := written(t, setup.Options{Account: "Orders"})
	var files []string
	for path, entry := range snapshot(t, dir) {
		mode, _, isFile := strings.Cut(entry, " ")
		if isFile {
			files = append(files, path)
		}
		if want := map[bool]string{true: "-rw-------", false: "drwx------"}[isFile]; mode != want {
			t.Errorf("%s has mode %s, want %s", path, mode, want)
		}
	}
	slices.Sort(files)
	want := []string{
		"creds/callout.creds", "creds/sentinel.creds", "creds/system.creds",
		"gatehouse.yaml",
		"keys/callout.nk", "keys/callout.xk", "keys/lobby.nk", "keys/operator-signing.nk", "keys/orders.nk", "keys/seal.key",
		"nats-server.conf",
		"offline/README.md", "offline/callout.nk", "offline/emergency-app.creds", "offline/emergency-system.creds",
		"offline/lobby.nk", "offline/operator.jwt", "offline/operator.nk", "offline/orders.nk",
		"offline/system-signing.nk", "offline/system.nk",
	}
	if !slices.Equal(files, want) {
		t.Errorf("files\n%s\nwant\n%s", strings.Join(files, "\n"), strings.Join(want, "\n"))
	}
}

func TestWriteNeverOverwrites(t *testing.T) {
	t.Parallel()
	set, err := setup.New(setup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, taken := range []string{"gatehouse.yaml", "nats-server.conf", "keys", "jwt"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, taken), []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		before := snapshot(t, dir)
		if err := set.Write(dir); !errors.Is(err, setup.ErrExists) || !strings.Contains(err.Error(), taken) {
			t.Errorf("%s exists: got %v", taken, err)
		}
		if after := snapshot(t, dir); !equal(before, after) {
			t.Errorf("%s exists: the folder has changed", taken)
		}
	}
	_, dir := written(t, setup.Options{})
	before := snapshot(t, dir)
	if err := set.Write(dir); !errors.Is(err, setup.ErrExists) {
		t.Errorf("second init: got %v", err)
	}
	if !equal(before, snapshot(t, dir)) {
		t.Error("second init has changed the first")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := set.Write(file); err == nil {
		t.Error("a file was taken for a folder")
	}
}

func TestNextSteps(t *testing.T) {
	t.Parallel()
	set, err := setup.New(setup.Options{Servers: 3})
	if err != nil {
		t.Fatal(err)
	}
	want := `nats-server -c '/srv/gate house/server-1.conf'
nats-server -c '/srv/gate house/server-2.conf'
nats-server -c '/srv/gate house/server-3.conf'
# name your OIDC provider in '/srv/gate house/gatehouse.yaml'
gatehouse check -c '/srv/gate house/gatehouse.yaml'
gatehouse serve -c '/srv/gate house/gatehouse.yaml'
# move '/srv/gate house/offline' to a safe place: its README.md says what it is for
`
	if got := set.NextSteps("/srv/gate house"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if set, err = setup.New(setup.Options{Resolver: "url"}); err != nil {
		t.Fatal(err)
	}
	if got := set.NextSteps("/srv"); strings.Index(got, "gatehouse serve") > strings.Index(got, "nats-server -c") {
		t.Errorf("servers that fetch their accounts start first:\n%s", got)
	}
}

// TestWriteTakesBack shows that a failure leaves nothing behind. Here the folders can be
// made, and the longest of the files' paths are longer than the system allows.
func TestWriteTakesBack(t *testing.T) {
	t.Parallel()
	set, err := setup.New(setup.Options{})
	if err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	long := parent
	const fits = 4072 // creds/callout.creds is just short enough below a path of this length
	for len(long) < fits {
		long += "/" + strings.Repeat("x", min(200, fits-len(long)-1))
	}
	if err := set.Write(long); err == nil {
		t.Skip("this file system takes paths of any length")
	}
	if left := snapshot(t, parent); len(left) != 1 {
		t.Errorf("%d files and folders were left behind", len(left)-1)
	}
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}
