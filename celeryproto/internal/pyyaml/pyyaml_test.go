package pyyaml

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

var limits = Limits{MaxDepth: 100, MaxValues: 1 << 16}

func str(s string) *Node { return &Node{Tag: TagStr, Value: s} }

func seq(items ...*Node) *Node { return &Node{Kind: Sequence, Tag: TagSeq, Items: items} }

func mapping(nodes ...*Node) *Node {
	n := &Node{Kind: Mapping, Tag: TagMap}
	for i := 0; i < len(nodes); i += 2 {
		n.Pairs = append(n.Pairs, Pair{nodes[i], nodes[i+1]})
	}
	return n
}

// TestRead has the forms of the grammar; package celeryproto compares with PyYAML itself.
func TestRead(t *testing.T) {
	t.Parallel()
	a, b, c := str("a"), str("b"), str("c")
	for text, want := range map[string]*Node{
		"":                                      nil,
		"# comment\n":                           nil,
		"a":                                     a,
		"--- a\n...\n":                          a,
		"'a'":                                   a,
		"!!str a":                               a,
		"!<tag:yaml.org,2002:str> a":            a,
		"%TAG ! tag:yaml.org,2002:\n--- !str a": a,
		"%YAML 1.1\n---\na":                     a,
		"- a\n- b\n":                            seq(a, b),
		"[a, b, ]":                              seq(a, b),
		"[]":                                    seq(),
		"{}":                                    mapping(),
		"a: b":                                  mapping(a, b),
		"{a: b}":                                mapping(a, b),
		"? a\n: b":                              mapping(a, b),
		"a:\n- b\n- c":                          mapping(a, seq(b, c)),
		"a:\n  b:\n    c":                       mapping(a, mapping(b, c)),
		"- - a\n  - b\n- c":                     seq(seq(a, b), c),
		"- a: b\n  c: a":                        seq(mapping(a, b, c, a)),
		"[a: b, ? c : a]":                       seq(mapping(a, b), mapping(c, a)),
		"{a, b: }":                              mapping(a, empty(), b, empty()),
		"a: |\n  b\n   c\n":                     mapping(a, str("b\n c\n")),
		"a: >-\n  b\n  c\n\n":                   mapping(a, str("b c")),
		"a: |+\n  b\n\n":                        mapping(a, str("b\n\n")),
		"- |2\n   b\n":                          seq(str(" b\n")),
		"\"a\\x41\\u20ac\\n\\\n  b\"":           str("aA€\nb"),
		"\"a\n\n b\"":                           str("a\nb"),
		"'a''b'":                                str("a'b"),
		"a\n b\n\n c":                           str("a b\nc"),
		"a b: c":                                mapping(str("a b"), c),
		"!x a":                                  {Tag: "!x", Value: "a"},
		"! 1":                                   {Tag: TagInt, Value: "1"},
		"!!set {a}":                             {Kind: Mapping, Tag: TagSet, Pairs: []Pair{{a, empty()}}},
		"\ufeffa":                               a,
		"\xff\xfea\x00":                         a,
		"\xfe\xff\x00a":                         a,
		"\xff\xfe\x3d\xd8\x00\xde":              str("😀"),
	} {
		got, err := Read([]byte(text), limits)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v, %v", text, got, want, err)
		}
	}
	shared, err := Read([]byte("- &a {x: y}\n- *a\n"), limits)
	if err != nil || shared.Items[0] != shared.Items[1] {
		t.Errorf("an alias is not its anchor: %v", err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\x00":                         "does not allow",
		"a\xff":                        "not UTF-8",
		"\xff\xfea":                    "not UTF-16",
		"\xff\xfe\x3d\xd8":             "not UTF-16",
		"\xff\xfe\x3d\xd8a\x00":        "not UTF-16",
		"[a":                           "comma or a closing bracket",
		"{a":                           "comma or a closing bracket",
		"]":                            "closing bracket without",
		"a: b: c":                      "mapping values are not allowed",
		"a: - b":                       "sequence entries are not allowed",
		"a: ? b":                       "mapping keys are not allowed",
		"a\nb: c":                      "",
		"a: b\n c: d":                  "",
		"- a\nb":                       "",
		"\"a":                          "unexpected end",
		"'a\n---\n'":                   "document separator",
		"\"\\q\"":                      "unknown escape",
		"\"\\x4\"":                     "invalid escape",
		"\"\\U00110000\"":              "invalid escape",
		"@":                            "cannot start",
		"\ta":                          "cannot start",
		"*a":                           "undefined alias",
		"* a":                          "expected a name",
		"&a*":                          "cannot have",
		"[&a 1, &a 2]":                 "duplicate anchor",
		"!e!x a":                       "undefined tag handle",
		"!<a":                          "expected '>'",
		"!<> a":                        "expected a URI",
		"!a%zz b":                      "hexadecimal",
		"!a%ff b":                      "not UTF-8",
		"--- a\n--- b":                 "single document",
		"...":                          "content of a node",
		"%YAML 2.0\n--- a":             "version 1",
		"%YAML 1\n--- a":               "version",
		"%YAML 1.1\n%YAML 1.1\n---\na": "one YAML directive",
		"%TAG ! x\n%TAG ! y\n---\na":   "duplicate tag handle",
		"%TAG x y\n---\na":             "expected '!'",
		"%TAG !\n---\na":               "",
		"%FOO bar\na":                  "start of a document",
		"%!\n":                         "name of a directive",
		"a: |0\n b":                    "range 1-9",
		"a: |x\n b":                    "indicators",
		"a: |1 x\n b":                  "comment or a line break",
	} {
		n, err := Read([]byte(text), limits)
		if _, ok := errors.AsType[*SyntaxError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v %v, want %s", text, n, err, want)
		}
	}
	for text, want := range map[string]error{
		strings.Repeat("[", 101):             ErrTooDeep,
		strings.Repeat("- ", 101) + "a":      ErrTooDeep,
		strings.Repeat("? ", 101) + "a":      ErrTooDeep,
		strings.Repeat("- a\n", 1<<16):       ErrTooMany,
		"[" + strings.Repeat("a: b,", 1<<15): ErrTooMany,
	} {
		if _, err := Read([]byte(text), limits); !errors.Is(err, want) {
			t.Errorf("%.20q…: %v", text, err)
		}
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 30) + "end"
	for want, n := range map[string]*Node{
		"a\n...\n":                            str("a"),
		"'1'\n":                               str("1"),
		"1\n...\n":                            {Tag: TagInt, Value: "1"},
		"[]\n":                                seq(),
		"{}\n":                                mapping(),
		"- a\n- - b\n":                        seq(str("a"), seq(str("b"))),
		"a:\n- b\n":                           mapping(str("a"), seq(str("b"))),
		"a:\n  b: c\n":                        mapping(str("a"), mapping(str("b"), str("c"))),
		"? ''\n: a\n":                         mapping(str(""), str("a")),
		"? 'a\n\n  b'\n: c\n":                 mapping(str("a\nb"), str("c")),
		"\"\\xE9\\u20AC\\U0001F600\\0\\e\"\n": str("é€😀\x00\x1b"),
		"!!binary |\n  YQ==\n":                {Tag: TagBinary, Value: "YQ==\n", Literal: true},
		"!!binary \"\"\n":                     {Tag: TagBinary, Literal: true},
		"!!set\na: null\n":                    {Kind: Mapping, Tag: TagSet, Pairs: []Pair{{str("a"), &Node{Tag: TagNull, Value: "null"}}}},
		"!<!x> 'a'\n":                         {Tag: "!x", Value: "a"},
		"word word word word word word word word word word word word word word word word word\n" +
			"  word word word word word word word word word word word word word end\n...\n": str(long),
	} {
		if got := string(Append(nil, n)); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

// FuzzRead reads, and writes what it has read, in which the tags stay what they are.
func FuzzRead(f *testing.F) {
	for _, text := range []string{"a: [b, *c]", "- &a !x 'b'\n- *a", "? |\n  a\n: >\n  b", "%TAG ! x\n--- !y \"\\x41\"\n...\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Read(data, Limits{MaxDepth: 20, MaxValues: 1 << 10})
		if err != nil || n == nil || !onlyPlainTags(n, 0) {
			return
		}
		text := Append(nil, n)
		again, err := Read(text, limits)
		if err != nil {
			t.Fatalf("%q written as %q: %v", data, text, err)
		}
		if !reflect.DeepEqual(n, again) {
			t.Fatalf("%q written as %q", data, text)
		}
	})
}

// onlyPlainTags tells whether a node is a tree of texts and collections, as this package writes them.
func onlyPlainTags(n *Node, depth int) bool {
	if depth > 20 || n.Tag != [...]string{TagStr, TagSeq, TagMap}[n.Kind] {
		return false
	}
	for _, item := range n.Items {
		if !onlyPlainTags(item, depth+1) {
			return false
		}
	}
	for _, pair := range n.Pairs {
		if pair.Key.Kind != Scalar || !onlyPlainTags(pair.Key, depth+1) || !onlyPlainTags(pair.Value, depth+1) {
			return false
		}
	}
	return true
}
