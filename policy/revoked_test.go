package policy

import (
	"testing"
	"time"
)

// Whom each kind of revocation denies, and whom it does not.
func TestRevokedIdentities(t *testing.T) {
	const url = "https://login.example.com"
	issuer, alice := Principal{Issuer: url}, Principal{Issuer: url, Subject: "alice"}
	one := func() *Identity {
		return &Identity{Issuer: "corp", IssuerURL: url, Subject: "alice", SessionID: "sid-1", TokenID: "jti-1",
			IssuedAt: now.Add(-time.Minute), Expires: now.Add(time.Hour),
			Claims: map[string]any{"groups": []any{"dev"}, "email_verified": true, "team": "blue"}}
	}
	app := world(t).Accounts["APP"].ID
	for name, c := range map[string]struct {
		r      Revocation
		change func(*Identity)
		want   Reason
	}{
		"a block of the issuer":                        {r: Revocation{Kind: Block, Target: Target{Principal: issuer}}, want: Blocked},
		"a block of another issuer":                    {r: Revocation{Kind: Block, Target: Target{Principal: Principal{Issuer: url + "/"}}}, want: Allowed},
		"a block that has ended":                       {r: Revocation{Kind: Block, Target: Target{Principal: alice}, Until: now}, want: Allowed},
		"a block by claims":                            {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"groups":["d*"]}`}}, want: Blocked},
		"a block by claims that differ":                {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"groups":["ops"]}`}}, want: Allowed},
		"a block by two claims, one of them":           {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"groups":["dev"],"team":["red"]}`}}, want: Allowed},
		"a block by claims that cannot be read":        {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"groups":`}}, want: Blocked},
		"a block by claims in the account":             {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"groups":["dev"]}`, Account: app}}, want: Blocked},
		"a block by claims in another account":         {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"groups":["dev"]}`, Account: "AOTHER"}}, want: Allowed},
		"a logout of the issuer":                       {r: Revocation{Kind: Logout, Target: Target{Principal: issuer}}, want: LoggedOut},
		"a logout of the issuer, a later token":        {r: Revocation{Kind: Logout, Target: Target{Principal: issuer}, At: now.Add(-2 * time.Minute)}, want: Allowed},
		"a logout of the session":                      {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Session: "sid-1"}}, want: LoggedOut},
		"a logout of the session, a later token of it": {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Session: "sid-1"}, At: now.Add(-time.Hour)}, want: LoggedOut},
		"a logout of another session":                  {r: Revocation{Kind: Logout, Target: Target{Principal: alice, Session: "sid-2"}}, want: Allowed},
		"a logout of a session that has ended":         {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Session: "sid-1"}, Until: now}, want: Allowed},
		"a token without sid":                          {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Session: "sid-1"}}, change: func(id *Identity) { id.SessionID = "" }, want: Allowed},
		"a logout of the token":                        {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Token: "jti-1"}}, want: LoggedOut},
		"a logout of another token":                    {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Token: "jti-2"}}, want: Allowed},
		"a token whose jti is the session's sid":       {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Session: "jti-1"}}, want: Allowed},
		"a logout of the account":                      {r: Revocation{Kind: Logout, Target: Target{Account: app}}, want: LoggedOut},
		"a logout of the account, a later token":       {r: Revocation{Kind: Logout, Target: Target{Account: app}, At: now.Add(-2 * time.Minute)}, want: Allowed},
		"a logout of another account":                  {r: Revocation{Kind: Logout, Target: Target{Account: "AOTHER"}}, want: Allowed},
		"a suspension":                                 {r: Revocation{Kind: Suspension, Target: Target{Account: app}}, want: AccountSuspended},
		"a suspension that has ended":                  {r: Revocation{Kind: Suspension, Target: Target{Account: app}, Until: now}, want: Allowed},
		"a user key":                                   {r: Revocation{Kind: UserKey, Target: Target{Account: app, Key: "UKEY"}}, want: Allowed},
	} {
		id := one()
		if c.change != nil {
			c.change(id)
		}
		c.r.ID = "r"
		if c.r.At.IsZero() {
			c.r.At = now
		}
		if wrong := c.r.Legal(); wrong != "" {
			t.Errorf("%s: %s", name, wrong)
		}
		s := &Snapshot{Rules: world(t), Revocations: NewRevocations([]Revocation{c.r})}
		if d := Decide(s, id, Connection{Type: Standard}, now, nil); d.Reason() != c.want {
			t.Errorf("%s: %s (%+v), want %s", name, d.Reason(), d.Refusal, c.want)
		}
		if !s.Revocations.Holds(c.r) {
			t.Errorf("%s: the index does not hold it", name)
		}
		lifted := s.Revocations.With(RevocationChange{Revocation: c.r, Lifted: true})
		s.Revocations = lifted
		if d := Decide(s, id, Connection{Type: Standard}, now, nil); !d.Allowed() || lifted.Len() != 0 {
			t.Errorf("%s, lifted: %s", name, d.Reason())
		}
	}
}

func TestLegalTargets(t *testing.T) {
	issuer, alice := Principal{Issuer: "https://a"}, Principal{Issuer: "https://a", Subject: "s"}
	for name, r := range map[string]Revocation{
		"nothing":                         {Kind: Block},
		"no kind":                         {Target: Target{Principal: alice}},
		"another kind":                    {Kind: "ban", Target: Target{Principal: alice}},
		"a subject without issuer":        {Kind: Block, Target: Target{Principal: Principal{Subject: "s"}}},
		"a block of a session":            {Kind: Block, Target: Target{Principal: issuer, Session: "x"}},
		"a block of a token":              {Kind: Block, Target: Target{Principal: issuer, Token: "x"}},
		"a block of an account":           {Kind: Block, Target: Target{Account: "A"}},
		"a block in an account":           {Kind: Block, Target: Target{Principal: alice, Account: "A"}},
		"a logout by claims":              {Kind: Logout, Target: Target{Principal: issuer, Match: "{}"}},
		"a session without issuer":        {Kind: Logout, Target: Target{Session: "x"}},
		"a suspension of an identity":     {Kind: Suspension, Target: Target{Principal: alice}},
		"a suspension of an account's":    {Kind: Suspension, Target: Target{Principal: issuer, Account: "A"}},
		"a key without account":           {Kind: UserKey, Target: Target{Key: "U"}},
		"a key of an identity":            {Kind: UserKey, Target: Target{Principal: alice, Account: "A", Key: "U"}},
		"an activation without importer":  {Kind: Activation, Target: Target{Account: "A", Export: "x"}},
		"a signing key with an export":    {Kind: SigningKey, Target: Target{Account: "A", Key: "AK", Export: "x"}},
		"a match with a session":          {Kind: Logout, Target: Target{Principal: issuer, Session: "x", Match: "{}"}},
		"a suspension of a key's account": {Kind: Suspension, Target: Target{Account: "A", Key: "U"}},
	} {
		if r.Legal() == "" {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestMatchTexts(t *testing.T) {
	for _, text := range []string{`{"groups":["contractors"]}`, `{"a.b":["x*",true,7]}`} {
		if _, err := ParseMatch(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{``, `{}`, `[]`, `null`, `{"a":[]}`, `{"a":"b"}`, `{"a":[["b"]]}`, `{"a":[null]}`, `{"a":[{"b":1}]}`, `{"":["b"]}`, `{"a":["b"]} x`, `{"a":["\\"]}`} {
		if c, err := ParseMatch(text); err == nil {
			t.Errorf("%s is taken: %v", text, c)
		}
	}
	text, err := FormatMatch(map[string][]any{"b": {"<x>"}, "a": {true}})
	if err != nil || text != `{"a":[true],"b":["<x>"]}` {
		t.Errorf("%s, %v", text, err)
	}
}

// Which connections each revocation ends.
func TestEnds(t *testing.T) {
	const url = "https://login.example.com"
	const key = "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABET7"
	issuer, alice := Principal{Issuer: url}, Principal{Issuer: url, Subject: "alice"}
	login := func(change func(*Login)) *Login {
		l := &Login{Principal: alice, Session: "sid-1", Token: "jti-1", Issued: now.Add(-time.Minute), Claims: map[string]any{"groups": []any{"dev"}}}
		if change != nil {
			change(l)
		}
		return l
	}
	callout := Session{Name: "corp-alice", Account: "AAPP", SigningKey: "ASIGN"}
	block, logout := Revocation{Kind: Block, Target: Target{Principal: alice}}, Revocation{Kind: Logout, Target: Target{Principal: alice}}
	for name, c := range map[string]struct {
		r     Revocation
		s     Session
		login *Login
		other bool // the issuer is not configured any more
		want  bool
	}{
		"a block":                                 {r: block, s: callout, login: login(nil), want: true},
		"a block, nothing recorded":               {r: block, s: callout, want: true},
		"a block, another name":                   {r: block, s: Session{Name: "corp-bob"}, want: false},
		"a block, another issuer":                 {r: block, s: Session{Name: "other-alice"}, want: false},
		"a block, recorded under another name":    {r: block, s: Session{Name: "old-alice"}, login: login(nil), other: true, want: true},
		"a block, a direct user of the identity":  {r: block, s: Session{Name: key}, login: login(nil), want: true},
		"a block, a program":                      {r: block, s: Session{Name: key}, login: login(func(l *Login) { l.Program = "nightly" }), want: false},
		"a block with programs, a program":        {r: Revocation{Kind: Block, Target: Target{Principal: alice}, Programs: true}, s: Session{Name: key}, login: login(func(l *Login) { l.Program = "nightly" }), want: true},
		"a block of the issuer, a program":        {r: Revocation{Kind: Block, Target: Target{Principal: issuer}}, s: Session{Name: key}, login: login(func(l *Login) { l.Program = "nightly" }), want: true},
		"a block, a direct user of nobody":        {r: block, s: Session{Name: key}, want: false},
		"a block of the issuer":                   {r: Revocation{Kind: Block, Target: Target{Principal: issuer}}, s: callout, want: true},
		"a block of an issuer with a longer name": {r: Revocation{Kind: Block, Target: Target{Principal: issuer}}, s: Session{Name: "corp2-alice"}, want: false},
		"a logout":                            {r: logout, s: callout, login: login(nil), want: true},
		"a logout, a later token":             {r: logout, s: callout, login: login(func(l *Login) { l.Issued = now.Add(11 * time.Second) }), want: false},
		"a logout, within the leeway":         {r: logout, s: callout, login: login(func(l *Login) { l.Issued = now.Add(10 * time.Second) }), want: true},
		"a logout, nothing recorded":          {r: logout, s: callout, want: true},
		"its session":                         {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Session: "sid-1"}}, s: callout, login: login(func(l *Login) { l.Issued = now.Add(time.Hour) }), want: true},
		"another session":                     {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Session: "sid-2"}}, s: callout, login: login(nil), want: false},
		"a session of another":                {r: Revocation{Kind: Logout, Target: Target{Principal: alice, Session: "sid-1"}}, s: Session{Name: "corp-bob"}, login: login(func(l *Login) { l.Subject = "bob" }), want: false},
		"a session, nothing recorded":         {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Session: "sid-2"}}, s: callout, want: true},
		"a session, an old record":            {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Session: "sid-2"}}, s: callout, login: login(func(l *Login) { l.Issued, l.Session = time.Time{}, "" }), want: true},
		"its token":                           {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Token: "jti-1"}}, s: callout, login: login(nil), want: true},
		"another token":                       {r: Revocation{Kind: Logout, Target: Target{Principal: issuer, Token: "jti-2"}}, s: callout, login: login(nil), want: false},
		"its claims":                          {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"groups":["dev"]}`}}, s: callout, login: login(nil), want: true},
		"other claims":                        {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"groups":["ops"]}`}}, s: callout, login: login(nil), want: false},
		"claims that are not recorded":        {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"team":["red"]}`}}, s: callout, login: login(nil), want: true},
		"claims in another account":           {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"groups":["dev"]}`, Account: "AOTHER"}}, s: callout, login: login(nil), want: false},
		"claims, a direct user of the issuer": {r: Revocation{Kind: Block, Target: Target{Principal: issuer, Match: `{"groups":["dev"]}`}}, s: Session{Name: key}, login: login(func(l *Login) { l.Claims = nil }), want: true},
		"the account":                         {r: Revocation{Kind: Logout, Target: Target{Account: "AAPP"}}, s: callout, login: login(nil), want: true},
		"the account, a direct user":          {r: Revocation{Kind: Logout, Target: Target{Account: "AAPP"}}, s: Session{Name: key, Account: "AAPP"}, want: true},
		"another account":                     {r: Revocation{Kind: Logout, Target: Target{Account: "AOTHER"}}, s: callout, login: login(nil), want: false},
		"a suspended account":                 {r: Revocation{Kind: Suspension, Target: Target{Account: "AAPP"}}, s: callout, login: login(func(l *Login) { l.Issued = now.Add(time.Hour) }), want: true},
		"a user key":                          {r: Revocation{Kind: UserKey, Target: Target{Account: "AAPP", Key: key}}, s: Session{Name: key, Account: "AAPP"}, want: true},
		"a user key in another account":       {r: Revocation{Kind: UserKey, Target: Target{Account: "AOTHER", Key: key}}, s: Session{Name: key, Account: "AAPP"}, want: false},
		"a signing key":                       {r: Revocation{Kind: SigningKey, Target: Target{Account: "AAPP", Key: "ASIGN"}}, s: callout, want: true},
		"another signing key":                 {r: Revocation{Kind: SigningKey, Target: Target{Account: "AAPP", Key: "AOTHER"}}, s: callout, want: false},
		"an activation":                       {r: Revocation{Kind: Activation, Target: Target{Account: "AAPP", Key: "AIMPORTS", Export: "x"}}, s: callout, want: false},
	} {
		c.r.At, c.s.Login = now, c.login
		issuer := "corp"
		if c.other {
			issuer = ""
		}
		if got := c.r.Ends(&c.s, issuer, 10*time.Second); got != c.want {
			t.Errorf("%s: ends is %v", name, got)
		}
	}
}

// What is a match has conditions, and is one again in its canonical form.
func FuzzParseMatch(f *testing.F) {
	for _, text := range []string{`{"groups":["dev*",true,7.5]}`, `{"a.b":["x"],"c":["\\*"]}`, `{}`, `{"a":[]}`, `{"a":["b"]}{`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		conditions, err := ParseMatch(text)
		if err != nil {
			return
		}
		if len(conditions) == 0 {
			t.Fatalf("%q means everybody", text)
		}
		for _, c := range conditions {
			if len(c.Values) == 0 {
				t.Fatalf("%q has a condition without a value", text)
			}
		}
	})
}
