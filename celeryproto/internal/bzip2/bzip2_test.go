package bzip2

import (
	"bytes"
	stdbzip2 "compress/bzip2"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func roundTrip(t testing.TB, data []byte) []byte {
	t.Helper()
	compressed := Compress(data)
	got, err := io.ReadAll(stdbzip2.NewReader(bytes.NewReader(compressed)))
	if err != nil {
		t.Fatalf("%d bytes: %v", len(data), err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("%d bytes came back as %d", len(data), len(got))
	}
	return compressed
}

func TestCompress(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, blockSize+20_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for name, data := range map[string][]byte{
		"nothing":            nil,
		"one byte":           {0},
		"two equal":          {7, 7},
		"all bytes":          all,
		"runs":               bytes.Repeat([]byte{1, 1, 1, 1, 1, 2, 2, 2, 2, 3}, 1000),
		"a run of 255":       bytes.Repeat([]byte{9}, 255),
		"a run of 256":       bytes.Repeat([]byte{9}, 256),
		"one long run":       bytes.Repeat([]byte{0}, 1_000_000),
		"a period":           []byte(strings.Repeat("abcdefghij", 10_000)),
		"Fibonacci":          fibonacci(100_000),
		"noise":              noise[:50_000],
		"two blocks":         noise,
		"JSON":               []byte(strings.Repeat(`[[2, 3], {}, {"callbacks": null}]`, 50)),
		"frequencies differ": skewed(50_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roundTrip(t, data)
		})
	}
}

// fibonacci is a text whose rotations are hard to tell apart.
func fibonacci(n int) []byte {
	a, b := []byte("a"), []byte("ab")
	for len(b) < n {
		a, b = b, append(bytes.Clone(b), a...)
	}
	return b[:n]
}

// skewed has bytes whose frequencies halve, which makes codes as long as can be.
func skewed(n int) []byte {
	random := rand.New(rand.NewPCG(3, 4))
	out := make([]byte, n)
	for i := range out {
		for random.Uint32()&1 == 0 && out[i] < 250 {
			out[i]++
		}
	}
	return out
}

// TestRatio keeps the code from becoming one that only stores.
func TestRatio(t *testing.T) {
	t.Parallel()
	text := []byte(strings.Repeat("the quick brown fox jumps over the lazy dog, again and again. ", 500))
	if n := len(roundTrip(t, text)); n > len(text)/50 {
		t.Errorf("%d bytes became %d", len(text), n)
	}
}

func FuzzCompress(f *testing.F) {
	f.Add([]byte("banana"))
	f.Add(bytes.Repeat([]byte{5}, 700))
	f.Add(fibonacci(300))
	f.Fuzz(func(t *testing.T, data []byte) { roundTrip(t, data) })
}

func BenchmarkCompress(b *testing.B) {
	for name, data := range map[string][]byte{"text": []byte(strings.Repeat(`{"a": [1, 2, 3]}, `, 60)), "period": fibonacci(500_000)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				Compress(data)
			}
		})
	}
}
