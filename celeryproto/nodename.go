package celeryproto

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Names of nodes and of queues that follow from them (celery 5.7, utils/nodenames.py).
const (
	// DefaultNodeName is the first half of a worker's node name when it has no other.
	DefaultNodeName = "celery"
	// WorkerDirectExchange is the direct exchange of the queues that only one worker consumes (setting worker_direct); the routing
	// key is the node name.
	WorkerDirectExchange = "C.dq2"

	nodeNameSep       = "@"
	workerDirectEnd   = ".dq2"
	defaultAnonPrefix = "gen"
)

// NodeName is the name of a node: "celery@host".
func NodeName(name, host string) string { return name + nodeNameSep + host }

// AnonNodeName is the name of a process that is no worker: "gen1234@host". It is the origin of tasks and the hostname of the
// events of clients. prefix is "gen" when empty.
func AnonNodeName(prefix string, pid int, host string) string {
	return NodeName(cmp.Or(prefix, defaultAnonPrefix)+strconv.Itoa(pid), host)
}

// SplitNodeName parts a node name at the first "@". What has none is a host.
func SplitNodeName(node string) (name, host string) {
	name, host, found := strings.Cut(node, nodeNameSep)
	if !found {
		return "", node
	}
	return name, host
}

// CompleteNodeName adds what is missing in a node name: DefaultNodeName, and the given host.
func CompleteNodeName(node, host string) string {
	name, own := SplitNodeName(node)
	return NodeName(cmp.Or(name, DefaultNodeName), cmp.Or(own, host))
}

// WorkerDirectQueue is the queue of WorkerDirectExchange that only this node consumes.
func WorkerDirectQueue(node string) string { return node + workerDirectEnd }

// NodeFormat expands the abbreviations that Celery knows in the names of nodes and of files:
//
//	%n %h %d   first half of the node name, host, and domain of the host (what follows the first dot)
//	%p         the whole node name
//	%i %I      number of the pool process: "0" and "" outside of one, else "1" and "-1"
//	%%         a percent sign
//
// Any other is an error. index is the number of the pool process, 0 outside of one.
func NodeFormat(text, node string, index int) (string, error) {
	name, host := SplitNodeName(node)
	return expand(text, func(key rune) (string, bool) {
		if key == 'p' {
			return node, true
		}
		return hostAbbreviation(key, cmp.Or(name, DefaultNodeName), host, index)
	})
}

// HostFormat is NodeFormat for what has no node name yet, such as the -n option of a worker: %n is the host up to its first dot
// and there is no %p.
func HostFormat(text, host string) (string, error) {
	short, _, _ := strings.Cut(host, ".")
	return expand(text, func(key rune) (string, bool) { return hostAbbreviation(key, short, host, 0) })
}

func hostAbbreviation(key rune, name, host string, index int) (string, bool) {
	switch key {
	case 'h':
		return host, true
	case 'n':
		return name, true
	case 'd':
		_, domain, _ := strings.Cut(host, ".")
		return domain, true
	case 'i':
		return strconv.Itoa(index), true
	case 'I':
		if index == 0 {
			return "", true
		}
		return "-" + strconv.Itoa(index), true
	default:
		return "", false
	}
}

// expand is simple_format (celery 5.7, utils/text.py): a percent sign and a word character.
func expand(text string, resolve func(key rune) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "%")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		key, size := utf8.DecodeRuneInString(after)
		switch {
		case key == '%':
			b.WriteByte('%')
		case size == 0 || key != '_' && !unicode.IsLetter(key) && !unicode.IsNumber(key):
			b.WriteByte('%')
			text = after
			continue
		default:
			value, known := resolve(key)
			if !known {
				return "", fmt.Errorf("celeryproto: node name: unknown abbreviation %%%c", key)
			}
			b.WriteString(value)
		}
		text = after[size:]
	}
}
