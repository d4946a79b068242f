package celeryproto

import (
	"errors"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dfws/dfws/celeryproto/internal/pyyaml"
)

// yamlText is the text of a scalar; a mapping may give one under the key "=".
func yamlText(n *pyyaml.Node) (string, error) {
	for range DefaultMaxDepth {
		if n.Kind == pyyaml.Scalar {
			return n.Value, nil
		}
		var inner *pyyaml.Node
		for _, pair := range n.Pairs {
			if pair.Key.Tag == pyyaml.TagValue {
				inner = pair.Value
				break
			}
		}
		if inner == nil {
			break
		}
		n = inner
	}
	return "", errYAML("expected a scalar, found a " + n.Kind.String())
}

// yamlScalar constructs what has no parts.
func yamlScalar(n *pyyaml.Node) (any, error) {
	switch n.Tag {
	case pyyaml.TagStr, pyyaml.TagNull, pyyaml.TagBool, pyyaml.TagInt, pyyaml.TagFloat, pyyaml.TagBinary, pyyaml.TagTimestamp:
	default:
		return nil, errTag(n.Tag)
	}
	s, err := yamlText(n)
	if err != nil {
		return nil, err
	}
	switch n.Tag {
	case pyyaml.TagNull:
		return nil, nil
	case pyyaml.TagBool:
		return yamlBool(s)
	case pyyaml.TagInt:
		return yamlInt(s)
	case pyyaml.TagFloat:
		return yamlFloat(s)
	case pyyaml.TagBinary:
		return yamlBinary(s)
	case pyyaml.TagTimestamp:
		return yamlTimestamp(s)
	default:
		return s, nil
	}
}

func yamlBool(s string) (any, error) {
	switch strings.ToLower(s) {
	case "yes", "true", "on":
		return true, nil
	case "no", "false", "off":
		return false, nil
	default:
		return nil, errYAML("not a bool")
	}
}

var errYAMLInt = errYAML("not an integer")

// cutSign removes a sign and tells whether it is a minus.
func cutSign(s string) (rest string, negative bool) {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		return s[1:], s[0] == '-'
	}
	return s, false
}

func yamlInt(s string) (any, error) {
	s, negative := cutSign(strings.ReplaceAll(s, "_", ""))
	n, err := yamlNatural(s)
	if err != nil {
		return nil, err
	}
	if negative {
		n.Neg(n)
	}
	if n.IsInt64() {
		return n.Int64(), nil
	}
	return n, nil
}

// yamlNatural reads an integer without a sign: 10, 0b1, 0x1, 010 or 1:30.
func yamlNatural(s string) (*big.Int, error) {
	switch {
	case s == "0":
		return new(big.Int), nil
	case strings.HasPrefix(s, "0b"):
		return yamlDigits(s[2:], 2)
	case strings.HasPrefix(s, "0x"):
		return yamlDigits(s[2:], 16)
	case strings.HasPrefix(s, "0"):
		return yamlDigits(s, 8)
	case !strings.Contains(s, ":"):
		return yamlDigits(s, 10)
	}
	if len(s) > DefaultMaxIntDigits {
		return nil, ErrIntTooLong
	}
	sum, sixty := new(big.Int), big.NewInt(60)
	for part := range strings.SplitSeq(s, ":") {
		digit, err := yamlDigits(part, 10)
		if err != nil {
			return nil, err
		}
		sum.Add(sum.Mul(sum, sixty), digit)
	}
	return sum, nil
}

// yamlDigits is Python's int(s, base).
func yamlDigits(s string, base int) (*big.Int, error) {
	s, negative := cutSign(strings.TrimSpace(s))
	if prefix := map[int]string{2: "0b", 8: "0o", 16: "0x"}[base]; prefix != "" && len(s) > 2 && strings.EqualFold(s[:2], prefix) {
		s = s[2:]
	}
	if s == "" || strings.Trim(strings.ToLower(s), "0123456789abcdef"[:base]) != "" {
		return nil, errYAMLInt
	}
	if len(s) > 4*DefaultMaxIntDigits || base == 10 && len(s) > DefaultMaxIntDigits {
		return nil, ErrIntTooLong
	}
	n, _ := new(big.Int).SetString(s, base) // has been looked at
	if negative {
		n.Neg(n)
	}
	return n, nil
}

func yamlFloat(s string) (any, error) {
	s, negative := cutSign(strings.ToLower(strings.ReplaceAll(s, "_", "")))
	sign := 1.0
	if negative {
		sign = -1
	}
	switch s {
	case ".inf":
		return math.Inf(int(sign)), nil
	case ".nan":
		return math.NaN(), nil
	}
	sum, base := 0.0, 1.0
	parts := strings.Split(s, ":")
	for _, part := range slices.Backward(parts) {
		f, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) || strings.ContainsAny(part, "xp") {
			return nil, errYAML("not a float")
		}
		sum += f * base
		base *= 60
	}
	return sign * sum, nil
}

// yamlBinary decodes base64 as Python's base64.decodebytes: characters outside
// of the alphabet do not count, and it ends with the padding.
func yamlBinary(s string) (any, error) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	if !isASCII(s) {
		return nil, errYAML("base64 is not ASCII")
	}
	out := []byte{}
	var bits uint32
	have, pads := 0, 0
	for i := range len(s) {
		c := s[i]
		if c == '=' {
			if pads++; have >= 2 && have+pads >= 4 {
				have = 0
				break
			}
			continue
		}
		v := strings.IndexByte(alphabet, c)
		if v < 0 {
			continue
		}
		pads = 0
		bits = bits<<6 | uint32(v)
		if have = (have + 1) % 4; have != 1 {
			shift := map[int]int{2: 4, 3: 2, 0: 0}[have]
			out = append(out, byte(bits>>shift))
		}
	}
	if have != 0 {
		return nil, errYAML("base64 without its padding")
	}
	return out, nil
}

// yamlTime is what a timestamp may look like once its tag says that it is one.
var yamlTime = regexp.MustCompile(`^([0-9][0-9][0-9][0-9])-([0-9][0-9]?)-([0-9][0-9]?)` +
	`(?:(?:[Tt]|[ \t]+)([0-9][0-9]?):([0-9][0-9]):([0-9][0-9])(?:\.([0-9]*))?` +
	`(?:[ \t]*(Z|([-+])([0-9][0-9]?)(?::([0-9][0-9]))?))?)?$`)

func yamlTimestamp(s string) (any, error) {
	m := yamlTime.FindStringSubmatch(s)
	if m == nil {
		return nil, errYAML("not a timestamp")
	}
	number := func(s string) int {
		n, _ := strconv.Atoi(s) // digits, or nothing, which is 0
		return n
	}
	date := Date{number(m[1]), time.Month(number(m[2])), number(m[3])}
	if m[4] == "" {
		return date, date.validate()
	}
	fraction := (m[7] + "000000")[:6]
	n := NaiveTime{date.Year, date.Month, date.Day, number(m[4]), number(m[5]), number(m[6]), number(fraction)}
	if err := n.validate(); err != nil {
		return nil, err
	}
	if m[8] == "" {
		return n, nil
	}
	offset := number(m[10])*3600 + number(m[11])*60
	if m[9] == "-" {
		offset = -offset
	}
	t := n.In(time.FixedZone("", offset))
	return t, validateTime(t)
}
