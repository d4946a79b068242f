// Package app is what the commands share: options, logs, metrics, the admin server and the order of starting and stopping.
//
// It is the only place besides package main that reads flags, the environment and files, and the only importer of Prometheus.
package app

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// EnvPrefix starts the environment variable of every option: --listen is DFWS_LISTEN.
const EnvPrefix = "DFWS_"

// Source says where an option's value came from.
type Source string

// The sources, strongest first.
const (
	FromFlag    Source = "flag"
	FromEnv     Source = "environment"
	FromFile    Source = "settings file"
	FromDefault Source = "default"
)

// Options is the table of a command's options. A value comes from the flag, else the environment, else the settings
// file, else the default; a malformed value is an error wherever it stands, never the default.
type Options struct {
	Set    *flag.FlagSet
	source map[string]Source
}

// NewOptions returns an empty table for the command called name, whose usage and errors go to w.
func NewOptions(name string, w io.Writer) *Options {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(w)
	return &Options{Set: set, source: map[string]Source{}}
}

// EnvName returns the environment variable of the option called name.
func EnvName(name string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Parse reads the flags in args and, for options without one, the environment. It returns flag.ErrHelp after -h.
func (o *Options) Parse(args []string, lookupEnv func(string) (string, bool)) error {
	if err := o.Set.Parse(args); err != nil {
		return err
	}
	if o.Set.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", o.Set.Arg(0))
	}
	o.Set.Visit(func(f *flag.Flag) { o.source[f.Name] = FromFlag })
	var faults []error
	o.Set.VisitAll(func(f *flag.Flag) {
		value, ok := lookupEnv(EnvName(f.Name))
		if !ok || o.source[f.Name] != "" {
			return
		}
		if err := o.Set.Set(f.Name, value); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", EnvName(f.Name), err))
		}
		o.source[f.Name] = FromEnv
	})
	return errors.Join(faults...)
}

// ApplyFile sets the options that neither a flag nor the environment has set. A name that is no option is an error.
func (o *Options) ApplyFile(values map[string]string) error {
	var faults []error
	for name, value := range values {
		switch {
		case o.Set.Lookup(name) == nil:
			faults = append(faults, fmt.Errorf("settings file: %q is not an option of this command", name))
		case o.source[name] != "":
		default:
			if err := o.Set.Set(name, value); err != nil {
				faults = append(faults, fmt.Errorf("settings file: %s: %w", name, err))
			}
			o.source[name] = FromFile
		}
	}
	return errors.Join(faults...)
}

// SourceOf returns where the value of the option called name came from.
func (o *Options) SourceOf(name string) Source {
	if s := o.source[name]; s != "" {
		return s
	}
	return FromDefault
}

// Print writes each option with its value and where it came from. No option holds a secret: those are in the settings file.
func (o *Options) Print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	o.Set.VisitAll(func(f *flag.Flag) {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", f.Name, f.Value, o.SourceOf(f.Name))
	})
	return table.Flush()
}

// List is an option that may be given several times or as one comma-separated text.
type List []string

// String returns the values joined by commas.
func (l *List) String() string { return strings.Join(*l, ",") }

// Set adds the values of text; an empty text adds nothing.
func (l *List) Set(text string) error {
	for _, v := range strings.Split(text, ",") {
		if v = strings.TrimSpace(v); v != "" {
			*l = append(*l, v)
		}
	}
	return nil
}
