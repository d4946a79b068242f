package main

import (
	"flag"
	"io"
	"maps"
	"os"
	"regexp"
	"testing"
)

// row matches a line of the settings table: | `--listen` | `127.0.0.1:8000` | …
var row = regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\| (?:`([^`]*)`)? *\\|")

// TestReadmeTable compares README's settings table with the options of `dfws gateway` and their defaults.
func TestReadmeTable(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, match := range row.FindAllStringSubmatch(string(text), -1) {
		documented[match[1]] = match[2]
	}
	actual := map[string]string{}
	options, _ := newGatewayOptions(environment{stderr: io.Discard})
	options.Set.VisitAll(func(f *flag.Flag) { actual[f.Name] = f.DefValue })
	if !maps.Equal(documented, actual) {
		t.Errorf("README.md and the options differ:\nREADME  %v\noptions %v", documented, actual)
	}
}
