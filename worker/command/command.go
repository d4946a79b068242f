package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/worker"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Program is a worker program.
type Program struct {
	// App names the program: worker.Config.App, and the first half of its node name. Required.
	App string
	// Register adds the handlers. Required.
	Register func(w *worker.Worker)
	// Config has what the program wants where neither the command line nor the environment says anything. App, Settings and Logger are
	// filled in.
	Config worker.Config
	// Version is what --version prints.
	Version string
}

// System is what Run touches of the outside world.
type System struct {
	// Args are the arguments, without the program's name.
	Args []string
	// LookupEnv reads the environment.
	LookupEnv func(name string) (value string, ok bool)
	// Stdout gets what was asked for (--help, --version, --print-config), Stderr logs and errors.
	Stdout, Stderr io.Writer
	// Signals are OS signals.
	Signals <-chan os.Signal
}

// Main runs a worker program and exits.
func Main(app string, register func(w *worker.Worker)) { Program{App: app, Register: register}.Main() }

// Main runs the program and exits.
func (p Program) Main() {
	signals := make(chan os.Signal, 4) // never closed; what is sent while it is full is lost, as a fifth Ctrl-C may be
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, sigDump)
	os.Exit(p.Run(context.Background(), System{
		Args: os.Args[1:], LookupEnv: os.LookupEnv, Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals,
	}))
}

// Run runs the program and returns its exit status. The end of ctx is a warm stop.
func (p Program) Run(ctx context.Context, sys System) int {
	o := p.options()
	if err := o.set.parse(sys.Args, sys.LookupEnv); err != nil {
		return p.wrong(sys, err)
	}
	switch {
	case o.help:
		return p.say(sys, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s is a worker for Celery tasks and df_websockets signals.\n\n", p.App)
			return errors.Join(err, o.set.help(w))
		})
	case o.version:
		return p.say(sys, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, strings.TrimSpace(p.App+" "+p.Version))
			return err
		})
	case o.printConfig:
		return p.say(sys, o.set.print)
	}
	return p.work(ctx, sys, o)
}

// wrong is the end because of a mistake of the person who runs the program.
func (p Program) wrong(sys System, err error) int {
	_, _ = fmt.Fprintf(sys.Stderr, "%s: %v\n", p.App, err)
	return exitUsage
}

func (p Program) say(sys System, write func(io.Writer) error) int {
	if err := write(sys.Stdout); err != nil {
		_, _ = fmt.Fprintf(sys.Stderr, "%s: %v\n", p.App, err)
		return exitFailed
	}
	return exitOK
}

// options of a worker program.
type options struct {
	set *optionSet

	settings, logLevel, logFormat, logFile, pidFile, admin string
	help, version, printConfig                             bool
	cfg                                                    worker.Config
}

// defaultSettings is the file that --settings names by default.
const defaultSettings = "dfws.json"

func (p Program) options() *options {
	o := &options{set: &optionSet{}, settings: defaultSettings, logLevel: "INFO", logFormat: "text", cfg: p.Config}
	s, c := o.set, &o.cfg
	s.text(&o.settings, option{long: "settings", value: "FILE", help: "what `manage.py dfws settings --output FILE` wrote"})
	s.list(&c.Queues, option{long: "queues", short: 'Q', value: "LIST", help: "queues to consume; those of the handlers by default"})
	s.list(&c.ExcludeQueues, option{long: "exclude-queues", short: 'X', value: "LIST", help: "queues not to consume"})
	s.add(option{
		long: "concurrency", short: 'c', value: "N", help: `tasks at once; worker_concurrency, or the number of CPUs ("auto") by default`,
		set: o.setConcurrency, get: func() string { return unlessZero(c.Concurrency) },
	})
	s.add(option{
		long: "autoscale", value: "MAX,MIN", help: "the same, as many as are needed between two bounds",
		set: o.setAutoscale, get: o.autoscale,
	})
	s.text(&c.NodeName, option{
		long: "hostname", short: 'n', value: "NAME", help: "node name, such as shop@%h: %h is the host name, %n its first part, %d the rest",
	})
	s.add(option{
		long: "task-events", alias: []string{"events"}, short: 'E', help: "publish what happens to tasks, for Flower and the like",
		set: o.setEvents, get: func() string { return strconv.FormatBool(c.TaskEvents == worker.Yes) },
	})
	s.seconds(&c.TimeLimit, option{long: "time-limit", value: "SECONDS", help: "hard time limit of tasks that have none of their own"})
	s.seconds(&c.SoftTimeLimit, option{
		long: "soft-time-limit", value: "SECONDS", help: "soft time limit of tasks that have none of their own",
	})
	s.number(&c.PrefetchMultiplier, option{long: "prefetch-multiplier", value: "N", help: "tasks held for each that may run; -1 is no limit"})
	s.add(option{
		long: "optimization", short: 'O', value: "PROFILE", help: "default or fair: a Go worker is always fair",
		set: oneOf("default", "fair"), get: func() string { return "fair" },
	})
	s.toggle(&c.WithoutGossip, option{long: "without-gossip", help: "do not listen to the other workers"})
	s.toggle(&c.WithoutMingle, option{long: "without-mingle", help: "do not ask the other workers for revoked tasks at the start"})
	s.toggle(&c.WithoutHeartbeat, option{long: "without-heartbeat", help: "do not tell monitors that this worker lives"})
	s.seconds(&c.HeartbeatInterval, option{long: "heartbeat-interval", value: "SECONDS", help: "time between heartbeats; 2 s by default"})
	s.seconds(&c.SoftStopTimeout, option{
		long: "stop-timeout", value: "SECONDS", help: "time for running tasks at a warm stop; 20 s by default, -1 is as long as they take, as in Celery",
	})
	s.text(&o.logLevel, option{long: "loglevel", short: 'l', value: "LEVEL", help: "DEBUG, INFO, WARNING, ERROR or CRITICAL"})
	s.text(&o.logFormat, option{long: "log-format", value: "FORMAT", help: "text or json"})
	s.text(&o.logFile, option{long: "logfile", short: 'f', value: "FILE", help: "append the log to a file instead of standard error"})
	s.text(&o.pidFile, option{
		long: "pidfile", value: "FILE", help: "write the process ID to a file, and refuse to start while that process lives",
	})
	s.text(&o.admin, option{long: "admin", value: "ADDRESS", help: "serve /healthz and /readyz there; keep it from the outside"})
	s.toggle(&o.printConfig, option{long: "print-config", help: "print each option, its value and where that came from, and end"})
	s.toggle(&o.version, option{long: "version", help: "print the version, and end"})
	s.toggle(&o.help, option{long: "help", short: 'h', help: "print this, and end"})
	return o
}

func (o *options) setConcurrency(text string) error {
	if strings.EqualFold(text, "auto") {
		o.cfg.Concurrency = 0 // the number of CPUs that the container may use
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return errors.New(`want a positive number or "auto"`)
	}
	o.cfg.Concurrency = n
	return nil
}

// setAutoscale reads "10,3"; the least is one when it is left out.
func (o *options) setAutoscale(text string) error {
	high, low, both := strings.Cut(text, ",")
	most, err := strconv.Atoi(strings.TrimSpace(high))
	least := 1
	if err == nil && both {
		least, err = strconv.Atoi(strings.TrimSpace(low))
	}
	if err != nil || most < 1 || least < 0 {
		return errors.New(`want the most and the least, such as "10,3"`)
	}
	least = max(least, 1)
	o.cfg.AutoscaleMax, o.cfg.Concurrency = max(most, least), min(most, least) // Celery takes them in any order
	return nil
}

func (o *options) autoscale() string {
	if o.cfg.AutoscaleMax == 0 {
		return ""
	}
	return fmt.Sprintf("%d,%d", o.cfg.AutoscaleMax, o.cfg.Concurrency)
}

func (o *options) setEvents(text string) error {
	on, err := strconv.ParseBool(text)
	if err != nil {
		return errors.New("want true or false")
	}
	o.cfg.TaskEvents = worker.No
	if on {
		o.cfg.TaskEvents = worker.Yes
	}
	return nil
}

func oneOf(names ...string) func(string) error {
	return func(text string) error {
		for _, name := range names {
			if text == name {
				return nil
			}
		}
		return fmt.Errorf("want one of %s", strings.Join(names, ", "))
	}
}

// levels are Celery's names of log levels.
var levels = map[string]slog.Level{
	"DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo, "WARNING": slog.LevelWarn, "WARN": slog.LevelWarn, "ERROR": slog.LevelError,
	"CRITICAL": slog.LevelError + 4, "FATAL": slog.LevelError + 4,
}

// logger makes the program's logger, and says where else it writes.
func (o *options) logger(sys System) (*slog.Logger, io.Writer, func() error, error) {
	level, ok := levels[strings.ToUpper(o.logLevel)]
	if !ok {
		return nil, nil, nil, fmt.Errorf("--loglevel: %q is none of DEBUG, INFO, WARNING, ERROR, CRITICAL and FATAL", o.logLevel)
	}
	out, closeLog := sys.Stderr, func() error { return nil }
	if o.logFile != "" {
		file, err := os.OpenFile(o.logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("--logfile: %w", err)
		}
		out, closeLog = file, file.Close
	}
	handler := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(out, handler)), out, closeLog, nil
	case "json":
		return slog.New(slog.NewJSONHandler(out, handler)), out, closeLog, nil
	}
	return nil, nil, nil, errors.Join(fmt.Errorf("--log-format: %q is neither text nor json", o.logFormat), closeLog())
}

// remapEnv is the environment variable by which SIGTERM is a cold stop of a Celery worker (celery 5.7, apps/worker.py; billiard 4,
// common.py): REMAP_SIGTERM=SIGQUIT, on platforms that send nothing else.
const remapEnv, remapQuit = "REMAP_SIGTERM", "SIGQUIT"

func remapped(sys System, logger *slog.Logger) bool {
	to, _ := sys.LookupEnv(remapEnv)
	if to != "" && to != remapQuit {
		logger.Warn(remapEnv+" has no effect: only "+remapQuit+" has a meaning", "value", to)
	}
	return to == remapQuit
}

// work runs the worker.
func (p Program) work(ctx context.Context, sys System, o *options) (status int) {
	logger, out, closeLog, err := o.logger(sys)
	if err != nil {
		return p.wrong(sys, err)
	}
	defer func() {
		if err := closeLog(); err != nil {
			_, _ = fmt.Fprintf(sys.Stderr, "%s: %v\n", p.App, err)
			status = max(status, exitFailed)
		}
	}()
	redisbroker.LogTo(logger)
	settings, err := worker.LoadSettings(o.settings)
	if err != nil {
		return p.wrong(sys, err)
	}
	if info, err := os.Stat(o.settings); err == nil && info.Mode().Perm()&0o077 != 0 {
		logger.Warn("the settings file can be read by other users, and it holds the passwords of Redis", "file", o.settings)
	}
	o.cfg.Settings, o.cfg.App, o.cfg.Logger = settings, p.App, logger
	w, err := worker.New(o.cfg)
	if err != nil {
		return p.wrong(sys, err)
	}
	p.Register(w)
	if o.pidFile != "" {
		if err := takePidFile(o.pidFile, os.Getpid()); err != nil {
			return p.wrong(sys, fmt.Errorf("--pidfile: %w", err))
		}
		defer func() {
			if err := os.Remove(o.pidFile); err != nil {
				logger.Warn("pid file not removed", "err", err)
			}
		}()
	}
	return p.serve(ctx, sys, o, &running{worker: w, logger: logger, out: out, termIsQuit: remapped(sys, logger)})
}
