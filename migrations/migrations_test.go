package migrations

import (
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/store"
)

// TestEveryMigrationSaysWhoMayRunOnIt: both dialects have the same migrations, and each records itself.
func TestEveryMigrationSaysWhoMayRunOnIt(t *testing.T) {
	t.Parallel()
	names := func(files fs.FS) []string {
		list, err := fs.Glob(files, "*")
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if p, s := names(Postgres()), names(SQLite()); !slices.Equal(p, s) || len(p) != Latest {
		t.Fatalf("PostgreSQL has %v, SQLite has %v, Latest is %d", p, s, Latest)
	}
	records := regexp.MustCompile(`(?m)^INSERT INTO schema_release \(version, level, needs\) VALUES \((\d+), (\d+), '[0-9.]+'\);$`)
	for _, files := range []fs.FS{Postgres(), SQLite()} {
		for i, name := range names(files) {
			content, err := fs.ReadFile(files, name)
			if err != nil {
				t.Fatal(err)
			}
			row := records.FindStringSubmatch(string(content))
			if row == nil {
				t.Errorf("%s does not record the oldest release that may run on it", name)
				continue
			}
			number, _, _ := strings.Cut(path.Base(name), "_")
			if version, _ := strconv.Atoi(number); version != i+1 || row[1] != strconv.Itoa(version) {
				t.Errorf("%s has number %d, records %s and is the %d. migration", name, version, row[1], i+1)
			}
			if level, _ := strconv.Atoi(row[2]); level > Level {
				t.Errorf("%s asks for level %d and this release has %d", name, level, Level)
			}
		}
	}
}

func TestUsable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		schema  Schema
		migrate bool
		says    string // empty: usable
	}{
		"current":                {Schema{Latest, Level, "0.1.0"}, false, ""},
		"newer, compatible":      {Schema{Latest + 5, Level, "0.1.0"}, false, ""},
		"newer, not compatible":  {Schema{Latest + 5, Level + 1, "3.0.0"}, false, "release 3.0.0 or later"},
		"nor by migrating":       {Schema{Latest + 5, Level + 1, "3.0.0"}, true, "release 3.0.0 or later"},
		"empty":                  {Schema{}, false, "gatehouse migrate"},
		"empty, to be migrated":  {Schema{}, true, ""},
		"current, with migrate":  {Schema{Latest, Level, "0.1.0"}, true, ""},
		"older, not compatible ": {Schema{Latest - 1, Level + 1, "3.0.0"}, true, "release 3.0.0 or later"},
	} {
		err := c.schema.Usable(c.migrate)
		if c.says == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.says != "" && (!errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
