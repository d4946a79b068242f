package redisbroker_test

import (
	"bufio"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/dfws/dfws/integration/redistest"
)

// monitor reads what MONITOR tells.
type monitor struct {
	conn  net.Conn
	lines *bufio.Reader
}

// mustMonitor begins to watch a server.
func mustMonitor(t *testing.T, s *redistest.Server) *monitor {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // stop has closed it
	m := &monitor{conn: conn, lines: bufio.NewReader(conn)}
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := m.lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+OK") {
		t.Fatalf("MONITOR: %q, %v", line, err)
	}
	return m
}

var monitored = regexp.MustCompile(`"((?:\\.|[^"\\])*)"`)

// stop returns the commands so far.
func (m *monitor) stop(t *testing.T) [][]string {
	t.Helper()
	// Its own last command ends what is to be read.
	other, err := net.Dial("tcp", m.conn.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close() //nolint:errcheck // nothing is lost with it
	if _, err := other.Write([]byte("ECHO that-is-all\r\n")); err != nil {
		t.Fatal(err)
	}
	var commands [][]string
	for {
		line, err := m.lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var args []string
		for _, quoted := range monitored.FindAllString(line[strings.IndexByte(line, ']')+1:], -1) {
			arg, err := strconv.Unquote(quoted)
			if err != nil {
				t.Fatalf("%s: %v", quoted, err)
			}
			args = append(args, arg)
		}
		if len(args) > 1 && args[1] == "that-is-all" {
			return commands
		}
		commands = append(commands, args)
	}
}
