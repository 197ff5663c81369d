package policy

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"
)

func TestMayPublishAndSubscribe(t *testing.T) {
	t.Parallel()
	p := Permissions{
		Publish:   SubjectSet{Allow: []string{"app.*.in", "app.red.>"}, Deny: []string{"app.red.secret"}},
		Subscribe: SubjectSet{Allow: []string{"app.*", "jobs.> workers", "jobs.> v1.*", "jobs.free"}, Deny: []string{"app.secret", "app.x slow"}},
	}
	for subject, want := range map[string]bool{
		"app.blue.in": true, "app.blue.out": false, "app.red.out": true, "app.red.secret": false,
		"app.red": false, "app": false, "app.blue.in.x": false, "app.red.secret.x": true,
	} {
		if got := p.MayPublish(subject); got != want {
			t.Errorf("publish to %s: %t", subject, got)
		}
	}
	for subject, want := range map[string]bool{
		"app.x": true, "app.secret": false, "app.*": true, "*.x": false, "app.x slow": false, "app.x fast": true,
		"app.>":        true, // as nats-server has it
		"app.x.y":      false,
		"jobs.a":       false,
		"jobs.a other": false, "jobs.a workers": true, "jobs.a v1.x": true, "jobs.a v1": false,
		"jobs.free": true, "jobs.free other": false,
	} {
		name, queue, _ := strings.Cut(subject, " ")
		if got := p.MaySubscribe(name, queue); got != want {
			t.Errorf("subscribe to %s: %t", subject, got)
		}
	}
	if (Permissions{}).MayPublish("a") || (Permissions{}).MaySubscribe("a", "") {
		t.Error("no permissions let somebody in")
	}
}

func TestExceeds(t *testing.T) {
	t.Parallel()
	list := func(s ...string) []string { return s }
	for name, c := range map[string]struct {
		s, other SubjectSet
		queue    string
		want     string // empty: it does not
	}{
		"wider":                    {SubjectSet{Allow: list("app.>")}, SubjectSet{Allow: list("app.red.>")}, "", "app.red"},
		"narrower":                 {SubjectSet{Allow: list("app.red.>")}, SubjectSet{Allow: list("app.>")}, "", ""},
		"otherwise written":        {SubjectSet{Allow: list("app.>")}, SubjectSet{Allow: list("app.*", "app.*.>")}, "", ""},
		"by a token":               {SubjectSet{Allow: list("app.*", "app.*.>")}, SubjectSet{Allow: list("app.*.>")}, "", "app.x"},
		"a deny less":              {SubjectSet{Allow: list(">")}, SubjectSet{Allow: list(">"), Deny: list("x.*")}, "", "x.x"},
		"a deny of nothing":        {SubjectSet{Allow: list("a.>")}, SubjectSet{Allow: list("a.>"), Deny: list("b.>")}, "", ""},
		"a deny that is cut out":   {SubjectSet{Allow: list("a.>"), Deny: list("a.b")}, SubjectSet{Allow: list("a.>"), Deny: list("a.b.>")}, "", "a.b.x"},
		"nothing":                  {SubjectSet{}, SubjectSet{}, "", ""},
		"from nothing":             {SubjectSet{Allow: list("a")}, SubjectSet{}, "", "a"},
		"all is denied":            {SubjectSet{Allow: list("a"), Deny: list(">")}, SubjectSet{}, "", ""},
		"a longer one":             {SubjectSet{Allow: list("*.*.*")}, SubjectSet{Allow: list("*.*", "a.*.*")}, "", "x.x.x"},
		"a group is free":          {SubjectSet{Allow: list("a")}, SubjectSet{Allow: list("a", "a g")}, "other", "a"},
		"a group is named":         {SubjectSet{Allow: list("a g")}, SubjectSet{Allow: list("a", "a g")}, "g", ""},
		"groups are none of yours": {SubjectSet{Allow: list("a g")}, SubjectSet{}, "", ""},
	} {
		got, exceeds := c.s.Exceeds(c.other, c.queue)
		if got != c.want || exceeds != (c.want != "") {
			t.Errorf("%s: got %q, %t, want %q", name, got, exceeds, c.want)
		}
	}
}

// TestExceedsIsBounded: sets that were made to be hard to compare count as different.
func TestExceedsIsBounded(t *testing.T) {
	t.Parallel()
	var s SubjectSet
	for i := range 24 {
		tokens := slices.Repeat([]string{"*"}, 24)
		tokens[i] = "a"
		s.Allow = append(s.Allow, strings.Join(tokens, "."))
	}
	started := time.Now()
	subject, exceeds := s.Exceeds(SubjectSet{Allow: append(slices.Clone(s.Allow), "b.>")}, "")
	if subject != "" || !exceeds {
		t.Errorf("got %q, %t", subject, exceeds)
	}
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

var (
	someToken   = rapid.SampledFrom([]string{"a", "b", "*"})
	somePattern = rapid.Custom(func(t *rapid.T) string {
		tokens := rapid.SliceOfN(someToken, 1, 3).Draw(t, "tokens")
		if rapid.Bool().Draw(t, "open") {
			tokens = append(tokens[:len(tokens)-1], ">")
		}
		return strings.Join(tokens, ".")
	})
	someSet = rapid.Custom(func(t *rapid.T) SubjectSet {
		list := rapid.SliceOfN(somePattern, 0, 3)
		return SubjectSet{Allow: list.Draw(t, "allow"), Deny: list.Draw(t, "deny")}
	})
)

// TestExceedsAsTheSubjectsDo compares with every subject of up to four tokens.
func TestExceedsAsTheSubjectsDo(t *testing.T) {
	t.Parallel()
	var all []string
	level := []string{""}
	for range 4 {
		var next []string
		for _, s := range level {
			for _, token := range []string{"a", "b", "x"} {
				next = append(next, strings.TrimPrefix(s+"."+token, "."))
			}
		}
		all, level = append(all, next...), next
	}
	rapid.Check(t, func(rt *rapid.T) {
		s, other := someSet.Draw(rt, "s"), someSet.Draw(rt, "other")
		want := slices.ContainsFunc(all, func(subject string) bool { return s.admits(subject, "") && !other.admits(subject, "") })
		got, exceeds := s.Exceeds(other, "")
		if exceeds != want {
			rt.Fatalf("got %q, %t", got, exceeds)
		}
		if exceeds && (!s.admits(got, "") || other.admits(got, "")) {
			rt.Fatalf("%q is no example", got)
		}
	})
}

// TestExceedsIsAnOrder: nothing exceeds itself, and what is within what is within is within.
func TestExceedsIsAnOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		a, b, c := someSet.Draw(rt, "a"), someSet.Draw(rt, "b"), someSet.Draw(rt, "c")
		within := func(s, other SubjectSet) bool {
			_, exceeds := s.Exceeds(other, "")
			return !exceeds
		}
		if !within(a, a) {
			rt.Fatal("a set exceeds itself")
		}
		if within(a, b) && within(b, c) && !within(a, c) {
			rt.Fatal("a is within b, b within c, and a not within c")
		}
		b.Allow = append(b.Allow, a.Allow...)
		if b.Deny = nil; !within(a, b) {
			rt.Fatal("a exceeds what holds all of it")
		}
	})
}

// TestExceedsAsSubsetsOfTheServer: for single patterns it is nats-server's own notion of a subset.
func TestExceedsAsSubsetsOfTheServer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		a, b := somePattern.Draw(rt, "a"), somePattern.Draw(rt, "b")
		_, exceeds := SubjectSet{Allow: []string{a}}.Exceeds(SubjectSet{Allow: []string{b}}, "")
		if subset := server.SubjectMatchesFilter(a, b); exceeds == subset {
			rt.Fatalf("%s within %s: nats-server says %t", a, b, subset)
		}
		// What denies a takes all of b away exactly where b is within a.
		_, left := SubjectSet{Allow: []string{b}, Deny: []string{a}}.Exceeds(SubjectSet{}, "")
		if left == server.SubjectMatchesFilter(b, a) {
			rt.Fatalf("%s without %s leaves something: %t", b, a, left)
		}
	})
}

func TestWithClosedEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		allow []string
		deny  string
	}{
		"one level":                   {[]string{"app.*"}, "app.*.>"},
		"everything of one token":     {[]string{"*"}, "*.>"},
		"in a queue group":            {[]string{"app.* workers"}, "app.*.>"},
		"no end to close":             {[]string{"app.>", "app.*.x", "a"}, ""},
		"something below is allowed":  {[]string{"app.*", "app.*.status"}, "app.*.*.>"},
		"something deep below is":     {[]string{"app.*", "app.x.y.z"}, "app.*.* app.*.*.*.>"},
		"two levels below are":        {[]string{"app.*", "app.x.y", "app.x.y.z.t workers"}, "app.*.*.* app.*.*.*.*.>"},
		"all of a part below is":      {[]string{"app.*", "app.x.>"}, ""},
		"from a level on all is":      {[]string{"app.*", "app.x.y.>"}, "app.*.*"},
		"an inbox beside everything":  {[]string{"*", "_INBOX_x.>"}, ""},
		"all below is allowed":        {[]string{"app.*", "app.>"}, ""},
		"something beside is allowed": {[]string{"app.*", "jobs.*.status"}, "app.*.>"},
		"something above is allowed":  {[]string{"app.*", "app"}, "app.*.>"},
	} {
		if got := strings.Join(SubjectSet{Allow: c.allow}.withClosedEnds().Deny, " "); got != c.deny {
			t.Errorf("%s: %q, want %q", name, got, c.deny)
		}
	}
}

// TestDecisionsCloseEnds: every decision denies what nats-server would let through by mistake.
func TestDecisionsCloseEnds(t *testing.T) {
	t.Parallel()
	rules := world(t)
	rules.Bindings["corp"][1].Grant.Role = &Role{Name: "level", Subscribe: PermissionRules{Allow: templates(t, "level.*")}}
	d := Decide(&Snapshot{Rules: rules}, person(t, `{"groups": ["dev"]}`), Connection{Type: Standard}, now, nil)
	if !d.Allowed() || !slices.Equal(d.Permissions.Subscribe.Deny, []string{"level.*.>"}) {
		t.Errorf("got %+v", d)
	}
}

// TestOverlapAsTheServerHasIt compares with nats-server.
func TestOverlapAsTheServerHasIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		a, b := somePattern.Draw(rt, "a"), somePattern.Draw(rt, "b")
		if got, want := overlap(strings.Split(a, "."), strings.Split(b, ".")), server.SubjectsCollide(a, b); got != want {
			rt.Fatalf("%s and %s: %t", a, b, got)
		}
	})
}

// TestClosedEndsTakeNothingAway: what is allowed stays so.
func TestClosedEndsTakeNothingAway(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := someSet.Draw(rt, "s")
		if subject, less := s.Exceeds(s.withClosedEnds(), ""); less {
			rt.Fatalf("%s is no longer allowed", subject)
		}
	})
}

func TestOpensBelow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end, allow, deny, by string
	}{
		"something below":        {"app.*", "app.*.status", "", "app.*.status"},
		"in a queue group":       {"app.*", "app.x.y workers", "", "app.x.y workers"},
		"all, in a queue group":  {"app.*", "app.> workers", "", "app.> workers"},
		"an inbox":               {"*", "{{inbox}}.>", "", "{{inbox}}.>"},
		"a claim":                {"app.{{claim.team}}.*", "app.blue.x.y", "", "app.blue.x.y"},
		"nothing":                {"app.*", "jobs.x.y", "", ""},
		"an inbox elsewhere":     {"app.*", "{{inbox}}.>", "", ""},
		"all":                    {"app.*", "app.>", "", ""},
		"no end":                 {"app.>", "app.x.y", "", ""},
		"denied":                 {"app.*", "app.x.y", "app.*.>", ""},
		"denied in some group":   {"app.*", "app.x.y", "app.*.> workers", "app.x.y"},
		"too long for any below": {strings.Repeat("a", MaxSubject-2) + ".*", "*.*.x", "", ""},
	} {
		role := &Role{}
		for _, part := range []struct {
			text string
			to   *[]Template
		}{{c.end, &role.Subscribe.Allow}, {c.allow, &role.Subscribe.Allow}, {c.deny, &role.Subscribe.Deny}} {
			if part.text == "" {
				continue
			}
			s, err := ParseSubscription(part.text)
			if err != nil {
				t.Fatal(err)
			}
			*part.to = append(*part.to, s)
		}
		by, opens := role.OpensBelow(role.Subscribe.Allow[0])
		if by.String() != c.by || opens != (c.by != "") {
			t.Errorf("%s: %q, %t, want %q", name, by, opens, c.by)
		}
	}
}

// TestHeardAsTheServerDelivers asks a real nats-server: clients subscribe in every way, and are
// delivered what Heard holds.
func TestHeardAsTheServerDelivers(t *testing.T) {
	t.Parallel()
	var subscriptions, subjects []string
	var grow func(list *[]string, tokens []string, depth int, prefix string)
	grow = func(list *[]string, tokens []string, depth int, prefix string) {
		for _, token := range tokens {
			*list = append(*list, prefix+token)
			if depth > 1 && token != ">" {
				grow(list, tokens, depth-1, prefix+token+".")
			}
		}
	}
	grow(&subscriptions, []string{"a", "b", "*", ">"}, 3, "")
	grow(&subjects, []string{"a", "b"}, 4, "")
	sets := []SubjectSet{
		{Allow: []string{"a.*"}}, {Allow: []string{"a.*", "a.*.b"}}, {Allow: []string{"a.*", "a.b.a.b"}}, {Allow: []string{"*", "b.>"}},
		{Allow: []string{"*", "a.b.>"}, Deny: []string{"a.a.>"}}, {Allow: []string{"a.*.*", "*", "b"}}, {Allow: []string{"a.>", "b.*"}, Deny: []string{"a.b"}},
	}
	var users []*server.User
	for i, set := range sets {
		sets[i] = set.withClosedEnds()
		permitted := minted(sets[i])
		permitted.Allow = append(permitted.Allow, "end!")
		users = append(users, &server.User{Username: fmt.Sprint("u", i), Password: "p", Permissions: &server.Permissions{Subscribe: permitted}})
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, Users: append(users, &server.User{Username: "all", Password: "p"})})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	dial := func(user string) *nats.Conn {
		nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, "p"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	all := dial("all")
	for i, set := range sets {
		nc := dial(fmt.Sprint("u", i))
		heard, ended := map[string]bool{}, make(chan struct{})
		messages := make(chan *nats.Msg, 8192)
		go func() {
			defer close(ended)
			for m := range messages {
				if m.Subject == "end!" {
					return
				}
				heard[m.Subject] = true
			}
		}()
		for _, subject := range append(subscriptions, "end!") {
			if _, err := nc.ChanSubscribe(subject, messages); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, subject := range append(subjects, "end!") {
			if err := all.Publish(subject, nil); err != nil {
				t.Fatal(err)
			}
		}
		<-ended
		for _, subject := range subjects {
			if want := set.Heard().admits(subject, ""); heard[subject] != want {
				t.Errorf("%+v is delivered %s: %t, want %t", set, subject, heard[subject], want)
			}
		}
	}
}

// TestPermissionsAsTheServerHasThem asks a real nats-server.
func TestPermissionsAsTheServerHasThem(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	pattern := func() string {
		tokens := []string{pick("a", "b", "*", ">")}
		for len(tokens) < 3 && tokens[len(tokens)-1] != ">" && random.IntN(3) > 0 {
			tokens = append(tokens, pick("a", "b", "*", ">"))
		}
		return strings.Join(tokens, ".")
	}
	patterns := func(queues bool) (list []string) {
		for range random.IntN(4) {
			s := pattern()
			if queues && random.IntN(2) == 0 {
				s += " " + pick("g", "g.*", "h", ">")
			}
			list = append(list, s)
		}
		return list
	}
	var users []*server.User
	var held []Permissions
	for i := range 60 {
		p := Permissions{Publish: SubjectSet{patterns(false), patterns(false)}, Subscribe: SubjectSet{patterns(true), patterns(true)}}
		held = append(held, p)
		users = append(users, &server.User{Username: fmt.Sprint("u", i), Password: "p", Permissions: &server.Permissions{
			Publish: minted(p.Publish), Subscribe: minted(p.Subscribe),
		}})
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, Users: users})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	for i, p := range held {
		c := dialRaw(t, s.Addr().String(), fmt.Sprint("u", i))
		for range 60 {
			subject, queue := pattern(), pick("", "", "g", "g.x", "h", "other")
			if got, want := p.MaySubscribe(subject, queue), c.permits("SUB %s %s 1", subject, queue); got != want {
				t.Errorf("subscribe to %s in group %q with %+v: nats-server says %t", subject, queue, p.Subscribe, want)
			}
			subject = strings.NewReplacer("*", "x", ">", "y").Replace(subject)
			if got, want := p.MayPublish(subject), c.permits("PUB %s 0\r\n", subject); got != want {
				t.Errorf("publish to %s with %+v: nats-server says %t", subject, p.Publish, want)
			}
		}
	}
}

// minted is what package mint makes of a set.
func minted(s SubjectSet) *server.SubjectPermission {
	if len(s.Allow) == 0 {
		return &server.SubjectPermission{Deny: []string{">"}}
	}
	return &server.SubjectPermission{Allow: s.Allow, Deny: s.Deny}
}

// rawClient speaks the protocol itself, so that an answer belongs to what was asked.
type rawClient struct {
	testing.TB
	conn  net.Conn
	lines *bufio.Scanner
}

func dialRaw(t testing.TB, address, user string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c := &rawClient{TB: t, conn: conn, lines: bufio.NewScanner(conn)}
	c.permits(`CONNECT {"user":%q,"pass":"p","verbose":false,"protocol":1}`, user)
	return c
}

// permits sends a line and reports whether the server takes it without an error.
func (c *rawClient) permits(format string, args ...any) bool {
	c.Helper()
	if _, err := fmt.Fprintf(c.conn, format+"\r\nPING\r\n", args...); err != nil {
		c.Fatal(err)
	}
	permitted := true
	for c.lines.Scan() {
		switch line := c.lines.Text(); {
		case line == "PONG":
			return permitted
		case strings.HasPrefix(line, "-ERR 'Permissions Violation"):
			permitted = false
		case strings.HasPrefix(line, "-ERR"):
			c.Fatal(line)
		}
	}
	c.Fatal("the connection ended: ", c.lines.Err())
	return false
}
