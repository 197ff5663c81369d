package account

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"pgregory.net/rapid"
)

var atNoon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// trader makes an account that is active, with a key that signs.
func trader(t testing.TB, name string) (*Account, nkeys.KeyPair) {
	t.Helper()
	key := func() (nkeys.KeyPair, string) {
		kp, err := nkeys.CreateAccount()
		if err != nil {
			t.Fatal(err)
		}
		public, err := kp.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return kp, public
	}
	_, id := key()
	signer, public := key()
	return &Account{ID: id, Name: name, State: Active, Applied: 1, Keys: []SigningKey{{Public: public, Stage: Current}}}, signer
}

// among finds accounts by id.
func among(all ...*Account) func(string) (*Account, bool) {
	return func(id string) (*Account, bool) {
		i := slices.IndexFunc(all, func(a *Account) bool { return a.ID == id })
		if i < 0 {
			return nil, false
		}
		return all[i], true
	}
}

func unlimited() Limits { return Limits{Imports: NoLimit, Exports: NoLimit} }

// told returns problems as text, warnings marked.
func told(problems []Problem) string {
	var lines []string
	for _, p := range problems {
		line := p.Field + " of " + p.String()
		if p.Warning {
			line = "(" + line + ")"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestCheckExports(t *testing.T) {
	t.Parallel()
	feed := Export{Name: "feed", Subject: "orders.>", Type: StreamType}
	for name, c := range map[string]struct {
		exports []Export
		limit   int64
		want    string // part of what is told; empty: nothing is
	}{
		"a stream":            {[]Export{feed}, NoLimit, ""},
		"a service":           {[]Export{{Name: "ask", Subject: "ask.*", Type: ServiceType, Response: "Stream", Private: true}}, 1, ""},
		"no name":             {[]Export{{Subject: "a", Type: StreamType}}, NoLimit, "the name has 0 bytes"},
		"a long name":         {[]Export{{Name: strings.Repeat("x", 10_000), Subject: "a", Type: StreamType}}, NoLimit, "the name has 10000 bytes"},
		"an unseen name":      {[]Export{{Name: "a\u202eb", Subject: "a", Type: StreamType}}, NoLimit, "cannot be seen"},
		"no type":             {[]Export{{Name: "a", Subject: "a"}}, NoLimit, "use stream or service"},
		"a stream's response": {[]Export{{Name: "a", Subject: "a", Type: StreamType, Response: "Stream"}}, NoLimit, "has no responses"},
		"a wrong response":    {[]Export{{Name: "a", Subject: "a", Type: ServiceType, Response: "stream"}}, NoLimit, "use Singleton"},
		"too many":            {[]Export{feed, {Name: "b", Subject: "b", Type: StreamType}}, 1, "limit is 1"},
		"none allowed":        {[]Export{feed}, 0, "limit is 0"},
		"no subject":          {[]Export{{Name: "a", Type: StreamType}}, NoLimit, "subject is missing"},
		"all":                 {[]Export{{Name: "a", Subject: ">", Type: StreamType}}, NoLimit, "begins with a wildcard"},
		"all below all":       {[]Export{{Name: "a", Subject: "*.x", Type: ServiceType}}, NoLimit, "begins with a wildcard"},
		"the system":          {[]Export{{Name: "a", Subject: "$SYS.REQ.>", Type: ServiceType}}, NoLimit, "begins with $SYS"},
		"JetStream":           {[]Export{{Name: "a", Subject: "$JS.API.>", Type: ServiceType}}, NoLimit, "begins with $JS"},
		"globals":             {[]Export{{Name: "a", Subject: "$G.a", Type: ServiceType}}, NoLimit, "begins with $G"},
		"replies":             {[]Export{{Name: "a", Subject: "_INBOX.>", Type: StreamType}}, NoLimit, "begins with _INBOX"},
		"an empty token":      {[]Export{{Name: "a", Subject: "a..b", Type: StreamType}}, NoLimit, "empty token"},
		"> within":            {[]Export{{Name: "a", Subject: "a.>.b", Type: StreamType}}, NoLimit, "not its last"},
		"half a wildcard":     {[]Export{{Name: "a", Subject: "a.b*", Type: StreamType}}, NoLimit, "token of its own"},
		"a space":             {[]Export{{Name: "a", Subject: "a b", Type: StreamType}}, NoLimit, "has spaces"},
		"a line":              {[]Export{{Name: "a", Subject: "a\r\nPUB b", Type: StreamType}}, NoLimit, "has spaces"},
		"a function":          {[]Export{{Name: "a", Subject: "a.{{account-hash()}}", Type: StreamType}}, NoLimit, "has {{"},
		"a long subject":      {[]Export{{Name: "a", Subject: strings.Repeat("a.", 200) + "a", Type: StreamType}}, NoLimit, "401 bytes"},
		"a long description":  {[]Export{{Name: "a", Subject: "a", Type: StreamType, Description: strings.Repeat("x", 10_000)}}, NoLimit, "10000 bytes"},
		"two lines":           {[]Export{{Name: "a", Subject: "a", Type: StreamType, Description: "a\x1b[2Jb"}}, NoLimit, "cannot be printed"},
		"one name twice":      {[]Export{feed, {Name: "feed", Subject: "b", Type: StreamType}}, NoLimit, "same name"},
		"one in another":      {[]Export{feed, {Name: "eu", Subject: "orders.eu", Type: StreamType}}, NoLimit, "orders.eu overlaps orders.>"},
		"across":              {[]Export{{Name: "a", Subject: "a.*.c", Type: StreamType}, {Name: "b", Subject: "a.b.*", Type: StreamType}}, NoLimit, "overlaps"},
		"stream of requests":  {[]Export{feed, {Name: "ask", Subject: "orders.ask", Type: ServiceType}}, NoLimit, `(subject of export "ask"`},
	} {
		a, _ := trader(t, "orders")
		a.Exports = c.exports
		got := told(CheckExchange(a, among(), Limits{Exports: c.limit, Imports: NoLimit}, atNoon))
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: told %q, want %q", name, got, c.want)
		}
	}
}

func TestCheckImports(t *testing.T) {
	t.Parallel()
	b, _ := trader(t, "shop")
	a, _ := trader(t, "orders")
	third, _ := trader(t, "prices")
	a.Exports = []Export{{Name: "feed", Subject: "orders.*.>", Type: StreamType}, {Name: "ask", Subject: "ask.*", Type: ServiceType}, {Name: "raw", Subject: "$KV.x.>", Type: StreamType}}
	third.Exports = []Export{{Name: "ask", Subject: "ask.*", Type: ServiceType}}
	gone, _ := trader(t, "gone")
	gone.State = Deleting
	waits, _ := trader(t, "waits")
	waits.State, waits.Exports = Requested, third.Exports
	ask := Import{Name: "ask", Account: a.ID, Subject: "ask.eu", Type: ServiceType}
	with := func(edit func(*Import)) Import {
		i := ask
		edit(&i)
		return i
	}
	for name, c := range map[string]struct {
		imports []Import
		want    string
	}{
		"as it is":               {[]Import{ask}, ""},
		"all of it":              {[]Import{with(func(i *Import) { i.Subject = "ask.*" })}, ""},
		"remapped":               {[]Import{{Name: "f", Account: a.ID, Subject: "orders.*.>", Local: "in.$1.from.>", Type: StreamType}}, ""},
		"remapped by *":          {[]Import{{Name: "f", Account: a.ID, Subject: "orders.*.>", Local: "in.*.>", Type: StreamType}}, ""},
		"a wildcard is lost":     {[]Import{{Name: "f", Account: a.ID, Subject: "orders.*.>", Local: "in.>", Type: StreamType}}, "does not contain enough"},
		"no such wildcard":       {[]Import{{Name: "f", Account: a.ID, Subject: "orders.*.>", Local: "in.$2.>", Type: StreamType}}, "do not exist"},
		"no wildcard at all":     {[]Import{{Name: "f", Account: a.ID, Subject: "orders.*.>", Local: "in.$x.*.>", Type: StreamType}}, "after a $ comes"},
		"an end is lost":         {[]Import{{Name: "f", Account: a.ID, Subject: "orders.*.>", Local: "in.*", Type: StreamType}}, "end in >"},
		"begins with one":        {[]Import{with(func(i *Import) { i.Subject, i.Local = "ask.*", "$1.ask" })}, "begins with a wildcard"},
		"onto replies":           {[]Import{with(func(i *Import) { i.Local = "_INBOX.a" })}, "begins with _INBOX"},
		"onto the system":        {[]Import{with(func(i *Import) { i.Local = "$SYS.a" })}, "after a $ comes"},
		"NATS's own subject":     {[]Import{{Name: "raw", Account: a.ID, Subject: "$KV.x.>", Type: StreamType}}, "give a local subject"},
		"and at another one":     {[]Import{{Name: "raw", Account: a.ID, Subject: "$KV.x.>", Local: "kv.x.>", Type: StreamType}}, ""},
		"more than exported":     {[]Import{with(func(i *Import) { i.Subject = "ask.>" })}, "exports no service that holds all of ask.>"},
		"not exported":           {[]Import{with(func(i *Import) { i.Subject = "tell" })}, "exports no service"},
		"another type":           {[]Import{with(func(i *Import) { i.Type = StreamType })}, "exports ask.eu as a service"},
		"no type":                {[]Import{with(func(i *Import) { i.Type = "" })}, "use stream or service"},
		"no account":             {[]Import{with(func(i *Import) { i.Account = "orders" })}, "not the id of an account"},
		"an unknown account":     {[]Import{with(func(i *Import) { i.Account = publicKey(t) })}, "there is no account"},
		"itself":                 {[]Import{with(func(i *Import) { i.Account = b.ID })}, "from itself"},
		"on its way out":         {[]Import{with(func(i *Import) { i.Account = gone.ID })}, "is being deleted"},
		"not approved":           {[]Import{with(func(i *Import) { i.Account = waits.ID })}, "(account of"},
		"shared":                 {[]Import{with(func(i *Import) { i.Share = true })}, ""},
		"a stream shared":        {[]Import{{Name: "f", Account: a.ID, Subject: "orders.eu.a", Type: StreamType, Share: true}}, "leave it out"},
		"a needless token":       {[]Import{with(func(i *Import) { i.Token = "x" })}, "cannot be read"},
		"one name twice":         {[]Import{ask, with(func(i *Import) { i.Subject = "ask.us" })}, "same name"},
		"one place twice":        {[]Import{ask, with(func(i *Import) { i.Name, i.Subject, i.Local = "all", "ask.us", "ask.eu" })}, "ask.eu overlaps ask.eu"},
		"of two accounts":        {[]Import{ask, with(func(i *Import) { i.Name, i.Account = "b", third.ID })}, "(local of"},
		"one stream twice":       {[]Import{{Name: "f", Account: a.ID, Subject: "orders.eu.>", Type: StreamType}, {Name: "g", Account: a.ID, Subject: "orders.eu.>", Local: "g.>", Type: StreamType}}, "servers take it once"},
		"over an own export":     {[]Import{with(func(i *Import) { i.Local = "shop.ask" })}, "(local of"},
		"an unfit subject":       {[]Import{with(func(i *Import) { i.Subject = "ask..eu" })}, "empty token"},
		"more than is to be had": {[]Import{ask, with(func(i *Import) { i.Name, i.Subject = "b", "ask.us" }), with(func(i *Import) { i.Name, i.Subject = "c", "ask.af" })}, "limit is 2"},
	} {
		shop := *b
		shop.Exports = []Export{{Name: "shop", Subject: "shop.>", Type: ServiceType}}
		shop.Imports = c.imports
		got := told(CheckExchange(&shop, among(a, third, gone, waits), Limits{Exports: NoLimit, Imports: 2}, atNoon))
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: told %q, want %q", name, got, c.want)
		}
	}
}

func TestCheckTokens(t *testing.T) {
	t.Parallel()
	a, signer := trader(t, "orders")
	b, stranger := trader(t, "shop")
	a.Exports = []Export{{Name: "ask", Subject: "ask.*", Type: ServiceType, Private: true}, {Name: "open", Subject: "open", Type: ServiceType}}
	token := func(kp nkeys.KeyPair, until time.Time, edit func(*jwt.ActivationClaims)) string {
		c := ActivationClaims(a, &a.Exports[0], b.ID, until)
		edit(c)
		s, err := c.Encode(kp)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	same := func(*jwt.ActivationClaims) {}
	good := token(signer, atNoon.Add(time.Second), same)
	for name, c := range map[string]struct{ token, want string }{
		"good":               {good, ""},
		"for good":           {token(signer, time.Time{}, same), ""},
		"wider":              {token(signer, time.Time{}, func(c *jwt.ActivationClaims) { c.ImportSubject = "ask.>" }), ""},
		"none":               {"", "is private"},
		"expired":            {token(signer, atNoon, same), "has expired"},
		"early":              {token(signer, time.Time{}, func(c *jwt.ActivationClaims) { c.NotBefore = atNoon.Unix() + 1 }), "not valid yet"},
		"of another":         {token(stranger, time.Time{}, same), "not signed by a key that account orders has"},
		"of no account":      {token(signer, time.Time{}, func(c *jwt.ActivationClaims) { c.IssuerAccount = "" }), "not signed by a key"},
		"for another":        {token(signer, time.Time{}, func(c *jwt.ActivationClaims) { c.Subject = a.ID }), "for another account"},
		"of another type":    {token(signer, time.Time{}, func(c *jwt.ActivationClaims) { c.ImportType = jwt.Stream }), "is for a stream"},
		"of another subject": {token(signer, time.Time{}, func(c *jwt.ActivationClaims) { c.ImportSubject = "ask.us" }), "is for ask.us"},
		"spoilt":             {good[:len(good)-4] + "AAAA", "cannot be read"},
		"endless":            {strings.Repeat("a", 5000), "too long"},
	} {
		b.Imports = []Import{{Name: "ask", Account: a.ID, Subject: "ask.eu", Type: ServiceType, Token: c.token}}
		got := told(CheckExchange(b, among(a), unlimited(), atNoon))
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: told %q, want %q", name, got, c.want)
		}
	}
}

func TestCheckCycles(t *testing.T) {
	t.Parallel()
	service := func(to *Account, subject, local string) Import {
		return Import{Name: subject, Account: to.ID, Subject: subject, Local: local, Type: ServiceType}
	}
	stream := func(to *Account, subject, local string) Import {
		return Import{Name: subject, Account: to.ID, Subject: subject, Local: local, Type: StreamType}
	}
	for name, c := range map[string]struct {
		a, b, c func(a, b, c *Account) []Import
		want    string
	}{
		"two at one subject": {
			a: func(_, b, _ *Account) []Import { return []Import{service(b, "x", "")} },
			b: func(a, _, _ *Account) []Import { return []Import{service(a, "x", "")} }, want: "by way of b",
		},
		"three, under other names": { // servers do not see this one
			a: func(_, b, _ *Account) []Import { return []Import{service(b, "y", "x")} },
			b: func(_, _, c *Account) []Import { return []Import{service(c, "z", "y")} },
			c: func(a, _, _ *Account) []Import { return []Import{service(a, "x", "z")} }, want: "by way of b, c",
		},
		"a chain": {
			a: func(_, b, _ *Account) []Import { return []Import{service(b, "y", "x")} },
			b: func(_, _, c *Account) []Import { return []Import{service(c, "z", "y")} },
		},
		"each other's, apart": {
			a: func(_, b, _ *Account) []Import { return []Import{service(b, "x", "from.b")} },
			b: func(a, _, _ *Account) []Import { return []Import{service(a, "x", "from.a")} },
		},
		"each other's, taken for a cycle": {
			a: func(_, b, _ *Account) []Import { return []Import{service(b, "y", "x")} },
			b: func(a, _, _ *Account) []Import { return []Import{service(a, "x", "from.a")} }, want: "servers take the import for a cycle",
		},
		"the other's, taken for a cycle": {
			a: func(_, b, _ *Account) []Import { return []Import{service(b, "x", "from.b")} },
			b: func(a, _, _ *Account) []Import { return []Import{service(a, "y", "x")} }, want: "of account b for a cycle",
		},
		"streams": {
			a: func(_, b, _ *Account) []Import { return []Import{stream(b, "x", "")} },
			b: func(a, _, _ *Account) []Import { return []Import{stream(a, "x", "")} }, want: "by way of b",
		},
		"streams, apart": {
			a: func(_, b, _ *Account) []Import { return []Import{stream(b, "x", "from.b")} },
			b: func(a, _, _ *Account) []Import { return []Import{stream(a, "x", "from.a")} },
		},
	} {
		a, _ := trader(t, "a")
		b, _ := trader(t, "b")
		third, _ := trader(t, "c")
		for _, x := range []*Account{a, b, third} {
			for _, subject := range []string{"x", "y", "z"} {
				x.Exports = append(x.Exports, Export{Name: subject, Subject: subject, Type: ServiceType}, Export{Name: subject + "s", Subject: subject, Type: StreamType})
			}
		}
		for x, imports := range map[*Account]func(a, b, c *Account) []Import{a: c.a, b: c.b, third: c.c} {
			if imports != nil {
				x.Imports = imports(a, b, third)
			}
		}
		problems := slices.DeleteFunc(CheckExchange(a, among(a, b, third), unlimited(), atNoon), func(p Problem) bool { return p.Warning })
		if got := told(problems); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: told %q, want %q", name, got, c.want)
		}
	}
}

func TestFresh(t *testing.T) {
	t.Parallel()
	old := Problem{List: "exports", Index: 0, Name: "a", Field: "subject", Text: "x"}
	moved, added := old, old
	moved.Index, added.Name = 3, "b"
	if got := Fresh([]Problem{old}, []Problem{moved, added}); !slices.Equal(got, []Problem{added}) {
		t.Errorf("got %+v", got)
	}
}

func TestCuts(t *testing.T) {
	t.Parallel()
	a, _ := trader(t, "orders")
	b, _ := trader(t, "shop")
	a.Exports = []Export{{Name: "ask", Subject: "ask.*", Type: ServiceType}, {Name: "feed", Subject: "feed", Type: StreamType}}
	b.Imports = []Import{
		{Name: "ask", Account: a.ID, Subject: "ask.eu", Type: ServiceType}, {Name: "feed", Account: a.ID, Subject: "feed", Type: StreamType},
		{Name: "dead", Account: a.ID, Subject: "nothing", Type: StreamType},
	}
	after := *a
	after.Exports = []Export{{Name: "ask", Subject: "ask.*", Type: ServiceType, Private: true}}
	var got []string
	for _, cut := range Cuts(a, &after, []*Account{a, b}, atNoon) {
		got = append(got, cut.Account.Name+" "+cut.Import.Name)
	}
	if !slices.Equal(got, []string{"shop ask", "shop feed"}) {
		t.Errorf("got %v", got)
	}
	if cuts := Cuts(a, a, []*Account{b}, atNoon); cuts != nil {
		t.Errorf("no change cuts %+v", cuts)
	}
}

func TestFromClaims(t *testing.T) {
	t.Parallel()
	a, _ := trader(t, "orders")
	b, _ := trader(t, "shop")
	a.Exports = []Export{{Name: "ask", Subject: "ask.*", Type: ServiceType, Private: true, Response: "Stream"}}
	a.Imports = []Import{{Name: "f", Account: b.ID, Subject: "x", Local: "y", Type: StreamType}}
	claims := Claims(a, unlimited())
	claims.Exports.Add(&jwt.Export{Name: "mine", Subject: "of.*.>", Type: jwt.Stream, AccountTokenPosition: 2})
	got := FromClaims(claims, b.ID)
	if got.Name != "orders" || len(got.Keys) != 1 || got.Keys[0].Public != a.Keys[0].Public || got.Exports[0] != a.Exports[0] || got.Imports[0] != a.Imports[0] {
		t.Errorf("got %+v", got)
	}
	if got.Exported(StreamType, "of."+b.ID+".x") == nil || got.Exported(StreamType, "of."+a.ID+".x") != nil {
		t.Errorf("the importer's place is not its own: %+v", got.Exports)
	}
}

// subjects draws valid subjects of few tokens, so that they often meet.
func subjects() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "*"}), 1, 4).Draw(t, "tokens")
		if rapid.Bool().Draw(t, "open") {
			tokens = append(tokens, ">")
		}
		return strings.Join(tokens, ".")
	})
}

// Subjects are compared as nats-server compares them.
func TestSubjectsAreTheServers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := subjects().Draw(t, "a"), subjects().Draw(t, "b")
		if got, want := collide(split(a), split(b)), server.SubjectsCollide(a, b); got != want {
			t.Fatalf("%s and %s collide: %t, the server says %t", a, b, got, want)
		}
		if got, want := holds(split(a), split(b)), server.SubjectMatchesFilter(b, a); got != want {
			t.Fatalf("%s holds %s: %t, the server says %t", a, b, got, want)
		}
	})
}

// Nobody fills the claims of an account, so that a suspension would not fit, nor has servers refuse them.
func TestClaimsKeepRoomForRevocations(t *testing.T) {
	t.Parallel()
	a, _ := trader(t, "orders")
	for i := range MaxExchanges {
		a.Exports = append(a.Exports, Export{
			Name: fmt.Sprint(i), Subject: fmt.Sprint("s", i), Type: StreamType, Description: strings.Repeat("<", MaxDescription), // six bytes each
		})
	}
	if got := told(CheckExchange(a, among(), unlimited(), atNoon)); !strings.Contains(got, "JWT would have over 524288 bytes") {
		t.Errorf("told %q", got)
	}
	a.Exports = a.Exports[:50]
	if got := told(CheckExchange(a, among(), unlimited(), atNoon)); got != "" {
		t.Errorf("told %q", got)
	}
	a.Keys = []SigningKey{{Public: "no key"}} // as no change makes it
	if got := told(CheckExchange(a, among(), unlimited(), atNoon)); !strings.Contains(got, "servers would refuse") {
		t.Errorf("told %q", got)
	}
}

// What passes here, the library that servers check pushed claims with passes too.
func TestWhatPassesIsPushed(t *testing.T) {
	t.Parallel()
	a, _ := trader(t, "a")
	b, _ := trader(t, "b")
	third, _ := trader(t, "c")
	passed := 0
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]ExportType{StreamType, ServiceType})
		names := rapid.StringMatching("[a-z]{3}| ?")
		subject := rapid.Map(subjects(), func(s string) string { return "s." + s })
		locals := rapid.OneOf(rapid.Just(""), subject, rapid.SampledFrom([]string{"in.$1", "in.$1.>", "$1.in", "in.$2.$1", "in.$0", "in.$x", "in.$01", "in.$1.*", "in.$+1", ">", "in..x"}))
		exports := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Export {
			return Export{Name: names.Draw(t, "name"), Subject: subject.Draw(t, "subject"), Type: kind.Draw(t, "type"), Response: rapid.SampledFrom([]string{"", "Stream", "nonsense"}).Draw(t, "response")}
		}), 0, 3)
		one, two, three := *a, *b, *third
		one.Exports, two.Exports, three.Exports = exports.Draw(t, "own"), exports.Draw(t, "of b"), exports.Draw(t, "of c")
		one.Imports = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Import {
			from := rapid.SampledFrom([]*Account{&two, &three}).Draw(t, "from")
			i := Import{Name: names.Draw(t, "name"), Account: from.ID, Subject: subject.Draw(t, "subject"), Local: locals.Draw(t, "local"), Type: kind.Draw(t, "type")}
			if len(from.Exports) > 0 {
				e := rapid.SampledFrom(from.Exports).Draw(t, "export")
				i.Subject, i.Type = e.Subject, e.Type
			}
			return i
		}), 0, 3).Draw(t, "imports")
		for _, p := range CheckExchange(&one, among(&two, &three), unlimited(), atNoon) {
			if !p.Warning {
				return
			}
		}
		passed++
		vr := jwt.CreateValidationResults()
		Claims(&one, unlimited()).Validate(vr)
		if vr.IsBlocking(true) {
			t.Fatalf("the library finds %v in %+v", vr.Errors(), one)
		}
	})
	if passed == 0 {
		t.Error("nothing passed")
	}
}
