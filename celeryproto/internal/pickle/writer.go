package pickle

import (
	"encoding/binary"
	"math"
	"math/big"
	"slices"
)

// Writer writes one pickle of protocol 4, which every Python since 3.4 reads
// and kombu writes. It says everything where it stands and remembers nothing:
// parts that Python would share are written again.
type Writer struct {
	buf []byte
}

// What comes before the first opcode: the protocol, and a frame whose length
// Bytes fills in.
const (
	protocol  = 4
	headerLen = 2
	frameLen  = 1 + 8
)

// NewWriter begins a pickle with room for size bytes.
func NewWriter(size int) *Writer {
	buf := make([]byte, headerLen+frameLen, headerLen+frameLen+size)
	buf[0], buf[1], buf[2] = opProto, protocol, opFrame
	return &Writer{buf: buf}
}

// Bytes ends the pickle, whose one value has been written.
func (w *Writer) Bytes() []byte {
	w.op(opStop)
	binary.LittleEndian.PutUint64(w.buf[headerLen+1:], uint64(len(w.buf)-headerLen-frameLen))
	return w.buf
}

func (w *Writer) op(op byte) { w.buf = append(w.buf, op) }

// None writes None.
func (w *Writer) None() { w.op(opNone) }

// Bool writes a bool.
func (w *Writer) Bool(v bool) {
	if v {
		w.op(opNewTrue)
		return
	}
	w.op(opNewFalse)
}

// Int writes an int.
func (w *Writer) Int(n int64) {
	switch {
	case n >= 0 && n <= math.MaxUint8:
		w.buf = append(w.buf, opBinInt1, byte(n))
	case n >= 0 && n <= math.MaxUint16:
		w.buf = binary.LittleEndian.AppendUint16(append(w.buf, opBinInt2), uint16(n))
	case n >= math.MinInt32 && n <= math.MaxInt32:
		w.buf = binary.LittleEndian.AppendUint32(append(w.buf, opBinInt), uint32(n))
	default:
		w.BigInt(big.NewInt(n))
	}
}

// BigInt writes an int of any size.
func (w *Writer) BigInt(n *big.Int) {
	b := twosComplement(n)
	if len(b) <= math.MaxUint8 {
		w.buf = append(w.buf, opLong1, byte(len(b)))
	} else {
		w.buf = binary.LittleEndian.AppendUint32(append(w.buf, opLong4), uint32(len(b)))
	}
	w.buf = append(w.buf, b...)
}

// twosComplement is n in little-endian bytes, with room for its sign.
func twosComplement(n *big.Int) []byte {
	size := n.BitLen()/8 + 1
	v := n
	if n.Sign() < 0 {
		v = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
	}
	b := v.FillBytes(make([]byte, size))
	slices.Reverse(b)
	// A negative number whose last byte says nothing but the sign is one shorter.
	if k := len(b); n.Sign() < 0 && k > 1 && b[k-1] == 0xff && b[k-2]&0x80 != 0 {
		b = b[:k-1]
	}
	return b
}

// Float writes a float.
func (w *Writer) Float(f float64) {
	w.buf = binary.BigEndian.AppendUint64(append(w.buf, opBinFloat), math.Float64bits(f))
}

// Text writes a str; lone surrogates stand in their three-byte form.
func (w *Writer) Text(s string) {
	w.counted(len(s), opShortBinUnicode, opBinUnicode, opBinUnicode8)
	w.buf = append(w.buf, s...)
}

// Binary writes bytes.
func (w *Writer) Binary(b []byte) {
	w.counted(len(b), opShortBinBytes, opBinBytes, opBinBytes8)
	w.buf = append(w.buf, b...)
}

func (w *Writer) counted(n int, short, medium, long byte) {
	switch {
	case n <= math.MaxUint8:
		w.buf = append(w.buf, short, byte(n))
	case uint64(n) <= math.MaxUint32:
		w.buf = binary.LittleEndian.AppendUint32(append(w.buf, medium), uint32(n))
	default:
		w.buf = binary.LittleEndian.AppendUint64(append(w.buf, long), uint64(n))
	}
}

// List writes a list of n items, each by a call of item.
func (w *Writer) List(n int, item func(i int) error) error {
	w.op(opEmptyList)
	return w.fill(n, opAppends, item)
}

// Dict writes a dict of n entries; entry writes a key and its value.
func (w *Writer) Dict(n int, entry func(i int) error) error {
	w.op(opEmptyDict)
	return w.fill(n, opSetItems, entry)
}

// batch is how many items Python's own writer puts between two marks.
const batch = 1000

func (w *Writer) fill(n int, end byte, item func(i int) error) error {
	for i := range n {
		if i%batch == 0 {
			w.op(opMark)
		}
		if err := item(i); err != nil {
			return err
		}
		if i%batch == batch-1 || i == n-1 {
			w.op(end)
		}
	}
	return nil
}

// Tuple writes a tuple of n items.
func (w *Writer) Tuple(n int, item func(i int) error) error {
	if n == 0 {
		w.op(opEmptyTuple)
		return nil
	}
	w.op(opMark)
	for i := range n {
		if err := item(i); err != nil {
			return err
		}
	}
	w.op(opTuple)
	return nil
}

// Global writes the name of something in a module.
func (w *Writer) Global(g Global) {
	w.Text(g.Module)
	w.Text(g.Name)
	w.op(opStackGlobal)
}

// Call writes the call of a global with n arguments.
func (w *Writer) Call(g Global, n int, arg func(i int) error) error {
	w.Global(g)
	if err := w.Tuple(n, arg); err != nil {
		return err
	}
	w.op(opReduce)
	return nil
}

// New writes an object made without arguments, and its state, which state writes.
func (w *Writer) New(class Global, state func()) {
	w.Global(class)
	w.op(opEmptyTuple)
	w.op(opNewObj)
	state()
	w.op(opBuild)
}
