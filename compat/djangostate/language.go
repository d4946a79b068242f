package djangostate

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxLanguageCode and maxAcceptLanguage are LANGUAGE_CODE_MAX_LENGTH and ACCEPT_LANGUAGE_HEADER_MAX_LENGTH
	// (django/utils/translation/trans_real.py).
	maxLanguageCode   = 500
	maxAcceptLanguage = 500
)

// Language is a language of the site.
type Language struct {
	// Code is a key of LANGUAGES, in lower case.
	Code string
	// Catalog says that Django finds messages for it.
	Catalog bool
}

// Languages choose a visitor's language as django.utils.translation.get_language_from_request does.
type Languages struct {
	// Code is LANGUAGE_CODE.
	Code string
	// Supported is LANGUAGES, in its order.
	Supported []Language
	// Fallbacks are further codes to be tried for a code, in this order (django.conf.locale.LANG_INFO).
	Fallbacks map[string][]string
}

var (
	// acceptLanguage is accept_language_re of trans_real.py, for the first element.
	acceptLanguage = regexp.MustCompile(`^([a-z]{1,8}(?:-[a-z0-9]{1,8})*|\*)(?:\s*;\s*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?(?:\s*,\s*|$)`)
	// languageCode is language_code_re.
	languageCode = regexp.MustCompile(`(?i)^[a-z]{1,8}(?:-[a-z0-9]{1,8})*(?:@[a-z0-9]{1,20})?$`)
)

// Choose returns the language of a request with this language cookie ("" when there is none) and this Accept-Language header.
func (l *Languages) Choose(cookie, accept string) string {
	if cookie != "" {
		if l.supports(cookie, true) {
			return cookie
		}
		if code, ok := l.variant(cookie); ok {
			return code
		}
	}
	for _, code := range parseAcceptLanguage(accept) {
		if code == "*" {
			break
		}
		if !languageCode.MatchString(code) {
			continue
		}
		if code, ok := l.variant(code); ok {
			return code
		}
	}
	if code, ok := l.variant(l.Code); ok {
		return code
	}
	return l.Code
}

// supports reports whether a code is one of the site's; exact ones are compared as they are written.
func (l *Languages) supports(code string, exact bool) bool {
	if !languageCode.MatchString(code) {
		return false
	}
	if !exact {
		code = strings.ToLower(code)
	}
	return slices.ContainsFunc(l.Supported, func(s Language) bool { return s.Code == code && s.Catalog })
}

// variant is get_supported_language_variant: the code itself, its fallbacks, ever shorter ones, or a longer one of the site.
func (l *Languages) variant(code string) (string, bool) {
	if len(code) > maxLanguageCode {
		i := strings.LastIndexByte(code[:maxLanguageCode], '-')
		if i <= 0 {
			return "", false
		}
		code = code[:i]
	}
	if code == "" {
		return "", false
	}
	candidates := append([]string{code}, l.Fallbacks[code]...)
	for i := strings.LastIndexByte(code, '-'); i >= 0; i = strings.LastIndexByte(code[:i], '-') {
		candidates = append(candidates, code[:i])
	}
	for _, candidate := range candidates {
		if l.supports(candidate, false) {
			return candidate, true
		}
	}
	generic := candidates[len(candidates)-1] + "-"
	for _, s := range l.Supported {
		if strings.HasPrefix(s.Code, generic) {
			return s.Code, true
		}
	}
	return "", false
}

// parseAcceptLanguage returns the codes of a header, the preferred first; none when any of it is malformed.
func parseAcceptLanguage(header string) []string {
	if len(header) > maxAcceptLanguage {
		i := strings.LastIndexByte(header[:maxAcceptLanguage], ',')
		if i <= 0 {
			return nil
		}
		header = header[:i]
	}
	type choice struct {
		code string
		q    float64
	}
	var choices []choice
	for rest := strings.ToLower(header); rest != ""; {
		match := acceptLanguage.FindStringSubmatch(rest)
		if match == nil {
			return nil
		}
		q := 1.0
		if match[2] != "" {
			q, _ = strconv.ParseFloat(match[2], 64) // the pattern is a number's
		}
		choices = append(choices, choice{match[1], q})
		rest = rest[len(match[0]):]
	}
	slices.SortStableFunc(choices, func(a, b choice) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		default:
			return 0
		}
	})
	codes := make([]string, len(choices))
	for i, c := range choices {
		codes[i] = c.code
	}
	return codes
}
