package worker

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"

	"github.com/mitchellh/mapstructure"

	"github.com/dfws/dfws/celeryproto"
)

// mostFaults bounds how many faulty arguments one error names.
const mostFaults = 8

var rawType = reflect.TypeFor[celeryproto.Raw]()

// bind decodes positional and keyword arguments into dst, a settable value of the plan's type. Positional arguments
// fill the fields in their order. All faults are reported together, each as a *BindError.
func (p *plan) bind(dst reflect.Value, args, kwargs celeryproto.Raw) error {
	var positional []celeryproto.Raw
	if len(args) > 0 {
		var err error
		if positional, err = args.Array(); err != nil {
			return &BindError{Fact: "positional arguments are not a list"}
		}
	}
	var members []celeryproto.Member
	if len(kwargs) > 0 && string(kwargs) != "{}" {
		var err error
		if members, err = kwargs.Object(); err != nil {
			return &BindError{Fact: "keyword arguments are not an object"}
		}
	}
	switch {
	case p.anyMap:
		return p.bindMap(dst, positional, members)
	case p.raw:
		dst.Set(reflect.ValueOf(RawArgs{Args: positional, Kwargs: members}))
		return nil
	}
	values, rest, err := p.assign(positional, members)
	if err != nil {
		return err
	}
	var faults faultList
	for i := range p.fields {
		f := &p.fields[i]
		switch {
		case values[i] != nil:
			faults.add(f.set(dst.FieldByIndex(f.index), values[i]))
		case f.required:
			faults.add(&BindError{Argument: f.name, Fact: "missing"})
		}
	}
	if p.remain != nil && len(rest) > 0 {
		m, err := decodeMembers(rest)
		faults.add(err)
		dst.FieldByIndex(p.remain).Set(reflect.ValueOf(m))
	}
	return faults.join()
}

// assign finds the value of each field; nil where there is none. A repeated keyword's last value counts, as in Python.
func (p *plan) assign(positional []celeryproto.Raw, members []celeryproto.Member) ([]celeryproto.Raw, []celeryproto.Member, error) {
	if len(positional) > len(p.fields) {
		return nil, nil, &BindError{Fact: fmt.Sprintf("%d positional arguments, want at most %d", len(positional), len(p.fields))}
	}
	values := make([]celeryproto.Raw, len(p.fields))
	copy(values, positional)
	var rest []celeryproto.Member
	var faults faultList
	for _, m := range members {
		i, known := p.byName[m.Key]
		switch {
		case !known && p.remain != nil:
			rest = append(rest, m)
		case !known:
			faults.add(&BindError{Argument: m.Key, Fact: "unknown argument"})
		case i < len(positional):
			faults.add(&BindError{Argument: m.Key, Fact: "given by position and by name"})
		default:
			values[i] = m.Value
		}
	}
	return values, rest, faults.join()
}

func (p *plan) bindMap(dst reflect.Value, positional []celeryproto.Raw, members []celeryproto.Member) error {
	if len(positional) > 0 {
		return &BindError{Fact: fmt.Sprintf("%d positional arguments, want none", len(positional))}
	}
	m, err := decodeMembers(members)
	if err != nil {
		return err
	}
	dst.Set(reflect.ValueOf(m))
	return nil
}

func decodeMembers(members []celeryproto.Member) (map[string]any, error) {
	m := make(map[string]any, len(members))
	var faults faultList
	for _, member := range members {
		v, err := celeryproto.DecodeValue(member.Value)
		if err != nil {
			faults.add(&BindError{Argument: member.Key, Fact: undecodable(err)})
			continue
		}
		m[member.Key] = v
	}
	return m, faults.join()
}

// set decodes one argument into its field.
func (f *planField) set(dst reflect.Value, raw celeryproto.Raw) error {
	if f.typ == rawType {
		dst.SetBytes(raw)
		return nil
	}
	v, err := celeryproto.DecodeValue(raw)
	if err != nil {
		return &BindError{Argument: f.name, Fact: undecodable(err)}
	}
	if v == nil {
		if !nullable(f.typ) {
			return &BindError{Argument: f.name, Fact: "null, want " + wanted(f.typ)}
		}
		dst.SetZero()
		return nil
	}
	if f.text {
		if v, err = parseNumber(v); err != nil {
			return &BindError{Argument: f.name, Fact: err.Error()}
		}
	}
	from := reflect.ValueOf(v)
	if from.Type() == f.typ || (f.typ.Kind() == reflect.Interface && from.Type().AssignableTo(f.typ)) {
		dst.Set(from)
		return nil
	}
	if f.scalar { // the same as decode does, at a tenth of the cost
		converted, err := convertScalar(v, f.typ)
		if err != nil {
			return &BindError{Argument: f.name, Fact: err.Error()}
		}
		dst.Set(reflect.ValueOf(converted).Convert(f.typ))
		return nil
	}
	return f.decode(dst, v)
}

func (f *planField) decode(dst reflect.Value, v any) error {
	target := reflect.New(f.typ)
	dec, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: target.Interface(), TagName: argTag, DecodeHook: mapstructure.DecodeHookFuncValue(convert),
		Squash: true, MatchName: func(key, field string) bool { return key == field },
	})
	if err != nil {
		return &BindError{Argument: f.name, Fact: "cannot be decoded as " + f.typ.String()}
	}
	if err := dec.Decode(v); err != nil {
		path, what := placeAndFact(err)
		if what == "" {
			what = "cannot be decoded as " + f.typ.String()
		}
		return &BindError{Argument: f.name, Path: path, Fact: what}
	}
	dst.Set(target.Elem())
	return nil
}

// undecodable says why a value could not be decoded without repeating the value.
func undecodable(err error) string {
	if unknown, ok := errors.AsType[*celeryproto.UnknownTypeError](err); ok {
		return unknown.Error()
	}
	return "cannot be decoded"
}

// parseNumber reads a text as Python's int() and float() do in an annotation, and leaves everything else alone.
// Browsers send what is typed into a form as text.
func parseNumber(v any) (any, error) {
	s, ok := v.(string)
	if !ok {
		return v, nil
	}
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	const mostDigits = 4300 // CPython's sys.int_info.default_max_str_digits
	if len(s) > mostDigits {
		return nil, fact("a text that is not a number")
	}
	if n, ok := new(big.Int).SetString(s, 10); ok {
		return n, nil
	}
	if x, err := strconv.ParseFloat(s, 64); err == nil {
		return x, nil
	}
	return nil, fact("a text that is not a number")
}

// placeAndFact takes apart an error of mapstructure. Only facts of our own hook are passed on: mapstructure's own
// messages contain values. Map keys in the path are hidden for the same reason.
func placeAndFact(err error) (path, what string) {
	text := err.Error()
	if many, ok := errors.AsType[*mapstructure.Error](err); ok && len(many.Errors) > 0 {
		text = many.Errors[0]
	}
	rest, ours := strings.CutPrefix(text, "error decoding '")
	cut := strings.LastIndex(rest, "': ")
	if !ours || cut < 0 {
		return "", ""
	}
	return hideKeys(rest[:cut]), rest[cut+len("': "):]
}

func hideKeys(path string) string {
	if path == "" {
		return ""
	}
	var b strings.Builder
	if path[0] != '[' {
		b.WriteByte('.')
	}
	for path != "" {
		open := strings.IndexByte(path, '[')
		if open < 0 {
			b.WriteString(path)
			break
		}
		b.WriteString(path[:open])
		path = path[open:]
		end := strings.IndexByte(path, ']')
		if end > 1 && strings.Trim(path[1:end], "0123456789") == "" {
			b.WriteString(path[:end+1])
			path = path[end+1:]
			continue
		}
		b.WriteString("[…]")
		path = path[strings.LastIndexByte(path, ']')+1:]
	}
	return b.String()
}

// faultList collects the faults of one call.
type faultList []error

func (l *faultList) add(err error) {
	if err != nil && len(*l) < mostFaults {
		*l = append(*l, err)
	}
}

func (l faultList) join() error {
	switch len(l) {
	case 0:
		return nil
	case 1:
		return l[0]
	default:
		return l
	}
}

// Error implements error, on one line.
func (l faultList) Error() string {
	texts := make([]string, len(l))
	for i, err := range l {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap lets errors.As find the single faults.
func (l faultList) Unwrap() []error { return l }
