package worker

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// argTag is the struct tag that names an argument: `arg:"name"`, `arg:"name,omitempty"`, `arg:"name,text"`,
// `arg:",squash"`, `arg:",remain"`, `arg:"-"`.
const argTag = "arg"

// plan is what is known of an argument struct before any call: its arguments in field order.
// It is computed once per type and never changed.
type plan struct {
	typ    reflect.Type
	fields []planField
	byName map[string]int // argument name → index in fields
	remain []int          // reflect index of the `,remain` field; nil when unknown arguments are refused
	anyMap bool           // the type is map[string]any: every argument is taken
	raw    bool           // the type is RawArgs
}

// planField is one argument.
type planField struct {
	name     string
	key      string // what mapstructure looks for: the name in the tag, else the Go field's name
	index    []int  // for reflect.Value.FieldByIndex
	typ      reflect.Type
	required bool
	text     bool // a text is parsed as a number first
	scalar   bool // of a kind that convertScalar alone takes care of
}

// nullable tells whether null may be given for a value of type t.
func nullable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
		return true
	default:
		return false
	}
}

var plans sync.Map // reflect.Type → *plan

var mapStringAny = reflect.TypeFor[map[string]any]()

// planFor returns the plan of a type; the error is a fault of the handler's author.
func planFor(t reflect.Type) (*plan, error) {
	if p, ok := plans.Load(t); ok {
		return p.(*plan), nil
	}
	p, err := makePlan(t)
	if err != nil {
		return nil, err
	}
	actual, _ := plans.LoadOrStore(t, p)
	return actual.(*plan), nil
}

func makePlan(t reflect.Type) (*plan, error) {
	switch t {
	case mapStringAny:
		return &plan{typ: t, anyMap: true}, nil
	case reflect.TypeFor[RawArgs]():
		return &plan{typ: t, raw: true}, nil
	}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("arguments are a %s, want a struct, a map[string]any or RawArgs", t)
	}
	p := &plan{typ: t, byName: map[string]int{}}
	if err := p.addStruct(t, nil); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *plan) addStruct(t reflect.Type, prefix []int) error {
	var faults []error
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(append([]int(nil), prefix...), i)
		if err := p.addField(f, index); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (p *plan) addField(f reflect.StructField, index []int) error {
	name, options, _ := strings.Cut(f.Tag.Get(argTag), ",")
	if name == "-" {
		return nil
	}
	opts := map[string]bool{}
	for o := range strings.SplitSeq(options, ",") {
		opts[o] = o != ""
	}
	delete(opts, "")
	if opts["squash"] || (f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct && f.IsExported()) {
		if f.Type.Kind() != reflect.Struct {
			return fmt.Errorf("field %s: squash on a %s, want a struct", f.Name, f.Type)
		}
		return p.addStruct(f.Type, index)
	}
	if !f.IsExported() {
		if name != "" || len(opts) > 0 {
			return fmt.Errorf("field %s: tagged as an argument but not exported", f.Name)
		}
		return nil
	}
	if opts["remain"] {
		if f.Type != mapStringAny {
			return fmt.Errorf("field %s: remain on a %s, want map[string]any", f.Name, f.Type)
		}
		p.remain = index
		return nil
	}
	for o := range opts {
		if o != "omitempty" && o != "text" {
			return fmt.Errorf("field %s: unknown option %q in its arg tag", f.Name, o)
		}
	}
	if opts["text"] && !numeric(f.Type) {
		return fmt.Errorf("field %s: text on a %s, want a number", f.Name, f.Type)
	}
	key := name
	if name == "" {
		name, key = snake(f.Name), f.Name
	}
	if _, twice := p.byName[name]; twice {
		return fmt.Errorf("argument %q is named by two fields", name)
	}
	p.byName[name] = len(p.fields)
	p.fields = append(p.fields, planField{
		name: name, key: key, index: index, typ: f.Type, text: opts["text"],
		required: !opts["omitempty"] && f.Type.Kind() != reflect.Pointer, scalar: isScalar(f.Type),
	})
	return nil
}

// names lists the required and the optional arguments, for the registry.
func (p *plan) names() (required, optional []string) {
	required, optional = []string{}, []string{}
	for _, f := range p.fields {
		if f.required {
			required = append(required, f.name)
		} else {
			optional = append(optional, f.name)
		}
	}
	return required, optional
}

// takesAny tells whether unknown arguments are accepted.
func (p *plan) takesAny() bool { return p.anyMap || p.raw || p.remain != nil }

func numeric(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() >= reflect.Int && t.Kind() <= reflect.Float64 && t.Kind() != reflect.Uintptr
}

// isScalar tells whether nothing but the kind of t decides what it takes.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return t != decimalType && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	}
	return false
}

// snake turns a Go field name into the name a Python programmer would give: UserName → user_name, HTTPPort → http_port.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 {
			prevLower := !unicode.IsUpper(runes[i-1]) && runes[i-1] != '_'
			nextLower := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if prevLower || (nextLower && runes[i-1] != '_') {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// printable shortens a name that came with a call, so that a log line stays one short line.
func printable(name string) string {
	const most = 64
	if utf8.RuneCountInString(name) > most {
		name = string([]rune(name)[:most]) + "…"
	}
	return strings.ToValidUTF8(name, "�")
}
