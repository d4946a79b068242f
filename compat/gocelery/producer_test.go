package gocelery

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/integration/celeryjudge"
)

func nested(depth int) (v any) {
	for range depth {
		v = []any{v}
	}
	return v
}

// TestProducer: what Delay and DelayKwargs do not refuse is no message that a Celery worker dies of or drops.
func TestProducer(t *testing.T) {
	t.Parallel()
	c := mustNew(t, Config{})
	sent, refused := 0, 0
	judge := func(what string, fine bool, call func() (*canvas.Signature, error)) {
		t.Helper()
		sig, err := call()
		var envelope []byte
		if err == nil {
			var task *celeryproto.Task
			if task, err = c.message(sig, time.Now()); err == nil {
				envelope, err = task.Append(nil)
			}
		}
		if err != nil {
			if refused++; fine {
				t.Errorf("%s: %v", what, err)
			}
			return
		}
		if sent++; !fine {
			t.Errorf("%s: sent", what)
		}
		if err := celeryjudge.Check("celery", envelope); err != nil {
			t.Errorf("%s: %v in %.1000q", what, err, envelope)
		}
	}
	money := map[string]any{"__type__": "money", "__value__": 1}
	for what, v := range map[string]struct {
		value any
		fine  bool
	}{
		"nil": {nil, true}, "not UTF-8": {"a\xff", true}, "huge": {new(big.Int).Exp(big.NewInt(10), big.NewInt(4000), nil), true},
		"too huge": {new(big.Int).Exp(big.NewInt(10), big.NewInt(5000), nil), false}, "NaN": {math.NaN(), false}, "raw NaN": {celeryproto.Raw("NaN"), true},
		"unknown type": {money, false}, "inside": {[]any{money}, false}, "raw": {celeryproto.Raw(`{"__type__":"money","__value__":1}`), false},
		"escaped": {celeryproto.Raw(`{"\u005f_type__":"money","__value__":1}`), false}, "one key more": {map[string]any{"__type__": 1, "__value__": 1, "x": 1}, true},
		"raw garbage": {celeryproto.Raw("{"), false}, "raw nothing": {celeryproto.Raw(""), false}, "channel": {make(chan int), false}, "deep": {nested(398), true},
		"too deep": {nested(400), false}, "far too deep": {nested(5000), false}, "time": {time.Now(), true}, "bytes": {[]byte{0xff}, true},
		"number": {json.Number("1e999"), true}, "no number": {json.Number("x"), false},
	} {
		judge(what, v.fine, func() (*canvas.Signature, error) { return positional("t", 1, v.value) })
		judge(what+" by name", v.fine, func() (*canvas.Signature, error) { return named("t", map[string]any{"k": v.value}) })
	}
	for name, fine := range map[string]bool{
		"a": true, "é \x00\n": true, "": false, "a\xff" /* as U+FFFD */ : true, "\xed\xa0\x80": false, "a\x06\x16b": false, strings.Repeat("x", 10_000): true,
	} {
		judge("task "+name, fine, func() (*canvas.Signature, error) { return positional(name) })
	}
	for _, key := range []string{"", "\xff", "__type__", "a b"} {
		judge("name "+key, true, func() (*canvas.Signature, error) { return named("t", map[string]any{key: 1}) })
	}
	if sent == 0 || refused == 0 {
		t.Errorf("%d sent, %d refused", sent, refused)
	}
}
