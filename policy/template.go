package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of subjects in rules and of what they become.
const (
	MaxSubject          = 512 // bytes of a subject, as written and as rendered
	maxPlaceholderValue = 128 // bytes that one placeholder may bring in
)

// ErrTemplate says that a text is not a subject that a role may hold.
var ErrTemplate = errors.New("not a valid subject")

// placeholder is the kind of a template's segment.
type placeholder uint8

const (
	literal placeholder = iota
	placeName
	placeAccount
	placeInbox
	placeClaim
	placeHash
)

// accountHash is the placeholder of macros for what nats-server puts for an account into
// acknowledgements.
const accountHash = "account hash"

type segment struct {
	kind placeholder
	text string // of a literal
	path ClaimPath
}

// Template is a NATS subject in which typed placeholders stand for single tokens or
// parts of one: {{name}}, {{account}}, {{inbox}} and {{claim.path}}. It is parsed once,
// when the rules are loaded; what a placeholder brings in is never parsed again.
type Template struct {
	raw      string
	segments []segment
	queue    string // of a subscription, fixed text
}

// ParseTemplate returns the template of a subject to publish to, or an error that wraps
// [ErrTemplate] and says what to write instead.
func ParseTemplate(s string) (Template, error) { return parseTemplate(s, false) }

// parseTemplate also knows the placeholder that only macros may use, when it is of one.
func parseTemplate(s string, macro bool) (Template, error) {
	t := Template{raw: s}
	if len(s) > MaxSubject {
		return Template{}, fmt.Errorf("%w: over %d bytes", ErrTemplate, MaxSubject)
	}
	rest := s
	for rest != "" {
		i := strings.Index(rest, "{{")
		if i < 0 {
			t.segments = append(t.segments, segment{text: rest})
			break
		}
		if i > 0 {
			t.segments = append(t.segments, segment{text: rest[:i]})
		}
		j := strings.Index(rest[i:], "}}")
		if j < 0 {
			return Template{}, fmt.Errorf("%w: %q opens a placeholder with {{ and does not close it with }}", ErrTemplate, s)
		}
		name := strings.TrimSpace(rest[i+2 : i+j])
		seg, err := segment{kind: placeHash}, error(nil)
		if !macro || name != accountHash {
			seg, err = parsePlaceholder(name)
		}
		if err != nil {
			return Template{}, err
		}
		t.segments = append(t.segments, seg)
		rest = rest[i+j+2:]
	}
	// A harmless token in each place tells whether the fixed text around them is a subject.
	probe := t.join(func(seg segment) string { return "x" })
	if err := checkSubject(probe); err != nil {
		return Template{}, fmt.Errorf("%w: %q: %w", ErrTemplate, s, err)
	}
	return t, nil
}

// ParseSubscription returns the template of a subject to subscribe to, optionally
// followed by a blank and a queue group, or an error that wraps [ErrTemplate].
func ParseSubscription(s string) (Template, error) {
	subject, queue, found := strings.Cut(s, " ")
	t, err := ParseTemplate(subject)
	if err != nil || !found {
		return t, err
	}
	if strings.Contains(queue, "{{") {
		return Template{}, fmt.Errorf("%w: %q has a placeholder in its queue group: write the group out", ErrTemplate, s)
	}
	if err := checkSubject(queue); err != nil {
		return Template{}, fmt.Errorf("%w: queue group of %q: %w", ErrTemplate, s, err)
	}
	t.raw, t.queue = s, queue
	return t, nil
}

func parsePlaceholder(s string) (segment, error) {
	switch {
	case s == "name":
		return segment{kind: placeName}, nil
	case s == "account":
		return segment{kind: placeAccount}, nil
	case s == "inbox":
		return segment{kind: placeInbox}, nil
	case strings.HasPrefix(s, "claim."):
		path, err := ParseClaimPath(s[len("claim."):])
		if err != nil {
			return segment{}, fmt.Errorf("%w: placeholder {{%s}}: %w", ErrTemplate, s, err)
		}
		return segment{kind: placeClaim, path: path}, nil
	default:
		return segment{}, fmt.Errorf("%w: placeholder {{%s}} is unknown: use {{name}}, {{account}}, {{inbox}} or {{claim.PATH}}", ErrTemplate, s)
	}
}

// checkSubject says what keeps s from being a NATS subject with or without wildcards.
func checkSubject(s string) error {
	if s == "" {
		return errors.New("it is empty")
	}
	if !utf8.ValidString(s) {
		return errors.New("it is not UTF-8")
	}
	for _, r := range s {
		if unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return fmt.Errorf("it holds the blank or control character %U", r)
		}
	}
	tokens := strings.Split(s, ".")
	for i, token := range tokens {
		switch {
		case token == "":
			return errors.New("it has an empty token: two dots in a row, or one at an end")
		case token == ">" && i < len(tokens)-1:
			return errors.New("> stands for all that follows and must be the last token")
		case len(token) > 1 && strings.ContainsAny(token, "*>"):
			return fmt.Errorf("the wildcard in %q must be a token of its own", token)
		}
	}
	return nil
}

// String returns the template as it was written.
func (t Template) String() string { return t.raw }

// Static reports whether the template has no placeholder.
func (t Template) Static() bool {
	for _, s := range t.segments {
		if s.kind != literal {
			return false
		}
	}
	return true
}

// Claims returns the claim paths that the template needs.
func (t Template) Claims() []ClaimPath {
	var paths []ClaimPath
	for _, s := range t.segments {
		if s.kind == placeClaim {
			paths = append(paths, s.path)
		}
	}
	return paths
}

func (t Template) join(text func(segment) string) string {
	if len(t.segments) == 1 && t.segments[0].kind == literal {
		return t.segments[0].text
	}
	var b strings.Builder
	for _, s := range t.segments {
		if s.kind == literal {
			b.WriteString(s.text)
		} else {
			b.WriteString(text(s))
		}
	}
	return b.String()
}

// render returns the subject for an identity in an account, with its queue group if it
// has one, or a [ClaimUnsafe] refusal when a value is missing or not a single safe token.
func (t Template) render(id *Identity, account *Account) (string, *Refusal) {
	var refusal *Refusal
	subject := t.join(func(s segment) string {
		v, r := s.value(id, account)
		if r != nil && refusal == nil {
			refusal = r
		}
		return v
	})
	if refusal != nil {
		refusal.Detail = fmt.Sprintf("subject %q: %s", t.raw, refusal.Detail)
		return "", refusal
	}
	if len(subject) > MaxSubject {
		return "", Refuse(ClaimUnsafe, "subject %q: it is over %d bytes once filled in", t.raw, MaxSubject)
	}
	// Subjects that begin with $ belong to the server ($SYS, $JS, $KV, $MQTT); a claim must not name one.
	if len(t.segments) > 0 && t.segments[0].kind == placeClaim && (subject[0] == '$' || subject[0] == '_') {
		return "", Refuse(ClaimUnsafe, "subject %q: the value of {{claim.%s}} begins with %q, which is kept for the server's own subjects",
			t.raw, t.segments[0].path, subject[:1])
	}
	if t.queue != "" {
		subject += " " + t.queue
	}
	return subject, nil
}

func (s segment) value(id *Identity, account *Account) (string, *Refusal) {
	switch s.kind {
	case placeName:
		return id.Name(), nil
	case placeAccount:
		return safeToken("account name", account.Name)
	case placeHash:
		return account.hash(), nil
	case placeInbox:
		return InboxPrefix(id.IssuerURL, id.Subject), nil
	default:
		text, _, r := s.path.text(id)
		if r != nil {
			return "", r
		}
		return safeToken("claim "+s.path.String(), text)
	}
}

// text returns the claim as it stands in subjects and names, and as the token has it; or a [ClaimUnsafe] refusal when it is not
// there, or neither a text nor a whole number.
func (p ClaimPath) text(id *Identity) (string, any, *Refusal) {
	v, ok := p.Lookup(id.Claims)
	if !ok {
		return "", nil, Refuse(ClaimUnsafe, "claim %s is not in the token", p)
	}
	switch v := v.(type) {
	case string:
		return v, v, nil
	case json.Number:
		if strings.ContainsAny(string(v), ".eE+") {
			return "", v, Refuse(ClaimUnsafe, "claim %s is a number with a fraction or an exponent", p)
		}
		return string(v), v, nil
	default:
		return "", v, Refuse(ClaimUnsafe, "claim %s is %s, not a text or a whole number", p, kindOf(v))
	}
}

// safeToken returns v when it can stand in a subject without changing its shape.
func safeToken(what, v string) (string, *Refusal) {
	switch {
	case v == "":
		return "", Refuse(ClaimUnsafe, "%s is empty", what)
	case len(v) > maxPlaceholderValue:
		return "", Refuse(ClaimUnsafe, "%s has over %d bytes", what, maxPlaceholderValue)
	case !utf8.ValidString(v):
		return "", Refuse(ClaimUnsafe, "%s is not UTF-8", what)
	}
	for _, r := range v {
		if r == '.' || r == '*' || r == '>' || unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return "", Refuse(ClaimUnsafe, "%s holds %q, which would change the subject", what, r)
		}
	}
	return v, nil
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a truth value"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		return fmt.Sprintf("a %T", v)
	}
}
