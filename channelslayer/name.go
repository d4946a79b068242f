package channelslayer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNameLength is BaseChannelLayer.MAX_NAME_LENGTH (channels 4.3, layers.py): names must be shorter, counted in characters.
const maxNameLength = 100

// CheckChannelName returns a *NameError unless name is what Channels accepts as a channel's name:
// ^[a-zA-Z\d\-_.]+(\![\d\w\-_.]*)?$ in Python's reading, where \d and \w know Unicode and $ also matches before a final newline.
func CheckChannelName(name string) error { return checkName("channel", name, true) }

// CheckGroupName returns a *NameError unless name is what Channels accepts as a group's name: ^[a-zA-Z\d\-_.]+$ in Python's reading.
func CheckGroupName(name string) error { return checkName("group", name, false) }

func checkName(kind, name string, local bool) error {
	if !utf8.ValidString(name) {
		return &NameError{Kind: kind, Reason: "not UTF-8"}
	}
	if utf8.RuneCountInString(name) >= maxNameLength {
		return &NameError{Kind: kind, Reason: "100 characters or more"}
	}
	head, tail, found := strings.Cut(strings.TrimSuffix(name, "\n"), "!")
	switch {
	case found && !local:
		return &NameError{Kind: kind, Reason: "'!' is for channels only"}
	case head == "":
		return &NameError{Kind: kind, Reason: "empty"}
	case strings.IndexFunc(head, notHeadRune) >= 0, strings.IndexFunc(tail, notTailRune) >= 0:
		return &NameError{Kind: kind, Reason: "a character other than letters, digits, hyphen, underscore and period"}
	}
	return nil
}

func notHeadRune(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
		return false
	}
	return !unicode.IsDigit(r)
}

// notTailRune knows \w: Python's str.isalnum, which takes letters and everything numeric, and the underscore.
func notTailRune(r rune) bool {
	return notHeadRune(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r)
}
