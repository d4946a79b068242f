package compat

// glob is a pattern of Python's fnmatch.translate: "*" is any text, "?" any character, "[…]" one of a set, "[!…]" one that is not.
// There is no way to escape. Unlike a shell's, "*" matches every character.
type glob []globPart

// globPart matches one character, or with star any number of them.
type globPart struct {
	star    bool
	any     bool
	negated bool
	ranges  [][2]rune // nil with neither star nor any: nothing matches, unless negated
}

// parseGlob reads a pattern. Every text is one (cpython 3.11, Lib/fnmatch.py).
func parseGlob(pattern string) glob {
	var parsed glob
	text := []rune(pattern)
	for i := 0; i < len(text); {
		c := text[i]
		i++
		switch c {
		case '*':
			if len(parsed) == 0 || !parsed[len(parsed)-1].star {
				parsed = append(parsed, globPart{star: true})
			}
		case '?':
			parsed = append(parsed, globPart{any: true})
		case '[':
			if end := setEnd(text, i); end >= 0 {
				parsed = append(parsed, parseSet(text[i:end]))
				i = end + 1
				continue
			}
			fallthrough // no end: a bracket as any other character
		default:
			parsed = append(parsed, globPart{ranges: [][2]rune{{c, c}}})
		}
	}
	return parsed
}

// setEnd returns the index of the bracket that closes a set whose content begins at i; -1 when there is none. A bracket that stands first
// is a member.
func setEnd(text []rune, i int) int {
	j := i
	if j < len(text) && text[j] == '!' {
		j++
	}
	if j < len(text) && text[j] == ']' {
		j++
	}
	for ; j < len(text); j++ {
		if text[j] == ']' {
			return j
		}
	}
	return -1
}

// parseSet reads the content of a set. A hyphen between two characters makes a range, and one whose end is smaller matches nothing; the
// hyphen is a member where it stands first or last, or directly behind a range.
func parseSet(content []rune) globPart {
	part := globPart{}
	if len(content) > 0 && content[0] == '!' {
		part.negated = true
		content = content[1:]
	}
	for i := 0; i < len(content); i++ {
		if i+2 < len(content) && content[i+1] == '-' {
			if content[i] <= content[i+2] {
				part.ranges = append(part.ranges, [2]rune{content[i], content[i+2]})
			}
			i += 2
			continue
		}
		part.ranges = append(part.ranges, [2]rune{content[i], content[i]})
	}
	return part
}

func (p *globPart) matches(c rune) bool {
	if p.any {
		return true
	}
	for _, r := range p.ranges {
		if r[0] <= c && c <= r[1] {
			return !p.negated
		}
	}
	return p.negated
}

// match reports whether the whole text matches. It takes at most the product of both lengths.
func (g glob) match(text string) bool {
	rest := []rune(text)
	i, star, from := 0, -1, 0
	for at := 0; at < len(rest); {
		switch {
		case i < len(g) && g[i].star:
			star, from = i, at
			i++
		case i < len(g) && g[i].matches(rest[at]):
			i++
			at++
		case star >= 0:
			from++
			i, at = star+1, from
		default:
			return false
		}
	}
	for i < len(g) && g[i].star {
		i++
	}
	return i == len(g)
}
