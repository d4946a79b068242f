package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Config of a [Lab]. The zero value is right inside the repository.
type Config struct {
	// Root is the repository; empty: the folder with go.mod at or above the working directory.
	Root string
	// Python is the interpreter that has integration/project/requirements.txt and python-shim installed; empty: the environment
	// variable DFWS_PYTHON, then .venv/bin/python in Root.
	Python string
	// Dir takes log files, built binaries and databases; empty: a temporary folder that Close removes.
	Dir string
}

// Lab owns everything that the harness starts.
type Lab struct {
	cfg     Config
	ownsDir bool
	wg      sync.WaitGroup

	mu        sync.Mutex
	processes []*Process
	closers   []func() error // of things that are no Process, in order of start
	logs      map[string]int // how often a name was used
	ports     map[int]bool   // given away by FreePort
	binaries  map[string]string
	database  string // the migrated database that each site copies
}

// New prepares a lab; it starts nothing.
func New(cfg Config) (*Lab, error) {
	l := &Lab{cfg: cfg, logs: map[string]int{}, ports: map[int]bool{}, binaries: map[string]string{}}
	var err error
	if l.cfg.Root == "" {
		if l.cfg.Root, err = findRoot(); err != nil {
			return nil, err
		}
	}
	if l.cfg.Python == "" {
		l.cfg.Python = os.Getenv("DFWS_PYTHON")
	}
	if l.cfg.Python == "" {
		l.cfg.Python = filepath.Join(l.cfg.Root, ".venv", "bin", "python")
	}
	if _, err := exec.LookPath(l.cfg.Python); err != nil {
		return nil, fmt.Errorf("%w: Python of the site under test (DFWS_PYTHON): %w", ErrMissing, err)
	}
	if l.cfg.Dir == "" {
		l.ownsDir = true
		if l.cfg.Dir, err = os.MkdirTemp("", "dfws-lab-"); err != nil {
			return nil, fmt.Errorf("harness: %w", err)
		}
	}
	return l, nil
}

// Dir is where log files and databases are.
func (l *Lab) Dir() string { return l.cfg.Dir }

// Python is the interpreter of the site.
func (l *Lab) Python() string { return l.cfg.Python }

// Root is the repository.
func (l *Lab) Root() string { return l.cfg.Root }

// Close stops all processes, the youngest first, and removes the temporary folder. It reports those that did not obey.
func (l *Lab) Close() error {
	var errs []error
	for _, p := range slices.Backward(l.Processes()) {
		errs = append(errs, p.Stop())
	}
	l.mu.Lock()
	closers := l.closers
	l.closers = nil
	l.mu.Unlock()
	for _, closer := range slices.Backward(closers) {
		errs = append(errs, closer())
	}
	l.wg.Wait()
	if l.ownsDir {
		errs = append(errs, os.RemoveAll(l.cfg.Dir))
	}
	return errors.Join(errs...)
}

// Processes returns all that were started, ended ones included, in order of start.
func (l *Lab) Processes() []*Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.processes)
}

func (l *Lab) add(p *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes = append(l.processes, p)
}

func (l *Lab) onClose(f func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, f)
}

// createLog opens a new log file: name.log, then name.2.log and so on.
func (l *Lab) createLog(name string) (*os.File, error) {
	l.mu.Lock()
	l.logs[name]++
	if n := l.logs[name]; n > 1 {
		name += "." + strconv.Itoa(n)
	}
	l.mu.Unlock()
	return os.Create(filepath.Join(l.cfg.Dir, name+".log"))
}

// Binary builds a main package of the repository, such as "cmd/dfws", once, and returns the program's path.
func (l *Lab) Binary(ctx context.Context, pkg string) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if built, ok := l.binaries[pkg]; ok {
		return built, nil
	}
	target := filepath.Join(l.cfg.Dir, path.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-o", target, "./"+pkg)
	cmd.Dir = l.cfg.Root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("harness: build %s: %w\n%s", pkg, err, out)
	}
	l.binaries[pkg] = target
	return target, nil
}

func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("harness: %w", err)
	}
	for {
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && strings.HasPrefix(string(text), "module github.com/dfws/dfws\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("harness: not inside the repository")
		}
		dir = parent
	}
}
