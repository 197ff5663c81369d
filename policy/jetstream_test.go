package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestStreamReadAndConsume(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, StreamMacro{Name: "ORDERS", Allow: []Access{Read, Consume}, Protect: []string{"billing", "audit"}})
	ctx := l.Context()
	s, err := l.js.Stream(ctx, "ORDERS")
	l.check(err)
	if m, err := s.GetMsg(ctx, 2); err != nil || m.Subject != "orders.red.1" {
		t.Fatalf("get: %v, %v", m, err)
	}
	if m, err := s.GetLastMsgForSubject(ctx, "orders.blue.1"); err != nil || m.Sequence != 1 {
		t.Fatalf("get last: %v, %v", m, err)
	}
	l.ask("$JS.API.STREAM.MSG.GET.ORDERS", `{"seq":1}`)
	for _, config := range []jetstream.OrderedConsumerConfig{{}, {FilterSubjects: []string{"orders.red.>"}}, {FilterSubjects: []string{"orders.red.1", "orders.blue.1"}}} {
		c, err := s.OrderedConsumer(ctx, config)
		l.check(err)
		for range 2 { // the second makes a new consumer and deletes the first
			m, err := c.Next(jetstream.FetchMaxWait(patience))
			l.check(err)
			if m.Subject() == "" {
				t.Error("an empty message came")
			}
			if len(config.FilterSubjects) == 1 {
				break
			}
		}
	}
	sub, err := l.old.SubscribeSync("orders.>", nats.OrderedConsumer(), nats.BindStream("ORDERS"))
	l.check(err)
	_, err = sub.NextMsg(patience)
	l.check(err)
	l.check(sub.Unsubscribe())
	l.quiet()
	for _, s := range append(beyond,
		"orders.blue.1", "$JS.API.STREAM.PURGE.ORDERS", "$JS.API.STREAM.MSG.DELETE.ORDERS",
		"$JS.API.CONSUMER.CREATE.ORDERS.billing", "$JS.API.CONSUMER.CREATE.ORDERS.billing.orders.>", "$JS.API.CONSUMER.INFO.ORDERS.audit",
		"$JS.API.CONSUMER.DELETE.ORDERS.billing", "$JS.API.CONSUMER.MSG.NEXT.ORDERS.audit",
		"$JS.ACK.ORDERS.billing.1.1.1.1.0", "$JS.ACK.ORDERS.x.1.1.1.1.0",
	) {
		l.violates(s)
	}
}

func TestStreamSubjects(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, StreamMacro{Name: "ORDERS", Allow: []Access{Read, Write}, Subjects: []string{"orders.{{claim.team}}.>"}})
	ctx := l.Context()
	_, err := l.js.Publish(ctx, "orders.blue.2", nil)
	l.check(err)
	s, err := l.js.Stream(ctx, "ORDERS")
	l.check(err)
	if m, err := s.GetLastMsgForSubject(ctx, "orders.blue.1"); err != nil || m.Sequence != 1 {
		t.Fatalf("get last: %v, %v", m, err)
	}
	l.quiet()
	for _, s := range append(beyond,
		"orders.red.1", "orders.>", "orders.*.1", "$JS.API.DIRECT.GET.ORDERS", "$JS.API.DIRECT.GET.ORDERS.orders.red.1", "$JS.API.DIRECT.GET.ORDERS.orders.>", "$JS.API.DIRECT.GET.ORDERS.>",
		"$JS.API.STREAM.MSG.GET.ORDERS", "$JS.API.CONSUMER.CREATE.ORDERS.x", "$JS.API.CONSUMER.CREATE.ORDERS.x.orders.blue.1", "$JS.API.CONSUMER.MSG.NEXT.ORDERS.billing",
		"$JS.API.STREAM.PURGE.ORDERS", "$JS.API.STREAM.MSG.DELETE.ORDERS",
	) {
		l.violates(s)
	}
}

func TestStreamPurge(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, StreamMacro{Name: "ORDERS", Allow: []Access{Purge}})
	l.ask("$JS.API.STREAM.MSG.DELETE.ORDERS", `{"seq":1}`)
	l.ask("$JS.API.STREAM.PURGE.ORDERS", `{"filter":"orders.red.>"}`)
	l.quiet()
	for _, s := range append(beyond, "$JS.API.STREAM.INFO.ORDERS", "$JS.API.STREAM.MSG.GET.ORDERS", "orders.blue.1") {
		l.violates(s)
	}
}

func TestConsumer(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{"acks": "", "acks with domain and account": "feature_flags { js_ack_fc_v2: true }"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLake(t, lakeOptions{more: more}, ConsumerMacro{Stream: "ORDERS", Name: "billing", Allow: []Access{Consume}})
			c, err := l.js.Consumer(l.Context(), "ORDERS", "billing")
			l.check(err)
			m, err := c.Next(jetstream.FetchMaxWait(patience))
			l.check(err)
			if v2 := strings.HasPrefix(m.Reply(), "$JS.ACK._."); v2 != (more != "") {
				t.Fatalf("the server acknowledges by %s", m.Reply())
			}
			l.check(m.InProgress())
			l.check(m.DoubleAck(l.Context()))
			sub, err := l.old.PullSubscribe("", "", nats.Bind("ORDERS", "billing"))
			l.check(err)
			old, err := sub.Fetch(1, nats.MaxWait(patience))
			l.check(err)
			l.check(old[0].AckSync())
			l.quiet()
			for _, s := range append(beyond,
				"$JS.API.CONSUMER.MSG.NEXT.ORDERS.audit", "$JS.API.CONSUMER.INFO.ORDERS.audit", "$JS.API.CONSUMER.DELETE.ORDERS.billing",
				"$JS.API.CONSUMER.CREATE.ORDERS.billing", "$JS.API.CONSUMER.CREATE.ORDERS.billing.orders.>", "$JS.API.CONSUMER.MSG.NEXT.ORDERS.*",
				"$JS.ACK.ORDERS.audit.1.1.1.1.0", "$JS.ACK.SECRETS.billing.1.1.1.1.0", "$JS.ACK.ORDERS.audit.ORDERS.billing.1.1.1", "$JS.FC.ORDERS.audit.x",
				"$JS.API.STREAM.MSG.GET.ORDERS", "$JS.API.STREAM.INFO.ORDERS", "orders.blue.1",
			) {
				l.violates(s)
			}
		})
	}
}

// A consumer of one's own with a filter is the way to read a part of a stream.
func TestConsumerManage(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, ConsumerMacro{Stream: "ORDERS", Name: "reader-{{name}}", Allow: []Access{Consume, Manage}, Filter: []string{"orders.{{claim.team}}.>"}})
	ctx := l.Context()
	const own = "reader-corp-alice"
	c, err := l.js.CreateOrUpdateConsumer(ctx, "ORDERS", jetstream.ConsumerConfig{Durable: own, FilterSubject: "orders.blue.>"})
	l.check(err)
	m, err := c.Next(jetstream.FetchMaxWait(patience))
	l.check(err)
	l.check(m.DoubleAck(ctx))
	if m.Subject() != "orders.blue.1" {
		t.Errorf("got %s", m.Subject())
	}
	if _, err := c.Next(jetstream.FetchMaxWait(200 * time.Millisecond)); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("more than the filter's came: %v", err)
	}
	l.quiet()
	create := "$JS.API.CONSUMER.CREATE.ORDERS." + own + ".orders.blue.>"
	l.serverRefuses("a broader filter", create, `{"stream_name":"ORDERS","config":{"durable_name":"`+own+`","filter_subject":"orders.>"}}`)
	l.serverRefuses("several filters", create, `{"stream_name":"ORDERS","config":{"durable_name":"`+own+`","filter_subjects":["orders.>"]}}`)
	l.serverRefuses("another's name", create, `{"stream_name":"ORDERS","config":{"durable_name":"billing","filter_subject":"orders.blue.>"}}`)
	for _, s := range append(beyond,
		"$JS.API.CONSUMER.CREATE.ORDERS."+own, "$JS.API.CONSUMER.CREATE.ORDERS."+own+".orders.red.1", "$JS.API.CONSUMER.CREATE.ORDERS."+own+".>",
		"$JS.API.CONSUMER.CREATE.ORDERS.reader-corp-bob.orders.blue.>", "$JS.API.CONSUMER.MSG.NEXT.ORDERS.billing", "$JS.API.CONSUMER.DELETE.ORDERS.billing",
		"$JS.API.STREAM.MSG.GET.ORDERS",
	) {
		l.violates(s)
	}
	l.check(l.js.DeleteConsumer(ctx, "ORDERS", own))
}

func TestJetStreamListAndManage(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, APIMacro{Allow: []Access{List}})
	names := 0
	for range l.js.StreamNames(l.Context()).Name() {
		names++
	}
	if _, err := l.js.AccountInfo(l.Context()); err != nil || names != 6 {
		t.Errorf("%d names, account info: %v", names, err)
	}
	l.quiet()
	for _, s := range without(append(beyond, "$JS.API.STREAM.INFO.ORDERS"), "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST") {
		l.violates(s)
	}
	l = newLake(t, lakeOptions{}, APIMacro{Allow: []Access{Manage}})
	_, err := l.js.CreateOrUpdateKeyValue(l.Context(), jetstream.KeyValueConfig{Bucket: "new"})
	l.check(err)
	l.check(l.js.DeleteStream(l.Context(), "SECRETS"))
	l.quiet()
}

// In a domain of its own JetStream is asked by other subjects, be it from its own servers, which
// turn them into the plain ones before they look at permissions, or from a leaf node, which does not.
func TestDomain(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]lakeOptions{
		"in the domain": {domain: "hub"},
		"in the domain, acks with domain and account":       {domain: "hub", more: "feature_flags { js_ack_fc_v2: true }"},
		"through a leaf node":                               {domain: "hub", leaf: true},
		"through a leaf node, acks with domain and account": {domain: "hub", leaf: true, more: "feature_flags { js_ack_fc_v2: true }"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLake(t, o,
				KVMacro{Domain: "hub", Bucket: "settings", Allow: []Access{Read, Write}},
				ObjectMacro{Domain: "hub", Bucket: "settings", Allow: []Access{Read, Write}},
				ConsumerMacro{Domain: "hub", Stream: "ORDERS", Name: "billing", Allow: []Access{Consume}},
			)
			l.useKV(l.js)
			l.useObjects(l.js)
			c, err := l.js.Consumer(l.Context(), "ORDERS", "billing")
			l.check(err)
			m, err := c.Next(jetstream.FetchMaxWait(patience))
			l.check(err)
			l.check(m.DoubleAck(l.Context()))
			l.quiet()
			for _, s := range without(beyond, "$JS.API.STREAM.PURGE.KV_settings", "$JS.hub.API.STREAM.INFO.ORDERS") {
				l.violates(s)
				if api, ok := strings.CutPrefix(s, "$JS.API."); ok && o.leaf {
					l.violates("$JS.hub.API." + api)
				}
			}
		})
	}
}
