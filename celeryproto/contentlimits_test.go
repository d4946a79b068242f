package celeryproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestContentLimits has what is small and would become large.
func TestContentLimits(t *testing.T) {
	t.Parallel()
	deep := DefaultMaxDepth + 1
	lim := Limits{Accept: acceptAll, MaxDecompressed: 1 << 20, MaxValues: 1 << 16}
	laughs, merges := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n", "a0: &a0 {k0: 1, l0: 1}\n"
	hidden := "a0: &a0 {k: x, k: x}\n"
	pickled := "(lp0\nVx\naVx\na"
	for i := 1; i < 40; i++ {
		alias := fmt.Sprintf("*a%d", i-1)
		laughs += fmt.Sprintf("a%d: &a%d [%s%s]\n", i, i, alias, strings.Repeat(", "+alias, 9))
		merges += fmt.Sprintf("a%d: &a%d {<<: [%s, %s], k%d: 1}\n", i, i, alias, alias, i)
		hidden += fmt.Sprintf("a%d: &a%d {k: %s, k: %s}\n", i, i, alias, alias)
		pickled += fmt.Sprintf("(lp%d\ng%d\nag%d\na", i, i-1, i-1)
	}
	for name, tc := range map[string]struct {
		contentType, data string
		want              error
	}{
		"msgpack: deep":         {ContentTypeMsgpack, strings.Repeat("\x91", deep) + "\xc0", ErrTooDeep},
		"msgpack: deep maps":    {ContentTypeMsgpack, strings.Repeat("\x81\xa1k", deep) + "\xc0", ErrTooDeep},
		"msgpack: large":        {ContentTypeMsgpack, "\xdd\x00\x04\x00\x00" + strings.Repeat("\xc0", 1<<18), ErrTooLarge},
		"msgpack: large text":   {ContentTypeMsgpack, "\xdb\x00\x04\x00\x00" + strings.Repeat("\x01", 1<<18), ErrTooLarge},
		"yaml: laughs":          {ContentTypeYAML, laughs, ErrTooLarge},
		"yaml: merges":          {ContentTypeYAML, merges, ErrTooMany},
		"yaml: hidden":          {ContentTypeYAML, hidden, ErrTooLarge},
		"yaml: hidden in a set": {ContentTypeYAML, laughs + "s: !!set {a: *a9}", ErrTooLarge},
		"yaml: deep flow":       {ContentTypeYAML, strings.Repeat("[", deep) + strings.Repeat("]", deep), ErrTooDeep},
		"yaml: deep blocks":     {ContentTypeYAML, strings.Repeat("- ", deep) + "x", ErrTooDeep},
		"yaml: deep keys":       {ContentTypeYAML, strings.Repeat("? ", deep) + "x", ErrTooDeep},
		"yaml: many":            {ContentTypeYAML, strings.Repeat("- x\n", 1<<16), ErrTooMany},
		"yaml: digits":          {ContentTypeYAML, strings.Repeat("9", DefaultMaxIntDigits+1), ErrIntTooLong},
		"yaml: hex digits":      {ContentTypeYAML, "0x" + strings.Repeat("f", DefaultMaxIntDigits), ErrIntTooLong},
		"pickle: laughs":        {ContentTypePickle, pickled + "g39\n.", ErrTooLarge},
		"pickle: hidden":        {ContentTypePickle, "(lp0\n}p1\n(" + strings.Repeat("Vk\nN", 1000) + "ua" + strings.Repeat("g1\na", 3000) + ".", ErrTooLarge},
		"pickle: state":         {ContentTypePickle, "cuuid\nUUID\n)\x81}(" + strings.Repeat("Vint\nI1\n", 3) + "ub.", nil},
		"pickle: calls":         {ContentTypePickle, strings.Repeat("cbuiltins\nbytearray\n", 3) + "C\x00" + strings.Repeat("\x85R", 3) + ".", nil},
		"pickle: deep":          {ContentTypePickle, strings.Repeat("]", deep) + strings.Repeat("a", deep-1) + ".", ErrTooDeep},
		"pickle: deep tuples":   {ContentTypePickle, "N" + strings.Repeat("\x85", deep) + ".", ErrTooDeep},
		"pickle: many":          {ContentTypePickle, strings.Repeat("N0", 1<<16) + "N.", ErrTooMany},
		"pickle: digits":        {ContentTypePickle, "L" + strings.Repeat("9", 9000) + "L\n.", ErrIntTooLong},
		"pickle: bits":          {ContentTypePickle, "\x8b\x00\x10\x00\x00" + strings.Repeat("\x7f", 4096) + ".", ErrIntTooLong},
		"pickle: deep calls":    {ContentTypePickle, "cdatetime\ntimezone\n" + strings.Repeat(")R", 2000) + ".", nil},
		"pickle: memo":          {ContentTypePickle, "Nr\xff\xff\xff\x7f.", nil},
		"pickle: length":        {ContentTypePickle, "\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", nil},
		"msgpack: length":       {ContentTypeMsgpack, "\xdd\xff\xff\xff\xff", nil},
		"msgpack: map length":   {ContentTypeMsgpack, "\xdf\xff\xff\xff\xff", nil},
		"msgpack: bytes length": {ContentTypeMsgpack, "\xc6\xff\xff\xff\xff", nil},
		"yaml: cycle":           {ContentTypeYAML, "&a [*a]", nil},
		"yaml: cycle of maps":   {ContentTypeYAML, "&a {k: {k: *a}}", nil},
		"yaml: merge cycle":     {ContentTypeYAML, "&a {<<: *a, k: *a}", nil},
		"yaml: value cycle":     {ContentTypeYAML, "!!str &a {=: *a}", nil},
		"pickle: cycle":         {ContentTypePickle, "]q\x00h\x00a.", nil},
		"pickle: cycle of dict": {ContentTypePickle, "}q\x00Vk\nh\x00s.", nil},
		"pickle: cycle of call": {ContentTypePickle, "ccollections\nOrderedDict\n)Rq\x00Vk\nh\x00s.", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := DecodeContent(tc.contentType, "", []byte(tc.data), lim)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

// TestPickledExceptionLimits has arguments of an exception that refer to the same large list.
func TestPickledExceptionLimits(t *testing.T) {
	t.Parallel()
	meta := func(args string) []byte {
		return []byte("(lp0\n" + strings.Repeat("Vtext\na", 1000) + "0(Vstatus\nVFAILURE\nVresult\ncbuiltins\nValueError\n(" + args + "tRd.")
	}
	codec := pickleCodec
	codec.Limits.MaxDecompressed = 1 << 20
	if _, err := codec.Decode(meta(strings.Repeat("g0\n", 50))); err != nil {
		t.Error(err)
	}
	if _, err := codec.Decode(meta(strings.Repeat("g0\n", 1000))); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if _, err := codec.Decode(meta(strings.Repeat("cx\ny\n(V"+strings.Repeat("a", 1000)+"\ntR", 1200))); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	// Those that cannot be shown cost all the same.
	if _, err := codec.Decode(meta(strings.Repeat("(lg0\nacx\ny\na", 1000))); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// bombs become 16 MiB of zeros or more, or ask for a dictionary of gigabytes.
func bombs(t *testing.T) map[string][]byte {
	t.Helper()
	zeros := make([]byte, 1<<20)
	out := map[string][]byte{}
	for _, a := range algorithms {
		block := must(compress(a.mime, zeros))(t)
		switch a.mime {
		case CompressionBzip2, CompressionXZ, CompressionZstd: // what follows a stream is another one
			out[a.mime] = bytes.Repeat(block, 64)
		default:
			out[a.mime] = must(compress(a.mime, make([]byte, 16<<20)))(t)
		}
	}
	// A frame with a window of 2 GiB, and a block of one byte.
	out["zstd window"] = []byte("\x28\xb5\x2f\xfd\x00\xa8\x03\x00\x00\x00")
	if !zstdMagic(out["zstd window"]) {
		t.Fatal("no zstd frame")
	}
	return out
}

func zstdMagic(b []byte) bool {
	var h zstd.Header
	return h.Decode(b) == nil && h.WindowSize > 1<<30
}

// TestDecompressionBombs is not parallel: it looks at the memory of the process.
func TestDecompressionBombs(t *testing.T) {
	const limit = 1 << 18
	for name, data := range bombs(t) {
		algorithm, _, _ := strings.Cut(name, " ")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decompress(algorithm, data, limit)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(name, " ") && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 12<<20 {
			t.Errorf("%s: %d bytes became an error at the cost of %d MiB", name, len(data), used>>20)
		}
	}
}

// TestXZDictionary has a small message that asks for a dictionary of 4 GiB less a byte, as xz -9e --lzma2=dict=… may write.
func TestXZDictionary(t *testing.T) {
	data := must(compress("xz", []byte(minimalBody)))(t)
	const header = 12 // of the stream; that of the block is four times its first byte and one
	size := 4 * (int(data[header]) + 1)
	block := bytes.Clone(data[header : header+size])
	at := bytes.Index(block, []byte{xzFilterLZMA2, 1}) + 2
	block[at] = 40
	binary.LittleEndian.PutUint32(block[size-4:], crc32.ChecksumIEEE(block[:size-4]))
	data = append(append(bytes.Clone(data[:header]), block...), data[header+size:]...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	plain := must(decompress("xz", data, 1<<20))(t)
	runtime.ReadMemStats(&after)
	if string(plain) != minimalBody {
		t.Errorf("read %q", plain)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("cost %d MiB", used>>20)
	}
}

// TestCompressionCorrupt changes every byte of small compressed data: an error or the same text, and no panic.
func TestCompressionCorrupt(t *testing.T) {
	t.Parallel()
	plain := []byte(strings.Repeat(minimalBody, 4))
	for _, a := range algorithms {
		data := must(compress(a.mime, plain))(t)
		for i := range data {
			for _, flip := range []byte{1, 0x80, 0xff} {
				broken := bytes.Clone(data)
				broken[i] ^= flip
				got, err := decompress(a.mime, broken, 1<<16)
				if checked := a.mime != CompressionBrotli && a.mime != CompressionZstd; checked && err == nil && !bytes.Equal(got, plain) {
					t.Errorf("%s: byte %d: read %q", a.mime, i, got)
				}
			}
			if got, err := decompress(a.mime, data[:i], 1<<16); err == nil {
				t.Errorf("%s: cut at %d: %q", a.mime, i, got)
			}
		}
	}
}

// TestCompressionNames has every name of kombu's, and writes the MIME type.
func TestCompressionNames(t *testing.T) {
	t.Parallel()
	for _, a := range algorithms {
		for _, name := range append(a.names, a.mime) {
			task := &Task{Name: "t", ID: "i", Compression: name, Args: Raw(`["` + strings.Repeat("text ", 50) + `"]`)}
			task.SetQueue("q")
			e := must(task.Envelope())(t)
			if header, _ := e.Headers.Get(keyCompression); string(header) != `"`+a.mime+`"` {
				t.Errorf("%s: header %s", name, header)
			}
			if again := must(DecodeTask(e))(t); !bytes.Equal(again.Args, task.Args) {
				t.Errorf("%s: %s", name, again.Args)
			}
			e.Headers.Set(keyCompression, Raw(`"`+name+`"`))
			if again := must(DecodeTask(e))(t); !bytes.Equal(again.Args, task.Args) || again.Compression != name {
				t.Errorf("%s by its name: %+v", name, again)
			}
		}
	}
}
