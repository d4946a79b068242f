package celeryproto

import (
	"bytes"
	"testing"
)

// fuzzLimits keep a round of fuzzing short.
var fuzzLimits = Limits{Accept: acceptAll, MaxDecompressed: 1 << 20, MaxValues: 1 << 16}

// checkContent decodes, and where that works: what comes out is JSON that can be encoded in the same serializer and read back.
func checkContent(t *testing.T, serializer string, data []byte) {
	t.Helper()
	contentType := formatOf(serializer).contentType
	r, err := DecodeContent(contentType, "", data, fuzzLimits)
	if err != nil {
		_ = err.Error()
		return
	}
	if int64(len(r)) > fuzzLimits.MaxDecompressed+1024 {
		t.Fatalf("%d bytes became %d", len(data), len(r))
	}
	if _, err := DecodeValue(r); err != nil {
		t.Fatalf("decoded to %s, which is no value: %v", r, err)
	}
	again, _, _, err := EncodeContent(serializer, r)
	if err != nil {
		t.Fatalf("decoded to %s, which cannot be encoded: %v", r, err)
	}
	back, err := DecodeContent(contentType, "", again, fuzzLimits)
	if err != nil {
		t.Fatalf("%s encoded to %q, which cannot be decoded: %v", r, again, err)
	}
	// The last of duplicate keys counts, and there are none after an encoder.
	if !equalRaw(t, r, back) {
		t.Fatalf("%q:\n%s\n%s", data, r, back)
	}
}

func contentSeeds(f *testing.F, file, serializer string) {
	f.Helper()
	for _, g := range mustSerialized(f, file) {
		if len(g.Data) < 2000 {
			f.Add(g.Data)
		}
	}
	for text := range pythonValues() {
		if data, _, _, err := EncodeContent(serializer, Raw(text)); err == nil {
			f.Add(data)
		}
	}
}

func FuzzMsgpack(f *testing.F) {
	for _, g := range mustSerialized(f, "content") {
		if g.ContentType == ContentTypeMsgpack && g.Compression == "" {
			f.Add(g.Data)
		}
	}
	contentSeeds(f, "content", SerializerMsgpack)
	f.Fuzz(func(t *testing.T, data []byte) { checkContent(t, SerializerMsgpack, data) })
}

func FuzzYAML(f *testing.F) {
	contentSeeds(f, "yaml", SerializerYAML)
	f.Fuzz(func(t *testing.T, data []byte) { checkContent(t, SerializerYAML, data) })
}

func FuzzPickle(f *testing.F) {
	contentSeeds(f, "pickles", SerializerPickle)
	f.Fuzz(func(t *testing.T, data []byte) { checkContent(t, SerializerPickle, data) })
}

// FuzzContentRoundTrip encodes JSON in each serializer and decodes it again.
func FuzzContentRoundTrip(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := DecodeValue(b); err != nil {
			return
		}
		for _, f := range formats {
			if f.write == nil {
				continue
			}
			data, contentType, encoding, err := EncodeContent(f.name, b)
			if err != nil {
				continue // a type that the serializer lacks
			}
			back, err := DecodeContent(contentType, encoding, data, Limits{Accept: acceptAll})
			if err != nil {
				t.Fatalf("%s: %s became %q: %v", f.name, b, data, err)
			}
			if !bytes.Equal(must(normalJSON(b))(t), must(normalJSON(back))(t)) {
				t.Fatalf("%s: %s became %q and then %s", f.name, b, data, back)
			}
		}
	})
}

// normalJSON is a text with the forms that Python gives to what it has read.
func normalJSON(r Raw) (Raw, error) {
	v, err := DecodeValue(r)
	if err != nil {
		return nil, err
	}
	return EncodeValue(v)
}

func FuzzPickledResult(f *testing.F) {
	for _, g := range mustSerialized(f, "pickles") {
		f.Add(g.Data)
	}
	for _, name := range []string{"failure", "retry", "failure_custom", "failure_max_retries"} {
		f.Add(resultGolden(f, "result_"+name+"_pickle"))
	}
	codec := ResultCodec{Serializer: SerializerPickle, Accept: acceptAll, Limits: fuzzLimits}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := codec.DecodeValue(data); err == nil {
			if _, err := codec.AppendValue(nil, r); err != nil {
				t.Fatalf("decoded to %s, which cannot be encoded: %v", r, err)
			}
		}
		m, err := codec.Decode(data)
		if err != nil {
			return
		}
		again := must(codec.Decode(must(codec.Append(nil, m))(t)))(t)
		if again.Status != m.Status || !equalRaw(t, again.Result, m.Result) {
			t.Fatalf("%+v\n%+v", m, again)
		}
	})
}

// FuzzDecompress has a target for each algorithm by the first argument.
func FuzzDecompress(f *testing.F) {
	for i, a := range algorithms {
		for _, plain := range []string{"", "a", minimalBody, frame} {
			f.Add(byte(i), must(compress(a.mime, []byte(plain)))(f))
		}
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		a := algorithms[int(which)%len(algorithms)]
		plain, err := decompress(a.mime, data, 1<<18)
		if err != nil {
			return
		}
		again := must(decompress(a.mime, must(compress(a.mime, plain))(t), 1<<18))(t)
		if !bytes.Equal(again, plain) {
			t.Fatalf("%s: %q became %q", a.mime, plain, again)
		}
	})
}
