package channelslayer

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScanMessage(t *testing.T) {
	t.Parallel()
	const typ = "\xa4type\xa1t"
	const channel = "\xb0__asgi_channel__"
	deep := func(n int) string { return "\x81\xa1a" + strings.Repeat("\x91", n) + "\xc0" }
	for name, tt := range map[string]struct {
		body  string
		want  DropReason // "" when it is a message
		names []string
	}{
		"general":                  {body: "\x81" + typ},
		"empty map":                {body: "\x80"},
		"text":                     {body: "\x82" + typ + channel + "\xa2c!", names: []string{"c!"}},
		"list":                     {body: "\x82" + typ + channel + "\x92\xa1a\xa1b", names: []string{"a", "b"}},
		"long list":                {body: "\x82" + typ + channel + "\xdc\x00\x01\xd9\x01a", names: []string{"a"}},
		"empty list":               {body: "\x82" + typ + channel + "\x90"},
		"empty name":               {body: "\x82" + typ + channel + "\xa0", names: []string{""}},
		"last of two counts":       {body: "\x82" + channel + "\xa1a" + channel + "\x91\xa1b", names: []string{"b"}},
		"bytes key":                {body: "\x81\xc4\x04type\x01"},
		"all formats":              {body: "\x81\xa1a\xdc\x00\x0e\xcc\x01\xcd\x00\x01\xce\x00\x00\x00\x01\xcf\x00\x00\x00\x00\x00\x00\x00\x01\xd0\x01\xd1\x00\x01\xd2\x00\x00\x00\x01\xd3\x00\x00\x00\x00\x00\x00\x00\x01\xca\x00\x00\x00\x00\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xc4\x01x\xc5\x00\x01x\xc6\x00\x00\x00\x01x\xde\x00\x00"},
		"nested as deep as we go":  {body: deep(MaxDepth - 1)},
		"too deep":                 {body: deep(MaxDepth), want: DropTooDeep},
		"empty":                    {body: "", want: DropUndecodable},
		"a list":                   {body: "\x90", want: DropUndecodable},
		"a number":                 {body: "\x01", want: DropUndecodable},
		"JSON":                     {body: `{"type": "t"}`, want: DropUndecodable},
		"never used format":        {body: "\x81\xa1a\xc1", want: DropUndecodable},
		"something behind":         {body: "\x80\x00", want: DropUndecodable},
		"cut in a text":            {body: "\x81\xa4typ", want: DropUndecodable},
		"cut after a key":          {body: "\x81\xa1a", want: DropUndecodable},
		"cut in a length":          {body: "\x81\xa1a\xdb\x00", want: DropUndecodable},
		"cut in a number":          {body: "\x81\xa1a\xcf\x00", want: DropUndecodable},
		"map longer than it is":    {body: "\xdf\xff\xff\xff\xff" + typ, want: DropUndecodable},
		"array longer than it is":  {body: "\x81\xa1a\xdd\xff\xff\xff\xff\x01", want: DropUndecodable},
		"text longer than it is":   {body: "\x81\xa1a\xdb\xff\xff\xff\xffx", want: DropUndecodable},
		"number as key":            {body: "\x81\x01\x01", want: DropUndecodable},
		"nil as key":               {body: "\x81\xc0\x01", want: DropUndecodable},
		"number as a nested key":   {body: "\x81\xa1a\x81\x01\x01", want: DropUndecodable},
		"text is not UTF-8":        {body: "\x81\xa4type\xa1\xff", want: DropUndecodable},
		"surrogate in UTF-8":       {body: "\x81\xa4type\xa3\xed\xa0\x80", want: DropUndecodable},
		"key is not UTF-8":         {body: "\x81\xa1\xff\x01", want: DropUndecodable},
		"extension":                {body: "\x81\xa1a\xd4\x01x", want: DropExtension},
		"timestamp":                {body: "\x81\xa1a\xd6\xff\x00\x00\x00\x00", want: DropExtension},
		"channel is a number":      {body: "\x81" + channel + "\x01", want: DropChannelType},
		"channel is nil":           {body: "\x81" + channel + "\xc0", want: DropChannelType},
		"channel list of numbers":  {body: "\x81" + channel + "\x91\x01", want: DropChannelType},
		"channel list cut":         {body: "\x81" + channel + "\x92\xa1a", want: DropUndecodable},
		"channel name not UTF-8":   {body: "\x81" + channel + "\x91\xa1\xff", want: DropUndecodable},
		"channel bytes":            {body: "\x81" + channel + "\xc4\x01a", want: DropChannelType},
		"message is not a text":    {body: "\x81\xa7message\x91\x01"},
		"type is not a text":       {body: "\x81\xa4type\x80"},
		"bad inside a message map": {body: "\x81\xa7message\x81\x01\x01", want: DropUndecodable},
	} {
		r, names, err := scanMessage(tt.body)
		var got DropReason
		if d, ok := errors.AsType[*DecodeError](err); ok {
			got = d.Reason
		}
		if got != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: %v, want reason %q", name, err, tt.want)
			continue
		}
		if list := allNames(names); !cmp.Equal(list, tt.names) {
			t.Errorf("%s: names %q, want %q", name, list, tt.names)
		}
		if err == nil {
			if _, err := r.Map(); err != nil {
				t.Errorf("%s: scanned but Map: %v", name, err)
			}
		}
	}
}

func TestReceivedAccessors(t *testing.T) {
	t.Parallel()
	r, _, err := codec{randomLength: 3}.decode("xyz\x82\xa4type\xa1t\xa7message\xa0", 1795427128.5)
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := r.Text(); r.Type() != "t" || text != "" || !ok {
		t.Errorf("type %q, text %q, %t", r.Type(), text, ok)
	}
	if r.Len() != 17 || r.SentAt().UnixMilli() != 1795427128500 {
		t.Errorf("len %d, sent at %v", r.Len(), r.SentAt())
	}
	none, _, err := scanMessage("\x82\xa4type\x01\xa7message\xc0")
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := none.Text(); none.Type() != "" || text != "" || ok {
		t.Errorf("no text: type %q, text %q, %t", none.Type(), text, ok)
	}
	if _, _, err := (codec{randomLength: 12}).decode("short", 0); err == nil {
		t.Error("bytes shorter than the random prefix were decoded")
	}
}

// FuzzDecode: no panic; what scans has a Map; writing that again and reading it gives the same.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/core_*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no goldens: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var g golden
		if err := json.Unmarshal(b, &g); err != nil {
			f.Fatal(err)
		}
		for _, key := range g.Redis {
			for _, m := range key.Members {
				raw, err := base64.StdEncoding.DecodeString(m.Value)
				if err != nil {
					f.Fatal(err)
				}
				f.Add(string(raw))
			}
		}
	}
	f.Add("0123456789ab\x82\xa1a\xdd\xff\xff\xff\xff\x01")
	f.Add("0123456789ab\x81\xa1a" + strings.Repeat("\x91", 600))
	c := codec{randomLength: 12}
	f.Fuzz(func(t *testing.T, member string) {
		r, names, err := c.decode(member, 1)
		if err != nil {
			return
		}
		m, err := r.Map()
		if err != nil {
			t.Fatalf("scanned, but Map: %v", err)
		}
		if text, ok := m[typeKeyName].(string); ok && text != r.Type() {
			// A byte-string key may stand beside the text key of the same name; only then may they differ.
			if !strings.Contains(r.body, "\xc4\x04type") && !strings.Contains(r.body, "\xc5\x00\x04type") && !strings.Contains(r.body, "\xc6\x00\x00\x00\x04type") {
				t.Fatalf("Type %q, Map %q", r.Type(), text)
			}
		}
		list := allNames(names)
		channel := ""
		if len(list) > 0 {
			channel = list[0]
		}
		again, err := c.encode(m, channel)
		if err != nil {
			t.Fatalf("encode again: %v", err)
		}
		r2, _, err := c.decode(again, 1)
		if err != nil {
			t.Fatalf("decode again: %v", err)
		}
		m2, err := r2.Map()
		if err != nil {
			t.Fatal(err)
		}
		third, err := c.encode(m2, channel)
		if err != nil || third[12:] != again[12:] { // compared as bytes: NaN is not equal to itself
			t.Fatalf("changed on the way: %q, then %q (%v)", again[12:], third[12:], err)
		}
	})
}
