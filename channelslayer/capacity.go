package channelslayer

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// capacities answers how many messages may wait for a channel (BaseChannelLayer.get_capacity). The same rules go to
// Redis as Lua patterns, because group_send learns the names of the members there.
type capacities struct {
	fallback int
	rules    []capacityRule
	local    bool // a rule is a regular expression, which Lua has not
}

type capacityRule struct {
	re       *regexp.Regexp
	lua      string // "" when Redis cannot have it
	capacity int
}

func newCapacities(fallback int, rules []CapacityRule) (capacities, error) {
	c := capacities{fallback: fallback}
	var faults []error
	for _, rule := range rules {
		if rule.Capacity < 1 {
			faults = append(faults, fmt.Errorf("channelslayer: option channel_capacity: %q: capacity %d is below 1", rule.pattern(), rule.Capacity))
			continue
		}
		if rule.Regexp != nil {
			c.rules = append(c.rules, capacityRule{re: rule.Regexp, capacity: rule.Capacity})
			c.local = true
			continue
		}
		re, lua, err := compileGlob(rule.Glob)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		c.rules = append(c.rules, capacityRule{re: re, lua: lua, capacity: rule.Capacity})
	}
	return c, errors.Join(faults...)
}

// of is tested against the full channel name; the first match counts.
func (c capacities) of(channel string) int {
	for _, rule := range c.rules {
		if at := rule.re.FindStringIndex(channel); at != nil && at[0] == 0 {
			return rule.capacity
		}
	}
	return c.fallback
}

// luaRune is one character of UTF-8 as a Lua 5.1 pattern, which otherwise counts bytes.
const luaRune = "[%z\x01-\x7f\xc2-\xf4][\x80-\xbf]*"

// compileGlob translates a shell pattern as Python's fnmatch.translate does (3.11), to a Go expression and to a Lua pattern.
func compileGlob(glob string) (*regexp.Regexp, string, error) {
	var re, lua strings.Builder
	re.WriteString(`(?s)\A`)
	lua.WriteByte('^')
	for i := 0; i < len(glob); {
		switch c := glob[i]; {
		case c == '*':
			re.WriteString(`.*`)
			lua.WriteString(`.*`)
			i++
		case c == '?':
			re.WriteString(`.`)
			lua.WriteString(luaRune)
			i++
		case c == '[' && setEnd(glob, i) > 0:
			end := setEnd(glob, i)
			if err := writeSet(glob[i+1:end], &re, &lua); err != nil {
				return nil, "", err
			}
			i = end + 1
		default:
			_, n := utf8.DecodeRuneInString(glob[i:])
			re.WriteString(regexp.QuoteMeta(glob[i : i+n]))
			writeLuaLiteral(glob[i:i+n], &lua)
			i += n
		}
	}
	re.WriteString(`\z`)
	lua.WriteByte('$')
	compiled, err := regexp.Compile(re.String())
	if err != nil {
		return nil, "", fmt.Errorf("channelslayer: option channel_capacity: %q: not a pattern", glob)
	}
	return compiled, lua.String(), nil
}

// setEnd returns the index of the "]" that ends the set starting at glob[start], 0 when there is none: then "[" is itself.
func setEnd(glob string, start int) int {
	j := start + 1
	if j < len(glob) && glob[j] == '!' {
		j++
	}
	if j < len(glob) && glob[j] == ']' {
		j++
	}
	if n := strings.IndexByte(glob[min(j, len(glob)):], ']'); n >= 0 {
		return j + n
	}
	return 0
}

// writeSet translates the inside of [...]. Lua's sets hold bytes, so only ASCII can be in one.
func writeSet(set string, re, lua *strings.Builder) error {
	negated := strings.HasPrefix(set, "!")
	set = strings.TrimPrefix(set, "!")
	members := make([]byte, 0, len(set))
	for i := 0; i < len(set); i++ {
		if set[i] >= utf8.RuneSelf {
			return &UnsupportedError{Option: "channel_capacity", Detail: "a character outside ASCII in a [set] of a pattern"}
		}
		if i+2 < len(set) && set[i+1] == '-' {
			for c := int(set[i]); c <= int(set[i+2]); c++ { // a range that runs backwards is empty, as in Python
				members = append(members, byte(c))
			}
			i += 2
			continue
		}
		members = append(members, set[i])
	}
	switch {
	case len(members) == 0 && negated:
		re.WriteString(`.`)
		lua.WriteString(luaRune)
	case len(members) == 0:
		re.WriteString(`[^\x00-\x{10FFFF}]`)
		lua.WriteString("[^%z\x01-\xff]")
	default:
		re.WriteByte('[')
		lua.WriteByte('[')
		if negated {
			re.WriteByte('^')
			lua.WriteString("^\x80-\xbf")
		}
		for _, c := range members {
			fmt.Fprintf(re, `\x%02x`, c)
			writeLuaLiteral(string(c), lua)
		}
		re.WriteByte(']')
		lua.WriteByte(']')
		if negated {
			lua.WriteString("[\x80-\xbf]*")
		}
	}
	return nil
}

// writeLuaLiteral escapes what is not a letter, a digit or part of a UTF-8 sequence. "%" before any such character is itself.
func writeLuaLiteral(s string, lua *strings.Builder) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == 0:
			lua.WriteString("%z")
			continue
		case c < utf8.RuneSelf && !('a' <= c && c <= 'z') && !('A' <= c && c <= 'Z') && !('0' <= c && c <= '9'):
			lua.WriteByte('%')
		}
		lua.WriteByte(c)
	}
}
