package provision_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

func TestAuditPagesAndFilters(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.record(t,
		store.AuditEntry{ID: "1", At: now, Kind: store.LoginEntry, Outcome: "allowed", Reason: "allowed", Issuer: corp, Subject: "alice", Name: "corp-alice", Account: "APP"},
		store.AuditEntry{ID: "2", At: now.Add(time.Second), Kind: store.LoginEntry, Outcome: "refused", Reason: "blocked", Issuer: corp, Subject: "bob", Name: "corp-bob", Display: map[string]string{"email": "bob@example.com"}},
		store.AuditEntry{ID: "3", At: now.Add(2 * time.Second), Kind: store.LoginEntry, Outcome: "silent", Reason: "internal", Issuer: partner, Subject: "alice", Name: "partner-alice"},
		store.AuditEntry{ID: "4", At: now.Add(3 * time.Second), Kind: store.AdminEntry, Outcome: "done", Reason: "left", Issuer: former, Subject: "alice", Actor: "local:admin", Op: "revoke"},
	)
	for name, test := range map[string]struct {
		req  api.AuditRequest
		want string
	}{
		"all":            {api.AuditRequest{}, "4 3 2 1"},
		"login":          {api.AuditRequest{Kind: "login"}, "3 2 1"},
		"admin":          {api.AuditRequest{Kind: "admin"}, "4"},
		"done":           {api.AuditRequest{Outcome: "done"}, "4"},
		"refused":        {api.AuditRequest{Outcome: "refused"}, "2"},
		"reason":         {api.AuditRequest{Reason: "blocked"}, "2"},
		"issuer by name": {api.AuditRequest{Issuer: "corp"}, "2 1"},
		"issuer by URL":  {api.AuditRequest{Issuer: partner}, "3"},
		"former issuer":  {api.AuditRequest{Issuer: former}, "4"},
		"subject":        {api.AuditRequest{Subject: "alice"}, "4 3 1"},
		"both":           {api.AuditRequest{Issuer: "corp", Subject: "alice"}, "1"},
		"name":           {api.AuditRequest{Name: "corp-bob"}, "2"},
		"account":        {api.AuditRequest{Account: "APP"}, "1"},
		"actor":          {api.AuditRequest{Actor: "local:admin"}, "4"},
		"op":             {api.AuditRequest{Op: "revoke"}, "4"},
		"display":        {api.AuditRequest{Display: "bob@example.com"}, "2"},
		"by arrival":     {api.AuditRequest{Order: "arrival"}, "1 2 3 4"},
		"arrival, tail":  {api.AuditRequest{Order: "arrival", Tail: true}, ""},
		"request":        {api.AuditRequest{Request: "3"}, "3"},
		"since":          {api.AuditRequest{Since: now.Add(2 * time.Second)}, "4 3"},
		"before":         {api.AuditRequest{Before: now.Add(2 * time.Second)}, "2 1"},
		"nothing":        {api.AuditRequest{Subject: "%' OR 1=1 --\x00"}, ""},
		"limit":          {api.AuditRequest{Limit: 2}, "4 3"},
		"negative limit": {api.AuditRequest{Limit: -5}, "4 3 2 1"},
	} {
		page, err := b.Audit(t.Context(), admin, test.req)
		if err != nil || page.Entries == nil {
			t.Errorf("%s: %+v, %v", name, page, err)
			continue
		}
		if got := ids(page); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	var got []string
	for req := (api.AuditRequest{Limit: 3}); ; {
		page, err := b.Audit(t.Context(), admin, req)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ids(page))
		if req.Cursor = page.Cursor; req.Cursor == "" {
			break
		}
	}
	if want := "[4 3 2 1]"; fmt.Sprint(got) != want || len(got) != 2 {
		t.Errorf("pages %q", got)
	}
}

func ids(page api.AuditPage) string {
	var list []string
	for _, e := range page.Entries {
		list = append(list, e.ID)
	}
	return strings.Join(list, " ")
}

func TestAuditRefusesBadInput(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for name, req := range map[string]api.AuditRequest{
		"kind":        {Kind: "logins"},
		"long kind":   {Kind: strings.Repeat("x", 10_000)},
		"outcome":     {Outcome: "denied"},
		"order":       {Order: "oldest"},
		"tail":        {Tail: true},
		"place":       {Order: "arrival", Cursor: "x"},
		"issuer":      {Issuer: "acme"},
		"cursor":      {Cursor: "x"},
		"long cursor": {Cursor: strings.Repeat("A", 10_000)},
	} {
		_, err := b.Audit(t.Context(), admin, req)
		message := wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest)
		if len(message) > 300 {
			t.Errorf("%s: the message has %d bytes", name, len(message))
		}
	}
}

func TestAdminsAreAudited(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	block := b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Reason: "left"}).Revocation
	b.revoke(t, api.RevokeRequest{Target: api.Target{Subject: "alice"}, Reason: "again"}) // changes nothing
	if _, err := b.Lift(t.Context(), admin, api.LiftRequest{ID: block.ID, Reason: "back"}); err != nil {
		t.Fatal(err)
	}
	page, err := b.Audit(t.Context(), admin, api.AuditRequest{Kind: "admin"})
	if err != nil || len(page.Entries) != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
	for i, want := range []struct{ op, reason string }{{"revoke.lift", "back"}, {"revoke", "left"}} {
		e := page.Entries[i]
		if e.Op != want.op || e.Reason != want.reason || e.Actor != admin.Actor || !strings.Contains(e.Detail, block.ID) || e.Subject != "alice" || e.Outcome != "done" {
			t.Errorf("%+v, want %v", e, want)
		}
	}
}

// Somebody who follows the trail sees that he does, once.
func TestFollowingIsRecordedSparsely(t *testing.T) {
	t.Parallel()
	at := now
	b, records, _ := newAdminBed(t, func(o *provision.Options) { o.Now = func() time.Time { return at } })
	h := b.Handler()
	read := func(token, body string) api.AuditPage {
		t.Helper()
		a := call(t, h, http.MethodPost, api.Path(api.OpAudit), forAdmin+token, body)
		var page api.AuditPage
		if err := json.Unmarshal(a.Body.Bytes(), &page); a.Code != http.StatusOK || err != nil {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		return page
	}
	page := read("root", `{"order":"arrival","tail":true}`)
	next := `{"order":"arrival","cursor":"` + page.Cursor + `"}`
	for range 20 {
		read("root", next)
	}
	read("audit", next) // who gets hold of a cursor is recorded all the same
	at = at.Add(10 * time.Minute)
	read("root", next)
	var got []string
	for _, e := range records.taken() {
		got = append(got, e.Subject)
	}
	if want := []string{"root", "audit", "root"}; !slices.Equal(got, want) {
		t.Errorf("recorded %v, want %v", got, want)
	}
}
