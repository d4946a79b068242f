package compat

import (
	"fmt"
	"regexp"
	"strings"
)

// maxPatternBytes bounds a regular expression of task_routes.
const maxPatternBytes = 4096

// pattern is a regular expression of Python's re, to be matched at the start of a text. Where the two languages differ it is translated;
// what Go lacks (assertions that look around, references back, atomic groups, verbose syntax) is an error.
type pattern struct {
	re *regexp.Regexp
	// asciiOnly says that only for ASCII is the answer surely Python's, because of classes or of case.
	asciiOnly bool
}

// compilePattern translates an expression with Python's flags (letters of its inline syntax).
func compilePattern(expression, flags string) (*pattern, error) {
	t := &translator{
		source: expression, ascii: strings.Contains(flags, "a"),
		multiline: strings.Contains(flags, "m"), ignoresCase: strings.Contains(flags, "i"),
	}
	for _, flag := range flags {
		if !strings.ContainsRune("aims", flag) {
			return nil, fmt.Errorf("regular expression %q with the flag %q", expression, flag)
		}
	}
	if len(expression) > maxPatternBytes {
		return nil, fmt.Errorf("regular expression of more than %d bytes", maxPatternBytes)
	}
	if err := t.run(); err != nil {
		return nil, fmt.Errorf("regular expression %q with %w", expression, err)
	}
	var prefix string
	if global := strings.ReplaceAll(flags, "a", ""); global != "" {
		prefix = "(?" + global + ")"
	}
	re, err := regexp.Compile(prefix + `\A(?:` + t.out.String() + ")")
	if err != nil {
		return nil, fmt.Errorf("regular expression %q that Go does not understand", expression)
	}
	if t.ignoresCase && !isASCII(expression) {
		return nil, fmt.Errorf("regular expression %q that ignores the case of characters beyond ASCII", expression)
	}
	return &pattern{re: re, asciiOnly: t.asciiOnly || t.ignoresCase}, nil
}

// match reports whether the text begins with a match; known is false where only Python can tell.
func (p *pattern) match(text string) (matches, known bool) {
	if p.asciiOnly && !isASCII(text) {
		return false, false
	}
	return p.re.MatchString(text), true
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}

// translator rewrites one expression.
type translator struct {
	source    string
	pos       int
	out       strings.Builder
	ascii     bool
	asciiOnly bool
	// ignoresCase says that the expression, or a part of it, does.
	ignoresCase bool
	// multiline is the flag m inside the group that is being read; outer are those of the groups around it.
	multiline bool
	outer     []bool
}

// missing is a construct that Go has not.
type missing string

// Error implements error.
func (m missing) Error() string { return string(m) }

const (
	missingReference = missing("a reference back")
	missingEscape    = missing("an escape that Go has not")
	missingFlag      = missing("a flag that Go has not")
	missingSet       = missing("a set that does not end")
	missingGroup     = missing("a group that Go has not")
)

func (t *translator) run() error {
	for t.pos < len(t.source) {
		var err error
		switch c := t.source[t.pos]; c {
		case '\\':
			err = t.escape()
		case '[':
			err = t.set()
		case '(':
			err = t.open()
		case ')':
			if n := len(t.outer); n > 0 {
				t.multiline, t.outer = t.outer[n-1], t.outer[:n-1]
			}
			t.copyByte()
		case '$':
			t.pos++
			if t.multiline {
				t.out.WriteString(`(?m:$)`)
			} else {
				t.out.WriteString(`(?:\n?\z)`) // Python's is also in front of a newline that ends the text
			}
		case '{':
			t.repeat()
		case '}':
			t.pos++
			t.out.WriteString(`\}`)
		default:
			t.copyByte()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *translator) copyByte() {
	t.out.WriteByte(t.source[t.pos])
	t.pos++
}

// repeat reads "{": {m}, {m,}, {,n} and {m,n} repeat; anything else is the character itself (cpython 3.11, re/_parser.py, _parse).
func (t *translator) repeat() {
	end := strings.IndexByte(t.source[t.pos:], '}')
	if end > 0 {
		low, high, comma := strings.Cut(t.source[t.pos+1:t.pos+end], ",")
		if isDigits(low) && isDigits(high) && (comma || low != "") {
			if low == "" {
				low = "0"
			}
			t.pos += end + 1
			t.out.WriteString("{" + low)
			if comma {
				t.out.WriteString("," + high)
			}
			t.out.WriteString("}")
			return
		}
	}
	t.pos++
	t.out.WriteString(`\{`)
}

func isDigits(text string) bool {
	return strings.Trim(text, "0123456789") == ""
}

// open reads the start of a group.
func (t *translator) open() error {
	rest := t.source[t.pos:]
	if !strings.HasPrefix(rest, "(?") {
		t.outer = append(t.outer, t.multiline)
		t.copyByte()
		return nil
	}
	if strings.HasPrefix(rest, "(?#") {
		end := strings.IndexByte(rest, ')')
		if end < 0 {
			return missingGroup
		}
		t.pos += end + 1
		return nil
	}
	if strings.HasPrefix(rest, "(?P=") {
		return missingReference
	}
	if strings.HasPrefix(rest, "(?P<") || strings.HasPrefix(rest, "(?:") {
		t.outer = append(t.outer, t.multiline)
		t.out.WriteString("(?")
		t.pos += 2
		return nil
	}
	end := strings.IndexAny(rest, ":)")
	if end < 0 || strings.Trim(rest[2:end], "aiLmsux-") != "" {
		return missingGroup
	}
	return t.flags(rest[2:end], rest[end] == ':')
}

// flags reads the flags of a group, "(?i:…)", or of the whole expression, "(?i)", which the flags of the pattern repeat.
func (t *translator) flags(text string, group bool) error {
	t.pos += len("(?") + len(text) + 1
	if !group {
		if strings.Trim(text, "aimsu") != "" {
			return missingFlag
		}
		return nil
	}
	on, off, _ := strings.Cut(text, "-")
	if strings.Trim(on+off, "ims") != "" {
		return missingFlag
	}
	t.outer = append(t.outer, t.multiline)
	t.ignoresCase = t.ignoresCase || strings.Contains(on, "i")
	if strings.Contains(on, "m") {
		t.multiline = true
	}
	if strings.Contains(off, "m") {
		t.multiline = false
	}
	t.out.WriteString("(?" + text + ":")
	return nil
}
