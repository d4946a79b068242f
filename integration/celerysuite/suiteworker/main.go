// Command suiteworker is t/integration/tasks.py of Celery 5.7 in Go: the session worker of Celery's own integration tests.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/dfws/dfws/worker"
)

func main() {
	settingsFile := flag.String("settings", "settings.json", "what the plugin exported of the tests' Celery application")
	redisAddr := flag.String("redis", "localhost:6379", "`address` of the Redis that the tasks write to, as REDIS_HOST and REDIS_PORT")
	witnessKey := flag.String("witness", "", "Redis `key` through which the tests see each task; empty: they do not")
	level := slog.LevelInfo
	flag.TextVar(&level, "log-level", level, "debug, info, warn or error")
	cfg := worker.Config{App: "celerysuite", AckEarly: true, WithoutMingle: true, WithoutGossip: true, WithoutHeartbeat: true, TaskEvents: worker.Yes}
	flag.StringVar(&cfg.NodeName, "node", "celery@%h", "the worker's name")
	flag.IntVar(&cfg.Concurrency, "concurrency", 1, "tasks at once")
	flag.Parse()
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	if err := run(cfg, *settingsFile, *redisAddr, *witnessKey); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(cfg worker.Config, settingsFile, redisAddr, witnessKey string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if cfg.Settings, err = worker.LoadSettings(settingsFile); err != nil {
		return err
	}
	cfg.Queues = []string{cfg.Settings.Celery.TaskDefaultQueue}
	w, err := worker.New(cfg)
	if err != nil {
		return err
	}
	effects := newEffects(redisAddr)
	defer effects.close()
	register(w, effects, &witness{effects.client, witnessKey})
	return w.Run(ctx)
}

// register registers every task of tasks.py.
func register(w *worker.Worker, effects *effects, witness *witness) {
	s := suite{w: w, effects: effects, witness: witness}
	s.plainTasks()
	s.callTasks()
	s.retryTasks()
	s.rejectTasks()
	s.failTasks()
	s.effectTasks()
	s.canvasTasks()
	s.replaceTasks()
	s.signatureTasks()
	s.commands()
}

// suite registers tasks.
type suite struct {
	w       *worker.Worker
	effects *effects
	witness *witness
}

// module is that of the tasks and exceptions in Python.
const module = "t.integration.tasks"

// task registers a function as a task of tasks.py; params are the names of its parameters.
func (s suite) task(name string, run any, params ...string) {
	s.taskWith(name, worker.TaskOptions{}, run, params...)
}

func (s suite) taskWith(name string, options worker.TaskOptions, run any, params ...string) {
	worker.HandleFunc(s.w, worker.Func{Name: module + "." + name, Options: options, Params: params, Run: s.witness.witnessed(run)})
}

// taskOf is taskWith for handlers whose arguments are a struct.
func taskOf[A, R any](s suite, name string, options worker.TaskOptions, run func(context.Context, *worker.TaskCall, A) (R, error)) {
	worker.HandleTask(s.w, worker.Task[A, R]{
		Name: module + "." + name, Options: options,
		Run: func(ctx context.Context, call *worker.TaskCall, args A) (R, error) {
			s.witness.show(ctx, call)
			return run(ctx, call, args)
		},
	})
}
