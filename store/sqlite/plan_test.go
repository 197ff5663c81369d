package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// TestIndexesAreUsed: what is asked for often does not read a whole table.
func TestIndexesAreUsed(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "gatehouse.db"))
	audit := func(f store.AuditFilter) string {
		return newestQuery(auditConditions(f))
	}
	rest := func(after row.Place) string {
		var where conditions
		where.rest(after)
		return restQuery(where)
	}
	named := func(name string) string {
		var where conditions
		where.name(name)
		return identitiesQuery(where)
	}
	between := conditions{terms: []string{`r.seq > ? AND r.seq <= ?`}}
	for query, index := range map[string]string{
		audit(store.AuditFilter{}):                                                                               "audit_newest",
		audit(store.AuditFilter{ID: "x"}):                                                                        "(id=?)",
		audit(store.AuditFilter{Outcome: "allowed", Reason: "allowed"}):                                          "audit_newest",
		audit(store.AuditFilter{Reason: "blocked"}):                                                              "audit_reason",
		audit(store.AuditFilter{Reason: "blocked", Outcome: "refused"}):                                          "audit_reason",
		audit(store.AuditFilter{Actor: "root"}):                                                                  "audit_actor",
		audit(store.AuditFilter{Session: "s"}):                                                                   "audit_session",
		audit(store.AuditFilter{Name: "corp-alice"}):                                                             "audit_subject",
		audit(store.AuditFilter{Name: "corp-a==00"}):                                                             "audit_name",
		audit(store.AuditFilter{Principal: policy.Principal{Issuer: "i", Subject: "s"}, Kind: store.LoginEntry}): "audit_subject",
		audit(store.AuditFilter{Principal: policy.Principal{Issuer: "i", Subject: "s"}, Kind: store.LoginEntry, Outcome: "refused"}): "audit_outcome",
		rest(row.Place{}):         "audit_before_batches",
		rest(row.Place{Batch: 7}): "audit_batch",
		betweenQuery(between):     "audit_batch",
		named("corp-alice"):       "identities_subject",
		named("corp-a==00"):       "identities_name",
		loginsQuery:               "audit_connection",
		unfinishedQuery:           "revocations_unfinished",
		`SELECT id FROM revocations WHERE target = ? AND kind = ? AND programs = ? AND ` + row.EqualOnce: "revocations_equal",
		`SELECT identity FROM identity_display WHERE value BETWEEN ? AND ?`:                              "PRIMARY KEY",
		`SELECT id FROM user_keys WHERE owner = ? ORDER BY issued DESC, id DESC LIMIT 10`:                "user_keys_owner",
		madeQuery: "COVERING INDEX accounts_maker",
		`SELECT id FROM audit WHERE session_id <> '' AND session_id = ? ORDER BY at DESC, id DESC`: "audit_session",
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
		all := strings.Join(plan, "\n") + "\n"
		sorts := strings.Contains(all, "B-TREE FOR ORDER BY") && index != "audit_batch" // batches are small
		if !strings.Contains(all, index) || strings.Contains(all, "SCAN audit\n") || sorts {
			t.Errorf("%s:\n%s", query, all)
		}
	}
}
