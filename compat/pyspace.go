package compat

import "unicode"

// isPythonSpace is str.isspace of CPython, which str.strip and int() use: Unicode's white space and the four information separators.
func isPythonSpace(r rune) bool {
	return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f
}
