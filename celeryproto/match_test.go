package celeryproto

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

type matchGolden struct {
	Names []string `json:"names"`
	Cases []struct {
		Matcher string `json:"matcher"`
		Pattern string `json:"pattern"`
		Matches *[]int `json:"matches"` // of Names; nil: an error in Python
	} `json:"cases"`
}

func mustMatchGolden(tb testing.TB) *matchGolden {
	tb.Helper()
	b, err := os.ReadFile("testdata/match/match.json")
	if err != nil {
		tb.Fatal(err)
	}
	var g matchGolden
	if err := json.Unmarshal(b, &g); err != nil {
		tb.Fatal(err)
	}
	return &g
}

// What Python's matchers say of thousands of patterns. Go may refuse a regular expression, but never see it differently.
func TestMatchGoldens(t *testing.T) {
	t.Parallel()
	g := mustMatchGolden(t)
	refused, total := 0, 0
	for _, c := range g.Cases {
		for i, name := range g.Names {
			got, err := MatchNode(name, c.Pattern, c.Matcher)
			var fault *PatternError
			switch {
			case err != nil && !errors.As(err, &fault), err != nil && c.Pattern != "" && strings.Contains(err.Error(), c.Pattern) && len(c.Pattern) > 2:
				t.Errorf("%s %q: %v", c.Matcher, c.Pattern, err)
			case err != nil && c.Matcher == MatcherGlob:
				t.Errorf("glob %q: %v", c.Pattern, err)
			case err != nil:
				if c.Matches != nil {
					refused++
				}
			case c.Matches == nil:
				if i == 0 {
					t.Errorf("%s %q: taken, and an error in Python", c.Matcher, c.Pattern)
				}
			case got != slices.Contains(*c.Matches, i):
				t.Errorf("%s %q on %q: %v", c.Matcher, c.Pattern, name, got)
			}
			total++
		}
	}
	if total < 50_000 || refused > total/50 {
		t.Errorf("%d of %d refused", refused, total)
	}
}

func TestMatchRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pattern, matcher, words string }{
		{"a", "sql", "no such matcher"},
		{"a", "", "no such matcher"},
		{strings.Repeat("a", maxPattern+1), MatcherGlob, "longer"},
		{strings.Repeat("a", maxPattern+1), MatcherPCRE, "longer"},
		{"(?=s3cret)", MatcherPCRE, "only Python has this at byte 0"},
		{`(s3cret)\1`, MatcherPCRE, "only Python has this at byte 8"},
		{"s3cret**", MatcherPCRE, "not a regular expression"},
		{`\`, MatcherPCRE, "backslash"},
		{`[s3cret`, MatcherPCRE, "not closed"},
		{`\u12`, MatcherPCRE, "not complete"},
		{`(?:s3cret`, MatcherPCRE, "not closed"},
		{`s3cret)`, MatcherPCRE, "not opened at byte 6"},
		{`((a{99}){99}){99}`, MatcherPCRE, "too many repetitions at byte 8"},
		{`a{99999999999999999999}`, MatcherPCRE, "too many repetitions"},
		{`^*`, MatcherPCRE, "nothing to repeat"},
	} {
		_, err := MatchNode("n", c.pattern, c.matcher)
		if err == nil || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s %q: %v", c.matcher, c.pattern, err)
		}
	}
}

func FuzzMatchNode(f *testing.F) {
	for _, c := range mustMatchGolden(f).Cases {
		f.Add("w1@golden", c.Pattern, c.Matcher == MatcherGlob)
	}
	f.Fuzz(func(t *testing.T, node, pattern string, glob bool) {
		matcher := MatcherPCRE
		if glob {
			matcher = MatcherGlob
		}
		got, err := MatchNode(node, pattern, matcher)
		if err != nil {
			return
		}
		if again, err := MatchNode(node, pattern, matcher); again != got || err != nil {
			t.Errorf("%q: %v, then %v, %v", pattern, got, again, err)
		}
		if glob && strings.Trim(pattern, "*") == "" && pattern != "" && !got {
			t.Errorf("%q does not fit a star", node)
		}
	})
}
