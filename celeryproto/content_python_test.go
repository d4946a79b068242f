package celeryproto

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// randomText is made of what serializers treat in a way of its own.
func randomText(r *rand.Rand) string {
	pieces := []string{
		"a", "b c", " ", "  ", "\n", "\n\n", "é", "€", "😀", "'", "\"", "\\", ":", ": ", " #", "#", "- ", "-", "?", "yes", "no", "null",
		"~", "1", "1.5", "0x1", "010", "2001-12-14", "1:30", "=", "<<", "&a", "*a", "!t", "|", ">", "%", "@", "`", "{", "}", "[", "]",
		",", "---", "...", "\t", "\x00", "\u0085", "\u2028", "\ufeff", "\ud7ff", "\u00a0", "\U0010ffff", "\ufffe", "\r", "\xed\xa0\x80",
		"word and word and word ", "long-long-long-long-long-long-long-long",
	}
	var b strings.Builder
	for range r.IntN(9) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

// randomValue is a value of one of the first kinds, no deeper than depth: containers, texts, scalars, bytes, times, and from the
// 13th on what only pickle has.
func randomValue(r *rand.Rand, depth, kinds int) any {
	kind := r.IntN(kinds)
	if depth == 0 && kind < 2 {
		kind = 2
	}
	day := Date{1000 + r.IntN(9000), time.Month(1 + r.IntN(12)), 1 + r.IntN(28)}
	clock := TimeOfDay{Hour: r.IntN(24), Minute: r.IntN(60), Second: r.IntN(60), Microsecond: r.IntN(2) * r.IntN(1e6)}
	naive := NaiveTime{day.Year, day.Month, day.Day, clock.Hour, clock.Minute, clock.Second, clock.Microsecond}
	switch kind {
	case 0:
		list := []any{}
		for range r.IntN(5) {
			list = append(list, randomValue(r, depth-1, kinds))
		}
		return list
	case 1:
		object := map[string]any{}
		for range r.IntN(5) {
			object[randomText(r)] = randomValue(r, depth-1, kinds)
		}
		return object
	case 2, 3, 4:
		return randomText(r)
	case 5:
		return []any{nil, true, false}[r.IntN(3)]
	case 6:
		return int64(r.Uint64()) >> r.IntN(64)
	case 7:
		return []any{0.1, -1.5, 1e17, 1e-7, 1e300, math.Inf(1), math.Inf(-1), 5e-324, 123456789.125}[r.IntN(9)]
	case 8:
		b := make([]byte, r.IntN(150))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	case 9:
		return naive
	case 10:
		return naive.In(time.FixedZone("", (r.IntN(47)-23)*1800))
	case 11:
		return day
	case 12:
		return []any{Decimal("1.10"), Decimal("NaN"), Decimal("-1E+5")}[r.IntN(3)]
	default:
		clock.Aware, clock.Offset = true, time.Duration(r.IntN(47)-23)*time.Hour
		return clock
	}
}

// kindsOf is how many kinds of randomValue a serializer has.
var kindsOf = map[string]int{SerializerMsgpack: 9, SerializerYAML: 12, SerializerPickle: 14}

// TestPythonReadsContent lets kombu read what we write, and compares what we write with what it writes: to the byte for msgpack and
// YAML, by value for pickle, which remembers repeated texts.
func TestPythonReadsContent(t *testing.T) {
	t.Parallel()
	p := startPython(t)
	r := rand.New(rand.NewPCG(1, 1))
	for _, serializer := range []string{SerializerMsgpack, SerializerYAML, SerializerPickle} {
		for range 300 {
			raw := must(EncodeValue(randomValue(r, 4, kindsOf[serializer])))(t)
			data, contentType, _, err := EncodeContent(serializer, raw)
			var theirs []byte
			theirErr := p.ask(map[string]any{"op": "dumps", "serializer": serializer, "text": string(raw)}, &theirs)
			if (err == nil) != (theirErr == nil) {
				t.Errorf("%s: %s: %v, Python %v", serializer, raw, err, theirErr)
			}
			if err != nil || theirErr != nil {
				continue
			}
			aliases := bytes.Contains(theirs, []byte("*id0")) // of equal objects that happen to be one
			if serializer != SerializerPickle && !aliases && !bytes.Equal(data, theirs) {
				t.Errorf("%s: %s:\n got %q\nwant %q", serializer, raw, data, theirs)
			}
			if back, err := p.loads(serializer, data); err != nil || !equalRaw(t, back, raw) {
				t.Errorf("%s: %s: Python reads %s, %v", serializer, raw, back, err)
			}
			for _, written := range [][]byte{data, theirs} {
				if back, err := DecodeContent(contentType, "", written, Limits{Accept: acceptAll}); err != nil || !equalRaw(t, back, raw) {
					t.Errorf("%s: %s: read as %s, %v", serializer, raw, back, err)
				}
			}
		}
	}
}

// agree checks that kombu and we read the same of some bytes, or both refuse them.
func agree(t *testing.T, p *python, serializer string, data []byte) (accepted bool) {
	t.Helper()
	want, wantErr := p.loads(serializer, data)
	if wantErr != nil && !isPythonError(wantErr) {
		t.Fatal(wantErr)
	}
	got, err := DecodeContent(formatOf(serializer).contentType, "", data, Limits{Accept: acceptAll})
	switch {
	case isExtension(err): // a tuple of its own class in Python
	case (err == nil) != (wantErr == nil):
		t.Errorf("%s: %q:\n got %s %v\nwant %s %v", serializer, data, got, err, want, wantErr)
	case err == nil && !equalRaw(t, got, want):
		t.Errorf("%s: %q:\n got %s\nwant %s", serializer, data, got, want)
	}
	return err == nil
}

func isExtension(err error) bool {
	unsupported, ok := errors.AsType[*UnsupportedError](err)
	return ok && unsupported.What == "msgpack extension type"
}

// yamlPieces are what a random document is made of.
var yamlPieces = strings.Split("a¦b¦foo¦1¦2¦0¦-¦- ¦- - ¦: ¦:¦, ¦,¦[¦]¦{¦}¦\n¦\n  ¦\n    ¦\n- ¦\n  - ¦? ¦?¦#¦ # c¦&a ¦*a¦*a ¦!!str ¦!!int ¦!!float "+
	"¦!!set ¦!!omap ¦!!pairs ¦!!binary ¦! ¦!x ¦!<tag:yaml.org,2002:str> ¦'¦\"¦''¦\\n¦\\x41¦\\u20ac¦\\¦|\n¦|¦|-\n¦>\n¦>-\n¦+¦2¦<<: ¦<<¦=¦= "+
	"¦~¦null¦yes¦no¦on¦Off¦0o7¦010¦0x1F¦0b11¦1:30¦1e3¦1.5¦1.5e+3¦.inf¦-.INF¦.nan¦1_000¦2001-12-14¦2001-12-14T21:59:43.10-05:00"+
	"¦2001-12-14 21:59:43¦---¦--- ¦...¦\n---\n¦\n...\n¦%YAML 1.1\n¦%TAG ! x\n¦\t¦ ¦  ¦é¦\u2028¦\u00a0¦@¦`¦%¦key: ¦k: ¦x: y¦\r\n¦\r¦tag", "¦")

func randomYAML(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString(yamlPieces[r.IntN(len(yamlPieces))])
	for range r.IntN(12) {
		b.WriteString(yamlPieces[r.IntN(len(yamlPieces))])
	}
	return b.String()
}

// TestPythonAgreesOnYAML compares with PyYAML on documents that nobody would write.
func TestPythonAgreesOnYAML(t *testing.T) {
	t.Parallel()
	p := startPython(t)
	for _, g := range mustSerialized(t, "yaml") {
		agree(t, p, SerializerYAML, g.Data)
	}
	const n = 4000
	r := rand.New(rand.NewPCG(7, 7))
	accepted := 0
	for range n {
		if agree(t, p, SerializerYAML, []byte(randomYAML(r))) {
			accepted++
		}
	}
	if accepted < n/4 || accepted > n*3/4 {
		t.Errorf("%d of %d documents were accepted: the pieces are badly chosen", accepted, n)
	}
}

// TestPythonAgreesOnMsgpack changes bytes of good msgpack.
func TestPythonAgreesOnMsgpack(t *testing.T) {
	t.Parallel()
	p := startPython(t)
	r := rand.New(rand.NewPCG(9, 9))
	for range 1500 {
		raw := must(EncodeValue(randomValue(r, 3, kindsOf[SerializerMsgpack])))(t)
		data, _, _, err := EncodeContent(SerializerMsgpack, raw)
		if err != nil {
			continue
		}
		data = bytes.Clone(data)
		for range 1 + r.IntN(2) {
			data[r.IntN(len(data))] = byte(r.Uint32())
		}
		agree(t, p, SerializerMsgpack, data)
	}
}

// TestPythonAgreesOnPickles changes bytes of good pickles. What we read, Python reads the same; what it reads beyond that is no plain
// data, or none that Python itself writes.
func TestPythonAgreesOnPickles(t *testing.T) {
	t.Parallel()
	p := startPython(t)
	r := rand.New(rand.NewPCG(5, 5))
	goldens := mustSerialized(t, "pickles")
	accepted := 0
	for range 5000 {
		g := goldens[r.IntN(len(goldens))]
		if isCanvas := strings.HasPrefix(g.Name, "ch") || strings.HasPrefix(g.Name, "group"); isCanvas || len(g.Data) > 1000 {
			continue // Python's signature() knows the names of the canvas better than their pickles
		}
		data := bytes.Clone(g.Data)
		for range r.IntN(3) {
			data[r.IntN(len(data))] = byte(r.Uint32())
		}
		got, err := DecodeContent(ContentTypePickle, "", data, everything)
		if err != nil {
			continue
		}
		accepted++
		var text string
		if err := p.ask(map[string]any{"op": "unpickle", "data": data}, &text); err != nil || !equalRaw(t, got, Raw(text)) {
			t.Errorf("%q:\n got %s\nwant %s %v", data, got, text, err)
		}
	}
	if accepted < 500 {
		t.Errorf("only %d were accepted", accepted)
	}
}

// TestPythonCompression has kombu read what we compress and the reverse.
func TestPythonCompression(t *testing.T) {
	t.Parallel()
	p := startPython(t)
	r := rand.New(rand.NewPCG(2, 2))
	noise := make([]byte, 20_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	for _, a := range algorithms {
		for name, plain := range map[string][]byte{
			"empty": {}, "small": []byte(minimalBody), "text": bytes.Repeat([]byte("a longer text, again and again. "), 4_000), "noise": noise,
		} {
			ours := must(compress(a.mime, plain))(t)
			if back := mustAsk[[]byte](t, p, map[string]any{"op": "decompress", "name": a.mime, "data": ours}); !bytes.Equal(back, plain) {
				t.Errorf("%s: %s: Python reads %d bytes of %d", a.mime, name, len(back), len(plain))
			}
			for _, alias := range append(a.names, a.mime) {
				theirs := mustAsk[[]byte](t, p, map[string]any{"op": "compress", "name": alias, "data": plain})
				if back := must(decompress(alias, theirs, int64(len(plain))))(t); !bytes.Equal(back, plain) {
					t.Errorf("%s: %s: read %d bytes of %d", alias, name, len(back), len(plain))
				}
			}
		}
	}
}
