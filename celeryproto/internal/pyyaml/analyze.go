package pyyaml

import "slices"

// runes are the characters of a text, lone surrogates among them.
func runes(s string) []rune {
	out := make([]rune, 0, len(s))
	for len(s) > 0 {
		r, n := decodeRune(s)
		out = append(out, r)
		s = s[n:]
	}
	return out
}

// analysis is what the characters of a scalar allow.
type analysis struct {
	text                  []rune
	multiline             bool
	plain, single, blocks bool
}

// style is 0 for plain, a quote, or | for literal.
func (a *analysis) style(literal, impliedPlain, simpleKey bool) rune {
	switch {
	case !literal && impliedPlain && a.plain && !(simpleKey && (len(a.text) == 0 || a.multiline)):
		return 0
	case literal && !simpleKey && a.blocks:
		return '|'
	case !literal && a.single && !(simpleKey && a.multiline):
		return '\''
	default:
		return '"'
	}
}

func analyze(text []rune) *analysis {
	a := &analysis{text: text, plain: true, single: true}
	if len(text) == 0 {
		return a
	}
	a.blocks = true
	var previous rune
	for i, c := range text {
		last := i == len(text)-1
		followed := last || isSpaceOrEnd(text[i+1])
		if indicates(c, i == 0, followed, i == 0 || isSpaceOrEnd(previous)) {
			a.plain = false
		}
		isLine := c == '\n' || c == 0x85 || c == 0x2028 || c == 0x2029
		wasLine := i > 0 && (previous == '\n' || previous == 0x85 || previous == 0x2028 || previous == 0x2029)
		if isLine {
			a.multiline, a.plain = true, false
			if previous == ' ' && i > 0 {
				a.single, a.blocks = false, false
			}
		}
		if c != '\n' && (c < ' ' || c > '~') {
			a.plain, a.single, a.blocks = false, false, false
		}
		if c == ' ' {
			if i == 0 || last {
				a.plain = false
			}
			if last {
				a.blocks = false
			}
			if wasLine {
				a.plain, a.single = false, false
			}
		}
		previous = c
	}
	if mark := string(text[:min(3, len(text))]); slices.Contains([]string{"---", "..."}, mark) {
		a.plain = false
	}
	return a
}

// indicates tells whether a character means something in a plain scalar.
func indicates(c rune, first, followed, preceded bool) bool {
	switch {
	case first && oneOf(c, "#,[]{}&*!|>'\"%@`"):
		return true
	case first && (c == '?' || c == ':' || c == '-'), c == ':':
		return followed
	default:
		return c == '#' && preceded
	}
}
