package provision_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-nats/gatehouse/account"
	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/policy"
	"github.com/gatehouse-nats/gatehouse/store"
)

// withEmail verifies tokens of the form SUBJECT=ADDRESS, whose address is verified, or SUBJECT~ADDRESS, whose is not.
func withEmail(_ context.Context, token string) (*policy.Identity, *policy.Refusal) {
	i := strings.IndexAny(token, "=~")
	if i < 0 {
		return person(token), nil
	}
	id := person(token[:i])
	id.Claims["email"], id.Claims["email_verified"] = token[i+1:], token[i] == '='
	return id, nil
}

func (b *accountBed) accept(as, secret string) error {
	_, err := b.MemberAccept(context.Background(), caller(as), api.MemberAcceptRequest{Account: "orders", Secret: secret})
	return err
}

func TestInvitation(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	invited, err := b.MemberInvite(t.Context(), caller("alice"), api.MemberInviteRequest{Account: "orders", Role: "app"})
	if err != nil || len(invited.Secret) < 26 || !invited.Member.Until.Equal(now.Add(7*24*time.Hour)) {
		t.Fatalf("%+v, %v", invited, err)
	}
	// The secret is nowhere but in the answer.
	list, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{})
	if err != nil || strings.Contains(fmt.Sprintf("%+v", list), invited.Secret) {
		t.Errorf("the secret is in the store: %v", err)
	}
	entries, _, err := b.Store.Audit(t.Context(), store.AuditFilter{})
	if err != nil || strings.Contains(fmt.Sprintf("%+v", entries), invited.Secret) || strings.Contains(b.log.String(), invited.Secret) {
		t.Errorf("the secret is in the trail or in the log: %v", err)
	}
	members, err := b.MemberList(t.Context(), caller("alice"), api.MemberListRequest{Account: "orders"})
	if text := fmt.Sprintf("%+v", members); err != nil || strings.Contains(text, list[0].Members[2].Invitation) {
		t.Errorf("what the invitation is kept as is shown: %s, %v", text, err)
	}
	for _, secret := range []string{"", "A", list[0].Members[2].Invitation, strings.ToLower(invited.Secret), invited.Secret + " ", strings.Repeat("A", 10_000)} {
		if err := b.accept("bob", secret); reasonOf(err) != api.ReasonInvitationInvalid {
			t.Errorf("secret %.40q: %v", secret, err)
		}
	}
	if b.login("bob", "orders").Allowed() {
		t.Fatal("let in without having accepted")
	}
	if err := b.accept("bob", invited.Secret); err != nil {
		t.Fatal(err)
	}
	if d := b.login("bob", "orders"); !d.Allowed() || d.Roles[0] != "app" {
		t.Errorf("login: %+v", d)
	}
	// Once.
	for _, who := range []string{"bob", "carol"} {
		if err := b.accept(who, invited.Secret); reasonOf(err) != api.ReasonInvitationInvalid {
			t.Errorf("again by %s: %v", who, err)
		}
	}
	if b.login("carol", "orders").Allowed() {
		t.Error("an invitation let two in")
	}
	// There is no telling an account that is not there from one that has not invited.
	_, err = b.MemberAccept(t.Context(), caller("carol"), api.MemberAcceptRequest{Account: "nothing", Secret: invited.Secret})
	if there := b.accept("carol", invited.Secret); err.Error() != there.Error() {
		t.Errorf("told apart: %v and %v", err, there)
	}
}

func TestInvitationEnds(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	invited, err := b.MemberInvite(t.Context(), caller("alice"), api.MemberInviteRequest{Account: "orders", Role: "app", TTL: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	b.at(now.Add(time.Hour))
	if err := b.accept("bob", invited.Secret); reasonOf(err) != api.ReasonInvitationInvalid {
		t.Errorf("at its end: %v", err)
	}
	b.at(now)
	if _, err := b.MemberRemove(t.Context(), caller("alice"), api.MemberRemoveRequest{Account: "orders", ID: invited.Member.ID}); err != nil {
		t.Fatal(err)
	}
	if err := b.accept("bob", invited.Secret); reasonOf(err) != api.ReasonInvitationInvalid {
		t.Errorf("once it is removed: %v", err)
	}
	for _, ttl := range []string{"1s", "721h", "-1h", "7d", "soon"} {
		if _, err := b.MemberInvite(t.Context(), caller("alice"), api.MemberInviteRequest{Account: "orders", Role: "app", TTL: ttl}); reasonOf(err) != api.ReasonBadRequest {
			t.Errorf("ttl %s: %v", ttl, err)
		}
	}
}

// Who guesses secrets is stopped by the bound on calls, and is in the trail.
func TestGuessingIsBounded(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	if _, err := b.MemberInvite(t.Context(), caller("alice"), api.MemberInviteRequest{Account: "orders", Role: "app"}); err != nil {
		t.Fatal(err)
	}
	tried := 0
	for i := range 500 {
		switch reason := reasonOf(b.accept("bob", fmt.Sprint("GUESS", i))); reason {
		case api.ReasonInvitationInvalid:
			tried++
		case api.ReasonRateLimited:
		default:
			t.Fatal(reason)
		}
	}
	if tried > 100 {
		t.Errorf("%d guesses in a moment", tried)
	}
	if n := len(b.records.taken()); n < tried {
		t.Errorf("%d entries of %d guesses", n, tried)
	}
}

// What one accepts at a time with others is accepted once.
func TestInvitationTakenAtOnce(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	invited, err := b.MemberInvite(t.Context(), caller("alice"), api.MemberInviteRequest{Account: "orders", Role: "app"})
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan error)
	for i := range 8 {
		go func() { results <- b.accept(fmt.Sprint("guest", i), invited.Secret) }()
	}
	taken := 0
	for range 8 {
		if err := <-results; err == nil {
			taken++
		} else if reasonOf(err) != api.ReasonInvitationInvalid {
			t.Error(err)
		}
	}
	if taken != 1 {
		t.Errorf("taken %d times", taken)
	}
}

func TestMemberAdd(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t, withTokens(withEmail))
	b.orders(t)
	alice := caller("alice")
	for name, c := range map[string]struct {
		req    api.MemberAddRequest
		reason string
	}{
		"a role that is not":             {api.MemberAddRequest{Role: "root", Issuer: "corp", Subject: "bob"}, api.ReasonRoleUnknown},
		"a role of another plan":         {api.MemberAddRequest{Role: "reader", Issuer: "corp", Subject: "bob"}, api.ReasonRoleUnknown},
		"nobody":                         {api.MemberAddRequest{Role: "app", Issuer: "corp"}, api.ReasonBadRequest},
		"two":                            {api.MemberAddRequest{Role: "app", Issuer: "corp", Subject: "bob", Email: "bob@example.com"}, api.ReasonBadRequest},
		"an issuer that is not":          {api.MemberAddRequest{Role: "app", Issuer: "evil", Subject: "bob"}, api.ReasonBadRequest},
		"admin tokens":                   {api.MemberAddRequest{Role: "app", Issuer: "gatehouse", Subject: "bob"}, api.ReasonBadRequest},
		"an issuer without trust":        {api.MemberAddRequest{Role: "app", Issuer: "partner", Email: "bob@example.com"}, api.ReasonEmailUntrusted},
		"an address of letters alike":    {api.MemberAddRequest{Role: "app", Issuer: "corp", Email: "b\u043eb@example.com"}, api.ReasonBadRequest},
		"no claim":                       {api.MemberAddRequest{Role: "app", Issuer: "corp", Match: map[string][]any{"groups": {}}}, api.ReasonBadRequest},
		"owners by claims":               {api.MemberAddRequest{Role: "owner", Issuer: "corp", Match: map[string][]any{"groups": {"x"}}}, api.ReasonBadRequest},
		"an owner for a time":            {api.MemberAddRequest{Role: "owner", Issuer: "corp", Subject: "bob", Until: now.Add(time.Hour)}, api.ReasonBadRequest},
		"a time that is over":            {api.MemberAddRequest{Role: "app", Issuer: "corp", Subject: "bob", Until: now}, api.ReasonBadRequest},
		"a subject that is no text":      {api.MemberAddRequest{Role: "app", Issuer: "corp", Subject: "b\x00b"}, api.ReasonBadRequest},
		"a subject that is far too long": {api.MemberAddRequest{Role: "app", Issuer: "corp", Subject: strings.Repeat("b", 2000)}, api.ReasonBadRequest},
	} {
		c.req.Account = "orders"
		if _, err := b.MemberAdd(t.Context(), alice, c.req); reasonOf(err) != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	// By subject: only once they have accepted, and nobody else can.
	if _, err := b.MemberAdd(t.Context(), alice, api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: "bob"}); err != nil {
		t.Fatal(err)
	}
	if b.login("bob", "orders").Allowed() {
		t.Error("let in without having accepted")
	}
	if err := b.accept("carol", ""); reasonOf(err) != api.ReasonInvitationInvalid {
		t.Errorf("somebody else accepts: %v", err)
	}
	if err := b.accept("bob", ""); err != nil || !b.login("bob", "orders").Allowed() {
		t.Errorf("%v", err)
	}
	// By e-mail address: whoever has it, verified, and from then on that identity alone.
	if _, err := b.MemberAdd(t.Context(), alice, api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Email: "Dora@Example.com"}); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"eve~dora@example.com", "eve=eve@example.com", "eve=dora@example.com.evil", "eve"} {
		if err := b.accept(token, ""); reasonOf(err) != api.ReasonInvitationInvalid {
			t.Errorf("%s: %v", token, err)
		}
	}
	if err := b.accept("dora=DORA@example.com", ""); err != nil || !b.login("dora", "orders").Allowed() {
		t.Errorf("%v", err)
	}
	if err := b.accept("eve=dora@example.com", ""); reasonOf(err) != api.ReasonInvitationInvalid {
		t.Errorf("the address a second time: %v", err)
	}
	// An issuer that is no longer trusted says nothing any more.
	if _, err := b.MemberAdd(t.Context(), alice, api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Email: "fred@example.com"}); err != nil {
		t.Fatal(err)
	}
	b.trusted = ""
	if err := b.accept("fred=fred@example.com", ""); reasonOf(err) != api.ReasonInvitationInvalid {
		t.Errorf("untrusted: %v", err)
	}
	// By claims: at once, for whoever names the account.
	if _, err := b.MemberAdd(t.Context(), alice, api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Match: map[string][]any{"sub": {"g*"}}}); err != nil {
		t.Fatal(err)
	}
	if !b.login("gina", "orders").Allowed() || b.login("henry", "orders").Allowed() {
		t.Error("claims do not say who is let in")
	}
}

func TestMembersAreBounded(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	list, _, err := b.Store.Accounts(t.Context(), store.AccountFilter{})
	if err != nil {
		t.Fatal(err)
	}
	a := list[0]
	for i := len(a.Members); i < account.MaxMembers; i++ {
		a.Members = append(a.Members, account.Member{ID: fmt.Sprint(i), Role: "app", Invitation: "x", Until: now.Add(time.Minute)})
	}
	a.Revision++
	if _, err := b.Store.SaveAccount(t.Context(), store.AccountChange{Account: a, Entry: store.AuditEntry{ID: "01970000-0000-7000-8000-00000000000d", At: now, Kind: store.AdminEntry, Outcome: "done"}}); err != nil {
		t.Fatal(err)
	}
	invite := func() error {
		_, err := b.MemberInvite(t.Context(), caller("alice"), api.MemberInviteRequest{Account: "orders", Role: "app"})
		return err
	}
	wantError(t, invite(), http.StatusConflict, api.ReasonMembersFull)
	b.at(now.Add(time.Minute)) // they have ended, and make room
	if err := invite(); err != nil {
		t.Error(err)
	}
}

func TestMemberRemove(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	id := b.orders(t).Account
	invited, err := b.MemberInvite(t.Context(), caller("alice"), api.MemberInviteRequest{Account: "orders", Role: "app"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.accept("bob", invited.Secret); err != nil {
		t.Fatal(err)
	}
	session := func(cid uint64, account, subject string, bindings ...string) policy.Session {
		s := policy.Session{ServerID: "NA", Server: "n1", CID: cid, Account: account, Name: "corp-" + subject}
		if bindings != nil {
			s.Login = &policy.Login{Principal: policy.Principal{Issuer: corp, Subject: subject}, Issued: now, Bindings: bindings}
		}
		return s
	}
	mine := "member:" + invited.Member.ID
	b.servers.list = []policy.Session{
		session(1, id, "bob", mine), session(2, "AAPP", "bob", mine), session(3, id, "alice", "member:other"), session(4, id, "bob"), session(5, id, "bob", "member:other"), session(6, id, "carol"),
	}
	if err := b.Store.AddUserKey(t.Context(), store.UserKey{
		Key: directKey, Account: "orders", AccountID: id, Issuer: corp, Subject: "bob", Name: "corp-bob", Issued: now, Expires: now.Add(time.Hour),
	}, 1); err != nil {
		t.Fatal(err)
	}
	out, err := b.MemberRemove(t.Context(), caller("alice"), api.MemberRemoveRequest{Account: "orders", ID: invited.Member.ID})
	if err != nil || out.Closed != 2 || out.Revoked != 1 || out.Member.Subject != "bob" {
		t.Fatalf("%+v, %v", out, err)
	}
	if b.login("bob", "orders").Allowed() {
		t.Error("the next login is let in")
	}
	keys, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{Kind: policy.UserKey})
	if err != nil || len(keys) != 1 || keys[0].Key != directKey || keys[0].Account != id {
		t.Errorf("%+v, %v", keys, err)
	}
}

func TestLastOwnerStays(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	owner := func(subject string) string {
		t.Helper()
		page, err := b.MemberList(t.Context(), admin, api.MemberListRequest{Account: "orders"})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Members {
			if m.Role == "owner" && m.Subject == subject {
				return m.ID
			}
		}
		return ""
	}
	remove := func(id string) error {
		_, err := b.MemberRemove(t.Context(), caller("alice"), api.MemberRemoveRequest{Account: "orders", ID: id})
		return err
	}
	wantError(t, remove(owner("alice")), http.StatusConflict, api.ReasonLastOwner)
	if _, err := b.MemberAdd(t.Context(), caller("alice"), api.MemberAddRequest{Account: "orders", Role: "owner", Issuer: "corp", Subject: "bob"}); err != nil {
		t.Fatal(err)
	}
	wantError(t, remove(owner("alice")), http.StatusConflict, api.ReasonLastOwner) // bob has not accepted
	if err := b.accept("bob", ""); err != nil {
		t.Fatal(err)
	}
	if err := remove(owner("alice")); err != nil {
		t.Fatal(err)
	}
	if a := b.get(t, "orders"); a.Owner.Subject != "bob" {
		t.Errorf("the record's owner is %+v", a.Owner)
	}
	wantError(t, remove(owner("bob")), http.StatusForbidden, api.ReasonForbidden) // alice is an owner no more
}

func TestMemberListPages(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	b.orders(t)
	for i := range 3 {
		if _, err := b.MemberAdd(t.Context(), caller("alice"), api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: fmt.Sprint("guest", i)}); err != nil {
			t.Fatal(err)
		}
	}
	seen, cursor := map[string]bool{}, ""
	for range 10 {
		page, err := b.MemberList(t.Context(), caller("alice"), api.MemberListRequest{Account: "orders", Limit: 2, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Members {
			seen[m.ID] = true
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if len(seen) != 5 {
		t.Errorf("%d members, want 5", len(seen))
	}
	_, err := b.MemberList(t.Context(), caller("alice"), api.MemberListRequest{Account: "orders", Cursor: "made-up"})
	wantError(t, err, http.StatusBadRequest, api.ReasonBadRequest)
}

// TestMemberRemoveKeys voids the keys that were let in by claims when these are removed, and no others.
func TestMemberRemoveKeys(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	id := b.orders(t).Account
	add := func(req api.MemberAddRequest) string {
		t.Helper()
		req.Account, req.Role, req.Issuer = "orders", "app", "corp"
		m, err := b.MemberAdd(t.Context(), caller("alice"), req)
		if err != nil {
			t.Fatal(err)
		}
		return m.ID
	}
	gone := add(api.MemberAddRequest{Match: map[string][]any{"sub": {"*"}}})
	add(api.MemberAddRequest{Subject: "henry"})
	add(api.MemberAddRequest{Subject: "judy", Until: now.Add(time.Minute)})
	for _, who := range []string{"henry", "judy"} {
		if err := b.accept(who, ""); err != nil {
			t.Fatal(err)
		}
	}
	b.at(now.Add(2 * time.Minute)) // judy's own membership has ended
	want := map[string]bool{}
	for i, c := range []struct {
		issuer, subject, binding string // of the sign-up that is recorded, if any
		before                   bool   // of an earlier user JWT
		voided                   bool
	}{
		{corp, "gina", "member:" + gone, false, true},
		{corp, "gina", "member:other", false, false},
		{corp, "henry", "member:" + gone, false, true},
		{corp, "henry", "", false, false},
		{corp, "henry", "member:" + gone, true, false},
		{corp, "ivan", "", false, true},
		{corp, "ivan", "member:other", true, true},
		{corp, "judy", "", false, true},
		{"https://other.example.com", "gina", "", false, false},
	} {
		key, err := newUserKey(t).PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		want[key] = c.voided
		if err := b.Store.AddUserKey(t.Context(), store.UserKey{
			Key: key, Account: "orders", AccountID: id, Issuer: c.issuer, Subject: c.subject, Name: fmt.Sprint("corp-", c.subject), Issued: now, Expires: now.Add(time.Hour),
		}, 9); err != nil {
			t.Fatal(err)
		}
		if c.binding == "" {
			continue
		}
		e := store.AuditEntry{
			ID: fmt.Sprintf("01970000-0000-7000-8000-0000000000%02d", i), At: now, Kind: store.LoginEntry, Op: api.OpUserSignup, Outcome: "allowed",
			Issuer: c.issuer, Subject: c.subject, UserKey: key, Bindings: []string{c.binding},
		}
		if c.before {
			e.At = now.Add(-time.Hour)
		}
		if err := b.Store.Record(t.Context(), []store.AuditEntry{e}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.MemberRemove(t.Context(), caller("alice"), api.MemberRemoveRequest{Account: "orders", ID: gone})
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{Kind: policy.UserKey})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, r := range list {
		got[r.Key] = true
	}
	voided := 0
	for key, is := range want {
		if got[key] != is {
			t.Errorf("key %s: voided %t, want %t", key, got[key], is)
		}
		if is {
			voided++
		}
	}
	if out.Revoked != voided {
		t.Errorf("%d keys are said to be voided, want %d", out.Revoked, voided)
	}
}

// TestMemberEndsEarlier closes what would outlive a membership of which the end is set earlier, and leaves the rest.
func TestMemberEndsEarlier(t *testing.T) {
	t.Parallel()
	b := newAccountBed(t)
	id := b.orders(t).Account
	add := func(until time.Time) string {
		t.Helper()
		m, err := b.MemberAdd(t.Context(), caller("alice"), api.MemberAddRequest{Account: "orders", Role: "app", Issuer: "corp", Subject: "bob", Until: until})
		if err != nil {
			t.Fatal(err)
		}
		return m.ID
	}
	mine := "member:" + add(time.Time{})
	if err := b.accept("bob", ""); err != nil {
		t.Fatal(err)
	}
	short, err := newUserKey(t).PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for key, life := range map[string]time.Duration{directKey: time.Hour, short: time.Minute} {
		if err := b.Store.AddUserKey(t.Context(), store.UserKey{
			Key: key, Account: "orders", AccountID: id, Issuer: corp, Subject: "bob", Name: "corp-bob", Issued: now, Expires: now.Add(life),
		}, 9); err != nil {
			t.Fatal(err)
		}
	}
	session := func(cid uint64, binding string, life time.Duration) policy.Session {
		return policy.Session{ServerID: "NA", Server: "n1", CID: cid, Account: id, Name: "corp-bob",
			Login: &policy.Login{Principal: policy.Principal{Issuer: corp, Subject: "bob"}, Issued: now, Expires: now.Add(life), Bindings: []string{binding}}}
	}
	b.servers.list = []policy.Session{session(1, mine, time.Hour), session(2, mine, time.Minute), session(3, "member:other", time.Hour)}
	ended := func() (cids []uint64, keys int) {
		t.Helper()
		list, _, err := b.Store.Revocations(t.Context(), store.RevocationFilter{Kind: policy.UserKey})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r.Key != directKey {
				t.Errorf("%s is voided", r.Key)
			}
		}
		return b.servers.closed, len(list)
	}
	add(now.Add(2 * time.Hour))
	if cids, keys := ended(); len(cids) != 0 || keys != 0 {
		t.Errorf("an end after all that is open closes %v and voids %d keys", cids, keys)
	}
	add(now.Add(10 * time.Minute))
	if cids, keys := ended(); len(cids) != 1 || cids[0] != 1 || keys != 1 {
		t.Errorf("connections %v are closed and %d keys voided, want what lasts for longer", cids, keys)
	}
	add(time.Time{})
	if cids, keys := ended(); len(cids) != 1 || keys != 1 {
		t.Errorf("a later end closes %v and voids %d keys", cids, keys)
	}
}
