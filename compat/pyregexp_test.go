package compat

import (
	"slices"
	"strings"
	"testing"
)

// What real Python makes of expressions and globs is compared in TestRoutes; here is what it cannot show.

func TestPatternsThatGoHasNot(t *testing.T) {
	t.Parallel()
	for expression, part := range map[string]string{
		`a(?=b)`: "a group", `(?<!a)b`: "a group", `(?>a)`: "a group", `(a)(?(1)b|c)`: "a group", `(a)\1`: "a reference back",
		`(?P<n>a)(?P=n)`: "a reference back", `\N{BULLET}`: "an escape", `a*+`: "Go does not understand", `a{2000}`: "Go does not understand",
		`(?x:a b)`: "a flag", `(?a:\w)`: "a flag", `[a`: "a set that does not end", `\`: "an escape", `[\`: "an escape", `\xg1`: "an escape",
		`\u12`: "an escape", `(?#`: "a group", `\777`: "an escape",
	} {
		if p, err := compilePattern(expression, ""); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, %v, want %q in it", expression, p, err, part)
		}
	}
	for flags, expression := range map[string]string{"x": "a", "b": "a", "i": "é"} {
		if p, err := compilePattern(expression, flags); err == nil {
			t.Errorf("%s with %s: %v", expression, flags, p)
		}
	}
	if _, err := compilePattern(strings.Repeat("a", maxPatternBytes+1), ""); err == nil {
		t.Error("a long expression is accepted")
	}
}

func TestPatternsBeyondASCII(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		expression, flags, text string
		matches, known          bool
	}{
		{`é`, "", "é", true, true},
		{`.\.a`, "", "é.a", true, true},
		{`[^x]`, "", "é", true, true},
		{`\w`, "", "é", false, false}, // Python: true
		{`\w`, "a", "é", false, true},
		{`\W`, "a", "é", true, true},
		{`k`, "i", "\u212a", false, false}, // the Kelvin sign; Python: true
		{`(?i:k)`, "", "\u212a", false, false},
		{`a\b`, "", "aé", false, false}, // Python: false
		{`\s`, "", "\x1c", true, true},
		{`\s`, "a", "\x1c", false, true},
		{`[\S]`, "", "\x1c", false, true},
		{`[\S]`, "a", "\x1c", true, true},
		{`\s`, "", "\v", true, true}, // Go's own \s has it not
	} {
		p, err := compilePattern(c.expression, c.flags)
		if err != nil {
			t.Fatal(err)
		}
		if matches, known := p.match(c.text); matches != c.matches || known != c.known {
			t.Errorf("%s (%s) %q: %v, %v", c.expression, c.flags, c.text, matches, known)
		}
	}
}

func FuzzCompilePattern(f *testing.F) {
	for _, expression := range []string{
		`(video|image)\.tasks\..*`, `^app\.[Tt]asks\.`, `[^\W\d]+\.`, `[]x]`, `(?i)WEB`, `(?P<n>a){1,}`, `\x77\u0077\142\0`, `(?m:^a$)`, `[\w.-]+x$`, `[--/]`, `a{,2}{x}`,
		`\é[é-ü]`, "\xff", `[\`,
	} {
		f.Add(expression, "is", "web.tasks.a")
	}
	f.Fuzz(func(t *testing.T, expression, flags, text string) {
		p, err := compilePattern(expression, flags)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil {
			return
		}
		matches, known := p.match(text)
		if longer, stillKnown := p.match(text + "\x00"); matches && known && stillKnown && !longer && !strings.ContainsAny(expression, `$\Zz`) {
			t.Errorf("%q matches the start of %q and not of a longer text", expression, text)
		}
	})
}

func FuzzGlob(f *testing.F) {
	for _, pattern := range []string{"a.*", "*[!b-a]?", "[]a]*", "[[]*", "*[a", "[--/]*", "[!]]", "[a-c-e]", "*\xff"} {
		f.Add(pattern, "web.a.b")
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !strings.ContainsAny(pattern, "*?[") {
			want := slices.Equal([]rune(pattern), []rune(text))
			if parseGlob(pattern).match(text) != want {
				t.Errorf("%q, %q: not %v", pattern, text, want)
			}
			return
		}
		if parseGlob(pattern).match(text) && !parseGlob("*"+pattern+"*").match("x"+text+"y") {
			t.Errorf("%q matches %q, and less with stars around", pattern, text)
		}
	})
}
