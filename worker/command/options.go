package command

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// envPrefix starts the environment variable of every option.
const envPrefix = "DFWS_"

// Where the value of an option came from, strongest first.
const (
	fromFlag    = "flag"
	fromEnv     = "environment"
	fromDefault = "default"
)

// option is one option of the command line.
type option struct {
	long  string
	alias []string // further long names
	short byte     // 0 for none
	value string   // what stands for its value in the help; "" for a switch, which has none
	help  string
	set   func(text string) error
	get   func() string

	source string
}

// names are all ways to write it.
func (o *option) names() string {
	var names []string
	if o.short != 0 {
		names = append(names, "-"+string(o.short))
	}
	for _, long := range append([]string{o.long}, o.alias...) {
		names = append(names, "--"+long)
	}
	return strings.Join(names, ", ")
}

func envName(long string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(long, "-", "_"))
}

// optionSet is a table of options.
type optionSet struct{ options []*option }

func (s *optionSet) add(o option) {
	o.source = fromDefault
	s.options = append(s.options, &o)
}

// text, number, seconds and toggle add an option for a variable.
func (s *optionSet) text(to *string, o option) {
	o.set = func(text string) error { *to = text; return nil }
	o.get = func() string { return *to }
	s.add(o)
}

func (s *optionSet) number(to *int, o option) {
	o.set = func(text string) (err error) {
		*to, err = strconv.Atoi(text)
		if err != nil {
			return errors.New("want a whole number")
		}
		return nil
	}
	o.get = func() string { return unlessZero(*to) }
	s.add(o)
}

// maxSeconds is the longest time that an option takes: a hundred years.
const maxSeconds = 100 * 365 * 24 * 60 * 60

// seconds is a duration that is written as a number of seconds, as in Celery, or as Go has it.
func (s *optionSet) seconds(to *time.Duration, o option) {
	o.set = func(text string) error {
		if n, err := strconv.ParseFloat(text, 64); err == nil && n >= -maxSeconds && n <= maxSeconds {
			*to = time.Duration(n * float64(time.Second))
			return nil
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New(`want seconds, or a duration such as "1m30s"`)
		}
		*to = d
		return nil
	}
	o.get = func() string {
		if *to == 0 {
			return ""
		}
		return to.String()
	}
	s.add(o)
}

func (s *optionSet) toggle(to *bool, o option) {
	o.set = func(text string) error {
		on, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("want true or false")
		}
		*to = on
		return nil
	}
	o.get = func() string { return strconv.FormatBool(*to) }
	s.add(o)
}

// list is an option that may be given several times or as one comma-separated text.
func (s *optionSet) list(to *[]string, o option) {
	given := false
	o.set = func(text string) error {
		if !given {
			*to, given = nil, true
		}
		for _, name := range strings.Split(text, ",") {
			if name = strings.TrimSpace(name); name != "" {
				*to = append(*to, name)
			}
		}
		return nil
	}
	o.get = func() string { return strings.Join(*to, ",") }
	s.add(o)
}

func unlessZero(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func (s *optionSet) long(name string) *option {
	for _, o := range s.options {
		if o.long == name {
			return o
		}
		for _, alias := range o.alias {
			if alias == name {
				return o
			}
		}
	}
	return nil
}

func (s *optionSet) short(c byte) *option {
	for _, o := range s.options {
		if o.short == c {
			return o
		}
	}
	return nil
}

// parse reads the arguments, then the environment for options that they do not have. All faults are joined.
func (s *optionSet) parse(args []string, lookupEnv func(string) (string, bool)) error {
	var faults []error
	for len(args) > 0 {
		rest, err := s.parseOne(args)
		faults = append(faults, err)
		args = rest
	}
	for _, o := range s.options {
		text, ok := lookupEnv(envName(o.long))
		if !ok || o.source == fromFlag {
			continue
		}
		o.source = fromEnv
		if err := o.set(text); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", envName(o.long), err))
		}
	}
	return errors.Join(faults...)
}

// parseOne reads the option at the beginning of the arguments.
func (s *optionSet) parseOne(args []string) (rest []string, err error) {
	arg, rest := args[0], args[1:]
	switch {
	case strings.HasPrefix(arg, "--") && len(arg) > 2:
		return s.parseLong(arg[2:], rest)
	case strings.HasPrefix(arg, "-") && len(arg) > 1 && arg != "--":
		if name, _, _ := strings.Cut(arg[1:], "="); len(name) > 1 && s.long(name) != nil { // -settings FILE, as Go's flags have it
			return s.parseLong(arg[1:], rest)
		}
		return s.parseShort(arg[1:], rest)
	}
	return rest, fmt.Errorf("unexpected argument %q", arg)
}

func (s *optionSet) parseLong(arg string, rest []string) ([]string, error) {
	name, text, given := strings.Cut(arg, "=")
	o := s.long(name)
	if o == nil {
		return rest, unknown("--" + name)
	}
	switch {
	case o.value == "" && !given:
		text = "true"
	case o.value != "" && !given:
		if len(rest) == 0 {
			return rest, fmt.Errorf("--%s: %s is missing", name, o.value)
		}
		text, rest = rest[0], rest[1:]
	}
	return rest, o.assign("--"+name, text)
}

// parseShort reads -E, -Ec4 and -c 4.
func (s *optionSet) parseShort(letters string, rest []string) ([]string, error) {
	for i := range len(letters) {
		name := "-" + string(letters[i])
		o := s.short(letters[i])
		if o == nil {
			return rest, unknown(name)
		}
		if o.value == "" {
			if err := o.assign(name, "true"); err != nil {
				return rest, err
			}
			continue
		}
		text := strings.TrimPrefix(letters[i+1:], "=")
		if text == "" {
			if len(rest) == 0 {
				return rest, fmt.Errorf("%s: %s is missing", name, o.value)
			}
			text, rest = rest[0], rest[1:]
		}
		return rest, o.assign(name, text)
	}
	return rest, nil
}

func (o *option) assign(name, text string) error {
	o.source = fromFlag
	if err := o.set(text); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// unknown is the refusal of an option, with a hint for those of `celery worker`.
func unknown(name string) error {
	if hint := refused[name]; hint != "" {
		return fmt.Errorf("%s is not an option of a Go worker: %s", name, hint)
	}
	return fmt.Errorf("unknown option %s (--help lists all)", name)
}

// help writes the table of options.
func (s *optionSet) help(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, o := range s.options {
		_, _ = fmt.Fprintf(table, "  %s %s\t%s\n", o.names(), o.value, o.help)
	}
	return table.Flush()
}

// print writes each option with its value and where it came from. No option holds a secret.
func (s *optionSet) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, o := range s.options {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", o.long, o.get(), o.source)
	}
	return table.Flush()
}
