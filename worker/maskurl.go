package worker

import "strings"

// mask is what Celery shows instead of a secret (celery 5.7, app/utils.py).
const mask = "********"

// maskURL hides the passwords of a broker's or result backend's URL, or of several with ";" in between. Where it is not clear what a
// password is, more is hidden.
func maskURL(raw string) string {
	var masked []string
	for _, part := range splitURLs(raw) {
		masked = append(masked, maskOne(part))
	}
	return strings.Join(masked, ";")
}

// splitURLs parts a list of URLs. A ";" inside of a password does not: what follows it has no scheme.
func splitURLs(raw string) []string {
	var urls []string
	for _, part := range strings.Split(raw, ";") {
		if len(urls) > 0 && !strings.Contains(part, "://") {
			urls[len(urls)-1] += ";" + part
			continue
		}
		urls = append(urls, strings.TrimSpace(part))
	}
	return urls
}

func maskOne(raw string) string {
	scheme, rest, found := strings.Cut(raw, "://")
	if !found {
		return raw
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if user, _, hasPassword := strings.Cut(rest[:at], ":"); hasPassword {
			rest = user + ":" + mask + rest[at:]
		}
	}
	address, query, found := strings.Cut(rest, "?")
	if !found {
		return scheme + "://" + rest
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if key, _, hasValue := strings.Cut(pair, "="); hasValue && isHidden(key) {
			pairs[i] = key + "=" + mask
		}
	}
	return scheme + "://" + address + "?" + strings.Join(pairs, "&")
}

// hiddenWords are what makes the name of a setting one whose value is hidden (celery 5.7, app/utils.py, HIDDEN_SETTINGS).
var hiddenWords = []string{"api", "token", "key", "secret", "pass", "profanities_list", "signature", "database", "beat_dburi"}

func isHidden(name string) bool {
	name = strings.ToLower(name)
	for _, word := range hiddenWords {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
