package pyyaml

import (
	"fmt"
	"strconv"
	"strings"
)

// What yaml.safe_dump uses when it is not told otherwise.
const (
	bestIndent = 2
	bestWidth  = 80
)

// Append appends a document as yaml.safe_dump(data) writes it: block style,
// lines of about 80 characters, everything outside of ASCII escaped, no aliases.
func Append(dst []byte, root *Node) []byte {
	e := &emitter{out: dst, whitespace: true, indention: true, indent: -1}
	e.node(root, place{root: true})
	e.writeIndent()
	if e.openEnded {
		e.indicator("...", true, false, false)
		e.writeIndent()
	}
	return e.out
}

// place says where a node stands.
type place struct{ root, mapping, simpleKey bool }

// emitter writes nodes (emitter.py).
type emitter struct {
	out        []byte
	column     int
	indent     int // -1 before the root
	whitespace bool
	indention  bool // nothing but indentation on this line so far
	openEnded  bool // the document needs an end marker
}

func (e *emitter) node(n *Node, at place) {
	switch n.Kind {
	case Scalar:
		e.scalar(n, at)
	case Sequence:
		e.tag(n, TagSeq)
		if len(n.Items) == 0 {
			e.indicator("[", true, true, false)
			e.indicator("]", false, false, false)
			return
		}
		e.sequence(n, at)
	default:
		e.tag(n, TagMap)
		if len(n.Pairs) == 0 {
			e.indicator("{", true, true, false)
			e.indicator("}", false, false, false)
			return
		}
		e.mapping(n)
	}
}

// tag writes the tag of a collection that its form does not tell.
func (e *emitter) tag(n *Node, usual string) {
	if n.Tag != usual {
		e.indicator(shortTag(n.Tag), true, false, false)
	}
}

func shortTag(tag string) string {
	if suffix, ok := strings.CutPrefix(tag, tagPrefix); ok {
		return "!!" + suffix
	}
	return "!<" + tag + ">"
}

// deeper runs with more indentation.
func (e *emitter) deeper(flow, indentless bool, write func()) {
	before := e.indent
	switch {
	case e.indent < 0 && flow:
		e.indent = bestIndent
	case e.indent < 0:
		e.indent = 0
	case !indentless:
		e.indent += bestIndent
	}
	write()
	e.indent = before
}

func (e *emitter) sequence(n *Node, at place) {
	e.deeper(false, at.mapping && !e.indention, func() {
		for _, item := range n.Items {
			e.writeIndent()
			e.indicator("-", true, false, true)
			e.node(item, place{})
		}
	})
}

func (e *emitter) mapping(n *Node) {
	e.deeper(false, false, func() {
		for _, pair := range n.Pairs {
			e.writeIndent()
			if isSimpleKey(pair.Key) {
				e.node(pair.Key, place{mapping: true, simpleKey: true})
				e.indicator(":", false, false, false)
			} else {
				e.indicator("?", true, false, true)
				e.node(pair.Key, place{mapping: true})
				e.writeIndent()
				e.indicator(":", true, false, true)
			}
			e.node(pair.Value, place{mapping: true})
		}
	})
}

// maxKey is how long a key with its tag may be and still do without a question mark.
const maxKey = 128

func isSimpleKey(n *Node) bool {
	if n.Kind != Scalar {
		return len(n.Items) == 0 && len(n.Pairs) == 0
	}
	a := analyze(runes(n.Value))
	return len(shortTag(n.Tag))+len(a.text) < maxKey && len(a.text) > 0 && !a.multiline
}

func (e *emitter) scalar(n *Node, at place) {
	a := analyze(runes(n.Value))
	impliedPlain, impliedQuoted := n.Tag == Resolve(n.Value), n.Tag == TagStr
	style := a.style(n.Literal, impliedPlain, at.simpleKey)
	if !(style == 0 && impliedPlain || style != 0 && impliedQuoted) {
		e.indicator(shortTag(n.Tag), true, false, false)
	}
	e.deeper(true, false, func() {
		split := !at.simpleKey
		switch style {
		case '"':
			e.doubleQuoted(a.text, split)
		case '\'':
			e.singleQuoted(a.text, split)
		case '|':
			e.literal(a.text)
		default:
			e.plain(a.text, split, at.root)
		}
	})
}

func (e *emitter) indicator(s string, needSpace, whitespace, indention bool) {
	if !e.whitespace && needSpace {
		e.write(" ")
	}
	e.write(s)
	e.whitespace = whitespace
	e.indention = e.indention && indention
	e.openEnded = false
}

// write writes ASCII that stays on the line.
func (e *emitter) write(s string) {
	e.out = append(e.out, s...)
	e.column += len(s)
}

// text writes characters that are ASCII, as all are that need no escape.
func (e *emitter) text(chars []rune) {
	for _, c := range chars {
		e.out = append(e.out, byte(c))
	}
	e.column += len(chars)
}

func (e *emitter) writeIndent() {
	indent := max(0, e.indent)
	if !e.indention || e.column > indent || e.column == indent && !e.whitespace {
		e.lineBreak()
	}
	if e.column < indent {
		e.whitespace = true
		e.write(strings.Repeat(" ", indent-e.column))
	}
}

func (e *emitter) lineBreak() {
	e.out = append(e.out, '\n')
	e.whitespace, e.indention, e.column = true, true, 0
}

// continued is the state after a line break inside of a scalar.
func (e *emitter) continued() {
	e.writeIndent()
	e.whitespace, e.indention = false, false
}

func (e *emitter) plain(text []rune, split, root bool) {
	if root {
		e.openEnded = true
	}
	if len(text) == 0 {
		return
	}
	if !e.whitespace {
		e.write(" ")
	}
	e.whitespace, e.indention = false, false
	e.words(text, split)
}

// words writes a plain scalar, which is one line, and breaks it at single
// spaces when it gets long.
func (e *emitter) words(text []rune, split bool) {
	for i := 0; i < len(text); {
		j := i
		if text[i] == ' ' {
			for j < len(text) && text[j] == ' ' {
				j++
			}
			if j-i == 1 && e.column > bestWidth && split {
				e.continued()
			} else {
				e.text(text[i:j])
			}
		} else {
			for j < len(text) && text[j] != ' ' {
				j++
			}
			e.text(text[i:j])
		}
		i = j
	}
}

func (e *emitter) singleQuoted(text []rune, split bool) {
	e.indicator("'", true, false, false)
	for start := 0; start < len(text); {
		if text[start] != '\n' {
			end := start
			for end < len(text) && text[end] != '\n' {
				end++
			}
			e.quotedLine(text, start, end, split)
			start = end
			continue
		}
		e.lineBreak()
		for start < len(text) && text[start] == '\n' {
			e.lineBreak()
			start++
		}
		e.writeIndent()
	}
	e.indicator("'", false, false, false)
}

// quotedLine writes text[start:end], which has no line break.
func (e *emitter) quotedLine(text []rune, start, end int, split bool) {
	for i := start; i < end; {
		j := i
		switch text[i] {
		case '\'':
			e.write("''")
			i++
		case ' ':
			for j < end && text[j] == ' ' {
				j++
			}
			if j-i == 1 && e.column > bestWidth && split && i != 0 && j != len(text) {
				e.writeIndent()
			} else {
				e.text(text[i:j])
			}
			i = j
		default:
			for j < end && text[j] != ' ' && text[j] != '\'' {
				j++
			}
			e.text(text[i:j])
			i = j
		}
	}
}

// replacements undo escapes.
var replacements = func() map[rune]rune {
	out := map[rune]rune{}
	for letter, r := range escapes {
		if r != ' ' && r != '/' && letter != '\t' {
			out[r] = letter
		}
	}
	return out
}()

func (e *emitter) doubleQuoted(text []rune, split bool) {
	e.indicator(`"`, true, false, false)
	start := 0
	flush := func(end int) {
		if start < end {
			e.text(text[start:end])
			start = end
		}
	}
	for end := 0; end <= len(text); end++ {
		atEnd := end == len(text)
		if atEnd || text[end] == '"' || text[end] == '\\' || text[end] < ' ' || text[end] > '~' {
			flush(end)
			if !atEnd {
				e.write(escaped(text[end]))
				start = end + 1
			}
		}
		if end > 0 && end < len(text)-1 && (text[end] == ' ' || start >= end) && e.column+end-start > bestWidth && split {
			flush(end)
			e.write(`\`)
			e.continued()
			if text[start] == ' ' {
				e.write(`\`)
			}
		}
	}
	e.indicator(`"`, false, false, false)
}

func escaped(r rune) string {
	if letter, ok := replacements[r]; ok {
		return `\` + string(letter)
	}
	switch {
	case r <= 0xff:
		return fmt.Sprintf(`\x%02X`, r)
	case r <= 0xffff:
		return fmt.Sprintf(`\u%04X`, r)
	default:
		return fmt.Sprintf(`\U%08X`, r)
	}
}

func (e *emitter) literal(text []rune) {
	hints := blockHints(text)
	e.indicator("|"+hints, true, false, false)
	e.openEnded = strings.HasSuffix(hints, "+")
	e.lineBreak()
	for start := 0; start < len(text); {
		end := start
		for end < len(text) && text[end] != '\n' {
			end++
		}
		if end > start {
			e.writeIndent()
			e.text(text[start:end])
		}
		e.lineBreak()
		start = end + 1
	}
}

func blockHints(text []rune) string {
	hints := ""
	if len(text) == 0 {
		return hints
	}
	if text[0] == ' ' || text[0] == '\n' {
		hints = strconv.Itoa(bestIndent)
	}
	if text[len(text)-1] != '\n' {
		return hints + "-"
	}
	if len(text) == 1 || text[len(text)-2] == '\n' {
		return hints + "+"
	}
	return hints
}
