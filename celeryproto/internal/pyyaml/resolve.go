package pyyaml

import "regexp"

// resolvers tell what a plain scalar is, in PyYAML's order (resolver.py).
var resolvers = []struct {
	tag    string
	first  string // characters that such a scalar may begin with
	regexp *regexp.Regexp
}{
	{TagBool, "yYnNtTfFoO", regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)},
	{TagFloat, "-+0123456789.", regexp.MustCompile(`^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?` +
		`|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?` +
		`|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*` +
		`|[-+]?\.(?:inf|Inf|INF)` +
		`|\.(?:nan|NaN|NAN))$`)},
	{TagInt, "-+0123456789", regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)` +
		`|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)},
	{TagMerge, "<", regexp.MustCompile(`^(?:<<)$`)},
	{TagNull, "~nN", regexp.MustCompile(`^(?:~|null|Null|NULL)$`)},
	{TagTimestamp, "0123456789", regexp.MustCompile(`^(?:[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]` +
		`|[0-9][0-9][0-9][0-9]-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \t]+)[0-9][0-9]?:[0-9][0-9]:[0-9][0-9](?:\.[0-9]*)?` +
		`(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9][0-9])?))?)$`)},
	{TagValue, "=", regexp.MustCompile(`^(?:=)$`)},
}

// byFirst has the resolvers that a first character leaves.
var byFirst = func() (table [256][]int) {
	for i, r := range resolvers {
		for _, c := range []byte(r.first) {
			table[c] = append(table[c], i)
		}
	}
	return table
}()

// Resolve is the tag of a plain scalar.
func Resolve(value string) string {
	if value == "" {
		return TagNull
	}
	for _, i := range byFirst[value[0]] {
		if resolvers[i].regexp.MatchString(value) {
			return resolvers[i].tag
		}
	}
	return TagStr
}
