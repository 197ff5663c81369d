package provision_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
	"github.com/gatehouse-nats/gatehouse/store"
)

// directKey is a user public key.
const directKey = "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABET7"

// connected stands for servers with these connections; those that are closed are gone. What real servers show is
// tested with the resolver, and whole in cmd/gatehouse.
type connected struct {
	list       []policy.Session
	unanswered []string
	closed     []uint64
	err        error
}

func (c *connected) Connected(_ context.Context, account, name string) ([]policy.Session, []string, error) {
	list := slices.DeleteFunc(slices.Clone(c.list), func(s policy.Session) bool {
		return account != "" && s.Account != account || name != "" && s.Name != name || slices.Contains(c.closed, s.CID)
	})
	return list, c.unanswered, c.err
}

func (c *connected) Close(_ context.Context, list []policy.Session) (int, []string) {
	for _, s := range list {
		c.closed = append(c.closed, s.CID)
	}
	return len(list), c.unanswered
}

func sessions() []policy.Session {
	alice := policy.Principal{Issuer: corp, Subject: "alice"}
	return []policy.Session{
		{ServerID: "NB", Server: "n2", CID: 2, Name: "corp-bob", Account: "AAPP", Source: "192.0.2.9", Type: policy.MQTT, Since: now.Add(-time.Minute)},
		{ServerID: "NA", Server: "n1", CID: 1, Name: "corp-alice", Account: "AAPP", Source: "10.1.2.3", Type: policy.Standard, Client: "go 1.55.0", Since: now.Add(-time.Hour),
			Login: &policy.Login{RequestID: "01970000-0000-7000-8000-000000000002", Principal: alice, Expires: now.Add(time.Hour), Bindings: []string{"developers", "readers"}, Display: map[string]string{"email": "alice@example.com"}}},
		{ServerID: "NA", Server: "n1", CID: 3, Name: directKey, Account: "AAPP", Source: "2001:db8::1", Since: now.Add(-30 * time.Minute),
			Login: &policy.Login{Principal: alice, Program: "nightly", Expires: now.Add(2 * time.Hour)}},
		{ServerID: "NB", Server: "n2", CID: 4, Name: "partner-alice", Account: "AELSE", Source: "10.9.9.9", Since: now.Add(-10 * time.Minute)},
	}
}

func TestSessionFilters(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *provision.Options) { o.Servers = &connected{list: sessions()} })
	b.record(t, store.AuditEntry{ID: "1", At: now, Kind: store.LoginEntry, Outcome: "allowed", Reason: "allowed", Issuer: corp, Subject: "alice", Name: "corp-alice", Display: map[string]string{"email": "alice@example.com"}})
	for name, c := range map[string]struct {
		req  api.SessionsRequest
		want []uint64
	}{
		"all, the oldest first":     {api.SessionsRequest{}, []uint64{1, 3, 4, 2}},
		"an identity":               {api.SessionsRequest{Issuer: "corp", Subject: "alice"}, []uint64{1, 3}},
		"a subject of any issuer":   {api.SessionsRequest{Subject: "alice"}, []uint64{1, 3, 4}},
		"an issuer":                 {api.SessionsRequest{Issuer: "corp"}, []uint64{1, 3, 2}},
		"another issuer":            {api.SessionsRequest{Issuer: partner}, []uint64{4}},
		"by e-mail":                 {api.SessionsRequest{Display: "ALICE@example.com"}, []uint64{1, 3}},
		"by subject instead":        {api.SessionsRequest{Display: "alice"}, []uint64{1, 3}},
		"by e-mail, another issuer": {api.SessionsRequest{Display: "alice@example.com", Kind: "direct"}, []uint64{3}},
		"a name":                    {api.SessionsRequest{Name: "corp-bob"}, []uint64{2}},
		"an account by name":        {api.SessionsRequest{Account: "APP"}, []uint64{1, 3, 2}},
		"a network":                 {api.SessionsRequest{Source: "10.0.0.0/8"}, []uint64{1, 4}},
		"an address":                {api.SessionsRequest{Source: "2001:db8::1"}, []uint64{3}},
		"a binding":                 {api.SessionsRequest{Binding: "readers"}, []uint64{1}},
		"callout users":             {api.SessionsRequest{Kind: "callout"}, []uint64{1, 4, 2}},
		"a server by name":          {api.SessionsRequest{Server: "n1"}, []uint64{1, 3}},
		"a server by id":            {api.SessionsRequest{Server: "NB"}, []uint64{4, 2}},
		"one connection":            {api.SessionsRequest{Server: "n1", CID: 3}, []uint64{3}},
		"a cid of another server":   {api.SessionsRequest{Server: "n2", CID: 3}, nil},
		"nobody":                    {api.SessionsRequest{Subject: "nobody"}, nil},
		"at most two":               {api.SessionsRequest{Limit: 2}, []uint64{1, 3}},
		"several that exclude all":  {api.SessionsRequest{Account: "APP", Source: "10.9.0.0/16"}, nil},
	} {
		page, err := b.Sessions(t.Context(), admin, c.req)
		var got []uint64
		for _, s := range page.Sessions {
			got = append(got, s.CID)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
		if c.req.Limit == 0 && page.Total != len(got) || c.req.Limit > 0 && page.Total != 4 {
			t.Errorf("%s: %d in all", name, page.Total)
		}
		if c.req.Limit > 0 {
			continue
		}
		plan, err := b.Kick(t.Context(), admin, api.KickRequest{SessionsRequest: c.req, All: true, Reason: "why", DryRun: true})
		if err != nil || plan.Found != len(c.want) || plan.Closed != 0 {
			t.Errorf("%s, kick: %+v, %v", name, plan, err)
		}
	}
}

// The service's own connections are neither shown nor closed.
func TestSessionsLeaveTheServiceAlone(t *testing.T) {
	t.Parallel()
	servers := &connected{list: append(sessions(), policy.Session{ServerID: "NA", Server: "n1", CID: 9, Name: directKey, Account: "AAUTH", Since: now})}
	b := newBed(t, func(o *provision.Options) { o.Servers, o.Closed = servers, []string{"AAUTH", "ASYS"} })
	page, err := b.Sessions(t.Context(), admin, api.SessionsRequest{})
	if err != nil || page.Total != len(sessions()) {
		t.Errorf("%d sessions, %v", page.Total, err)
	}
	if got, err := b.Kick(t.Context(), admin, api.KickRequest{All: true, Reason: "all"}); err != nil || got.Closed != len(sessions()) || slices.Contains(servers.closed, 9) {
		t.Errorf("%+v, %v, closed %v", got, err, servers.closed)
	}
}

func TestSessionsRefuseBadInput(t *testing.T) {
	t.Parallel()
	servers := &connected{list: sessions()}
	b := newBed(t, func(o *provision.Options) { o.Servers, o.Closed = servers, []string{"AAUTH"} })
	for name, c := range map[string]struct {
		req  api.SessionsRequest
		code int
	}{
		"a kind":               {api.SessionsRequest{Kind: "indirect"}, http.StatusBadRequest},
		"a source":             {api.SessionsRequest{Source: "10.0.0.0/99"}, http.StatusBadRequest},
		"a cid without server": {api.SessionsRequest{CID: 1}, http.StatusBadRequest},
		"an issuer":            {api.SessionsRequest{Issuer: "acme"}, http.StatusBadRequest},
		"an account":           {api.SessionsRequest{Account: "acme"}, http.StatusBadRequest},
		"the callout account":  {api.SessionsRequest{Account: "AAUTH"}, http.StatusForbidden},
		"a negative limit":     {api.SessionsRequest{Limit: -1}, http.StatusBadRequest},
		"too many":             {api.SessionsRequest{Limit: 10001}, http.StatusBadRequest},
		"twice who":            {api.SessionsRequest{Display: "alice@example.com", Subject: "alice"}, http.StatusBadRequest},
		"nobody who is known":  {api.SessionsRequest{Display: "nobody@example.com"}, http.StatusNotFound},
	} {
		_, err := b.Sessions(t.Context(), admin, c.req)
		_, kick := b.Kick(t.Context(), admin, api.KickRequest{SessionsRequest: c.req, Reason: "why"})
		for _, err := range []error{err, kick} {
			if refused, ok := errors.AsType[*api.Error](err); !ok || refused.Code != c.code {
				t.Errorf("%s: %v, want %d", name, err, c.code)
			}
		}
	}
	for name, req := range map[string]api.KickRequest{
		"no reason":  {SessionsRequest: api.SessionsRequest{Subject: "alice"}},
		"everybody":  {Reason: "why"},
		"only limit": {SessionsRequest: api.SessionsRequest{Limit: 3}, Reason: "why"},
	} {
		if _, err := b.Kick(t.Context(), admin, req); err == nil {
			t.Errorf("kick of %s is carried out", name)
		}
	}
	servers.err = errors.New("no answer")
	if _, err := b.Sessions(t.Context(), admin, api.SessionsRequest{}); err == nil {
		t.Error("servers that cannot be asked show nobody")
	}
	if len(servers.closed) > 0 {
		t.Errorf("closed all the same: %v", servers.closed)
	}
	none := newBed(t)
	if _, err := none.Sessions(t.Context(), admin, api.SessionsRequest{}); err == nil {
		t.Error("without a system user sessions are listed")
	}
}

// A kick closes what was found, and is in the audit trail before.
func TestKick(t *testing.T) {
	t.Parallel()
	servers := &connected{list: sessions(), unanswered: []string{"n3"}}
	b := newBed(t, func(o *provision.Options) { o.Servers = servers })
	got, err := b.Kick(t.Context(), admin, api.KickRequest{SessionsRequest: api.SessionsRequest{Issuer: "corp", Subject: "alice"}, Reason: "new permissions"})
	if want := (api.KickResult{Found: 2, Closed: 2, Unanswered: []string{"n3"}}); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if !slices.Equal(servers.closed, []uint64{1, 3}) {
		t.Errorf("closed %v", servers.closed)
	}
	page, err := b.Audit(t.Context(), admin, api.AuditRequest{Op: api.OpKick})
	if err != nil || len(page.Entries) != 1 || page.Entries[0].Reason != "new permissions" || page.Entries[0].Target != "issuer corp, subject alice" || page.Entries[0].Actor != admin.Actor {
		t.Errorf("audit: %+v, %v", page.Entries, err)
	}
	if again, err := b.Kick(t.Context(), admin, api.KickRequest{SessionsRequest: api.SessionsRequest{Issuer: "corp", Subject: "alice"}, Reason: "again"}); err != nil || again.Found != 0 || again.Closed != 0 {
		t.Errorf("of connections that are gone: %+v, %v", again, err)
	}
}
