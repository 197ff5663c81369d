package natsfacts

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// lake is a server with JetStream and an account with a bucket "b", whose user "limited" may
// publish to some subjects and has a private inbox.
type lake struct {
	admin, limited *nats.Conn
	js             jetstream.JetStream // of the admin
	kv             jetstream.KeyValue
}

func newLake(t *testing.T, publish ...string) *lake {
	t.Helper()
	s, err := runServer(fmt.Sprintf(`jetstream { store_dir: %q }
		accounts { APP { jetstream: enabled, users: [
			{ user: admin, password: p }
			{ user: limited, password: p, permissions: { publish: { allow: ["%s"] }, subscribe: { allow: ["_INBOX_limited.>"] } } }
		] } }`, t.TempDir(), strings.Join(publish, `", "`)))
	check(t, err)
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	l := &lake{}
	l.admin, err = dial(t, s, nats.UserInfo("admin", "p"))
	check(t, err)
	l.limited, err = dial(t, s, nats.UserInfo("limited", "p"), nats.CustomInboxPrefix("_INBOX_limited"))
	check(t, err)
	l.js, err = jetstream.New(l.admin)
	check(t, err)
	l.kv, err = l.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b", History: 5})
	check(t, err)
	for _, key := range []string{"team.a", "team.deep.secret", "secret"} {
		_, err := l.kv.PutString(t.Context(), key, key)
		check(t, err)
	}
	return l
}

// ask sends a request of the limited user and returns the answer.
func (l *lake) ask(t *testing.T, subject, body string, headers ...string) *nats.Msg {
	t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(body)
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	answer, err := l.limited.RequestMsg(m, patience)
	if err != nil {
		t.Fatalf("%s: %v, %v", subject, err, l.limited.LastError())
	}
	return answer
}

// refused returns the error that JetStream's API answers with; empty when there is none.
func refused(t *testing.T, m *nats.Msg) string {
	t.Helper()
	var answer struct{ Error struct{ Description string } }
	decode(t, m.Data, &answer)
	return answer.Error.Description
}

// Fact: where a permission ends in *, a literal > passes, and JetStream takes it for a wildcard:
// in a consumer's filter and in a direct get. Macros therefore refuse * in keys and subjects.
func TestStarOfAPermissionLetsAnyDepthThrough(t *testing.T) {
	t.Parallel()
	l := newLake(t, "$JS.API.CONSUMER.CREATE.KV_b.*.$KV.b.team.*", "$JS.API.DIRECT.GET.KV_b.$KV.b.team.*")
	if m := l.ask(t, "$JS.API.DIRECT.GET.KV_b.$KV.b.team.>", ""); string(m.Data) != "team.deep.secret" {
		t.Errorf("a direct get of team.> answers %v %s", m.Header, m.Data)
	}
	if got := refused(t, l.ask(t, "$JS.API.CONSUMER.CREATE.KV_b.x.$KV.b.team.>", `{"stream_name":"KV_b","config":{"name":"x","filter_subject":"$KV.b.team.>"}}`)); got != "" {
		t.Errorf("a consumer of team.> is refused: %s", got)
	}
}

// Fact: whoever may write one key of a bucket may empty all of it with a header, unless its
// stream refuses that header. The kv macro therefore refuses write with keys without no_rollup.
func TestWriterOfOneKeyMayEmptyTheBucket(t *testing.T) {
	t.Parallel()
	l := newLake(t, "$KV.b.team.a")
	if got := refused(t, l.ask(t, "$KV.b.team.a", "", "Nats-Rollup", "all")); got != "" {
		t.Fatalf("the server refused the rollup: %s", got)
	}
	if _, err := l.kv.Get(t.Context(), "secret"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("another's key is still there: %v", err)
	}
	s, err := l.js.Stream(t.Context(), "KV_b")
	check(t, err)
	config := s.CachedInfo().Config
	config.AllowRollup = false
	_, err = l.js.UpdateStream(t.Context(), config)
	check(t, err)
	if got := refused(t, l.ask(t, "$KV.b.team.a", "", "Nats-Rollup", "all")); got != "rollup not permitted" {
		t.Errorf("with allow_rollup_hdrs false the server says %q", got)
	}
	if got := refused(t, l.ask(t, "$KV.b.team.a", "", "KV-Operation", "DEL")); got != "" {
		t.Errorf("a delete marker is refused: %s", got)
	}
}

// Fact: on a stream with allow_msg_schedules, who may publish to one of its subjects has the server
// write to any of them, and copy what any of them holds to where it may read. Permissions do not look
// at the headers that ask for it. Without allow_msg_schedules, as streams are made, it is refused.
func TestWriterOfOneSubjectSchedulesIntoAll(t *testing.T) {
	t.Parallel()
	l := newLake(t, "jobs.blue.>", "$JS.API.DIRECT.GET.JOBS.jobs.blue.>")
	config := jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}, AllowDirect: true}
	s, err := l.js.CreateStream(t.Context(), config)
	check(t, err)
	_, err = l.js.Publish(t.Context(), "jobs.red.secret", []byte("of red"))
	check(t, err)
	forge := []string{"Nats-Schedule", "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target", "jobs.red.orders"}
	if got := refused(t, l.ask(t, "jobs.blue.a", "of blue", forge...)); got != "message schedules is disabled" {
		t.Errorf("without allow_msg_schedules the server says %q", got)
	}
	config.AllowMsgSchedules = true
	_, err = l.js.UpdateStream(t.Context(), config)
	check(t, err)
	if got := refused(t, l.ask(t, "jobs.blue.a", "of blue", forge...)); got != "" {
		t.Fatalf("the server refused to write to another subject: %s", got)
	}
	if got := refused(t, l.ask(t, "jobs.blue.b", "", "Nats-Schedule", "@at 2020-01-01T00:00:00Z",
		"Nats-Schedule-Source", "jobs.red.secret", "Nats-Schedule-Target", "jobs.blue.copy")); got != "" {
		t.Fatalf("the server refused to copy another subject: %s", got)
	}
	check(t, poll(func() error {
		if m, err := s.GetLastMsgForSubject(t.Context(), "jobs.red.orders"); err != nil || string(m.Data) != "of blue" {
			return fmt.Errorf("another subject holds %v, %w", m, err)
		}
		if m := l.ask(t, "$JS.API.DIRECT.GET.JOBS.jobs.blue.copy", ""); string(m.Data) != "of red" {
			return fmt.Errorf("the copy holds %v %q", m.Header, m.Data)
		}
		return nil
	}))
}

// Fact: a consumer's API knows no owner. Who may create consumers by any name changes those of
// others, and who may fetch by any name gets what they filter for, whatever filter it may itself
// create with. The kv macro lets nobody fetch, and the streams macro no one with subjects.
func TestConsumersHaveNoOwner(t *testing.T) {
	t.Parallel()
	l := newLake(t, "$JS.API.CONSUMER.CREATE.KV_b.*.$KV.b.team.a", "$JS.API.CONSUMER.MSG.NEXT.KV_b.*")
	c, err := l.js.CreateConsumer(t.Context(), "KV_b", jetstream.ConsumerConfig{Durable: "other", FilterSubject: "$KV.b.secret", AckPolicy: jetstream.AckExplicitPolicy})
	check(t, err)
	if m := l.ask(t, "$JS.API.CONSUMER.MSG.NEXT.KV_b.other", "1"); string(m.Data) != "secret" {
		t.Errorf("fetched %v %s", m.Header, m.Data)
	}
	if got := refused(t, l.ask(t, "$JS.API.CONSUMER.CREATE.KV_b.other.$KV.b.team.a",
		`{"stream_name":"KV_b","config":{"name":"other","durable_name":"other","ack_policy":"explicit","filter_subject":"$KV.b.team.a"}}`)); got != "" {
		t.Errorf("changing another's consumer is refused: %s", got)
	}
	info, err := c.Info(t.Context())
	check(t, err)
	if info.Config.FilterSubject != "$KV.b.team.a" {
		t.Errorf("the filter of another's consumer is %s", info.Config.FilterSubject)
	}
}

// Fact: JetStream answers and delivers to whatever subject a request names, also to one that the
// asker may not publish to, even of another bucket, but for its own API. Who reads and writes one stream
// can therefore put its messages onto any subject of the account: the wall is the account.
func TestJetStreamAnswersAnywhere(t *testing.T) {
	t.Parallel()
	get := "$JS.API.DIRECT.GET.KV_b.$KV.b.team.a"
	l := newLake(t, get, "$JS.API.CONSUMER.CREATE.KV_b.*.$KV.b.team.a")
	other, err := l.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "other"})
	check(t, err)
	watch, err := other.Watch(t.Context(), "key", jetstream.UpdatesOnly())
	check(t, err)
	check(t, l.limited.PublishRequest(get, "$KV.other.key", nil))
	if e := await(t, watch.Updates()); string(e.Value()) != "team.a" {
		t.Errorf("the other bucket holds %q", e.Value())
	}
	secret := subscribe(t, l.admin, "app.secret")
	l.ask(t, "$JS.API.CONSUMER.CREATE.KV_b.x.$KV.b.team.a", `{"stream_name":"KV_b","config":{"name":"x","filter_subject":"$KV.b.team.a","deliver_subject":"app.secret"}}`)
	if m := next(t, secret); string(m.Data) != "team.a" {
		t.Errorf("app.secret got %q", m.Data)
	}
	// The API itself is kept from both.
	before := l.limited.LastError()
	check(t, l.limited.PublishRequest(get, "$JS.API.STREAM.DELETE.KV_b", nil))
	check(t, l.limited.Flush())
	if after := l.limited.LastError(); after == before || !errors.Is(after, nats.ErrPermissionViolation) {
		t.Errorf("a reply subject of the API is let through: %v", after)
	}
	if got := refused(t, l.ask(t, "$JS.API.CONSUMER.CREATE.KV_b.y.$KV.b.team.a",
		`{"stream_name":"KV_b","config":{"name":"y","filter_subject":"$KV.b.team.a","deliver_subject":"$JS.API.STREAM.DELETE.KV_b"}}`)); got == "" {
		t.Error("a consumer may deliver to the API")
	}
}

// Fact: the information about a stream lists its subjects when asked to. Without it no client
// binds to a bucket, so who may read some keys learns the names of all.
func TestStreamInfoShowsSubjects(t *testing.T) {
	t.Parallel()
	l := newLake(t, "$JS.API.STREAM.INFO.KV_b")
	var info struct {
		State struct{ Subjects map[string]int }
	}
	if err := json.Unmarshal(l.ask(t, "$JS.API.STREAM.INFO.KV_b", `{"subjects_filter":">"}`).Data, &info); err != nil || info.State.Subjects["$KV.b.secret"] != 1 {
		t.Errorf("subjects %v, %v", info.State.Subjects, err)
	}
}

// Fact: who may make a stream of one name has it copy any other. No macro lets a role do so
// that may not do everything.
func TestWhoMakesAStreamReadsAll(t *testing.T) {
	t.Parallel()
	l := newLake(t, "$JS.API.STREAM.CREATE.MINE", "$JS.API.CONSUMER.CREATE.MINE.>", "$JS.API.DIRECT.GET.MINE.>")
	if got := refused(t, l.ask(t, "$JS.API.STREAM.CREATE.MINE", `{"name":"MINE","mirror":{"name":"KV_b"},"storage":"memory","allow_direct":true}`)); got != "" {
		t.Fatalf("mirroring is refused: %s", got)
	}
	check(t, poll(func() error {
		if m := l.ask(t, "$JS.API.DIRECT.GET.MINE.$KV.b.secret", ""); string(m.Data) != "secret" {
			return fmt.Errorf("the mirror holds %v %q", m.Header, m.Data)
		}
		return nil
	}))
}
