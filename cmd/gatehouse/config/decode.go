package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// tags are what the tags of a field of [File] say.
type tags struct {
	key      string
	unbuilt  bool
	initial  string   // value when left out
	required string   // what to give; empty when there need be nothing
	enum     []string // accepted texts
	later    []string // texts of the design that this release refuses
	refused  []string // texts that are refused later, with a reason
	min, max string
	keyKind  string // of a key file
	mode     string // nats.callout.mode that has the key; empty for both
	restart  string
}

// restarts reports whether a running service does not take the field over, in a block that it takes over or not.
func (t tags) restarts(block bool) bool { return t.restart == "true" || block && t.restart != "false" }

func tagsOf(f reflect.StructField) tags {
	return tags{
		key:      f.Tag.Get("yaml"),
		unbuilt:  f.Type == reflect.TypeFor[unbuilt](),
		initial:  f.Tag.Get("default"),
		required: f.Tag.Get("required"),
		enum:     strings.Fields(f.Tag.Get("enum")),
		later:    strings.Fields(f.Tag.Get("unbuilt")),
		refused:  strings.Fields(f.Tag.Get("refused")),
		min:      f.Tag.Get("min"),
		max:      f.Tag.Get("max"),
		keyKind:  f.Tag.Get("key"),
		mode:     f.Tag.Get("mode"),
		restart:  f.Tag.Get("restart"),
	}
}

// fields returns the fields of a struct type of [File] in the order of the file.
func fields(t reflect.Type) []reflect.StructField {
	all := make([]reflect.StructField, 0, t.NumField())
	for i := range t.NumField() {
		all = append(all, t.Field(i))
	}
	return all
}

// setDefaults gives the fields of a struct, and of the structs in it, their defaults.
func setDefaults(v reflect.Value) {
	for i, f := range fields(v.Type()) {
		switch tag := tagsOf(f); {
		case tag.unbuilt:
		case tag.initial != "":
			if err := set(v.Field(i), tag.initial, asVariable, tag); err != nil {
				panic("default of " + tag.key + ": " + err.Error())
			}
		case isBlock(f.Type):
			setDefaults(v.Field(i))
		}
	}
}

// isScalar reports whether a type is written as one scalar.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int:
		return true
	default:
		return reflect.PointerTo(t).Implements(reflect.TypeFor[scalar]())
	}
}

// isBlock reports whether a type is written as a mapping with fixed keys.
func isBlock(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isScalar(t) }

// restricts reports whether a list or map holds plain values: those say whom or what a rule
// is limited to.
func restricts(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice:
		return isScalar(t.Elem()) && t.Elem() != reflect.TypeFor[MatchValue]() // rules.go knows those better
	case reflect.Map:
		return t.Elem().Kind() == reflect.Slice
	default:
		return false
	}
}

// tree is a type that is written as whatever YAML can say.
type tree interface {
	decode(r *report, path string, n ast.Node)
}

// decode sets v from a node; what does not fit is reported at path.
func (r *report) decode(path string, n ast.Node, v reflect.Value, tag tags) {
	if t, ok := v.Addr().Interface().(tree); ok {
		t.decode(r, path, n)
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		setDefaults(v.Elem())
		v = v.Elem()
	}
	_, empty := n.(*ast.NullNode)
	empty = empty || n == nil
	switch {
	case isScalar(v.Type()):
		r.decodeScalar(path, n, v, tag)
	case empty && tag.required == "" && restricts(v.Type()):
		// One of which every line is a comment would silently be no restriction.
		r.problem(path, "has no value: give one, or leave the key out")
	case empty:
		// A block of which every line is a comment is as good as none.
		if tag.required != "" {
			r.problem(path, "has no value: give %s", tag.required)
		}
	case v.Kind() == reflect.Slice:
		r.decodeList(path, n, v, tag)
	default:
		m, ok := n.(ast.MapNode)
		switch {
		case !ok:
			r.problem(path, "holds %s: write keys and values", describe(n))
		case v.Kind() == reflect.Map:
			r.decodeMap(path, m, v, tag)
		default:
			r.decodeBlock(path, m, v)
		}
	}
}

// entry is a key of a mapping with its value.
type entry struct {
	key   string
	path  string
	value ast.Node
}

// entries returns the keys of a mapping that can be used, each once, and records where they stand.
func (r *report) entries(path string, m ast.MapNode) []entry {
	var all []entry
	seen := map[string]bool{}
	for it := m.MapRange(); it.Next(); {
		token := it.Key().GetToken()
		key := token.Value
		at := place{source: r.file, line: token.Position.Line, column: token.Position.Column}
		if secret.MatchString(key) {
			r.problems = append(r.problems, Problem{r.file, at.line, at.column, path, "a key here is a secret: remove it from the file, and replace it wherever it is in use"})
			continue
		}
		e := entry{key: key, path: join(path, key), value: it.Value()}
		if seen[key] {
			r.problems = append(r.problems, Problem{r.file, at.line, at.column, e.path, fmt.Sprintf("is given twice, before on line %d: keep one", r.where[e.path].line)})
			continue
		}
		seen[key] = true
		r.where[e.path] = at
		all = append(all, e)
	}
	return all
}

func (r *report) decodeBlock(path string, m ast.MapNode, v reflect.Value) {
	known := fields(v.Type())
	for _, e := range r.entries(path, m) {
		i := slices.IndexFunc(known, func(f reflect.StructField) bool { return tagsOf(f).key == e.key })
		if i < 0 {
			r.unknownKey(e, known)
			continue
		}
		tag := tagsOf(known[i])
		if tag.unbuilt {
			r.problem(e.path, "this release does not have it yet: leave it out if you can do without")
			continue
		}
		r.decode(e.path, e.value, v.Field(i), tag)
	}
}

func (r *report) unknownKey(e entry, known []reflect.StructField) {
	var keys []string
	for _, f := range known {
		if tag := tagsOf(f); !tag.unbuilt {
			keys = append(keys, tag.key)
		}
	}
	r.problem(e.path, "there is no such key: %s", didYouMean(e.key, keys))
}

func (r *report) decodeMap(path string, m ast.MapNode, v reflect.Value, tag tags) {
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range r.entries(path, m) {
		elem := reflect.New(v.Type().Elem()).Elem()
		r.decode(e.path, e.value, elem, tag)
		v.SetMapIndex(reflect.ValueOf(e.key), elem)
	}
}

// decodeList sets a list, which may also be written as its only element.
func (r *report) decodeList(path string, n ast.Node, v reflect.Value, tag tags) {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	nodes := []ast.Node{n}
	if list, ok := n.(*ast.SequenceNode); ok {
		nodes = list.Values
	} else if _, ok := n.(ast.MapNode); ok {
		r.problem(path, "holds keys and values: write a list, with a - before each element")
		return
	}
	if len(nodes) == 0 {
		r.problem(path, "is an empty list: give an element, or leave the key out")
	}
	v.Set(reflect.MakeSlice(v.Type(), len(nodes), len(nodes)))
	for i, node := range nodes {
		at := index(path, i)
		r.where[at] = r.placeOf(node, r.where[path])
		r.decode(at, node, v.Index(i), tag)
	}
}

// placeOf returns where a node begins, or the place of what it is in when it has none.
func (r *report) placeOf(n ast.Node, around place) place {
	if n == nil {
		return around
	}
	if m, ok := n.(ast.MapNode); ok {
		// The token of a mapping in block style is its first colon.
		if it := m.MapRange(); it.Next() && it.Key().GetToken().Position.Line >= n.GetToken().Position.Line {
			if at := it.Key().GetToken().Position; at.Column < n.GetToken().Position.Column || at.Line > n.GetToken().Position.Line {
				n = it.Key()
			}
		}
	}
	at := n.GetToken().Position
	return place{source: r.file, line: at.Line, column: at.Column}
}

// placeOfText returns where a text stands, quoted or not, and where its characters can be counted from.
func (r *report) placeOfText(n *ast.StringNode) place {
	at := r.placeOf(n, place{})
	if i := strings.Index(strings.TrimLeft(n.Token.Origin, " "), n.Value); i >= 0 && !strings.Contains(n.Value, "\n") {
		at.text = at.column + i
	}
	return at
}

func (r *report) decodeScalar(path string, n ast.Node, v reflect.Value, tag tags) {
	if n != nil {
		r.where[path] = r.placeOf(n, r.where[path])
	}
	var (
		text string
		f    form
	)
	switch n := n.(type) {
	case nil, *ast.NullNode:
		r.problem(path, "has no value: give one, or leave the key out")
		return
	case *ast.StringNode:
		text = n.Value
		r.where[path] = r.placeOfText(n)
	case *ast.LiteralNode:
		text = n.Value.Value
	case *ast.BoolNode:
		text, f = strconv.FormatBool(n.Value), asBool
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		text, f = n.GetToken().Value, asNumber
	default:
		r.problem(path, "holds %s: write a single value, in quotes if it holds a colon", describe(n))
		return
	}
	if secret.MatchString(text) {
		r.problem(path, "there is a secret in the file: put it into a file of its own with mode 0600 and name that file, or into the variable %s", variable(path))
		return
	}
	if err := set(v, text, f, tag); err != nil {
		r.problem(path, "%s", err)
	}
}

// set parses a text into v and applies the bounds of the tags.
func set(v reflect.Value, text string, f form, tag tags) error {
	_, claim := v.Addr().Interface().(*MatchValue)
	if strings.TrimSpace(text) == "" && !claim {
		return fmt.Errorf("is empty: give a value, or leave it out")
	}
	if err := parse(v, text, f); err != nil {
		return err
	}
	if len(tag.enum) > 0 && !slices.Contains(tag.enum, text) && !slices.Contains(tag.refused, text) {
		if slices.Contains(tag.later, text) {
			return fmt.Errorf("this release does not have %s yet: use %s", text, orList(tag.enum))
		}
		return fmt.Errorf("%s is not one of them: %s", quoted(text), didYouMean(text, tag.enum))
	}
	return bounded(v, tag)
}

func parse(v reflect.Value, text string, f form) error {
	if s, ok := v.Addr().Interface().(scalar); ok {
		return s.parse(text, f)
	}
	switch v.Kind() {
	case reflect.Bool:
		if f == asText || text != "true" && text != "false" {
			return fmt.Errorf("%s is not a truth value: write true or false", quoted(text))
		}
		v.SetBool(text == "true")
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || f == asText {
			return fmt.Errorf("%s is not a whole number: write digits, without quotes", quoted(text))
		}
		v.SetInt(n)
	default:
		if err := wantText(text, f); err != nil {
			return err
		}
		v.SetString(text)
	}
	return nil
}

// bounded says how a number is out of its bounds.
func bounded(v reflect.Value, tag tags) error {
	for bound, out := range map[string]func(bound int64) bool{
		tag.min: func(bound int64) bool { return v.Int() < bound },
		tag.max: func(bound int64) bool { return v.Int() > bound },
	} {
		if bound == "" {
			continue
		}
		limit := reflect.New(v.Type()).Elem()
		if err := parse(limit, bound, asVariable); err != nil {
			panic("bound of " + tag.key + ": " + err.Error())
		}
		if out(limit.Int()) {
			return fmt.Errorf("%v is out of bounds: give %s to %s", v.Interface(), tag.min, tag.max)
		}
	}
	return nil
}

// A leaf is a scalar of a [File], or a list of them.
type leaf struct {
	path    string
	name    string // path in which elements of lists go by their names
	value   reflect.Value
	tags    tags
	restart bool
}

// walk calls visit for every field of the blocks in v: for leaves, and for what they are in.
func walk(v reflect.Value, at leaf, visit func(leaf)) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	switch {
	case isScalar(v.Type()), v.Kind() == reflect.Slice && isScalar(v.Type().Elem()):
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			elem := at
			elem.path, elem.name = index(at.path, i), join(at.name, nameOf(v.Index(i).Elem(), i))
			walk(v.Index(i), elem, visit)
		}
	case v.Kind() == reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			elem := at
			elem.path, elem.name = join(at.path, k.String()), join(at.name, k.String())
			if e := v.MapIndex(k); e.Kind() == reflect.Pointer {
				walk(e, elem, visit)
			}
		}
	default:
		for i, f := range fields(v.Type()) {
			tag := tagsOf(f)
			if tag.unbuilt {
				continue
			}
			child := leaf{
				path: join(at.path, tag.key), name: join(at.name, tag.key),
				value: v.Field(i), tags: tag, restart: tag.restarts(at.restart),
			}
			visit(child)
			walk(child.value, child, visit)
		}
	}
}

// nameOf returns what an element of a list goes by: its name, or its number.
func nameOf(v reflect.Value, i int) string {
	if f := v.FieldByName("Name"); f.IsValid() && f.String() != "" {
		return f.String()
	}
	return strconv.Itoa(i)
}

// isLeaf reports whether the value is a scalar or a list of them.
func (l leaf) isLeaf() bool {
	t := l.value.Type()
	return isScalar(t) || t.Kind() == reflect.Slice && isScalar(t.Elem())
}

// missing reports the required fields that were not given, and those that were and are of
// another mode.
func (r *report) missing(f any, mode string) {
	walk(reflect.ValueOf(f), leaf{}, func(l leaf) {
		around := strings.TrimSuffix(l.path, "."+l.tags.key)
		if l.tags.mode != "" && l.tags.mode != mode {
			if r.given(l.path) {
				r.problem(l.path, "is for nats.callout.mode: %s, and the mode is %s: leave it out", l.tags.mode, mode)
			}
			return
		}
		if l.tags.required == "" || !l.value.IsZero() || r.given(l.path) || r.wrong[around] {
			return
		}
		r.problem(l.path, "is missing: give %s", l.tags.required)
	})
}
