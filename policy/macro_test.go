package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMacroProblems(t *testing.T) {
	for _, c := range []struct {
		name  string
		macro macro
		want  []string // field and a part of the text
	}{
		{"kv", KVMacro{Bucket: "a.b", Allow: []Access{Read}}, []string{"bucket: use letters"}},
		{"kv", KVMacro{Bucket: "a/b", Allow: []Access{Read}}, []string{"bucket: use letters"}},
		{"kv", KVMacro{Bucket: "*", Allow: []Access{Read}}, []string{"bucket: use letters"}},
		{"kv", KVMacro{Bucket: ">", Allow: []Access{Read}}, []string{"bucket: use letters"}},
		{"kv", KVMacro{Bucket: "a b", Allow: []Access{Read}}, []string{"bucket: blank"}},
		{"kv", KVMacro{Bucket: "{{team}}", Allow: []Access{Read}}, []string{"bucket: unknown"}},
		{"kv", KVMacro{Bucket: "{{account hash}}", Allow: []Access{Read}}, []string{"bucket: unknown"}},
		{"kv", KVMacro{Bucket: strings.Repeat("x", 256), Allow: []Access{Read}}, []string{"bucket: 255 bytes"}},
		{"kv", KVMacro{Allow: []Access{Read}}, []string{"bucket: empty"}},
		{"kv", KVMacro{Bucket: "b"}, []string{"allow: is missing"}},
		{"kv", KVMacro{Bucket: "b", Allow: []Access{Manage}}, []string{"allow: jetstream.allow manage"}},
		{"kv", KVMacro{Bucket: "b", Allow: []Access{Read, Write}, Keys: []string{"x"}}, []string{"keys: Nats-Rollup"}},
		{"kv", KVMacro{Bucket: "b", Allow: []Access{Read}, NoRollup: true}, []string{"no_rollup: leave it out"}},
		{"kv", KVMacro{Bucket: "b", Allow: []Access{Read}, Keys: []string{"x", ">", "a.*", "a..b", "a.>.b"}},
			[]string{"keys[1]: limits nothing", "keys[2]: wildcard *", "keys[3]: empty token", "keys[4]: last token"}},
		{"objects", ObjectMacro{Bucket: "a.b", Allow: []Access{Manage}}, []string{"bucket: use letters", "allow: jetstream.allow manage"}},
		{"streams", StreamMacro{Name: "A/B", Allow: []Access{Read}}, []string{"name: slashes"}},
		{"streams", StreamMacro{Name: "{{claim.team}}", Allow: []Access{Read}}, []string{"name: begin it with other fixed text"}},
		// A team _secrets or V_secrets would be given a bucket.
		{"streams", StreamMacro{Name: "KV{{claim.team}}", Allow: []Access{Read}}, []string{"name: begin it with other fixed text"}},
		{"consumers", ConsumerMacro{Stream: "O{{claim.team}}", Name: "x", Allow: []Access{Consume}}, []string{"stream: begin it with other fixed text"}},
		{"streams", StreamMacro{Name: "A", Allow: []Access{Manage}}, []string{"allow: jetstream.allow manage"}},
		{"streams", StreamMacro{Name: "A", Allow: []Access{Write}}, []string{"subjects: is missing"}},
		{"streams", StreamMacro{Name: "A", Allow: []Access{Write}, Subjects: []string{"$KV.b.x", "_INBOX.x"}}, []string{"subjects[0]: kept for the server", "subjects[1]: kept for the server"}},
		{"streams", StreamMacro{Name: "A", Allow: []Access{Consume}, Subjects: []string{"a"}}, []string{"subjects: an entry under consumers", "subjects: limits nothing"}},
		{"streams", StreamMacro{Name: "A", Allow: []Access{Read, Purge}, Subjects: []string{"a"}}, []string{"subjects: an entry of its own"}},
		{"streams", StreamMacro{Name: "A", Allow: []Access{Read}, Protect: []string{"c"}}, []string{"protect: leave it out"}},
		{"streams", StreamMacro{Name: "A", Allow: []Access{Consume}, Protect: []string{"c", "c.d"}}, []string{"protect[1]: leave out dots"}},
		{"consumers", ConsumerMacro{Stream: "A", Name: "*", Allow: []Access{Consume}}, []string{"name: leave out dots"}},
		{"consumers", ConsumerMacro{Stream: "A.B", Name: "c", Allow: []Access{Consume}}, []string{"stream: leave out dots"}},
		{"consumers", ConsumerMacro{Stream: "A", Name: "c", Allow: []Access{Consume}, Filter: []string{"a"}}, []string{"filter: limits manage"}},
		{"consumers", ConsumerMacro{Stream: "A", Name: "c", Allow: []Access{Manage}, Filter: []string{"a.*"}}, []string{"filter[0]: wildcard *"}},
		{"jetstream", APIMacro{Domain: "a.b", Allow: []Access{List}}, []string{"domain: one word"}},
		{"jetstream", APIMacro{Domain: "{{claim.team}}"}, []string{"domain: one word"}},
		{"jetstream", APIMacro{Domain: "*"}, []string{"domain: one word"}},
		{"jetstream", KVMacro{Domain: ">", Bucket: "b", Allow: []Access{Read}}, []string{"domain: one word"}},
	} {
		rules, problems := c.macro.Expand()
		if len(rules.Allow) > 0 || len(problems) != len(c.want) {
			t.Errorf("%s %+v: allows %v, problems %v, want %v", c.name, c.macro, rules.Allow, problems, c.want)
			continue
		}
		for i, p := range problems {
			field, text, _ := strings.Cut(c.want[i], ": ")
			if p.Field != field || !strings.Contains(p.Text, text) {
				t.Errorf("%s %+v: problem %s: %s, want %s", c.name, c.macro, p.Field, p.Text, c.want[i])
			}
		}
	}
}

// What a macro stands for, as explain shows it.
func TestMacroExpansion(t *testing.T) {
	rules, problems := KVMacro{Bucket: "team-{{claim.team}}", Allow: []Access{Read}, Keys: []string{"app.>"}}.Expand()
	if problems != nil {
		t.Fatal(problems)
	}
	var p Permissions
	if r := p.add(&Role{Publish: rules}, person(t, developer), &Account{Name: "APP", ID: "APP"}); r != nil {
		t.Fatal(r)
	}
	want := []string{
		"$JS.API.STREAM.INFO.KV_team-blue",
		"$JS.API.DIRECT.GET.KV_team-blue.$KV.team-blue.app.>",
		"$JS.API.CONSUMER.CREATE.KV_team-blue.*.$KV.team-blue.app.>",
		"$JS.API.CONSUMER.DELETE.KV_team-blue.*",
		"$JS.FC.KV_team-blue.*.*",
		"$JS.FC._.xNZj6HOx.KV_team-blue.*.*",
	}
	if diff := cmp.Diff(want, p.Publish.Allow); diff != "" {
		t.Error(diff)
	}
}

// lawful fails unless all that a macro stands for is of JetStream and names exactly the thing that
// the macro names, or is one of the subjects that it declares.
func lawful(t interface {
	Helper()
	Fatalf(string, ...any)
}, m macro, id *Identity) {
	t.Helper()
	rules, problems := m.Expand()
	if len(problems) > 0 {
		if len(rules.Allow)+len(rules.Deny) > 0 {
			t.Fatalf("%+v has problems and stands for %v", m, rules)
		}
		return
	}
	account := &Account{Name: "APP", ID: "APP"}
	render := func(s string) string {
		tpl, err := ParseTemplate("x" + s) // so that nothing stands first
		if err != nil {
			t.Fatalf("%q passed as a name: %v", s, err)
		}
		subject, r := tpl.render(id, account)
		if r != nil {
			return "\x00" // then the login is refused, as is checked below
		}
		return subject[1:]
	}
	var stream, consumer string
	var own, declared []string
	switch m := m.(type) {
	case KVMacro:
		stream = "KV_" + render(m.Bucket)
		own = []string{"$KV." + render(m.Bucket) + "."}
		for _, k := range m.Keys {
			declared = append(declared, own[0]+render(k))
		}
	case ObjectMacro:
		stream = "OBJ_" + render(m.Bucket)
		own = []string{"$O." + render(m.Bucket) + "."}
	case StreamMacro:
		stream = render(m.Name)
		for _, s := range m.Subjects {
			declared = append(declared, render(s))
		}
	case ConsumerMacro:
		stream, consumer = render(m.Stream), render(m.Name)
	}
	var p Permissions
	if r := p.add(&Role{Publish: rules}, id, account); r != nil {
		return // a claim that is no safe token refuses the login
	}
	for _, s := range p.Publish.Allow {
		if slices.Contains(declared, s) || slices.ContainsFunc(own, func(prefix string) bool { return len(declared) == 0 && s == prefix+">" }) {
			continue
		}
		tokens := strings.Split(s, ".")
		if len(tokens) > 4 && tokens[2] == "_" && tokens[3] == account.hash() {
			tokens = slices.Delete(tokens, 2, 4) // domain and account of an acknowledgement
		}
		at := slices.Index(tokens, stream)
		if tokens[0] != "$JS" || at < 2 || slices.ContainsFunc(tokens[:at], func(token string) bool { return token == "*" || token == ">" }) {
			t.Fatalf("%+v allows %s", m, s)
		}
		if consumer != "" && (len(tokens) <= at+1 || tokens[at+1] != consumer) {
			t.Fatalf("%+v allows %s, which is not about consumer %s", m, s, consumer)
		}
		if len(tokens) == at+1 && (tokens[at-1] == "GET" || tokens[at-1] == "PURGE" || tokens[at-1] == "CREATE") && len(declared) > 0 {
			t.Fatalf("%+v is limited and allows %s, which is not", m, s)
		}
	}
}

// somePart draws the parts that names, keys and subjects are made of, those that hurt too.
var somePart = rapid.SampledFrom([]string{"a", "B-1", "_x", "{{claim.team}}", "{{claim.evil}}", "{{name}}", "{{inbox}}", "{{account hash}}", "{{claim.", "}}", ".", "*", ">", "$", "$KV", "/", `\`, " ", "\x00", "\u202e", "é", ""})

func someText(t *rapid.T, label string) string {
	return strings.Join(rapid.SliceOfN(somePart, 0, 4).Draw(t, label), "")
}

func TestMacroLaws(t *testing.T) {
	expanded := 0
	rapid.Check(t, func(rt *rapid.T) {
		allow := rapid.SliceOfNDistinct(rapid.SampledFrom([]Access{Read, Consume, Write, Purge}), 1, 3, rapid.ID[Access]).Draw(rt, "allow")
		var list []string
		for i := range rapid.IntRange(0, 2).Draw(rt, "n") {
			list = append(list, someText(rt, fmt.Sprint("subject ", i)))
		}
		name, other := someText(rt, "name"), someText(rt, "other")
		id := person(t, `{"team": "blue"}`)
		id.Claims["evil"] = rapid.SampledFrom([]any{"x", ">", "*", "a.b", "$JS", "", nil, "KV_other"}).Draw(rt, "evil")
		for _, m := range []macro{
			KVMacro{Bucket: name, Allow: allow, Keys: list, NoRollup: rapid.Bool().Draw(rt, "no rollup")},
			ObjectMacro{Bucket: name, Allow: allow},
			StreamMacro{Name: name, Allow: allow, Subjects: list},
			ConsumerMacro{Stream: name, Name: other, Allow: []Access{Consume, Manage}, Filter: list},
		} {
			if _, problems := m.Expand(); len(problems) == 0 {
				expanded++
			}
			lawful(rt, m, id)
		}
	})
	if expanded == 0 {
		t.Error("no macro was expanded")
	}
}

func FuzzMacro(f *testing.F) {
	for _, seed := range [][3]string{
		{"settings", "blue.>", "blue"}, {"team-{{claim.team}}", "{{claim.team}}.x", ">"}, {"a.b", "*", "*"},
		{"{{account hash}}", "{{", "a.b"}, {"KV_x", "$KV.>", "$JS"}, {"x>", ">.a", "\x00"}, {"{{claim.team}}", "x", "$"}, {"_", "0", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, name, subject, team string) {
		id := person(t, `{}`)
		id.Claims["team"] = team
		for _, m := range []macro{
			KVMacro{Bucket: name, Allow: []Access{Read, Write}, Keys: []string{subject}, NoRollup: true},
			KVMacro{Bucket: name, Allow: []Access{Read, Write}},
			ObjectMacro{Bucket: name, Allow: []Access{Read, Write}},
			StreamMacro{Name: name, Allow: []Access{Read, Write}, Subjects: []string{subject}},
			StreamMacro{Name: name, Allow: []Access{Read, Consume, Purge}},
			ConsumerMacro{Stream: name, Name: name, Allow: []Access{Consume, Manage}, Filter: []string{subject}},
			ConsumerMacro{Stream: "A", Name: name, Allow: []Access{Consume, Manage}},
		} {
			lawful(t, m, id)
		}
	})
}
