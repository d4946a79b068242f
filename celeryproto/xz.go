package celeryproto

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"slices"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// The .xz container (https://tukaani.org/xz/xz-file-format.txt, version 1.2.1).
//
// It is taken apart here, so that a dictionary is never larger than what it is
// needed for: its size stands in a header, 4 GiB if a stranger wishes, and 8 MiB
// in every message that Python compresses, however small.
const (
	xzMagic       = "\xfd7zXZ\x00"
	xzFooterMagic = "YZ"
	xzHeaderLen   = 12
	xzFooterLen   = 12
	xzFilterLZMA2 = 0x21
)

var errXZ = errors.New("xz: corrupt data")

// xzChecks are the sums behind each block, by their number in the header.
var xzChecks = map[byte]func() hash.Hash{
	0x00: nil,
	0x01: func() hash.Hash { return &littleEndian{Hash: crc32.NewIEEE()} },
	0x04: func() hash.Hash { return &littleEndian{Hash: crc64.New(crc64.MakeTable(crc64.ECMA))} },
	0x0a: sha256.New,
}

// littleEndian is a CRC as .xz stores it.
type littleEndian struct{ hash.Hash }

func (h *littleEndian) Sum(b []byte) []byte {
	sum := h.Hash.Sum(nil)
	slices.Reverse(sum)
	return append(b, sum...)
}

// xzCursor walks over the container.
type xzCursor struct {
	b   []byte
	err error
}

func (c *xzCursor) take(n int) []byte {
	if c.err != nil || n < 0 || n > len(c.b) {
		c.err = errXZ
		return make([]byte, min(max(n, 0), 64)) // for fields of a fixed size
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

// varint is seven bits a byte, the lowest first.
func (c *xzCursor) varint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 || n > 9 {
		c.err = errXZ
		return 0
	}
	c.b = c.b[n:]
	return v
}

// zeros takes padding.
func (c *xzCursor) zeros(n int) {
	for _, b := range c.take(n) {
		if b != 0 {
			c.err = errXZ
		}
	}
}

// checkCRC compares a little-endian CRC-32 with that of some bytes.
func (c *xzCursor) checkCRC(of []byte) {
	if sum := c.take(4); binary.LittleEndian.Uint32(sum) != crc32.ChecksumIEEE(of) {
		c.err = errXZ
	}
}

// xzBlock is one compressed block, whose chunks were walked over.
type xzBlock struct {
	dict   int64
	chunks []byte
	plain  int64 // size
	sum    []byte
}

func readXZ(data []byte, limit int64) (io.Reader, error) {
	c := &xzCursor{b: data}
	var readers []io.Reader
	var total int64
	for first := true; first || len(c.b) > 0; first = false {
		check, blocks := c.stream()
		if c.err != nil {
			return nil, c.err
		}
		for _, block := range blocks {
			if total += block.plain; total > limit {
				return nil, ErrTooLarge
			}
			readers = append(readers, &xzReader{block: block, check: check})
		}
		for len(c.b) >= 4 && bytes.Equal(c.b[:4], make([]byte, 4)) { // padding between streams
			c.b = c.b[4:]
		}
	}
	return io.MultiReader(readers...), nil
}

// stream walks over one stream: header, blocks, index, footer.
func (c *xzCursor) stream() (check func() hash.Hash, blocks []xzBlock) {
	header := c.take(xzHeaderLen)
	if c.err != nil || string(header[:len(xzMagic)]) != xzMagic {
		c.err = errXZ
		return nil, nil
	}
	flags := header[6:8]
	crc := &xzCursor{b: header[8:]}
	crc.checkCRC(flags)
	check, known := xzChecks[flags[1]]
	if crc.err != nil || flags[0] != 0 || !known {
		c.err = errXZ
		return nil, nil
	}
	sumSize := 0
	if check != nil {
		sumSize = check().Size()
	}
	var records []uint64
	for c.err == nil && len(c.b) > 0 && c.b[0] != 0 {
		block, unpadded := c.block(sumSize)
		blocks = append(blocks, block)
		records = append(records, uint64(unpadded), uint64(block.plain))
	}
	size := c.index(records)
	footer := &xzCursor{b: c.take(xzFooterLen)}
	sum := footer.take(4)
	if c.err == nil && (binary.LittleEndian.Uint32(sum) != crc32.ChecksumIEEE(footer.b[:6]) ||
		int(binary.LittleEndian.Uint32(footer.b)+1)*4 != size ||
		!bytes.Equal(footer.b[4:6], flags) || string(footer.b[6:]) != xzFooterMagic) {
		c.err = errXZ
	}
	return check, blocks
}

// index checks that the index lists the blocks, and tells its size.
func (c *xzCursor) index(records []uint64) int {
	start := c.b
	size := func() int { return len(start) - len(c.b) }
	c.take(1) // the zero that no block begins with
	if c.varint() != uint64(len(records)/2) {
		c.err = errXZ
	}
	for _, want := range records {
		if c.err != nil {
			return 0
		}
		if c.varint() != want {
			c.err = errXZ
		}
	}
	if c.err != nil {
		return 0
	}
	c.zeros(-size() & 3)
	c.checkCRC(start[:size()])
	return size()
}

// block walks over one block and tells its size without padding.
func (c *xzCursor) block(sumSize int) (block xzBlock, unpadded int) {
	start := c.b
	headerSize := (int(c.b[0]) + 1) * 4
	raw := c.take(headerSize)
	if c.err != nil {
		return block, 0
	}
	h := &xzCursor{b: raw[1 : headerSize-4]}
	flags := h.take(1)[0]
	compressed, plain := int64(-1), int64(-1)
	if flags&0x40 != 0 {
		compressed = int64(h.varint())
	}
	if flags&0x80 != 0 {
		plain = int64(h.varint())
	}
	// One filter, LZMA2: Python's default, and what everybody writes.
	filter, propsSize := h.varint(), h.varint()
	dict := h.take(1)[0]
	h.zeros(len(h.b))
	crc := &xzCursor{b: raw[headerSize-4:], err: h.err}
	crc.checkCRC(raw[:headerSize-4])
	switch {
	case crc.err != nil, flags&0x3f != 0 && filter == xzFilterLZMA2:
		c.err = errXZ
	case flags&0x03 != 0, filter != xzFilterLZMA2:
		c.err = &UnsupportedError{What: "compression", Name: "xz with another filter than LZMA2"}
	case propsSize != 1 || dict > 40:
		c.err = errXZ
	}
	block.dict = int64(2|dict&1) << (dict/2 + 11)
	before := c.b
	block.plain = c.chunks()
	block.chunks = before[:len(before)-len(c.b)]
	if compressed >= 0 && compressed != int64(len(block.chunks)) || plain >= 0 && plain != block.plain {
		c.err = errXZ
	}
	size := len(start) - len(c.b)
	c.zeros(-size & 3)
	block.sum = c.take(sumSize)
	return block, size + sumSize
}

// chunks walks over the chunks of LZMA2 and tells how many bytes they become.
func (c *xzCursor) chunks() (plain int64) {
	for c.err == nil {
		control := c.take(1)[0]
		switch {
		case c.err != nil, control == 0:
			return plain
		case control >= 0x80:
			sizes := c.take(4)
			plain += int64(control&0x1f)<<16 + int64(binary.BigEndian.Uint16(sizes)) + 1
			if control >= 0xc0 { // new properties
				c.take(1)
			}
			c.take(int(binary.BigEndian.Uint16(sizes[2:])) + 1)
		case control <= 2:
			n := int(binary.BigEndian.Uint16(c.take(2))) + 1
			plain += int64(n)
			c.take(n)
		default:
			c.err = errXZ
		}
	}
	return plain
}

// xzReader decodes one block.
type xzReader struct {
	block xzBlock
	check func() hash.Hash
	r     io.Reader
	sum   hash.Hash
	left  int64
}

func (x *xzReader) Read(p []byte) (int, error) {
	if x.r == nil {
		dict := max(lzma.MinDictCap, min(x.block.dict, x.block.plain))
		r, err := lzma.Reader2Config{DictCap: int(dict)}.NewReader2(bytes.NewReader(x.block.chunks))
		if err != nil {
			return 0, err
		}
		x.r, x.left = r, x.block.plain
		if x.check != nil {
			x.sum = x.check()
		}
	}
	n, err := x.r.Read(p)
	if x.left -= int64(n); x.sum != nil {
		x.sum.Write(p[:n]) // never fails
	}
	if errors.Is(err, io.EOF) && (x.left != 0 || x.sum != nil && !bytes.Equal(x.sum.Sum(nil), x.block.sum)) {
		err = errXZ
	}
	return n, err
}

// xzDictionary is that of Python's default, preset 6.
const xzDictionary = 8 << 20

func writeXZ(plain []byte) ([]byte, error) {
	config := xz.WriterConfig{CheckSum: xz.CRC64, DictCap: max(lzma.MinDictCap, min(len(plain), xzDictionary))}
	var buf bytes.Buffer
	w, err := config.NewWriter(&buf)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(plain)
	err = errors.Join(err, w.Close())
	return buf.Bytes(), err
}
