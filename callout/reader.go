package callout

import "encoding/json"

// reader reads JSON as nats-server writes it: without blanks, null and fractions. It gives up on anything else, which
// is then for encoding/json, at several times the price.
type reader struct {
	text string
	at   int
}

// readRequest returns what encoding/json decodes of the text, or that it cannot tell.
func readRequest(text string) (*request, bool) {
	r, q := reader{text: text}, new(request)
	ok := r.object(func(name string) bool {
		switch name {
		case "aud":
			return r.string(&q.Audience)
		case "iss":
			return r.string(&q.Issuer)
		case "sub":
			return r.string(&q.Subject)
		case "iat":
			return r.time(&q.IssuedAt)
		case "exp":
			return r.time(&q.Expires)
		case "nats":
			return r.nats(&q.NATS)
		case "jti", "name", "nbf":
			return r.ignore(maxDepth)
		}
		return false // encoding/json may take it for one of these in capitals
	})
	return q, ok && r.at == len(text)
}

func (r *reader) nats(q *NATS) bool {
	return r.object(func(name string) bool {
		switch name {
		case "type":
			return r.string((*string)(&q.Type))
		case "version":
			var v uint64
			ok := r.number(&v)
			q.Version = int(v)
			return ok
		case "server_id":
			return r.server(q)
		case "user_nkey":
			return r.string(&q.UserNkey)
		case "client_info":
			return r.client(q)
		case "connect_opts":
			return r.connect(q)
		case "client_tls", "request_nonce", "tags":
			return r.ignore(maxDepth)
		}
		return false
	})
}

func (r *reader) server(q *NATS) bool {
	return r.object(func(name string) bool {
		switch name {
		case "id":
			return r.string(&q.Server.ID)
		case "name":
			return r.string(&q.Server.Name)
		case "xkey":
			return r.string(&q.Server.XKey)
		case "host", "version", "cluster", "tags":
			return r.ignore(maxDepth)
		}
		return false
	})
}

func (r *reader) client(q *NATS) bool {
	return r.object(func(name string) bool {
		switch name {
		case "host":
			return r.string(&q.Client.Host)
		case "id":
			return r.number(&q.Client.ID)
		case "kind":
			return r.string(&q.Client.Kind)
		case "type":
			return r.string(&q.Client.Type)
		case "nonce":
			return r.string(&q.Client.Nonce)
		case "user", "name", "tags", "name_tag", "mqtt_id":
			return r.ignore(maxDepth)
		}
		return false
	})
}

func (r *reader) connect(q *NATS) bool {
	return r.object(func(name string) bool {
		switch name {
		case "nkey":
			return r.string(&q.Connect.Nkey)
		case "sig":
			return r.string(&q.Connect.SignedNonce)
		case "auth_token":
			return r.string(&q.Connect.Token)
		case "user":
			return r.string(&q.Connect.Username)
		case "pass":
			return r.string(&q.Connect.Password)
		case "lang":
			return r.string(&q.Connect.Lang)
		case "version":
			return r.string(&q.Connect.Version)
		case "jwt", "name", "protocol":
			return r.ignore(maxDepth)
		}
		return false
	})
}

// object reads an object and has each member's value read.
func (r *reader) object(value func(name string) bool) bool {
	if !r.next('{') {
		return false
	}
	if r.next('}') {
		return true
	}
	for {
		var name string
		if !r.string(&name) || !r.next(':') || !value(name) {
			return false
		}
		if r.next('}') {
			return true
		}
		if !r.next(',') {
			return false
		}
	}
}

// next takes that byte, if it is the next one.
func (r *reader) next(c byte) bool {
	if r.at == len(r.text) || r.text[r.at] != c {
		return false
	}
	r.at++
	return true
}

// string reads a string. It is a part of the text, unless it is not plain ASCII.
func (r *reader) string(s *string) bool {
	if !r.next('"') {
		return false
	}
	start, plain := r.at, true
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			if plain {
				*s = r.text[start : r.at-1]
				return true
			}
			var ok bool
			*s, ok = decodeString(r.text[start-1 : r.at])
			return ok
		case c == '\\':
			r.at++ // what follows is no end
			plain = false
		case c < ' ', c > '~':
			plain = false
		}
	}
	return false
}

func decodeString(quoted string) (s string, ok bool) {
	err := json.Unmarshal([]byte(quoted), &s)
	return s, err == nil
}

// maxDigits keeps numbers from overflowing.
const maxDigits = 18

// number reads a whole number that is not negative.
func (r *reader) number(n *uint64) bool {
	start := r.at
	var v uint64
	for r.at < len(r.text) && '0' <= r.text[r.at] && r.text[r.at] <= '9' {
		v = v*10 + uint64(r.text[r.at]-'0')
		r.at++
		if r.at-start > maxDigits {
			return false
		}
	}
	digits := r.at - start
	if digits == 0 || digits > 1 && r.text[start] == '0' {
		return false
	}
	*n = v // what follows decides whether it was the whole of it
	return true
}

func (r *reader) time(t *int64) bool {
	var v uint64
	ok := r.number(&v)
	*t = int64(v)
	return ok
}

// maxDepth bounds how deep values that nobody reads are nested; certificate chains have two.
const maxDepth = 4

// ignore reads a value that nobody reads.
func (r *reader) ignore(depth int) bool {
	if r.at == len(r.text) || depth == 0 {
		return false
	}
	switch r.text[r.at] {
	case '"':
		var s string
		return r.string(&s)
	case '{':
		return r.object(func(string) bool { return r.ignore(depth - 1) })
	case '[':
		r.at++
		if r.next(']') {
			return true
		}
		for {
			if !r.ignore(depth - 1) {
				return false
			}
			if r.next(']') {
				return true
			}
			if !r.next(',') {
				return false
			}
		}
	}
	var n uint64
	return r.number(&n)
}
