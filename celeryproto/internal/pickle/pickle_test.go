package pickle

import (
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
)

var limits = Limits{MaxValues: 1 << 16, MaxIntBytes: 2048}

func read(t testing.TB, data string) *Pickle {
	t.Helper()
	p, err := Read([]byte(data), limits)
	if err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	return p
}

// TestOpcodes has every opcode; package celeryproto has pickles of Python's.
func TestOpcodes(t *testing.T) {
	t.Parallel()
	list := func(items ...any) *List { return &List{Items: items} }
	tuple := func(items ...any) *Tuple { return &Tuple{Items: items} }
	huge, _ := new(big.Int).SetString("-100000000000000000000", 10)
	for data, want := range map[string]any{
		"N.": nil, "\x88.": true, "\x89.": false, "I01\n.": true, "I00\n.": false,
		"I-5\n.": int64(-5), "L-5L\n.": int64(-5), "L5\n.": int64(5), "L-100000000000000000000L\n.": huge,
		"K\xff.": int64(255), "M\x01\x02.": int64(513), "J\xff\xff\xff\xff.": int64(-1),
		"\x8a\x00.": int64(0), "\x8a\x02\x00\xff.": int64(-256), "\x8b\x01\x00\x00\x00\x7f.": int64(127),
		"F1.5\n.": 1.5, "F-inf\n.": math.Inf(-1), "F1e999\n.": math.Inf(1), "G\x3f\xf8\x00\x00\x00\x00\x00\x00.": 1.5,
		"S'a\\'\\x41\\n\\q\\101'\n.": "a'A\n\\qA", "S\"b\"\n.": "b", "T\x01\x00\x00\x00a.": "a", "U\x01a.": "a",
		"V\xe9\\u20ac\\U0001f600\\\\u0041\\\n.": "é€😀\\\\u0041\\", "X\x02\x00\x00\x00\xc3\xa9.": "é",
		"\x8c\x03\xed\xa0\x80.": "\xed\xa0\x80", "\x8d\x01\x00\x00\x00\x00\x00\x00\x00a.": "a",
		"C\x01a.": []byte("a"), "B\x01\x00\x00\x00a.": []byte("a"), "\x8e\x01\x00\x00\x00\x00\x00\x00\x00a.": []byte("a"),
		"\x96\x01\x00\x00\x00\x00\x00\x00\x00a.": &ByteArray{Bytes: []byte("a")},
		"].":                                     list(), "(NNl.": list(nil, nil), "]Na.": list(nil), "](NNe.": list(nil, nil),
		").": tuple(), "N\x85.": tuple(nil), "NN\x86.": tuple(nil, nil), "NNN\x87.": tuple(nil, nil, nil), "(NNt.": tuple(nil, nil),
		"}K\x01Ns.": &Dict{Entries: []Entry{{int64(1), nil}}}, "}(K\x01Nu.": &Dict{Entries: []Entry{{int64(1), nil}}},
		"(K\x01Nd.":   &Dict{Entries: []Entry{{int64(1), nil}}},
		"\x8f(N\x90.": &Set{Items: []any{nil}}, "(N\x91.": &Set{Items: []any{nil}, Frozen: true},
		"N0\x88.": true, "(NN1\x88.": true, "(0\x88.": true, "]N2\x86a.": list(tuple(nil, nil)),
		"Np1\n0g1\n.": nil, "\x88q\x010h\x01.": true, "\x88r\x01\x00\x00\x000j\x01\x00\x00\x00.": true, "\x88\x940h\x00.": true,
		"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00N.": nil, "N.junk": nil,
		"cm\nn\n.":                     Global{"m", "n"},
		"\x8c\x01m\x8c\x01n\x93.":      Global{"m", "n"},
		"cm\nn\n(Nt\x52.":              &Object{Func: Global{"m", "n"}, Args: []any{nil}},
		"(Nim\nn\n.":                   &Object{Func: Global{"m", "n"}, Args: []any{nil}},
		"(cm\nn\nNo.":                  &Object{Func: Global{"m", "n"}, Args: []any{nil}},
		"cm\nn\n)\x81}b.":              &Object{Func: Global{"m", "n"}, New: true, State: &Dict{}, HasState: true},
		"cm\nn\n)}\x92.":               &Object{Func: Global{"m", "n"}, New: true, Kwargs: &Dict{}},
		"cm\nn\n)RNa(Ne(N\x90K\x01Ns.": &Object{Func: Global{"m", "n"}, Items: []any{nil, nil, nil}, Entries: []Entry{{int64(1), nil}}},
		"cm\nn\n)R)R.":                 &Object{Func: &Object{Func: Global{"m", "n"}}},
	} {
		if got := read(t, data).Value; !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %#v, want %#v", data, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"":                                       "unexpected end",
		"N":                                      "unexpected end",
		".":                                      "stack underflow",
		"(.":                                     "stack underflow",
		"0.":                                     "stack underflow",
		"t.":                                     "no mark",
		"(Nd.":                                   "key without a value",
		"Na.":                                    "stack underflow",
		"NNa.":                                   "nothing that takes items",
		"NNNs.":                                  "nothing that takes keys",
		")Na.":                                   "nothing that takes items",
		"}Na.":                                   "nothing that takes items",
		"(\x91(N\x90.":                           "nothing that takes items",
		"NNb.":                                   "nothing that takes a state",
		"cm\nn\n)RNbNb.":                         "nothing that takes a state",
		"N)R.":                                   "call of what is no global",
		"cm\nn\nNR.":                             "arguments are no tuple",
		"(o.":                                    "stack underflow",
		"NN\x93.":                                "name of a global is no text",
		"h\x00.":                                 "memo number without a value",
		"Np1\n0g0\n.":                            "memo number without a value",
		"Np-1\n.":                                "no memo number",
		"Nr\xff\xff\xff\x7f.":                    "memo number out of range",
		"Pid\n.":                                 "persistent ID",
		"NQ.":                                    "persistent ID",
		"\x82\x01.":                              "extension code",
		"\x97.":                                  "buffer outside",
		"\x98.":                                  "buffer outside",
		"\xff.":                                  "unknown opcode 0xff",
		"\x80\x06N.":                             "protocol 6",
		"I5":                                     "unexpected end",
		"I0x5\n.":                                "no integer",
		"I08\n.":                                 "no integer",
		"I 5\n.":                                 "no integer",
		"Lx\n.":                                  "no integer",
		"F0x1p-2\n.":                             "no float",
		"F\n.":                                   "no float",
		"S'a\n.":                                 "text without quotes",
		"S'\\x4'\n.":                             "invalid escape",
		"S'\xff'\n.":                             "not ASCII",
		"U\x01\xff.":                             "not ASCII",
		"X\x01\x00\x00\x00\xff.":                 "not UTF-8",
		"V\\u12\n.":                              "invalid escape",
		"V\\U00110000\n.":                        "invalid escape",
		"\x95\x05\x00\x00\x00\x00\x00\x00\x00N.": "unexpected end",
		"\x95\x01\x00\x00\x00\x00\x00\x00\x00K\x01.": "out of its frame",
		"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.":      "unexpected end",
		"\x8b\xff\xff\xff\xff.":                      "unexpected end",
	} {
		_, err := Read([]byte(data), limits)
		if _, ok := errors.AsType[*SyntaxError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", data, err, want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	if _, err := Read([]byte(strings.Repeat("N", 1<<16)+"."), limits); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	if _, err := Read([]byte("L1"+strings.Repeat("0", 9000)+"L\n."), limits); !errors.Is(err, ErrIntTooLong) {
		t.Error(err)
	}
	mine := errors.New("mine")
	lim := limits
	lim.Global = func(g Global) error {
		if g.String() == "os.system" {
			return mine
		}
		return nil
	}
	for _, data := range []string{"cos\nsystem\n.", "\x8c\x02os\x8c\x06system\x93.", "(ios\nsystem\n.", "cos\npath\n0cos\nsystem\n0N."} {
		if _, err := Read([]byte(data), lim); !errors.Is(err, mine) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// TestObjects has calls whose outcome is thrown away.
func TestObjects(t *testing.T) {
	t.Parallel()
	p := read(t, "cos\nsystem\n(Vtrue\ntR0cm\nn\n)R)R.")
	if len(p.Objects) != 3 {
		t.Fatalf("%d objects", len(p.Objects))
	}
	if _, name := p.Objects[0].Bottom(); name.String() != "os.system" {
		t.Error(name)
	}
	if call, name := p.Objects[2].Bottom(); name.String() != "m.n" || call != p.Objects[1] {
		t.Error(call, name)
	}
}

func TestWriter(t *testing.T) {
	t.Parallel()
	ints := []*big.Int{}
	for shift := range uint(140) {
		n := new(big.Int).Lsh(big.NewInt(1), shift)
		for _, d := range []int64{-1, 0, 1} {
			ints = append(ints, new(big.Int).Add(n, big.NewInt(d)), new(big.Int).Sub(big.NewInt(d), n))
		}
	}
	for _, n := range append(ints, new(big.Int).Lsh(big.NewInt(-1), 8*300)) {
		w := NewWriter(0)
		if n.IsInt64() {
			w.Int(n.Int64())
		} else {
			w.BigInt(n)
		}
		if got := read(t, string(w.Bytes())).Value; !reflect.DeepEqual(got, small(n)) {
			t.Errorf("%s came back as %v", n, got)
		}
	}
	text := strings.Repeat("é", 200)
	w := NewWriter(16)
	err := w.List(2500, func(i int) error {
		return w.Tuple(i%3, func(int) error { w.Text(text[:2*(i%200)]); return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, string(w.Bytes())).Value.(*List)
	if len(got.Items) != 2500 || got.Items[2].(*Tuple).Items[1] != text[:4] {
		t.Errorf("%d items", len(got.Items))
	}
	boom := errors.New("boom")
	fail := func(int) error { return boom }
	for _, err := range []error{w.List(1, fail), w.Tuple(1, fail), w.Dict(1, fail), w.Call(Global{}, 1, fail)} {
		if !errors.Is(err, boom) {
			t.Error(err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, data := range []string{"N.", "(lp0\nI1\na.", "\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00N.", "cm\nn\n)\x81}b."} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Read(data, limits)
		if err == nil {
			for _, o := range p.Objects {
				o.Bottom()
			}
		}
	})
}
