package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// readyTimeout bounds a start; Python needs seconds when the machine is busy.
	readyTimeout = 90 * time.Second
	// stopTimeout is how long a process may take to obey SIGTERM before its group is killed.
	stopTimeout = 10 * time.Second
	// dumpTimeout is how long a hanging program may then take to write where it hangs.
	dumpTimeout = time.Second
)

// Command describes a program to start.
type Command struct {
	// Name is unique among the running processes and names the log file.
	Name string
	Path string
	Args []string
	Dir  string
	// Env is added to the environment of the harness.
	Env []string
	// Ready is polled until it returns nil; nil means ready at once.
	Ready func(ctx context.Context, p *Process) error
	// StopTimeout is how long the process may take after SIGTERM; zero means 10 s.
	StopTimeout time.Duration
	// MayBeKilled says that it is no fault when the process takes longer.
	MayBeKilled bool
}

// Process is a started program: the leader of a process group of its own.
type Process struct {
	Name string
	// Log is the file with its standard output and error.
	Log string

	cmd         *exec.Cmd
	stopTimeout time.Duration
	mayBeKilled bool
	guard       *guard
	exitC       chan struct{} // closed by the waiting goroutine, after exitErr is set
	exitErr     error

	stopOnce sync.Once
}

// Start starts a program and returns when it is ready. It runs until [Process.Stop] or [Lab.Close].
func (l *Lab) Start(ctx context.Context, c Command) (*Process, error) {
	p, err := l.spawn(c)
	if err != nil {
		return nil, fmt.Errorf("harness: start %s: %w", c.Name, err)
	}
	if c.Ready == nil {
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err = WaitFor(ctx, c.Name+" is ready", func(ctx context.Context) error { return errors.Join(c.Ready(ctx, p), p.exited()) })
	if err != nil {
		return nil, errors.Join(err, p.Stop(), fmt.Errorf("its log ends:\n%s", p.Tail(40)))
	}
	return p, nil
}

func (l *Lab) spawn(c Command) (*Process, error) {
	log, err := l.createLog(c.Name)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own descriptor
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir, cmd.Env = c.Dir, append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{Name: c.Name, Log: log.Name(), cmd: cmd, stopTimeout: c.StopTimeout, mayBeKilled: c.MayBeKilled, exitC: make(chan struct{})}
	if p.stopTimeout == 0 {
		p.stopTimeout = stopTimeout
	}
	l.wg.Go(func() {
		p.exitErr = cmd.Wait()
		close(p.exitC)
	})
	if p.guard, err = newGuard(cmd.Process.Pid); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	l.add(p)
	return p, nil
}

// PID is the process id of the program itself.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.exitC }

// Signal sends an OS signal to the program itself, not to its children.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// SignalGroup sends an OS signal to the program and its children.
func (p *Process) SignalGroup(sig syscall.Signal) error { return syscall.Kill(-p.PID(), sig) }

// Wait returns the program's exit error when it has ended by itself.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.exitC:
		return p.exitErr
	case <-ctx.Done():
		return fmt.Errorf("harness: wait for %s: %w", p.Name, context.Cause(ctx))
	}
}

// Stop sends SIGTERM, waits, and kills what is left of the process group. The first call reports a program that did not obey in
// time; later ones do nothing.
func (p *Process) Stop() (err error) {
	p.stopOnce.Do(func() {
		_ = p.SignalGroup(syscall.SIGCONT) // a paused process cannot obey
		_ = p.Signal(syscall.SIGTERM)
		timer := time.NewTimer(p.stopTimeout)
		defer timer.Stop()
		select {
		case <-p.exitC:
		case <-timer.C:
			if !p.mayBeKilled {
				err = fmt.Errorf("harness: %s did not stop within %s", p.Name, p.stopTimeout)
				p.dump()
			}
		}
		p.end()
	})
	return err
}

// dump makes a Go program that hangs write its goroutines into its log.
func (p *Process) dump() {
	_ = p.Signal(syscall.SIGQUIT)
	timer := time.NewTimer(dumpTimeout)
	defer timer.Stop()
	select {
	case <-p.exitC:
	case <-timer.C:
	}
}

// Kill kills the process group at once, as the kernel or an operator would.
func (p *Process) Kill() {
	p.stopOnce.Do(p.end)
}

func (p *Process) end() {
	_ = p.SignalGroup(syscall.SIGKILL) // ESRCH when all have ended
	<-p.exitC
	if p.guard != nil {
		p.guard.release()
	}
}

// LogSize is the present length of the log, to be given to [Process.LogFrom].
func (p *Process) LogSize() int64 {
	info, err := os.Stat(p.Log)
	if err != nil {
		return 0
	}
	return info.Size()
}

// LogFrom returns the log from an offset on.
func (p *Process) LogFrom(offset int64) string {
	f, err := os.Open(p.Log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err.Error()
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Tail returns the last lines of the log.
func (p *Process) Tail(lines int) string { return lastLines(p.LogFrom(0), lines) }

// WaitLog waits until the log contains text at or after offset.
func (p *Process) WaitLog(ctx context.Context, offset int64, text string) error {
	return WaitFor(ctx, fmt.Sprintf("%s logs %q", p.Name, text), func(context.Context) error {
		if bytes.Contains([]byte(p.LogFrom(offset)), []byte(text)) {
			return nil
		}
		return errors.Join(errors.New("not yet"), p.exited())
	})
}

// exited is nil while the program runs.
func (p *Process) exited() error {
	select {
	case <-p.exitC:
		return errors.Join(fmt.Errorf("%w: %s", ErrExited, p.Name), p.exitErr)
	default:
		return nil
	}
}

func lastLines(text string, lines int) string {
	all := bytes.Split([]byte(text), []byte("\n"))
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return string(bytes.Join(all, []byte("\n")))
}

// guard kills a process group when the harness dies without cleaning up, for example by a test timeout: a shell that waits for
// the end of its standard input, which only the harness holds open.
type guard struct {
	cmd  *exec.Cmd
	hold io.Closer
}

func newGuard(group int) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", `read -r _; kill -9 -- "-$1"`, "guard", strconv.Itoa(group))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	hold, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &guard{cmd: cmd, hold: hold}, nil
}

// release ends the guard itself. The group has ended before: its number may soon belong to somebody else.
func (g *guard) release() {
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
	_ = g.hold.Close()
}
