package celeryproto

import (
	"math"
	"strconv"
)

// AppendFloat appends f as Python's json.dumps writes it: the shortest text
// that reads back as f, always with a point or an exponent, and the bare tokens
// NaN, Infinity and -Infinity.
func AppendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	default:
		return appendFloatRepr(dst, f, 64)
	}
}

// appendFloatRepr appends a finite number as Python's repr (CPython,
// PyOS_double_to_string with 'r'): an exponent below 1e-4 and from 1e16 on.
func appendFloatRepr(dst []byte, f float64, bitSize int) []byte {
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, bitSize)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, bitSize)
	for _, c := range dst[start:] {
		if c == '.' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

// floatBits are those of f in binary formats; Python has one NaN, Go another.
func floatBits(f float64) uint64 {
	if math.IsNaN(f) {
		return 0x7ff8 << 48
	}
	return math.Float64bits(f)
}
