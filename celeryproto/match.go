package celeryproto

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Matchers of a broadcast message (kombu 5.7, matcher.py).
const (
	MatcherGlob = "glob" // Python's fnmatch
	MatcherPCRE = "pcre" // Python's re.match: from the start, not up to the end
)

// Bounds of a pattern; Python has none.
const (
	maxPattern = 1024 // bytes
	// maxRepeated bounds its length times all its {m,n}: a compiled pattern is as large as what it repeats.
	maxRepeated = 1 << 16
)

// PatternError reports a pattern of a broadcast message that cannot be applied. It never contains the pattern.
type PatternError struct {
	// Matcher as it stands in the message, shortened.
	Matcher string
	// Offset in the pattern, in bytes; -1 when not known.
	Offset int
	// Err says what is wrong.
	Err error
}

func (e *PatternError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("celeryproto: pattern (%s): %v", e.Matcher, e.Err)
	}
	return fmt.Sprintf("celeryproto: pattern (%s): %v at byte %d", e.Matcher, e.Err, e.Offset)
}

// Unwrap gives the fact without its place.
func (e *PatternError) Unwrap() error { return e.Err }

// MatchNode tells whether a node name fits a pattern. The error is a *PatternError: the matcher is unknown, or the pattern is no
// regular expression, or one that only Python has (look-around, back references, possessive quantifiers and the like).
func MatchNode(node, pattern, matcher string) (bool, error) {
	if len(pattern) > maxPattern {
		return false, &PatternError{Matcher: shorten(matcher), Offset: -1, Err: fmt.Errorf("longer than %d bytes", maxPattern)}
	}
	switch matcher {
	case MatcherGlob:
		return parseGlob(pattern).match([]rune(node)), nil
	case MatcherPCRE:
		re, err := pythonRegexp(pattern, isASCII(node))
		if err != nil {
			return false, err
		}
		return re.MatchString(node), nil
	default:
		return false, &PatternError{Matcher: shorten(matcher), Offset: -1, Err: errors.New("no such matcher")}
	}
}

// glob is a pattern of Python's fnmatch (CPython 3.11, Lib/fnmatch.py, translate).
type glob []globToken

// globToken matches one character, or with star any number of them.
type globToken struct {
	star, any, not bool
	ranges         []globRange
}

type globRange struct{ low, high rune }

func literal(c rune) globToken { return globToken{ranges: []globRange{{c, c}}} }

func parseGlob(pattern string) glob {
	text := []rune(pattern)
	var g glob
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '*':
			g = append(g, globToken{star: true})
		case '?':
			g = append(g, globToken{any: true})
		case '[':
			end := classEnd(text, i+1)
			if end < 0 {
				g = append(g, literal(c)) // a bracket that is not closed
				continue
			}
			g = append(g, parseGlobClass(text[i+1:end]))
			i = end
		default:
			g = append(g, literal(c))
		}
	}
	return g
}

// classEnd finds the bracket that closes a class, of which "!" and "]" may be the first characters; -1 when there is none.
func classEnd(text []rune, i int) int {
	if i < len(text) && text[i] == '!' {
		i++
	}
	if i < len(text) && text[i] == ']' {
		i++
	}
	for ; i < len(text); i++ {
		if text[i] == ']' {
			return i
		}
	}
	return -1
}

// parseGlobClass reads what stands between the brackets. Between two chunks there is a hyphen that makes a range; ranges that
// run backwards are empty.
func parseGlobClass(text []rune) globToken {
	chunks := classChunks(text)
	for k := len(chunks) - 1; k > 0; k-- {
		before, after := chunks[k-1], chunks[k]
		if last := len(before) - 1; last >= 0 && len(after) > 0 && before[last] > after[0] {
			chunks[k-1] = append(slices.Clone(before[:last]), after[1:]...)
			chunks = slices.Delete(chunks, k, k+1)
		}
	}
	var t globToken
	if len(chunks[0]) > 0 && chunks[0][0] == '!' {
		t.not, chunks[0] = true, chunks[0][1:]
		if len(chunks) == 1 && len(chunks[0]) == 0 {
			return globToken{any: true} // the opposite of nothing
		}
	}
	for k, chunk := range chunks {
		for _, c := range chunk {
			t.ranges = append(t.ranges, globRange{c, c})
		}
		if k > 0 && len(chunks[k-1]) > 0 && len(chunk) > 0 {
			t.ranges = append(t.ranges, globRange{chunks[k-1][len(chunks[k-1])-1], chunk[0]})
		}
	}
	return t
}

// classChunks parts a class at the hyphens that make ranges.
func classChunks(text []rune) [][]rune {
	var chunks [][]rune
	start, k := 0, 1
	if len(text) > 0 && text[0] == '!' {
		k = 2
	}
	for k < len(text) {
		n := slices.Index(text[k:], '-')
		if n < 0 {
			break
		}
		k += n
		chunks = append(chunks, text[start:k])
		start, k = k+1, k+3
	}
	if rest := text[start:]; len(rest) > 0 || len(chunks) == 0 {
		return append(chunks, rest)
	}
	last := len(chunks) - 1 // a hyphen at the end stands for itself
	chunks[last] = append(slices.Clone(chunks[last]), '-')
	return chunks
}

func (t *globToken) match(c rune) bool {
	if t.any {
		return true
	}
	in := slices.ContainsFunc(t.ranges, func(r globRange) bool { return r.low <= c && c <= r.high })
	return in != t.not
}

// match needs time in proportion to the product of both lengths at most.
func (g glob) match(text []rune) bool {
	star, mark := -1, 0 // where to go back to: behind the last star, and how much it has taken
	p, i := 0, 0
	for i < len(text) {
		switch {
		case p < len(g) && g[p].star:
			star, mark = p+1, i
			p++
		case p < len(g) && g[p].match(text[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star, mark
		default:
			return false
		}
	}
	for p < len(g) && g[p].star {
		p++
	}
	return p == len(g)
}

// pythonRegexp compiles a pattern of Python's re for strings, as far as Go has the same. What means something else in Go, or
// nothing, is refused. Go's needs linear time, whatever the pattern.
func pythonRegexp(pattern string, ascii bool) (*regexp.Regexp, error) {
	t := regexpTranslator{in: pattern, ascii: ascii, times: 1}
	t.out.WriteString(`\A(?:`)
	for t.pos < len(t.in) {
		if err := t.next(); err != nil {
			return nil, &PatternError{Matcher: MatcherPCRE, Offset: t.pos, Err: err}
		}
	}
	if t.depth != 0 {
		return nil, &PatternError{Matcher: MatcherPCRE, Offset: t.pos, Err: errors.New("a bracket that is not closed")}
	}
	t.out.WriteString(`)`)
	re, err := regexp.Compile(t.out.String())
	if err != nil {
		// Its error quotes the pattern.
		return nil, &PatternError{Matcher: MatcherPCRE, Offset: -1, Err: errors.New("not a regular expression that Go has, too")}
	}
	return re, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

type regexpTranslator struct {
	in     string
	pos    int
	out    strings.Builder
	ascii  bool // so is the text: Go's word boundaries are for it
	depth  int  // of round brackets
	anchor bool // what came last has no width: Python does not repeat it
	times  int  // product of the repetitions, from 1 on
}

var (
	errOnlyPython = errors.New("only Python has this")
	errAnchor     = errors.New("nothing to repeat")
)

// Classes of Python's re for str; \d is the same with \p{Nd}.
const (
	pythonSpaces = `\t-\r\x1c-\x20\x{85}\p{Z}`
	pythonWord   = `\p{L}\p{N}_`
)

func (t *regexpTranslator) next() error {
	c, start, anchored := t.in[t.pos], t.pos, t.anchor
	t.anchor = false
	switch c {
	case '\\':
		if err := t.escape(false); err != nil {
			return err
		}
		t.anchor = strings.IndexByte("AbBZ", t.in[start+1]) >= 0
	case '[':
		return t.class()
	case '(':
		t.depth++
		return t.group()
	case ')':
		if t.depth--; t.depth < 0 {
			return errors.New("a bracket that was not opened")
		}
		t.copy(1)
	case '{':
		isRepeat, err := t.brace()
		if err == nil && isRepeat && anchored {
			err = errAnchor
		}
		return err
	case '*', '+', '?':
		if anchored {
			return errAnchor
		}
		t.copy(1)
	case '^', '$': // in Python the latter also before a newline at the end, which node names do not have
		t.copy(1)
		t.anchor = true
	default:
		_, size := utf8.DecodeRuneInString(t.in[t.pos:])
		t.copy(size)
	}
	return nil
}

func (t *regexpTranslator) copy(n int) {
	t.out.WriteString(t.in[t.pos : t.pos+n])
	t.pos += n
}

func (t *regexpTranslator) replace(n int, text string) {
	t.out.WriteString(text)
	t.pos += n
}

// escape translates a backslash and what belongs to it.
func (t *regexpTranslator) escape(inClass bool) error {
	if t.pos+1 == len(t.in) {
		return errors.New("a backslash at the end")
	}
	c := t.in[t.pos+1]
	outside := func(text string) string { // a class of its own outside of one
		if inClass {
			return text
		}
		return "[" + text + "]"
	}
	switch {
	case c == 'd':
		t.replace(2, `\p{Nd}`)
	case c == 'D':
		t.replace(2, `\P{Nd}`)
	case c == 's':
		t.replace(2, outside(pythonSpaces))
	case c == 'w':
		t.replace(2, outside(pythonWord))
	case c == 'S' && !inClass:
		t.replace(2, "[^"+pythonSpaces+"]")
	case c == 'W' && !inClass:
		t.replace(2, "[^"+pythonWord+"]")
	case c == 'Z' && !inClass:
		t.replace(2, `\z`)
	case c == 'b' && inClass:
		t.replace(2, `\x08`)
	case !inClass && !t.ascii && strings.IndexByte("bB", c) >= 0:
		return errors.New("word boundaries in a name beyond ASCII")
	case !inClass && strings.IndexByte("AbB", c) >= 0, strings.IndexByte("nrtfva", c) >= 0:
		t.copy(2)
	case c == 'x':
		return t.hex(2)
	case c == 'u':
		return t.hex(4)
	case c == 'U':
		return t.hex(8)
	case c < utf8.RuneSelf && (c == '_' || unicode.IsLetter(rune(c)) || unicode.IsDigit(rune(c))):
		return errOnlyPython // back references, octal numbers, names of characters; or an error in Python, too
	case c < utf8.RuneSelf:
		t.copy(2)
	default:
		_, size := utf8.DecodeRuneInString(t.in[t.pos+1:])
		t.replace(1, "")
		t.copy(size)
	}
	return nil
}

// hex translates \xhh, \uhhhh and \Uhhhhhhhh.
func (t *regexpTranslator) hex(digits int) error {
	end := t.pos + 2 + digits
	if end > len(t.in) {
		return errors.New("an escape that is not complete")
	}
	text := t.in[t.pos+2 : end]
	for i := range len(text) {
		if hexValue([]byte{'0', '0', '0', text[i]}) < 0 {
			return errors.New("an escape that is not complete")
		}
	}
	t.replace(2+digits, `\x{`+text+`}`)
	return nil
}

// class translates […].
func (t *regexpTranslator) class() error {
	t.copy(1)
	if t.pos < len(t.in) && t.in[t.pos] == '^' {
		t.copy(1)
	}
	for first := true; t.pos < len(t.in); first = false {
		switch c := t.in[t.pos]; {
		case c == ']' && !first:
			t.copy(1)
			return nil
		case c == ']', c == '[': // Python has no names of classes in brackets
			t.replace(1, `\`+string(c))
		case c == '\\':
			if err := t.escape(true); err != nil {
				return err
			}
		default:
			_, size := utf8.DecodeRuneInString(t.in[t.pos:])
			t.copy(size)
		}
	}
	return errors.New("a class that is not closed")
}

// group translates the beginning of (…).
func (t *regexpTranslator) group() error {
	rest := t.in[t.pos:]
	switch {
	case !strings.HasPrefix(rest, "(?"):
		t.copy(1)
	case strings.HasPrefix(rest, "(?:"):
		t.copy(len("(?:"))
	case strings.HasPrefix(rest, "(?P<"):
		t.copy(len("(?P<"))
	default:
		end := strings.IndexAny(rest, ":)")
		if end < 0 || strings.Trim(rest[2:end], "ims-") != "" || rest[end] == ')' && t.pos > 0 {
			return errOnlyPython // look-around, conditions, comments; flags that Go lacks; flags in the middle
		}
		t.copy(end + 1)
	}
	return nil
}

// brace translates {m,n}, of which Python allows m to be left out; any other brace is itself, and then it reports false.
func (t *regexpTranslator) brace() (isRepeat bool, err error) {
	rest := t.in[t.pos+1:]
	low := digitsOf(rest)
	after, comma := strings.CutPrefix(rest[len(low):], ",")
	high := digitsOf(after)
	if !strings.HasPrefix(after[len(high):], "}") || low == "" && !comma {
		t.replace(1, `\{`)
		return false, nil
	}
	n, err := strconv.Atoi(cmp.Or(high, low, "1"))
	if err != nil || n > maxRepeated/(t.times*len(t.in)) {
		return true, errors.New("too many repetitions")
	}
	t.times *= max(n, 1)
	if low == "" {
		t.replace(len("{,")+len(high), "{0,"+high)
	} else {
		t.copy(1)
	}
	return true, nil
}

// digitsOf is the digits that a text begins with.
func digitsOf(s string) string {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return s[:n]
}
