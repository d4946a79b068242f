// Package loadproto is what the benchmark and its load generator say to each other, and the arithmetic that both use.
package loadproto

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Command is one line from the benchmark to the load generator.
type Command struct {
	Do             string   `json:"do"`                    // connect, await, send, roundtrip, close
	URL            string   `json:"url,omitempty"`         // connect: ws://host:port/ws/
	Cookies        []string `json:"cookies,omitempty"`     // connect: one window each
	Concurrency    int      `json:"concurrency,omitempty"` // connect: handshakes under way at once; roundtrip: windows, each with one signal under way
	Text           string   `json:"text,omitempty"`        // send, roundtrip: the frame
	Total          int      `json:"total,omitempty"`       // await, send, roundtrip: frames over all windows
	TimeoutSeconds float64  `json:"timeout_seconds,omitempty"`
}

// Reply is the load generator's answer. Delays are those of handshakes (connect), of frames since they were sent (await) or of
// answers since their frame was sent (roundtrip).
type Reply struct {
	Seconds    float64 `json:"seconds"`
	Open       int     `json:"open"`
	Failed     int     `json:"failed"`
	Lost       int     `json:"lost"` // windows that the server ended
	Received   int     `json:"received"`
	P50Millis  float64 `json:"p50_millis"`
	P99Millis  float64 `json:"p99_millis"`
	CPUSeconds float64 `json:"cpu_seconds"` // of the load generator, since it started
	Error      string  `json:"error,omitempty"`
}

// Percentile returns the p-th percentile (0 to 100, nearest rank) of delays in milliseconds, 0 without any.
func Percentile(delays []time.Duration, p int) float64 {
	if len(delays) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(delays))
	rank := (len(sorted)*p + 99) / 100
	return float64(sorted[max(rank, 1)-1]) / float64(time.Millisecond)
}

// ticksPerSecond is Linux's USER_HZ: the unit of the times in /proc/PID/stat (proc(5)).
const ticksPerSecond = 100

// CPUSeconds returns the processor time that the process has used, in user and kernel mode, all threads together.
func CPUSeconds(pid int) (float64, error) {
	fields, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	return cpuOf(fields)
}

// statFields are those of /proc/PID/stat from the process's state on.
func statFields(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // the name may contain blanks
	if len(fields) < 13 {
		return nil, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	return fields, nil
}

func cpuOf(fields []string) (float64, error) {
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	if err != nil {
		return 0, err
	}
	return (user + system) / ticksPerSecond, nil
}

// GroupCPUSeconds is CPUSeconds of all processes of the process group that pid leads.
func GroupCPUSeconds(pid int) (float64, error) {
	members, err := group(pid)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, fields := range members {
		seconds, err := cpuOf(fields)
		if err != nil {
			return 0, err
		}
		total += seconds
	}
	return total, nil
}

// GroupResidentBytes is the sum of ResidentBytes over a process group; pages that are shared count for each.
func GroupResidentBytes(pid int) (int64, error) {
	members, err := group(pid)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for member := range members {
		bytes, err := ResidentBytes(member)
		if err != nil {
			return 0, err
		}
		total += bytes
	}
	return total, nil
}

// group finds the processes of a group, with the fields of their stat.
func group(leader int) (map[int][]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	members := map[int][]string{}
	const processGroup = 2 // behind state and parent
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		fields, err := statFields(pid)
		if err == nil && fields[processGroup] == strconv.Itoa(leader) { // an error: it has ended
			members[pid] = fields
		}
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("no process in group %d", leader)
	}
	return members, nil
}

// ResidentBytes returns the resident memory of the process.
func ResidentBytes(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm: %d fields", pid, len(fields))
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
