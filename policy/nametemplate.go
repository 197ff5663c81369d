package policy

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNameTemplate says that a text is no template of names of accounts.
var ErrNameTemplate = errors.New("not a template of a name")

// NameTemplate is the name of an account in which {{name}} and {{claim.PATH}} stand for what a token says.
type NameTemplate struct{ segments []segment }

// ParseNameTemplate returns the template, or an error that wraps [ErrNameTemplate]. It does not check the fixed text: see
// [NameTemplate.Fill].
func ParseNameTemplate(s string) (NameTemplate, error) {
	var t NameTemplate
	for rest := s; rest != ""; {
		before, after, found := strings.Cut(rest, "{{")
		if before != "" {
			t.segments = append(t.segments, segment{text: before})
		}
		if !found {
			break
		}
		inner, more, closed := strings.Cut(after, "}}")
		if !closed {
			return t, fmt.Errorf("%w: %q opens a placeholder with {{ and does not close it with }}", ErrNameTemplate, s)
		}
		seg, err := parsePlaceholder(strings.TrimSpace(inner))
		if err != nil || seg.kind != placeName && seg.kind != placeClaim {
			return t, fmt.Errorf("%w: in the name of an account stand {{name}} and {{claim.PATH}}, and not {{%s}}", ErrNameTemplate, strings.TrimSpace(inner))
		}
		t.segments = append(t.segments, seg)
		rest = more
	}
	return t, nil
}

// String returns the one way in which the template is written.
func (t NameTemplate) String() string {
	return t.join(func(s segment) string {
		if s.kind == placeName {
			return "{{name}}"
		}
		return "{{claim." + s.path.String() + "}}"
	})
}

// Fill returns the name with the text in every placeholder.
func (t NameTemplate) Fill(text string) string {
	return t.join(func(segment) string { return text })
}

// Static reports whether the template has no placeholder.
func (t NameTemplate) Static() bool { return t.template().Static() }

// Claims returns the claim paths that the template needs.
func (t NameTemplate) Claims() []ClaimPath { return t.template().Claims() }

func (t NameTemplate) template() Template { return Template{segments: t.segments} }

func (t NameTemplate) join(text func(segment) string) string { return t.template().join(text) }

// render returns the name for an identity and the values that stand in it, in its order; or a [ClaimUnsafe] refusal when one is
// missing or is not a text or a whole number.
func (t NameTemplate) render(id *Identity) (name string, values []any, r *Refusal) {
	values = []any{}
	name = t.join(func(s segment) string {
		if s.kind == placeName {
			values = append(values, id.Subject)
			return id.Name()
		}
		text, value, wrong := s.path.text(id)
		if wrong == nil && text == "" {
			wrong = Refuse(ClaimUnsafe, "claim %s is empty", s.path)
		}
		if wrong != nil && r == nil {
			r = wrong
		}
		values = append(values, value)
		return text
	})
	if r != nil {
		r.Detail = fmt.Sprintf("account name %q: %s", t, r.Detail)
	}
	return name, values, r
}
