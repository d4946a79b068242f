package compat

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// latin1Bytes is the header on the wire of the text that Python saw.
func latin1Bytes(tb testing.TB, text string) string {
	tb.Helper()
	b := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 0xff {
			tb.Fatalf("%q is not Latin-1", text)
		}
		b = append(b, byte(r))
	}
	return string(b)
}

func TestParseCookiesGolden(t *testing.T) {
	t.Parallel()
	var golden struct {
		Cookies []struct {
			Header  string            `json:"header"`
			Cookies map[string]string `json:"cookies"`
		} `json:"cookies"`
	}
	mustGolden(t, "parse_cookie.json", &golden)
	for _, g := range golden.Cookies {
		if diff := cmp.Diff(g.Cookies, ParseCookies(latin1Bytes(t, g.Header))); diff != "" {
			t.Errorf("%q (-Python +Go):\n%s", g.Header, diff)
		}
	}
}

func TestParseCookiesEdges(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]map[string]string{
		"":                     {},
		";;":                   {},
		"a=1\xa0; \x85b=2\x1c": {"a": "1", "b": "2"},  // Latin-1 blanks are stripped as str.strip does
		`a="\`:                 {"a": `"\`},           // no closing quote
		`a="\"`:                {"a": `\`},            // CPython takes the last quote for the closing one
		`a="\400\37"`:          {"a": "400" + "37"},   // no octal escapes: the backslash only quotes the next character
		`a="x\0011"`:           {"a": "x\x011"},       // three digits, not more
		"a=\xc3\xa9":           {"a": "\u00c3\u00a9"}, // UTF-8 on the wire is mojibake in Django, too
		"é=1":                  {"\u00c3\u00a9": "1"}, // likewise in a name
		"sessionid=x; =":       {"sessionid": "x"},    // neither name nor value
		"a=1;\ta=2;a =3":       {"a": "3"},            // blanks around the name
		`a="1;2"`:              {"a": `"1`, "": `2"`}, // quotes do not protect semicolons
		"a=\x00b":              {"a": "\x00b"},        // no control characters are special
	} {
		if diff := cmp.Diff(want, ParseCookies(header)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", header, diff)
		}
	}
}

func FuzzParseCookies(f *testing.F) {
	f.Add(`a=1; b="\303\251"; c`)
	f.Fuzz(func(t *testing.T, header string) {
		for name, value := range ParseCookies(header) {
			if len(name)+len(value) > 2*len(header) {
				t.Errorf("%q grew to %q=%q", header, name, value)
			}
		}
	})
}
