package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-nats/gatehouse/store"
	"github.com/gatehouse-nats/gatehouse/store/internal/row"
)

// encoder turns entries into lines, reusing its memory.
type encoder struct {
	line []byte
	buf  bytes.Buffer // of the library
	*json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := &encoder{}
	e.Encoder = json.NewEncoder(&e.buf)
	e.SetEscapeHTML(false)
	return e
}}

// encode returns the entry as a line, which is valid until the next call, and whether it is plain.
func (enc *encoder) encode(e *store.AuditEntry) (line []byte, plain bool, err error) {
	if err := check(e); err != nil {
		return nil, false, err
	}
	e.At = row.Time(e.At)
	for _, at := range []*time.Time{&e.Expires, &e.Issued} {
		if !at.IsZero() {
			*at = row.Time(*at)
		}
	}
	if line, plain = enc.plain(e); !plain {
		enc.buf.Reset()
		if err := enc.Encode(e); err != nil {
			return nil, false, fmt.Errorf("%w: %w", ErrEntry, err)
		}
		line = enc.buf.Bytes()
	}
	if n := len(line); n > maxLine {
		return nil, false, fmt.Errorf("%w: it has %d bytes and may have %d", ErrEntry, n, maxLine)
	}
	return line, plain, nil
}

// plain returns the line of an entry whose texts need no escapes, as nearly all are: what encoding/json makes of it,
// without reflection, which took a third of recording a login. The second result is false for any other.
func (enc *encoder) plain(e *store.AuditEntry) ([]byte, bool) {
	o := object{line: enc.line[:0], fine: true}
	o.line = append(o.line, '{')
	o.text("id", e.ID)
	o.time("at", e.At)
	o.text("kind", e.Kind)
	o.text("outcome", e.Outcome)
	o.text("reason", e.Reason)
	o.given("detail", e.Detail)
	o.given("issuer", e.Issuer)
	o.given("subject", e.Subject)
	o.given("name", e.Name)
	o.texts("display", e.Display)
	o.given("token_id", e.TokenID)
	o.given("session_id", e.SessionID)
	if !e.Issued.IsZero() {
		o.time("issued", e.Issued)
	}
	o.raw("claims", e.Claims)
	if e.ClaimsCut {
		o.key("claims_cut")
		o.line = append(o.line, "true"...)
	}
	o.given("account", e.Account)
	o.list("roles", e.Roles)
	o.list("bindings", e.Bindings)
	if !e.Expires.IsZero() {
		o.time("expires", e.Expires)
	}
	o.given("server_id", e.ServerID)
	o.given("server_name", e.ServerName)
	if e.CID != 0 {
		o.key("cid")
		o.line = strconv.AppendUint(o.line, e.CID, 10)
	}
	o.given("user_key", e.UserKey)
	o.given("source", e.Source)
	o.given("connection_type", e.ConnType)
	o.given("client", e.Client)
	o.given("asked", e.Asked)
	o.given("actor", e.Actor)
	o.given("op", e.Op)
	o.given("target", e.Target)
	if e.Revision != 0 {
		o.key("revision")
		o.line = strconv.AppendInt(o.line, e.Revision, 10)
	}
	o.given("state", e.State)
	o.given("replica", e.Replica)
	o.given("rules", e.Rules)
	if e.Count != 0 {
		o.key("count")
		o.line = strconv.AppendInt(o.line, int64(e.Count), 10)
	}
	enc.line = append(o.line, '}', '\n')
	return enc.line, o.fine
}

// object is a JSON object that is being written; fine as long as nothing needed an escape.
type object struct {
	line []byte
	fine bool
}

func (o *object) key(name string) {
	if o.line[len(o.line)-1] != '{' {
		o.line = append(o.line, ',')
	}
	o.line = append(o.line, '"')
	o.line = append(o.line, name...)
	o.line = append(o.line, '"', ':')
}

func (o *object) quoted(text string) {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			o.fine = false
			return
		}
	}
	o.line = append(o.line, '"')
	o.line = append(o.line, text...)
	o.line = append(o.line, '"')
}

func (o *object) text(name, text string) {
	o.key(name)
	o.quoted(text)
}

// given writes a text unless it is empty.
func (o *object) given(name, text string) {
	if text != "" {
		o.text(name, text)
	}
}

// time writes a time as [row.Time] makes it: in UTC, with years of four digits.
func (o *object) time(name string, at time.Time) {
	o.key(name)
	o.line = append(o.line, '"')
	o.line = at.AppendFormat(o.line, time.RFC3339Nano)
	o.line = append(o.line, '"')
}

func (o *object) list(name string, list []string) {
	if len(list) == 0 {
		return
	}
	o.key(name)
	o.line = append(o.line, '[')
	for i, text := range list {
		if i > 0 {
			o.line = append(o.line, ',')
		}
		o.quoted(text)
	}
	o.line = append(o.line, ']')
}

func (o *object) texts(name string, texts map[string]string) {
	if len(texts) == 0 {
		return
	}
	o.key(name)
	o.line = append(o.line, '{')
	for _, k := range slices.Sorted(maps.Keys(texts)) {
		if o.line[len(o.line)-1] != '{' {
			o.line = append(o.line, ',')
		}
		o.quoted(k)
		o.line = append(o.line, ':')
		o.quoted(texts[k])
	}
	o.line = append(o.line, '}')
}

// raw writes JSON, compact.
func (o *object) raw(name string, value json.RawMessage) {
	if len(value) == 0 {
		return
	}
	o.key(name)
	compact := bytes.NewBuffer(o.line)
	if json.Compact(compact, value) != nil {
		o.fine = false // the library says what is wrong
		return
	}
	o.line = compact.Bytes()
}
