package celeryproto

import (
	"strings"
	"testing"
)

// frame is what a browser sends for a form with a few fields.
const frame = `{"signal":"demo.hello","opts":{"name":"Zo\u00eb","text":"a longer text of one line, as people type it",` +
	`"fields":[{"name":"csrf","value":"x"},{"name":"amount","value":"12.50"}],"n":12345,"ok":true,"none":null},"signal_id":null}`

func BenchmarkCheckJSON(b *testing.B) {
	for name, text := range map[string]string{
		"frame":  frame,
		"text":   `"` + strings.Repeat("plain text ", 6000) + `"`,
		"arrays": "[" + strings.Repeat("[1,2.5,true],", 5000) + "[]]",
	} {
		b.Run(name, func(b *testing.B) {
			data := []byte(text)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if err := CheckJSON(data, JSONLimits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	data := Raw(frame)
	keys, values := []string{"signal", "opts", "countdown", "expires", "eta"}, make([]Raw, 5)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := data.Lookup(keys, values); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendString(b *testing.B) {
	text := strings.Repeat("plain text and é ", 64)
	var dst []byte
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendString(dst[:0], text)
	}
}

func BenchmarkTaskAppend(b *testing.B) {
	args := Raw(`["demo.hello", {"window_key": "0123456789"}, ` + frame + `, true, null, true, "celery"]`)
	b.ReportAllocs()
	for b.Loop() {
		task := Task{Name: "t", ID: "i", Args: args, ArgsRepr: "-", KwargsRepr: "{}"}
		task.SetQueue("celery")
		if _, err := task.Append(nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeTask(b *testing.B) {
	text := mustGolden(b, "task_v2_all_argument_kinds", `{"body": `)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		e, err := DecodeEnvelope(text)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := DecodeTask(e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkContent has a body with a few arguments in each serializer.
func BenchmarkContent(b *testing.B) {
	body := Raw(`[["demo.hello", {"window_key": "0123456789"}, ` + frame + `, true, null, 1.5], {}, ` + emptyEmbed + `]`)
	for _, name := range []string{SerializerJSON, SerializerMsgpack, SerializerYAML, SerializerPickle} {
		data, contentType, _, err := EncodeContent(name, body)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("decode/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeContent(contentType, "", data, Limits{Accept: acceptAll}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("encode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, _, err := EncodeContent(name, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCompression has a small body, as most are.
func BenchmarkCompression(b *testing.B) {
	for _, a := range algorithms {
		data, err := a.write([]byte(frame))
		if err != nil {
			b.Fatal(err)
		}
		b.Run("read/"+a.names[0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decompress(a.mime, data, DefaultMaxDecompressed); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("write/"+a.names[0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.write([]byte(frame)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
