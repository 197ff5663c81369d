package provision_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/gatehouse-nats/gatehouse/api"
	"github.com/gatehouse-nats/gatehouse/provision"
)

// public returns a new public key.
func public(t testing.TB, kind nkeys.PrefixByte) string {
	t.Helper()
	pair, err := nkeys.CreatePair(kind)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Everything that can be revoked: what is stored, and that the same again changes nothing.
func TestRevokeTargets(t *testing.T) {
	t.Parallel()
	user, key, importer, unknown := public(t, nkeys.PrefixByteUser), public(t, nkeys.PrefixByteAccount), public(t, nkeys.PrefixByteAccount), public(t, nkeys.PrefixByteAccount)
	for name, c := range map[string]struct {
		req     api.RevokeRequest
		want    api.Target
		account string // its name
		repeats bool   // a second one is another: it has a later point in time
	}{
		"an issuer":             {req: api.RevokeRequest{Target: api.Target{Issuer: "corp"}, All: true}, want: api.Target{Issuer: corp}},
		"claims":                {req: api.RevokeRequest{Target: api.Target{Issuer: "corp", Match: map[string][]any{"groups": {"contractors"}}}}, want: api.Target{Issuer: corp, Match: map[string][]any{"groups": {"contractors"}}}},
		"claims in an account":  {req: api.RevokeRequest{Target: api.Target{Issuer: "corp", Account: "APP", Match: map[string][]any{"groups": {"contractors"}}}}, want: api.Target{Issuer: corp, Account: "AAPP", Match: map[string][]any{"groups": {"contractors"}}}, account: "APP"},
		"logout of an issuer":   {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: corp}, All: true}, want: api.Target{Issuer: corp}, repeats: true},
		"logout of a session":   {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Session: "s-1"}}, want: api.Target{Issuer: corp, Session: "s-1"}},
		"logout of a token":     {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Token: "t-1"}}, want: api.Target{Issuer: corp, Token: "t-1"}},
		"logout of an account":  {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Account: "APP"}}, want: api.Target{Account: "AAPP"}, account: "APP", repeats: true},
		"a suspension":          {req: api.RevokeRequest{Kind: "suspension", Target: api.Target{Account: "AAPP"}}, want: api.Target{Account: "AAPP"}, account: "APP"},
		"an unknown account":    {req: api.RevokeRequest{Kind: "suspension", Target: api.Target{Account: unknown}}, want: api.Target{Account: unknown}},
		"a user key":            {req: api.RevokeRequest{Kind: "user_key", Target: api.Target{Account: "APP", Key: user}}, want: api.Target{Account: "AAPP", Key: user}, account: "APP"},
		"a signing key":         {req: api.RevokeRequest{Kind: "signing_key", Target: api.Target{Account: "APP", Key: key}}, want: api.Target{Account: "AAPP", Key: key}, account: "APP"},
		"an activation":         {req: api.RevokeRequest{Kind: "activation", Target: api.Target{Account: "APP", Key: importer, Export: "a.*"}}, want: api.Target{Account: "AAPP", Key: importer, Export: "a.*"}, account: "APP"},
		"an identity's program": {req: api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "p"}, Programs: true}, want: api.Target{Issuer: corp, Subject: "p"}},
	} {
		b := newBed(t)
		c.req.Reason = "left"
		dry := c.req
		dry.DryRun = true
		if plan, err := b.Revoke(t.Context(), admin, dry); err != nil || !sameTarget(plan.Revocation.Target, c.want) || len(b.list(t)) != 0 {
			t.Errorf("%s, dry run: %+v, %v, %d stored", name, plan, err, len(b.list(t)))
		}
		got, err := b.Revoke(t.Context(), admin, c.req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r := got.Revocation; !sameTarget(r.Target, c.want) || r.AccountName != c.account || !r.InForce || got.Existing || r.Programs != c.req.Programs {
			t.Errorf("%s: %+v, existing %v", name, r, got.Existing)
		}
		again, err := b.Revoke(t.Context(), admin, c.req)
		if err != nil || again.Existing == c.repeats {
			t.Errorf("%s, the same again: %+v, %v", name, again, err)
		}
	}
}

func sameTarget(a, b api.Target) bool {
	return a.Issuer == b.Issuer && a.Subject == b.Subject && a.Session == b.Session && a.Token == b.Token && a.Account == b.Account &&
		a.Key == b.Key && a.Export == b.Export && len(a.Match) == len(b.Match) && (len(a.Match) == 0 || a.Match["groups"][0] == b.Match["groups"][0])
}

func TestRevokeRefusesBadTargets(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *provision.Options) { o.Closed = []string{"AAUTH", "SYS"} })
	user, key := public(t, nkeys.PrefixByteUser), public(t, nkeys.PrefixByteAccount)
	for name, c := range map[string]struct {
		req  api.RevokeRequest
		code int
		says string
	}{
		"everybody by mistake":              {req: api.RevokeRequest{Target: api.Target{Issuer: "corp"}}, says: "say that all are meant"},
		"all and a subject":                 {req: api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "a"}, All: true}, says: "names less"},
		"no target":                         {req: api.RevokeRequest{}, says: "issuer is empty"},
		"a block of an account":             {req: api.RevokeRequest{Target: api.Target{Account: "APP"}}, says: "does not concern an account: use logout or suspension"},
		"a block of a session":              {req: api.RevokeRequest{Target: api.Target{Issuer: "corp", Session: "s"}}, says: "does not concern a session: use logout"},
		"a session of 10 kB":                {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Session: strings.Repeat("s", 10_000)}}, says: "10000 bytes"},
		"a token that is no text":           {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Token: "a\x00b"}}, says: "not text"},
		"a logout by claims":                {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Match: map[string][]any{"a": {"b"}}}}, says: "does not concern a match: use block"},
		"a claim without value":             {req: api.RevokeRequest{Target: api.Target{Issuer: "corp", Match: map[string][]any{"a": {}}}}, says: "has no value"},
		"a value that is a list":            {req: api.RevokeRequest{Target: api.Target{Issuer: "corp", Match: map[string][]any{"a": {[]any{"b"}}}}}, says: "a value is a text"},
		"the callout account":               {req: api.RevokeRequest{Kind: "suspension", Target: api.Target{Account: "AAUTH"}}, code: http.StatusForbidden, says: "lock everybody out"},
		"the system account":                {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Account: "SYS"}}, code: http.StatusForbidden, says: "lock everybody out"},
		"an account by another name":        {req: api.RevokeRequest{Kind: "suspension", Target: api.Target{Account: "app"}}, says: "not configured"},
		"no account":                        {req: api.RevokeRequest{Kind: "suspension"}, says: "account is empty"},
		"a suspension with an issuer":       {req: api.RevokeRequest{Kind: "suspension", Target: api.Target{Account: "APP", Issuer: "corp"}}, says: "does not concern"},
		"a user key that is an account":     {req: api.RevokeRequest{Kind: "user_key", Target: api.Target{Account: "APP", Key: key}}, says: "not the public key of a user"},
		"a user key of the wrong form":      {req: api.RevokeRequest{Kind: "user_key", Target: api.Target{Account: "APP", Key: user[:54] + "=="}}, says: "not the public key of a user"},
		"no key":                            {req: api.RevokeRequest{Kind: "user_key", Target: api.Target{Account: "APP"}}, says: "not the public key of a user"},
		"a signing key that is a user's":    {req: api.RevokeRequest{Kind: "signing_key", Target: api.Target{Account: "APP", Key: user}}, says: "not a signing key"},
		"the account's identity key":        {req: api.RevokeRequest{Kind: "signing_key", Target: api.Target{Account: key, Key: key}}, says: "not a signing key"},
		"an activation without export":      {req: api.RevokeRequest{Kind: "activation", Target: api.Target{Account: "APP", Key: key}}, says: "export is"},
		"an activation without importer":    {req: api.RevokeRequest{Kind: "activation", Target: api.Target{Account: "APP", Export: "a"}}, says: "that imports"},
		"a logout until a time to come":     {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Subject: "a"}, At: now.Add(time.Second)}, says: "lies in the future"},
		"a block with a point in time":      {req: api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "a"}, At: now}, says: "at is for the logout"},
		"a session with a point in time":    {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Session: "a"}, At: now}, says: "at is for the logout"},
		"programs of an account":            {req: api.RevokeRequest{Kind: "suspension", Target: api.Target{Account: "APP"}, Programs: true}, says: "programs are those of an identity"},
		"a logout of an identity with end":  {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Subject: "a"}, Until: now.Add(time.Hour)}, says: "has no end"},
		"an identity in one account only":   {req: api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "a", Account: "APP"}}, says: "holds in every account"},
		"an account's users with a subject": {req: api.RevokeRequest{Kind: "logout", Target: api.Target{Subject: "a", Account: "APP"}}, says: "issuer is empty"},
	} {
		c.req.Reason = "left"
		_, err := b.Revoke(t.Context(), admin, c.req)
		refused, ok := errors.AsType[*api.Error](err)
		if c.code == 0 {
			c.code = http.StatusBadRequest
		}
		if !ok || refused.Code != c.code || !strings.Contains(refused.Message, c.says) {
			t.Errorf("%s: %v, want %d saying %q", name, err, c.code, c.says)
		}
	}
	if left := b.list(t); len(left) != 0 {
		t.Errorf("stored all the same: %+v", left)
	}
}

// Whoever would revoke themselves is asked to mean it.
func TestRevokeOneself(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	me := provision.Caller{Actor: "corp-root", Identity: person("root"), RequestID: "request"}
	me.Identity.SessionID = "s-1"
	for name, c := range map[string]struct {
		req    api.RevokeRequest
		myself bool
	}{
		"myself":             {api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "root"}}, true},
		"everybody":          {api.RevokeRequest{Target: api.Target{Issuer: "corp"}, All: true}, true},
		"my claims":          {api.RevokeRequest{Target: api.Target{Issuer: "corp", Match: map[string][]any{"sub": {"r*"}}}}, true},
		"my session":         {api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Session: "s-1"}}, true},
		"somebody else":      {api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "alice"}}, false},
		"my namesake":        {api.RevokeRequest{Target: api.Target{Issuer: "partner", Subject: "root"}}, false},
		"others by claims":   {api.RevokeRequest{Target: api.Target{Issuer: "corp", Match: map[string][]any{"sub": {"a*"}}}}, false},
		"another session":    {api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Session: "s-2"}}, false},
		"an account of mine": {api.RevokeRequest{Kind: "suspension", Target: api.Target{Account: "APP"}}, false},
	} {
		c.req.Reason = "why not"
		if _, err := b.Revoke(t.Context(), me, c.req); (err != nil) != c.myself {
			t.Errorf("%s: %v", name, err)
		}
		c.req.Force = true
		if _, err := b.Revoke(t.Context(), me, c.req); err != nil {
			t.Errorf("%s, by force: %v", name, err)
		}
	}
}

// What only account claims can carry out is refused where they cannot be changed, and nothing else is.
func TestRevokeWithoutClaims(t *testing.T) {
	t.Parallel()
	b := newBed(t, func(o *provision.Options) {
		o.Unmanaged = func() (string, string) { return api.ReasonNotManaged, "there is no key" }
	})
	user, key := public(t, nkeys.PrefixByteUser), public(t, nkeys.PrefixByteAccount)
	for name, c := range map[string]struct {
		req     api.RevokeRequest
		refused bool
	}{
		"a block":                {api.RevokeRequest{Target: api.Target{Issuer: "corp", Subject: "a"}}, false},
		"a logout":               {api.RevokeRequest{Kind: "logout", Target: api.Target{Issuer: "corp", Subject: "a"}}, false},
		"a logout of an account": {api.RevokeRequest{Kind: "logout", Target: api.Target{Account: "APP"}}, false},
		"a suspension":           {api.RevokeRequest{Kind: "suspension", Target: api.Target{Account: "APP"}}, true},
		"a user key":             {api.RevokeRequest{Kind: "user_key", Target: api.Target{Account: "APP", Key: user}}, true},
		"a signing key":          {api.RevokeRequest{Kind: "signing_key", Target: api.Target{Account: "APP", Key: key}}, true},
		"an activation":          {api.RevokeRequest{Kind: "activation", Target: api.Target{Account: "APP", Export: "a", Key: key}}, true},
	} {
		c.req.Reason = "left"
		_, err := b.Revoke(t.Context(), admin, c.req)
		refused, ok := errors.AsType[*api.Error](err)
		switch {
		case !c.refused && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.refused && (!ok || refused.Code != http.StatusConflict || refused.Reason != api.ReasonNotManaged):
			t.Errorf("%s: %v, want not_managed", name, err)
		}
	}
}
