package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// TestIndexesAreUsed: what is asked for often does not read a whole table.
func TestIndexesAreUsed(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "gatehouse.db"))
	for query, index := range map[string]string{
		loginsQuery:     "audit_connection",
		unfinishedQuery: "revocations_unfinished",
		`SELECT id FROM revocations WHERE target = ? AND kind = ? AND programs = ? AND ` + row.EqualOnce: "revocations_equal",
		`SELECT identity FROM identity_display WHERE value BETWEEN ? AND ?`:                              "PRIMARY KEY",
		`SELECT id FROM user_keys WHERE owner = ? ORDER BY issued DESC, id DESC LIMIT 10`:                "user_keys_owner",
		`SELECT id FROM audit WHERE session_id <> '' AND session_id = ? ORDER BY at DESC, id DESC`:       "audit_session",
	} {
		rows, err := s.reader.Query("EXPLAIN QUERY PLAN "+query, make([]any, strings.Count(query, "?"))...)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var step string
			if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, step)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(plan, "\n"); !strings.Contains(all, index) || strings.Contains(all, "SCAN audit") {
			t.Errorf("%s:\n%s", query, all)
		}
	}
}
