package appserver

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// SocketPlaceholder stands for the path of the socket in a command.
const SocketPlaceholder = "{socket}"

// socketOptions are the options of known servers that take the path of a socket, where the command says nothing about it: gunicorn
// (gunicorn/config.py), hypercorn (hypercorn/__main__.py), uvicorn (uvicorn/main.py) and daphne (daphne/cli.py).
var socketOptions = map[string][]string{
	"gunicorn":  {"--bind", "unix:" + SocketPlaceholder},
	"hypercorn": {"--bind", "unix:" + SocketPlaceholder},
	"uvicorn":   {"--uds", SocketPlaceholder},
	"daphne":    {"-u", SocketPlaceholder},
}

// ownAddress lists the options by which a command names an address itself.
var ownAddress = map[string][]string{
	"gunicorn":  {"-b", "--bind"},
	"hypercorn": {"-b", "--bind"},
	"uvicorn":   {"--uds", "--host", "--port", "--fd"},
	"daphne":    {"-u", "--unix-socket", "-p", "--port", "-b", "--bind", "-e", "--endpoint", "--fd"},
}

// parseCommand splits a command and makes sure that it says where the socket goes.
func parseCommand(text string) ([]string, error) {
	words, err := SplitCommand(text)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, errors.New("appserver: command: missing")
	}
	if strings.Contains(text, SocketPlaceholder) {
		return words, nil
	}
	server := serverName(words)
	option, known := socketOptions[server]
	if !known {
		return nil, fmt.Errorf("appserver: command: it must listen on the socket %s, as in \"myserver --socket %s\"; "+
			"only for gunicorn, hypercorn, uvicorn and daphne is the option known", SocketPlaceholder, SocketPlaceholder)
	}
	for _, word := range words[1:] {
		name, _, _ := strings.Cut(word, "=")
		if slices.Contains(ownAddress[server], name) {
			return nil, fmt.Errorf("appserver: command: %s names an address of its own: leave it out, or write %s in its place",
				name, strings.Join(option, " "))
		}
	}
	return append(words, option...), nil
}

// serverName is the program that a command runs: the first word, or the module after "python -m".
func serverName(words []string) string {
	name := path.Base(words[0])
	if strings.HasPrefix(name, "python") {
		if i := slices.Index(words, "-m"); i > 0 && i+1 < len(words) {
			return words[i+1]
		}
	}
	return name
}

// SplitCommand splits a command line into words as a POSIX shell does, with single quotes, double quotes and backslashes. Nothing else of
// a shell is known: no variables, no wildcards, no redirection. An open quote is an error.
func SplitCommand(text string) ([]string, error) {
	var words []string
	var word strings.Builder
	started := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\n':
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
		case '\\':
			if i++; i == len(text) {
				return nil, errors.New("appserver: command: a backslash at the end")
			}
			word.WriteByte(text[i])
			started = true
		case '\'', '"':
			end, err := quoted(text, i, &word)
			if err != nil {
				return nil, err
			}
			i, started = end, true
		default:
			word.WriteByte(c)
			started = true
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words, nil
}

// quoted appends the text between the quote at start and its partner, whose index it returns. Inside of double quotes a backslash is one
// only before a quote, a backslash, a dollar sign and a backtick.
func quoted(text string, start int, word *strings.Builder) (end int, err error) {
	quote := text[start]
	for i := start + 1; i < len(text); i++ {
		c := text[i]
		if c == quote {
			return i, nil
		}
		if c == '\\' && quote == '"' && i+1 < len(text) && strings.IndexByte("\"\\$`", text[i+1]) >= 0 {
			i++
			c = text[i]
		}
		word.WriteByte(c)
	}
	return 0, fmt.Errorf("appserver: command: the quote %c is not closed", quote)
}
