package djangodb

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dfws/dfws/compat"
)

// Options reads OPTIONS of an entry of DATABASES. Each option is taken once; Err then names what nobody took.
type Options struct {
	members map[string]json.RawMessage
	faults  []error
}

// ParseOptions reads OPTIONS.
func ParseOptions(raw compat.SecretJSON) *Options {
	o := &Options{members: map[string]json.RawMessage{}}
	if len(raw) > 0 && json.Unmarshal(raw, &o.members) != nil {
		o.faults = append(o.faults, errors.New("options: not an object"))
	}
	return o
}

// take removes an option; ok is false when it is not there, or null.
func (o *Options) take(name string) (raw json.RawMessage, ok bool) {
	raw, ok = o.members[name]
	delete(o.members, name)
	return raw, ok && string(raw) != "null"
}

func (o *Options) fault(name, what string) {
	o.faults = append(o.faults, fmt.Errorf("options.%s: %s", name, what))
}

// Refuse notes a fault of an option.
func (o *Options) Refuse(name, why string) { o.fault(name, why) }

// Ignore passes over options that are about Python alone.
func (o *Options) Ignore(names ...string) {
	for _, name := range names {
		delete(o.members, name)
	}
}

// Text takes an option that is a text; "" when it is not there.
func (o *Options) Text(name string) string {
	raw, ok := o.take(name)
	if !ok {
		return ""
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		o.fault(name, "not a text")
	}
	return text
}

// Seconds takes an option that is a number of seconds; other when it is not there.
func (o *Options) Seconds(name string, other time.Duration) time.Duration {
	raw, ok := o.take(name)
	if !ok {
		return other
	}
	var seconds compat.Seconds
	if json.Unmarshal(raw, &seconds) != nil {
		o.fault(name, "not a number of seconds")
	}
	return seconds.Duration()
}

// Object takes an option that is an object with options of its own; nil when it is not there.
func (o *Options) Object(name string) *Options {
	raw, ok := o.take(name)
	if !ok {
		return nil
	}
	inner := &Options{members: map[string]json.RawMessage{}}
	if json.Unmarshal(raw, &inner.members) != nil {
		o.fault(name, "not an object")
		return nil
	}
	return inner
}

// Texts takes all options that are left, which must be texts, numbers or truth values, as texts: what psycopg passes on to libpq.
func (o *Options) Texts() map[string]string {
	texts := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(o.members)) {
		raw, ok := o.take(name)
		if !ok {
			continue
		}
		var value any
		if json.Unmarshal(raw, &value) != nil {
			o.fault(name, "not readable")
			continue
		}
		switch value := value.(type) {
		case string:
			texts[name] = value
		case float64:
			texts[name] = string(raw)
		case bool:
			texts[name] = map[bool]string{true: "1", false: "0"}[value]
		default:
			o.fault(name, "is not supported")
		}
	}
	return texts
}

// Err joins the faults, and names the options that are left.
func (o *Options) Err() error {
	faults := o.faults
	if len(o.members) > 0 {
		names := strings.Join(slices.Sorted(maps.Keys(o.members)), ", ")
		faults = append(faults, fmt.Errorf("options: not supported: %s", names))
	}
	return errors.Join(faults...)
}
