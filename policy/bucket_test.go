package policy

import (
	"bytes"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestKVReadAndWrite(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, KVMacro{Bucket: "settings", Allow: []Access{Read, Write}})
	l.useKV(l.js)
	l.quiet()
	for _, s := range without(beyond, "$JS.API.STREAM.PURGE.KV_settings") {
		l.violates(s)
	}
}

// useKV does everything that read and write promise of a bucket.
func (l *lake) useKV(js jetstream.JetStream) {
	l.Helper()
	ctx := l.Context()
	kv, err := js.KeyValue(ctx, "settings")
	l.check(err)
	rev, err := kv.Put(ctx, "blue.a", []byte("1"))
	l.check(err)
	_, err = kv.Update(ctx, "blue.a", []byte("2"), rev)
	l.check(err)
	_, err = kv.Create(ctx, "blue.new", nil)
	l.check(err)
	if e, err := kv.Get(ctx, "blue.a"); err != nil || string(e.Value()) != "2" {
		l.Fatalf("get: %v, %v", e, err)
	}
	if e, err := kv.GetRevision(ctx, "blue.a", rev); err != nil || string(e.Value()) != "1" {
		l.Fatalf("get revision: %v, %v", e, err)
	}
	if h, err := kv.History(ctx, "blue.a"); err != nil || len(h) != 3 {
		l.Fatalf("history: %v, %v", h, err)
	}
	if keys, err := kv.Keys(ctx); err != nil || len(keys) != 4 {
		l.Fatalf("keys: %v, %v", keys, err)
	}
	l.watch(kv, "blue.>")
	l.watch(kv, "blue.a", "red.a")
	l.check(kv.Delete(ctx, "blue.new"))
	l.check(kv.Purge(ctx, "blue.new"))
	l.check(kv.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(-1)))
	_, err = kv.Status(ctx)
	l.check(err)
}

// watch gets the first value of the keys and stops.
func (l *lake) watch(kv jetstream.KeyValue, keys ...string) {
	l.Helper()
	w, err := kv.WatchFiltered(l.Context(), keys)
	l.check(err)
	select {
	case e := <-w.Updates():
		if e == nil {
			l.Fatalf("watch of %v shows nothing", keys)
		}
	case <-time.After(patience):
		l.Fatalf("watch of %v: nothing came", keys)
	}
	l.check(w.Stop())
}

func TestKVRead(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, KVMacro{Bucket: "settings", Allow: []Access{Read}})
	kv, err := l.js.KeyValue(l.Context(), "settings")
	l.check(err)
	_, err = kv.Get(l.Context(), "red.a")
	l.check(err)
	l.watch(kv, "red.>")
	l.quiet()
	for _, s := range append(beyond, "$KV.settings.blue.a", "$JS.API.STREAM.PURGE.KV_settings", "$JS.API.CONSUMER.MSG.NEXT.KV_settings.x") {
		l.violates(s)
	}
}

func TestKVWrite(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, KVMacro{Bucket: "settings", Allow: []Access{Write}})
	ctx := l.Context()
	kv, err := l.js.KeyValue(ctx, "settings")
	l.check(err)
	rev, err := kv.Create(ctx, "blue.new", nil)
	l.check(err)
	_, err = kv.Update(ctx, "blue.new", []byte("2"), rev)
	l.check(err)
	l.check(kv.Delete(ctx, "blue.new"))
	l.check(kv.Purge(ctx, "blue.new"))
	l.quiet()
	for _, s := range append(beyond,
		"$JS.API.DIRECT.GET.KV_settings", "$JS.API.DIRECT.GET.KV_settings.$KV.settings.blue.a", "$JS.API.STREAM.MSG.GET.KV_settings",
		"$JS.API.CONSUMER.CREATE.KV_settings.x", "$JS.API.CONSUMER.CREATE.KV_settings.x.$KV.settings.>", "$JS.API.CONSUMER.DELETE.KV_settings.x",
	) {
		l.violates(s)
	}
}

// Who may use some keys of a bucket reaches no value of another key, by whatever request.
func TestKVKeys(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, KVMacro{Bucket: "settings", Allow: []Access{Read, Write}, Keys: []string{"{{claim.team}}.>"}, NoRollup: true})
	ctx := l.Context()
	kv, err := l.js.KeyValue(ctx, "settings")
	l.check(err)
	if e, err := kv.Get(ctx, "blue.a"); err != nil || string(e.Value()) != "blue.a" {
		t.Fatalf("get: %v, %v", e, err)
	}
	_, err = kv.Put(ctx, "blue.a", []byte("1"))
	l.check(err)
	l.check(kv.Delete(ctx, "blue.a"))
	if h, err := kv.History(ctx, "blue.a"); err != nil || len(h) != 3 {
		t.Fatalf("history: %v, %v", h, err)
	}
	l.watch(kv, "blue.>")
	keys, err := kv.ListKeysFiltered(ctx, "blue.>")
	l.check(err)
	for k := range keys.Keys() {
		if k != "blue.deep.b" {
			t.Errorf("the list of keys shows %s", k)
		}
	}
	l.quiet()
	for _, s := range append(beyond,
		"$KV.settings.red.a", "$KV.settings.>", "$KV.settings.*.a", "$KV.settings.blue", "$JS.API.STREAM.PURGE.KV_settings",
		"$JS.API.DIRECT.GET.KV_settings", "$JS.API.DIRECT.GET.KV_settings.$KV.settings.red.a", "$JS.API.DIRECT.GET.KV_settings.$KV.settings.>", "$JS.API.DIRECT.GET.KV_settings.$KV.settings.*.a",
		"$JS.API.DIRECT.GET.KV_settings.>", "$JS.API.STREAM.MSG.GET.KV_settings",
		"$JS.API.CONSUMER.CREATE.KV_settings.x", "$JS.API.CONSUMER.CREATE.KV_settings.x.$KV.settings.>", "$JS.API.CONSUMER.CREATE.KV_settings.x.$KV.settings.red.a",
		"$JS.API.CONSUMER.CREATE.KV_settings.x.$KV.>", "$JS.API.CONSUMER.CREATE.KV_settings.x.>", "$JS.API.CONSUMER.CREATE.KV_settings.x.*.settings.blue.a",
		"$JS.API.CONSUMER.CREATE.KV_settings.x.y.$KV.settings.blue.a", "$JS.API.CONSUMER.MSG.NEXT.KV_settings.x",
		"$JS.ACK.KV_settings.x.1.1.1.1.0",
	) {
		l.violates(s)
	}
	// What the subject allows, the body must not widen.
	create := "$JS.API.CONSUMER.CREATE.KV_settings.x.$KV.settings.blue.>"
	for name, config := range map[string]string{
		"a broader filter": `{"name":"x","filter_subject":"$KV.settings.>"}`,
		"another key":      `{"name":"x","filter_subject":"$KV.settings.red.a"}`,
		"no filter":        `{"name":"x"}`,
		"several filters":  `{"name":"x","filter_subjects":["$KV.settings.blue.>","$KV.settings.red.>"]}`,
		"both":             `{"name":"x","filter_subject":"$KV.settings.blue.>","filter_subjects":["$KV.settings.red.>"]}`,
		"another durable":  `{"durable_name":"y","filter_subject":"$KV.settings.blue.>"}`,
	} {
		l.serverRefuses(name, create, `{"stream_name":"KV_settings","config":`+config+`}`)
	}
	l.serverRefuses("another stream", create, `{"stream_name":"KV_other","config":{"name":"x","filter_subject":"$KV.settings.blue.>"}}`)
	for name, body := range map[string]string{
		"by sequence":    `{"seq":3}`,
		"last of a key":  `{"last_by_subj":"$KV.settings.red.a"}`,
		"next of a key":  `{"next_by_subj":"$KV.settings.red.a"}`,
		"last of many":   `{"multi_last":["$KV.settings.>"]}`,
		"several at one": `{"batch":10}`,
	} {
		if m := l.ask("$JS.API.DIRECT.GET.KV_settings.$KV.settings.blue.deep.b", body); m.Header.Get("Status") != "408" {
			t.Errorf("direct get %s: %v %s", name, m.Header, m.Data)
		}
	}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, ObjectMacro{Bucket: "settings", Allow: []Access{Read, Write}})
	l.useObjects(l.js)
	l.quiet()
	for _, s := range beyond {
		l.violates(s)
	}
}

// useObjects does everything that read and write promise of a store.
func (l *lake) useObjects(js jetstream.JetStream) {
	l.Helper()
	ctx := l.Context()
	store, err := js.ObjectStore(ctx, "settings")
	l.check(err)
	content := bytes.Repeat([]byte("x"), 3<<20) // enough for flow control to set in, without whose answers the rest would not come
	for range 2 {                               // the second replaces the first
		_, err = store.Put(ctx, jetstream.ObjectMeta{Name: "b"}, bytes.NewReader(content))
		l.check(err)
	}
	if got, err := store.GetBytes(ctx, "b"); err != nil || !bytes.Equal(got, content) {
		l.Fatalf("get: %d bytes, %v", len(got), err)
	}
	if all, err := store.List(ctx); err != nil || len(all) != 2 {
		l.Fatalf("list: %v, %v", all, err)
	}
	w, err := store.Watch(ctx)
	l.check(err)
	l.check(w.Stop())
	l.check(store.UpdateMeta(ctx, "b", jetstream.ObjectMeta{Name: "c"}))
	l.check(store.Delete(ctx, "c"))
	_, err = store.Status(ctx)
	l.check(err)
}

func TestObjectsRead(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, ObjectMacro{Bucket: "settings", Allow: []Access{Read}})
	store, err := l.js.ObjectStore(l.Context(), "settings")
	l.check(err)
	if got, err := store.GetString(l.Context(), "a.txt"); err != nil || got != "settings" {
		t.Fatalf("get: %q, %v", got, err)
	}
	l.quiet()
	for _, s := range append(beyond, "$O.settings.C.x", "$O.settings.M.x", "$JS.API.STREAM.PURGE.OBJ_settings") {
		l.violates(s)
	}
}

func TestObjectsWrite(t *testing.T) {
	t.Parallel()
	l := newLake(t, lakeOptions{}, ObjectMacro{Bucket: "settings", Allow: []Access{Write}})
	store, err := l.js.ObjectStore(l.Context(), "settings")
	l.check(err)
	_, err = store.PutString(l.Context(), "a.txt", "mine")
	l.check(err)
	l.quiet()
	for _, s := range append(beyond, "$JS.API.DIRECT.GET.OBJ_settings", "$JS.API.DIRECT.GET.OBJ_settings.$O.settings.C.x", "$JS.API.STREAM.MSG.GET.OBJ_settings",
		"$JS.API.CONSUMER.CREATE.OBJ_settings.x.$O.settings.C.x", "$JS.API.CONSUMER.CREATE.OBJ_settings.x.$O.settings.>") {
		l.violates(s)
	}
}
