package compat

import "strings"

// ParseCookies parses one Cookie header as Django does (django.http.cookie.parse_cookie): split at ";" only, name and value stripped, a
// part without "=" has the name "", the last duplicate wins, quoted values are unquoted with their octal escapes. Nothing is
// percent-decoded. The header's bytes are read as Latin-1, as Django and channels read them, so the values are valid UTF-8.
func ParseCookies(header string) map[string]string {
	cookies := make(map[string]string, strings.Count(header, ";")+1)
	for chunk := range strings.SplitSeq(Latin1(header), ";") {
		name, value, found := strings.Cut(chunk, "=")
		if !found {
			name, value = "", chunk
		}
		name, value = strings.TrimFunc(name, isPythonSpace), strings.TrimFunc(value, isPythonSpace)
		if name != "" || value != "" {
			cookies[name] = unquoteCookie(value)
		}
	}
	return cookies
}

// Latin1 returns the text that Python sees in a header: each byte is one character.
func Latin1(header string) string {
	ascii := true
	for i := range len(header) {
		if header[i] >= 0x80 {
			ascii = false
			break
		}
	}
	if ascii {
		return header
	}
	var b strings.Builder
	b.Grow(len(header) + 8)
	for i := range len(header) {
		b.WriteRune(rune(header[i]))
	}
	return b.String()
}

// unquoteCookie is http.cookies._unquote of CPython: only a value between double quotes has escapes.
func unquoteCookie(value string) string {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return value
	}
	value = value[1 : len(value)-1]
	if !strings.Contains(value, `\`) {
		return value
	}
	var b strings.Builder
	b.Grow(len(value))
	for i := 0; i < len(value); i++ {
		c := value[i]
		if c != '\\' || i+1 == len(value) {
			b.WriteByte(c)
			continue
		}
		if isOctalEscape(value[i+1:]) {
			b.WriteRune(rune(value[i+1]-'0')<<6 | rune(value[i+2]-'0')<<3 | rune(value[i+3]-'0'))
			i += 3
			continue
		}
		i++
		b.WriteByte(value[i])
	}
	return b.String()
}

// isOctalEscape reports whether s starts with the three digits of an octal escape (pattern [0-3][0-7][0-7]).
func isOctalEscape(s string) bool {
	return len(s) >= 3 && s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' && s[2] <= '7'
}
