package policy

// KVMacro allows the use of one key-value bucket.
type KVMacro struct {
	Domain string
	Bucket string
	// Allow: read (get, watch, keys, history), write (put, create, update, delete, purge).
	Allow []Access
	// Keys limit both.
	Keys []string
	// NoRollup says that the bucket's stream was made to refuse Nats-Rollup.
	NoRollup bool
}

// Expand returns the subjects to publish to, or what is wrong.
func (m KVMacro) Expand() (PermissionRules, []MacroProblem) {
	e := newExpansion(m.Domain)
	e.bucket(m.Bucket)
	e.subjects("keys", m.Keys)
	stream, prefix := "KV_"+m.Bucket, "$KV."+m.Bucket+"."
	asks, limited := e.asks(m.Allow), len(m.Keys) > 0
	var keys []string
	for _, k := range m.Keys {
		keys = append(keys, prefix+k)
	}
	if asks(Manage) {
		e.problem("allow", manageIsAll, "bucket")
	}
	if asks(Read) || asks(Write) {
		e.call("STREAM.INFO", stream) // without which clients do not bind to a bucket
	}
	if asks(Read) {
		e.get(stream, keys)
		if !limited {
			e.call("CONSUMER.CREATE", stream, "*") // for filters of several keys, which stand in the body
		}
	}
	if asks(Write) && limited && !m.NoRollup {
		e.problem("keys", "writing to some keys cannot be granted safely: the header Nats-Rollup: all, which no permission stops, empties the whole bucket. "+
			"Use a bucket for each, such as %s-{{claim.team}}; or make the bucket's stream refuse it (allow_rollup_hdrs false, which takes purge of keys away) and say no_rollup: true here", m.Bucket)
	}
	if asks(Write) && !limited {
		e.call("STREAM.PURGE", stream) // removes delete markers
	}
	if !limited {
		keys = []string{prefix + ">"}
	}
	for _, k := range keys {
		if asks(Read) {
			e.call("CONSUMER.CREATE", stream, "*", k)
		}
		if asks(Write) {
			e.publish(k)
			if m.Domain != "" {
				e.publish("$JS", m.Domain, "API", k) // where nats.go puts with a domain
			}
		}
	}
	if asks(Read) {
		e.call("CONSUMER.DELETE", stream, "*")
		e.flow(stream, "*")
	}
	if m.NoRollup && !(asks(Write) && limited) {
		e.problem("no_rollup", "only says that writing to some keys is safe: leave it out")
	}
	return e.result()
}

// ObjectMacro allows the use of one object store.
type ObjectMacro struct {
	Domain string
	Bucket string
	// Allow: read (get, list, watch), write (put, change, delete).
	Allow []Access
}

// Expand returns the subjects to publish to, or what is wrong.
func (m ObjectMacro) Expand() (PermissionRules, []MacroProblem) {
	e := newExpansion(m.Domain)
	e.bucket(m.Bucket)
	stream, all := "OBJ_"+m.Bucket, "$O."+m.Bucket+".>"
	asks := e.asks(m.Allow)
	if asks(Manage) {
		e.problem("allow", manageIsAll, "object store")
	}
	if asks(Read) || asks(Write) {
		e.call("STREAM.INFO", stream)
		e.call("DIRECT.GET", stream, "$O."+m.Bucket+".M.>") // what a writer replaces
	}
	if asks(Read) {
		e.get(stream, nil)
		e.call("CONSUMER.CREATE", stream, "*", all)
		e.call("CONSUMER.DELETE", stream, "*")
		e.flow(stream, "*")
	}
	if asks(Write) {
		e.publish(all)
		e.call("STREAM.PURGE", stream) // removes the chunks of what is replaced
	}
	return e.result()
}
