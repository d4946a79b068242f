package compat

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
)

func TestSignalArgs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		call SignalCall
		want string
	}{
		{
			SignalCall{Signal: "demo.any", Queue: "celery", ToServer: true, FromClient: true},
			`["demo.any", ` + blankWindowInfo + `, {}, true, [], true, "celery"]`,
		},
		{
			SignalCall{
				Signal: "\u00e9\"", Window: celeryproto.Raw(`{"user_pk": 1}`), Opts: celeryproto.Raw(`{"n":1e5,"b":12345678901234567890}`),
				Topics: []string{"-broadcast", "-str.\u00e9"}, Queue: "go",
			},
			`["\u00e9\"", {"user_pk": 1}, {"n":1e5,"b":12345678901234567890}, false, ["-broadcast", "-str.\u00e9"], false, "go"]`,
		},
	} {
		got := test.call.AppendArgs(nil)
		if string(got) != test.want {
			t.Errorf("\n got %s\nwant %s", got, test.want)
		}
		decoded, err := DecodeSignalArgs(got)
		if err != nil {
			t.Fatal(err)
		}
		if again := decoded.AppendArgs(nil); string(again) != test.want {
			t.Errorf("decoded and encoded:\n got %s\nwant %s", again, test.want)
		}
	}
}

func TestAppendArgsFor(t *testing.T) {
	t.Parallel()
	w := AnonymousWindowInfo(Handshake{WindowKey: "k"})
	call := SignalCall{Signal: "s", Queue: "q", ToServer: true}
	withWindow := call
	withWindow.Window = w.AppendJSON(nil)
	if diff := cmp.Diff(string(withWindow.AppendArgs(nil)), string(call.AppendArgsFor(nil, w))); diff != "" {
		t.Error(diff)
	}
	if got := string(call.AppendArgsFor(nil, nil)); got != string(call.AppendArgs(nil)) {
		t.Errorf("nil window: %s", got)
	}
}

func TestDecodeSignalArgsOfOlderVersions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]SignalCall{
		`["s", {}]`:                          {Signal: "s", Window: celeryproto.Raw("{}")},
		`["s", null, null]`:                  {Signal: "s", Window: celeryproto.Raw("null")},
		`["s", {}, [1], 1, null, "x", null]`: {Signal: "s", Window: celeryproto.Raw("{}"), Opts: celeryproto.Raw("[1]"), FromClient: true, ToServer: true},
		` [ "s" , {} , {"a": 1} , false ] `:  {Signal: "s", Window: celeryproto.Raw("{}"), Opts: celeryproto.Raw(`{"a": 1}`)},
	} {
		got, err := DecodeSignalArgs(celeryproto.Raw(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for text, part := range map[string]string{
		`{}`:                             "object",
		`["s"]`:                          "1 instead of",
		`["s",{},{},true,[],true,"q",1]`: "8 instead of",
		`[5,{},{},true,[],true,"q"]`:     "signal_name",
		`["s",{},{},true,[5],true,"q"]`:  "topic 0",
		`["s",{},{},true,"x",true,"q"]`:  "serialized_client_topics",
		`["s",{},{},true,[],true,5]`:     "queue",
		`[5,{},{},true,{},true,{}]`:      "queue",
		`["s",{},{},true,[],true,"q"`:    "",
	} {
		if _, err := DecodeSignalArgs(celeryproto.Raw(text)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q in it", text, err, part)
		}
	}
}

func FuzzDecodeSignalArgs(f *testing.F) {
	f.Add([]byte(`["s", {"user_pk": 1}, {"a": NaN}, true, ["-broadcast"], true, "celery"]`))
	f.Add([]byte(`["\ud800", null, null, 0, null, [], null]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if celeryproto.CheckJSON(b, celeryproto.JSONLimits{}) != nil {
			return
		}
		call, err := DecodeSignalArgs(b)
		if err != nil {
			return
		}
		encoded := call.AppendArgs(nil)
		mustCheck(t, encoded)
		again, err := DecodeSignalArgs(encoded)
		if err != nil || string(again.AppendArgs(nil)) != string(encoded) {
			t.Errorf("%s is not stable: %v", encoded, err)
		}
	})
}
