package celeryproto

import (
	"encoding/base64"
	"errors"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dfws/dfws/celeryproto/internal/pyyaml"
)

// writeYAML writes YAML as kombu does, with yaml.safe_dump.
func writeYAML(tree any) ([]byte, error) {
	n, err := yamlNode(tree)
	if err != nil {
		return nil, err
	}
	return pyyaml.Append(nil, n), nil
}

// yamlNode represents a value (PyYAML 6.0.2, representer.py, SafeRepresenter).
func yamlNode(v any) (*pyyaml.Node, error) {
	scalar := func(tag, text string) (*pyyaml.Node, error) { return &pyyaml.Node{Tag: tag, Value: text}, nil }
	switch v := v.(type) {
	case nil:
		return scalar(pyyaml.TagNull, "null")
	case bool:
		return scalar(pyyaml.TagBool, strconv.FormatBool(v))
	case int64:
		return scalar(pyyaml.TagInt, strconv.FormatInt(v, 10))
	case *big.Int:
		return scalar(pyyaml.TagInt, v.String())
	case float64:
		return scalar(pyyaml.TagFloat, yamlFloatText(v))
	case string:
		return scalar(pyyaml.TagStr, v)
	case []byte:
		return &pyyaml.Node{Tag: pyyaml.TagBinary, Value: base64Lines(v), Literal: true}, nil
	case Date:
		return scalar(pyyaml.TagTimestamp, v.String())
	case NaiveTime:
		return scalar(pyyaml.TagTimestamp, strings.Replace(v.String(), "T", " ", 1))
	case time.Time:
		if _, offset := v.Zone(); offset%60 != 0 {
			// safe_dump writes it, and safe_load fails on it.
			return nil, &EncodeError{Err: errors.New("yaml has no offsets with seconds")}
		}
		return scalar(pyyaml.TagTimestamp, strings.Replace(FormatISOTime(v), "T", " ", 1))
	case []any:
		n := &pyyaml.Node{Kind: pyyaml.Sequence, Tag: pyyaml.TagSeq}
		for _, item := range v {
			child, err := yamlNode(item)
			if err != nil {
				return nil, err
			}
			n.Items = append(n.Items, child)
		}
		return n, nil
	case dict:
		return yamlMapping(v)
	default:
		return nil, errCannot(SerializerYAML, v)
	}
}

// yamlMapping sorts the keys, as safe_dump does.
func yamlMapping(v dict) (*pyyaml.Node, error) {
	sorted := slices.Clone(v)
	slices.SortStableFunc(sorted, func(a, b dictEntry) int { return strings.Compare(a.key, b.key) })
	n := &pyyaml.Node{Kind: pyyaml.Mapping, Tag: pyyaml.TagMap}
	for _, entry := range sorted {
		child, err := yamlNode(entry.value)
		if err != nil {
			return nil, err
		}
		key := &pyyaml.Node{Tag: pyyaml.TagStr, Value: entry.key}
		n.Pairs = append(n.Pairs, pyyaml.Pair{Key: key, Value: child})
	}
	return n, nil
}

func yamlFloatText(f float64) string {
	switch {
	case math.IsNaN(f):
		return ".nan"
	case math.IsInf(f, 1):
		return ".inf"
	case math.IsInf(f, -1):
		return "-.inf"
	}
	text := string(AppendFloat(nil, f))
	if !strings.Contains(text, ".") { // 1e+17 would be a text in YAML 1.1
		text = strings.Replace(text, "e", ".0e", 1)
	}
	return text
}

// base64Line is how many bytes Python's base64.encodebytes puts on a line.
const base64Line = 57

func base64Lines(b []byte) string {
	var out strings.Builder
	for line := range slices.Chunk(b, base64Line) {
		out.WriteString(base64.StdEncoding.EncodeToString(line))
		out.WriteByte('\n')
	}
	return out.String()
}
