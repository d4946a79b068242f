// Package pyyaml reads YAML into nodes as PyYAML's SafeLoader does, and writes
// nodes as its SafeDumper does, byte for byte with the defaults of
// yaml.safe_dump.
//
// PyYAML's dialect is YAML 1.1 with habits of its own (where a plain scalar
// ends, what "yes", "0o7", "1:30" and "1e3" are), and libraries for YAML 1.2 or
// after libyaml differ from it in exactly the places where a value silently
// becomes another one. So this package follows PyYAML's own grammar step by
// step. It stops at nodes with resolved tags: what a tag becomes is up to the
// caller. Aliases are not expanded: the same *Node stands in several places,
// and may stand inside of itself.
//
// Time and memory are linear in the length of the input, and bounded by Limits.
//
// # Source
//
// PyYAML 6.0.2 (MIT licence, © 2006-2021 Kirill Simonov and Ingy döt Net):
// reader.py, scanner.py, parser.py, composer.py, resolver.py, emitter.py.
package pyyaml
