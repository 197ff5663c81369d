package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// macro is what every macro can do.
type macro interface {
	Expand() (PermissionRules, []MacroProblem)
}

// patience bounds what a server has to do soon.
const patience = 10 * time.Second

// lake is a real JetStream with things of several owners, in an account of one server. The
// account's user "team" holds what the macros of a test expand to, and a private inbox.
type lake struct {
	*testing.T
	team *nats.Conn
	js   jetstream.JetStream
	old  nats.JetStreamContext
	root jetstream.JetStream // of who may do everything
}

// lakeOptions choose how a lake is made; the zero value is one plain server.
type lakeOptions struct {
	more   string // configuration of the servers
	domain string // of the JetStream, which clients name then
	leaf   bool   // the team connects to a leaf node, whose domain is another
}

// newLake starts a server with what tests use in it.
func newLake(t *testing.T, o lakeOptions, macros ...macro) *lake {
	t.Helper()
	l, id, domain := &lake{T: t}, person(t, `{"team": "blue"}`), ""
	users := fmt.Sprintf(`accounts { APP { jetstream: enabled, users: [ { user: admin, password: p }, { user: team, password: p, permissions: %s } ] } }`,
		l.permissions(id, macros))
	if o.domain != "" {
		domain = "domain: " + o.domain
	}
	hub := l.run("jetstream { store_dir: %q, %s }\nleafnodes { listen: \"127.0.0.1:-1\" }\n%s\n%s", t.TempDir(), domain, users, o.more)
	at := hub
	if o.leaf {
		at = l.run("jetstream { store_dir: %q, domain: edge }\nleafnodes { remotes: [ { url: \"nats://admin:p@127.0.0.1:%d\", account: APP } ] }\n%s\n%s",
			t.TempDir(), l.leafPort(hub), users, o.more)
	}
	l.root = l.jetstream(l.connect(hub, "admin"), "")
	l.fill()
	if o.leaf {
		l.awaitDomain(l.jetstream(l.connect(at, "admin"), o.domain))
	}
	l.team = l.connect(at, "team", nats.CustomInboxPrefix(InboxPrefix(id.IssuerURL, id.Subject)))
	l.js = l.jetstream(l.team, o.domain)
	var err error
	l.old, err = l.team.JetStream()
	l.check(err)
	return l
}

// permissions returns what the macros, and a private inbox, mean to a server.
func (l *lake) permissions(id *Identity, macros []macro) string {
	l.Helper()
	role := &Role{Name: "team", Subscribe: PermissionRules{Allow: templates(l, "{{inbox}}.>")}}
	for _, m := range macros {
		expanded, problems := m.Expand()
		if len(problems) > 0 {
			l.Fatalf("%+v: %v", m, problems)
		}
		role.Publish.Allow = append(role.Publish.Allow, expanded.Allow...)
		role.Publish.Deny = append(role.Publish.Deny, expanded.Deny...)
	}
	var p Permissions
	if r := p.add(role, id, &Account{Name: "APP", ID: "APP"}); r != nil {
		l.Fatal(r)
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // the server's parser does not know such escapes
	l.check(encoder.Encode(map[string]any{"publish": p.Publish, "subscribe": p.Subscribe}))
	return b.String()
}

// run starts a server on a port of its own choice, until the test ends.
func (l *lake) run(format string, args ...any) *server.Server {
	l.Helper()
	opts := &server.Options{NoSigs: true, NoLog: true}
	l.check(opts.ProcessConfigString("listen: \"127.0.0.1:-1\"\n" + fmt.Sprintf(format, args...)))
	s, err := server.NewServer(opts)
	l.check(err)
	s.Start()
	l.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		l.Fatal("nats-server does not start")
	}
	return s
}

// leafPort returns the port that leaf nodes connect to.
func (l *lake) leafPort(s *server.Server) int {
	l.Helper()
	varz, err := s.Varz(nil)
	l.check(err)
	return varz.LeafNode.Port
}

func (l *lake) connect(s *server.Server, user string, o ...nats.Option) *nats.Conn {
	l.Helper()
	nc, err := nats.Connect(s.ClientURL(), append(o, nats.UserInfo(user, "p"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	l.check(err)
	l.Cleanup(nc.Close)
	return nc
}

func (l *lake) jetstream(nc *nats.Conn, domain string) jetstream.JetStream {
	l.Helper()
	js, err := jetstream.New(nc)
	if domain != "" {
		js, err = jetstream.NewWithDomain(nc, domain)
	}
	l.check(err)
	return js
}

// awaitDomain waits until a leaf node knows the way to the domain.
func (l *lake) awaitDomain(js jetstream.JetStream) {
	l.Helper()
	for deadline := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(l.Context(), time.Second)
		_, err := js.AccountInfo(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			l.Fatal(err)
		}
	}
}

func (l *lake) check(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// fill makes streams, consumers, buckets and stores of the team and of others.
func (l *lake) fill() {
	ctx := l.Context()
	for _, c := range []jetstream.StreamConfig{
		{Name: "ORDERS", Subjects: []string{"orders.>"}, AllowDirect: true},
		{Name: "SECRETS", Subjects: []string{"secrets.>"}, AllowDirect: true},
	} {
		_, err := l.root.CreateStream(ctx, c)
		l.check(err)
	}
	for _, subject := range []string{"orders.blue.1", "orders.red.1", "secrets.1"} {
		_, err := l.root.Publish(ctx, subject, []byte(subject))
		l.check(err)
	}
	for stream, names := range map[string][]string{"ORDERS": {"billing", "audit"}, "SECRETS": {"billing"}} {
		for _, name := range names {
			_, err := l.root.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy})
			l.check(err)
		}
	}
	for _, name := range []string{"settings", "other"} {
		kv, err := l.root.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: name, History: 5})
		l.check(err)
		for _, key := range []string{"blue.a", "blue.deep.b", "red.a"} {
			_, err := kv.Put(ctx, key, []byte(key))
			l.check(err)
		}
		store, err := l.root.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: name})
		l.check(err)
		_, err = store.PutString(ctx, "a.txt", name)
		l.check(err)
	}
}

// violates fails unless the server refuses to take a message to the subject from the team.
func (l *lake) violates(subject string) {
	l.Helper()
	before := l.team.LastError()
	l.check(l.team.PublishRequest(subject, l.team.NewInbox(), nil))
	l.check(l.team.FlushTimeout(patience))
	if after := l.team.LastError(); after == before || !errors.Is(after, nats.ErrPermissionViolation) || !strings.Contains(after.Error(), `"`+subject+`"`) {
		l.Errorf("%s is allowed: last error %v", subject, after)
	}
}

// ask sends a request of the team's that its permissions let pass, and returns the answer.
func (l *lake) ask(subject, body string) *nats.Msg {
	l.Helper()
	m, err := l.team.Request(subject, []byte(body), patience)
	if err != nil {
		l.Fatalf("%s: %v, last error %v", subject, err, l.team.LastError())
	}
	return m
}

// quiet fails when one of the operations so far was refused.
func (l *lake) quiet() {
	l.Helper()
	l.check(l.team.FlushTimeout(patience))
	if err := l.team.LastError(); err != nil {
		l.Errorf("what the macro promises was refused: %v", err)
	}
}

// beyond are requests that no macro for the team's own things may let pass.
var beyond = []string{
	"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST",
	"$JS.API.STREAM.CREATE.ORDERS", "$JS.API.STREAM.CREATE.NEW", "$JS.API.STREAM.UPDATE.ORDERS", "$JS.API.STREAM.DELETE.ORDERS",
	"$JS.API.STREAM.CREATE.KV_settings", "$JS.API.STREAM.UPDATE.KV_settings", "$JS.API.STREAM.DELETE.KV_settings",
	"$JS.API.STREAM.SNAPSHOT.ORDERS", "$JS.API.STREAM.RESTORE.ORDERS", "$JS.API.STREAM.LEADER.STEPDOWN.ORDERS", "$JS.API.STREAM.PEER.REMOVE.ORDERS",
	"$JS.API.STREAM.INFO.SECRETS", "$JS.API.STREAM.MSG.GET.SECRETS", "$JS.API.DIRECT.GET.SECRETS", "$JS.API.DIRECT.GET.SECRETS.secrets.1",
	"$JS.API.STREAM.PURGE.SECRETS", "$JS.API.STREAM.MSG.DELETE.SECRETS",
	"$JS.API.CONSUMER.CREATE.SECRETS", "$JS.API.CONSUMER.CREATE.SECRETS.x", "$JS.API.CONSUMER.CREATE.SECRETS.x.secrets.1",
	"$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.x", "$JS.API.CONSUMER.DURABLE.CREATE.KV_settings.x", "$JS.API.CONSUMER.CREATE.ORDERS", "$JS.API.CONSUMER.CREATE.KV_settings",
	"$JS.API.CONSUMER.MSG.NEXT.SECRETS.billing", "$JS.API.CONSUMER.DELETE.SECRETS.billing", "$JS.API.CONSUMER.NAMES.ORDERS", "$JS.API.CONSUMER.LIST.ORDERS",
	"$JS.API.CONSUMER.PAUSE.ORDERS.billing", "$JS.API.CONSUMER.LEADER.STEPDOWN.ORDERS.billing",
	"$JS.API.DIRECT.GET.KV_other", "$JS.API.DIRECT.GET.KV_other.$KV.other.blue.a", "$JS.API.STREAM.MSG.GET.KV_other", "$JS.API.STREAM.INFO.KV_other", "$JS.API.STREAM.PURGE.KV_other",
	"$JS.API.CONSUMER.CREATE.KV_other.x.$KV.other.>", "$KV.other.blue.a", "$O.other.C.x", "$O.other.M.x", "$JS.API.DIRECT.GET.OBJ_other.$O.other.M.x", "$JS.API.STREAM.PURGE.OBJ_other",
	"$JS.ACK.SECRETS.billing.1.1.1.1.0", "$JS.ACK._.0.SECRETS.billing.1.1.1.1.0", "$JS.FC.SECRETS.billing.x",
	"secrets.1", "$SYS.REQ.SERVER.PING", "$JS.API.META.LEADER.STEPDOWN", "$JS.hub.API.STREAM.INFO.ORDERS",
}

// without returns the requests of a list that are not among the allowed ones.
func without(list []string, allowed ...string) []string {
	var rest []string
	for _, s := range list {
		if !contains(allowed, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// serverRefuses fails unless the API answers a request with an error.
func (l *lake) serverRefuses(name, subject, body string) {
	l.Helper()
	var answer struct{ Error *struct{ Description string } }
	m := l.ask(subject, body)
	if err := json.Unmarshal(m.Data, &answer); err != nil || answer.Error == nil {
		l.Errorf("%s is allowed: %s, %v", name, m.Data, err)
	}
}
