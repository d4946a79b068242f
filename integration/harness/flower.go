package harness

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
)

// flowerEnv names the Python interpreter that has integration/flower-requirements.txt installed.
const flowerEnv = "DFWS_FLOWER"

// Flower starts Flower, Celery's monitor, for the site's broker. [ErrMissing] says that it is not installed.
func (s *Site) Flower(ctx context.Context) (*Server, error) {
	python := os.Getenv(flowerEnv)
	if python == "" {
		python = filepath.Join(s.lab.cfg.Root, ".venv-flower", "bin", "python")
	}
	if _, err := exec.LookPath(python); err != nil {
		return nil, fmt.Errorf("%w: Python with Flower (%s): %w", ErrMissing, flowerEnv, err)
	}
	addr, err := s.lab.freeURL()
	if err != nil {
		return nil, err
	}
	p, err := s.lab.Start(ctx, Command{
		Name: "flower", Path: python, Dir: s.dir, Env: []string{"PYTHONDONTWRITEBYTECODE=1", "FLOWER_UNAUTHENTICATED_API=true"},
		Args: []string{
			"-m", "celery", "--broker=" + s.Redis.URLFor(BrokerDB), "flower", "--address=" + addr.Hostname(), "--port=" + addr.Port(),
			"--inspect_timeout=3000",
		},
		Ready: func(ctx context.Context, _ *Process) error {
			return answers(addr.JoinPath("healthcheck").String())(ctx)
		},
	})
	if err != nil {
		return nil, err
	}
	return &Server{Process: p, URL: addr}, nil
}

// Page is an address below the server's.
func (s *Server) Page(path ...string) *url.URL { return s.URL.JoinPath(path...) }
