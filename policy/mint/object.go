package mint

import (
	"encoding/json"
	"strconv"

	"github.com/nats-io/jwt/v2"
)

// These append a member to a JSON object that is being written, as encoding/json would: the empty ones are left out.

func appendName(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendString(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(appendName(b, name), value)
}

func appendNumber(b []byte, name string, value int64) []byte {
	if value == 0 {
		return b
	}
	return strconv.AppendInt(appendName(b, name), value, 10)
}

func appendBool(b []byte, name string, value bool) []byte {
	if !value {
		return b
	}
	return append(appendName(b, name), "true"...)
}

func appendList(b []byte, name string, values []string) []byte {
	if len(values) == 0 {
		return b
	}
	b = appendName(b, name)
	for i, v := range values {
		b = appendText(append(b, "[,"[min(i, 1)]), v)
	}
	return append(b, ']')
}

func appendTimes(b []byte, name string, times []jwt.TimeRange) []byte {
	if len(times) == 0 {
		return b
	}
	b = appendName(b, name)
	for i, t := range times {
		b = append(b, "[,"[min(i, 1)], '{')
		b = appendString(b, "start", t.Start)
		b = appendString(b, "end", t.End)
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendPermission appends a member that is not left out.
func appendPermission(b []byte, name string, p *jwt.Permission) []byte {
	b = append(appendName(b, name), '{')
	b = appendList(b, "allow", p.Allow)
	b = appendList(b, "deny", p.Deny)
	return append(b, '}')
}

func appendResponses(b []byte, name string, p *jwt.ResponsePermission) []byte {
	if p == nil {
		return b
	}
	b = append(appendName(b, name), `{"max":`...)
	b = strconv.AppendInt(b, int64(p.MaxMsgs), 10)
	b = append(b, `,"ttl":`...)
	b = strconv.AppendInt(b, int64(p.Expires), 10)
	return append(b, '}')
}

func appendGeneric(b []byte, g *jwt.GenericFields) []byte {
	b = appendList(b, "tags", g.Tags)
	b = appendString(b, "type", string(g.Type))
	return appendNumber(b, "version", int64(g.Version))
}

// appendText appends a JSON string, in which what has a meaning in HTML is escaped.
func appendText(b []byte, text string) []byte {
	start, from := len(b), 0
	b = append(b, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '<' || c == '>' || c == '&':
			b = append(b, text[from:i]...)
			b = append(b, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
			from = i + 1
		case c < ' ' || c == '"' || c == '\\' || c > '~':
			quoted, _ := json.Marshal(text) // never fails for a string
			return append(b[:start], quoted...)
		}
	}
	b = append(b, text[from:]...)
	return append(b, '"')
}
