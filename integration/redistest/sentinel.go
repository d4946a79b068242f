package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sentinel is what a Sentinel watches. A single one with the quorum 1 fails over by itself.
type Sentinel struct {
	// MasterName and Master, the one at the start.
	MasterName string
	Master     *Server
	// Quorum of Sentinels that must agree that the master is down; 1 when 0.
	Quorum int
	// DownAfter is how long a master may be silent; 2 s when 0. Below it Sentinel takes living ones for dead: it asks once a second.
	DownAfter time.Duration
}

const (
	defaultDownAfter = 2 * time.Second
	// failoverTimeout: a failover that is not done by then is tried again after twice the time.
	failoverTimeout = 5 * time.Second
)

func (s *Server) sentinelConfig() string { return filepath.Join(s.dir, "sentinel.conf") }

// writeConfig writes the file that the Sentinel reads, and rewrites when the master changes.
func (s *Sentinel) writeConfig(path, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	host, masterPort, err := net.SplitHostPort(s.Master.Addr)
	if err != nil {
		return err
	}
	downAfter := s.DownAfter
	if downAfter == 0 {
		downAfter = defaultDownAfter
	}
	text := fmt.Sprintf("port %[1]s\nbind 127.0.0.1\nsentinel monitor %[2]s %[3]s %[4]s %[5]d\n"+
		"sentinel down-after-milliseconds %[2]s %[6]d\nsentinel failover-timeout %[2]s %[7]d\n",
		port, s.MasterName, host, masterPort, max(s.Quorum, 1), downAfter.Milliseconds(), failoverTimeout.Milliseconds())
	return os.WriteFile(path, []byte(text), 0o600)
}

// AwaitReplica returns when a Sentinel knows a replica of its master that is up to date: only then can it fail over.
func (s *Server) AwaitReplica(masterName string) {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.do(func(ctx context.Context, c *redis.Client) error {
			replicas, err := c.Do(ctx, "SENTINEL", "REPLICAS", masterName).Slice()
			if err != nil {
				return err
			}
			for _, r := range replicas {
				if text := fmt.Sprint(r); strings.Contains(text, " flags slave ") && strings.Contains(text, " master-link-status ok ") {
					return nil
				}
			}
			return errors.New("no replica")
		})
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			s.must("await replica", err)
		case <-tick.C:
		}
	}
}
