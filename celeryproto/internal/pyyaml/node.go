package pyyaml

import (
	"errors"
	"strconv"
)

// Kind is the kind of a node.
type Kind uint8

// The kinds of nodes.
const (
	Scalar Kind = iota
	Sequence
	Mapping
)

func (k Kind) String() string {
	return [...]string{"scalar", "sequence", "mapping"}[k]
}

// Node is a value with its tag. Text may have lone surrogates in their
// three-byte form (WTF-8), which only an escape can make.
type Node struct {
	Kind  Kind
	Tag   string  // resolved, TagStr and the like
	Value string  // of a scalar
	Items []*Node // of a sequence
	Pairs []Pair  // of a mapping, duplicate keys kept
	// Literal asks the writer for the literal style, which PyYAML uses for binary.
	Literal bool
}

// Pair is a key of a mapping with its value.
type Pair struct{ Key, Value *Node }

// Tags that have a meaning of their own.
const (
	tagPrefix    = "tag:yaml.org,2002:"
	TagNull      = tagPrefix + "null"
	TagBool      = tagPrefix + "bool"
	TagInt       = tagPrefix + "int"
	TagFloat     = tagPrefix + "float"
	TagStr       = tagPrefix + "str"
	TagBinary    = tagPrefix + "binary"
	TagTimestamp = tagPrefix + "timestamp"
	TagSeq       = tagPrefix + "seq"
	TagMap       = tagPrefix + "map"
	TagSet       = tagPrefix + "set"
	TagOmap      = tagPrefix + "omap"
	TagPairs     = tagPrefix + "pairs"
	TagMerge     = tagPrefix + "merge"
	TagValue     = tagPrefix + "value"
)

// Limits bounds what Read may cost.
type Limits struct {
	MaxDepth  int // of nesting
	MaxValues int // nodes and tokens
}

// Errors of Read, beside *SyntaxError.
var (
	ErrTooDeep = errors.New("nested too deeply")
	ErrTooMany = errors.New("too many values")
)

// SyntaxError reports bytes that PyYAML would refuse.
type SyntaxError struct {
	Offset int // in bytes, in the text as UTF-8
	Msg    string
}

func (e *SyntaxError) Error() string {
	return "yaml: " + e.Msg + " at byte " + strconv.Itoa(e.Offset)
}
