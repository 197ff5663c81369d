package provision_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// newTeamBed is a bed whose tokens say SUBJECT or SUBJECT/TEAM, and in which a binding leads whoever is of a team to its account.
func newTeamBed(t *testing.T) *accountBed {
	b := newAccountBed(t, func(o *provision.Options) {
		o.Tokens = tokens(func(_ context.Context, token string) (*policy.Identity, *policy.Refusal) {
			subject, team, ofTeam := strings.Cut(token, "/")
			id := person(subject)
			if ofTeam {
				id.Claims["team"] = team
			}
			return id, nil
		})
	})
	name, err := policy.ParseNameTemplate("of-{{claim.team}}")
	if err != nil {
		t.Fatal(err)
	}
	own, err := policy.ParseNameTemplate("home-{{claim.sub}}")
	if err != nil {
		t.Fatal(err)
	}
	r := *b.state.Load().Rules
	role := r.Plans["free"].Roles["app"]
	r.Creates = map[string][]*policy.Binding{"corp": {
		{Name: "teams", Issuer: "corp", When: nobody("eve"), Create: &policy.Create{Plan: "free", Role: role, Name: name}},
		{Name: "homes", Issuer: "corp", Create: &policy.Create{Plan: "free", Role: role, Name: own, Own: true}},
	}}
	r.Admins = map[string][]*policy.Binding{"corp": append(r.Admins["corp"], &policy.Binding{Name: "portal", Issuer: "corp", When: subject("portal"), OnBehalf: true})}
	b.state.Store(&policy.Snapshot{Rules: &r, Accounts: directory(nil)})
	return b
}

// listed returns the names of the accounts that the caller is shown, in all pages.
func (b *accountBed) listed(t *testing.T, c provision.Caller) []string {
	t.Helper()
	names := []string{}
	for req := (api.AccountListRequest{Limit: 1}); ; {
		page, err := b.AccountList(t.Context(), c, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.Accounts {
			names = append(names, a.Name)
		}
		if req.Cursor = page.Cursor; page.Cursor == "" {
			return names
		}
	}
}

// Whom a binding leads to an account that a first login has made sees it, though the account has no members; nobody else learns
// that there is one.
func TestWhoIsLedSees(t *testing.T) {
	t.Parallel()
	b := newTeamBed(t)
	runs(t, b.Service)
	for _, team := range []string{"red", "blue"} {
		if r := found(b.Service, "alice", ofTeam(team)); r != nil {
			t.Fatal(r)
		}
	}
	home := ownOf("ann", "home-ann")
	home.Origin.Template = "home-{{claim.sub}}"
	if r := found(b.Service, "ann", home); r != nil {
		t.Fatal(r)
	}
	// Somebody has signed up for the name that a team's account would have.
	if _, err := b.AccountSignup(t.Context(), caller("zed"), api.AccountSignupRequest{Name: "of-taken", Plan: "free"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who  string
		want []string
	}{
		{"bob/red", []string{"of-red"}},
		{"ann/red", []string{"home-ann", "of-red"}},
		{"bob/RED", []string{}},
		{"bob/green", []string{}},
		{"bob/taken", []string{}},
		{"bob/", []string{}},
		{"bob", []string{}},
		{"eve/red", []string{}},
		{"zed/taken", []string{"of-taken"}},
	} {
		if got := b.listed(t, caller(c.who)); !slices.Equal(got, c.want) {
			t.Errorf("%s is shown %v, want %v", c.who, got, c.want)
		}
		graph, err := b.AccountGraph(t.Context(), caller(c.who), api.AccountGraphRequest{})
		if err != nil || len(graph.Accounts) != len(c.want) {
			t.Errorf("%s is shown %+v, %v", c.who, graph, err)
		}
		for _, name := range []string{"of-red", "of-blue", "of-taken", "home-ann", "none"} {
			a, err := b.AccountGet(t.Context(), caller(c.who), api.AccountRequest{Account: name})
			if slices.Contains(c.want, name) {
				if err != nil || a.Name != name || a.State != "active" {
					t.Errorf("%s is shown %+v, %v", c.who, a, err)
				}
				continue
			}
			e := refusal(t, err)
			if want := strings.ReplaceAll(refusal(t, b.getError(t, "none")).Message, "none", name); e.Code != http.StatusNotFound || e.Message != want {
				t.Errorf("%s is told of %s: %d %s, want %s", c.who, name, e.Code, e.Message, want)
			}
		}
	}
	// To see is not to manage.
	_, err := b.AccountRename(t.Context(), caller("bob/red"), api.AccountRenameRequest{Account: "of-red", Revision: 1, Name: "mine"})
	wantError(t, err, http.StatusForbidden, api.ReasonForbidden)
	_, err = b.MemberList(t.Context(), caller("bob/red"), api.MemberListRequest{Account: "of-red"})
	wantError(t, err, http.StatusForbidden, api.ReasonForbidden)
	// A backend shows no claims of whom it acts for.
	if got := b.listed(t, acting(forAdmin+"portal", "corp", "ann")); !slices.Equal(got, []string{"home-ann"}) {
		t.Errorf("on behalf of somebody is shown %v", got)
	}
	b.deleteAccount(t, "of-red")
	if got := b.listed(t, caller("bob/red")); len(got) != 0 {
		t.Errorf("of what is deleted is shown %v", got)
	}
}

// getError is what somebody is told of an account that is not there.
func (b *accountBed) getError(t *testing.T, name string) error {
	t.Helper()
	_, err := b.AccountGet(t.Context(), caller("nobody"), api.AccountRequest{Account: name})
	return err
}

// deleteAccount deletes the account for good.
func (b *accountBed) deleteAccount(t *testing.T, name string) {
	t.Helper()
	if _, err := b.AccountDelete(t.Context(), admin, api.AccountDeleteRequest{Account: name, Grace: "0s", WithData: true}); err != nil {
		t.Fatal(err)
	}
	if err := b.EndAccounts(t.Context()); err != nil {
		t.Fatal(err)
	}
}
