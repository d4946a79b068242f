package command

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dfws/dfws/integration/redistest"
	"github.com/dfws/dfws/worker"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }

func noEnv(string) (string, bool) { return "", false }

func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	program := Program{App: "shop", Config: worker.Config{Concurrency: 100, Queues: []string{"mine"}}}
	for _, tc := range []struct {
		args string
		env  []string
		want worker.Config
	}{
		{args: "", want: worker.Config{Concurrency: 100, Queues: []string{"mine"}}},
		{args: "-Q a,b -Qc --queues d --queues=e", want: worker.Config{Concurrency: 100, Queues: []string{"a", "b", "c", "d", "e"}}},
		{args: "-X a", env: []string{"DFWS_QUEUES", "x, y"}, want: worker.Config{Concurrency: 100, Queues: []string{"x", "y"}, ExcludeQueues: []string{"a"}}},
		{args: "-c 4 -E", env: []string{"DFWS_CONCURRENCY", "7"}, want: worker.Config{Concurrency: 4, Queues: []string{"mine"}, TaskEvents: worker.Yes}},
		{args: "-Ec4", env: []string{"DFWS_TASK_EVENTS", "no"}, want: worker.Config{Concurrency: 4, Queues: []string{"mine"}, TaskEvents: worker.Yes}},
		{args: "-c auto", env: []string{"DFWS_TASK_EVENTS", "0"}, want: worker.Config{Queues: []string{"mine"}, TaskEvents: worker.No}},
		{args: "--autoscale 10,3 --events", want: worker.Config{Concurrency: 3, AutoscaleMax: 10, Queues: []string{"mine"}, TaskEvents: worker.Yes}},
		{args: "--autoscale=10", want: worker.Config{Concurrency: 1, AutoscaleMax: 10, Queues: []string{"mine"}}},
		{args: "-n w1@%h -O fair --prefetch-multiplier=1", want: worker.Config{Concurrency: 100, Queues: []string{"mine"}, NodeName: "w1@%h", PrefetchMultiplier: 1}},
		{
			args: "--time-limit 1.5 --soft-time-limit=1m --heartbeat-interval 5 --stop-timeout -1",
			want: worker.Config{
				Concurrency: 100, Queues: []string{"mine"}, TimeLimit: 1500 * time.Millisecond, SoftTimeLimit: time.Minute,
				HeartbeatInterval: 5 * time.Second, SoftStopTimeout: -time.Second,
			},
		},
		{
			args: "--without-gossip --without-mingle=false", env: []string{"DFWS_WITHOUT_HEARTBEAT", "1", "DFWS_WITHOUT_MINGLE", "1"},
			want: worker.Config{Concurrency: 100, Queues: []string{"mine"}, WithoutGossip: true, WithoutHeartbeat: true},
		},
	} {
		o := program.options()
		if err := o.set.parse(strings.Fields(tc.args), env(tc.env...)); err != nil {
			t.Errorf("%s: %v", tc.args, err)
			continue
		}
		if diff := cmp.Diff(tc.want, o.cfg, cmpopts.IgnoreFields(worker.Config{}, "Observer")); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tc.args, diff)
		}
	}
}

func TestParseFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args string
		env  []string
		want []string
	}{
		{args: "-c many", want: []string{`-c: want a positive number or "auto"`}},
		{args: "-c 0", want: []string{`-c: want a positive number or "auto"`}},
		{args: "--autoscale x", want: []string{`--autoscale: want the most and the least`}},
		{args: "--time-limit soon --prefetch-multiplier x", want: []string{"--time-limit: want seconds", "--prefetch-multiplier: want a whole number"}},
		{args: "--time-limit 1e300", want: []string{"--time-limit: want seconds"}},
		{args: "-E=maybe", want: []string{"unknown option -="}},
		{args: "--without-gossip=maybe", want: []string{"--without-gossip: want true or false"}},
		{args: "-O best", want: []string{"-O: want one of default, fair"}},
		{args: "more", want: []string{`unexpected argument "more"`}},
		{args: "--queues", want: []string{"--queues: LIST is missing"}},
		{args: "-Q", want: []string{"-Q: LIST is missing"}},
		{args: "--nonsense", want: []string{"unknown option --nonsense"}},
		{args: "-P threads", want: []string{"-P is not an option of a Go worker: its tasks run in goroutines"}},
		{args: "--pool=gevent -B -A shop --statedb x", want: []string{"--pool is not", "-B is not an option of a Go worker: run `celery beat`", "-A is not", "--statedb is not"}},
		{args: "", env: []string{"DFWS_CONCURRENCY", "x", "DFWS_TASK_EVENTS", "x"}, want: []string{"DFWS_CONCURRENCY: want", "DFWS_TASK_EVENTS: want"}},
	} {
		var stderr bytes.Buffer
		p := Program{App: "shop", Register: func(*worker.Worker) {}}
		code := p.Run(t.Context(), System{Args: strings.Fields(tc.args), LookupEnv: env(tc.env...), Stdout: &stderr, Stderr: &stderr})
		if code != exitUsage {
			t.Errorf("%s: exit status %d", tc.args, code)
		}
		for _, want := range tc.want {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%s: no %q in %q", tc.args, want, stderr.String())
			}
		}
	}
}

// TestEveryCeleryOption: each option of `celery worker` is either known or refused with a hint.
func TestEveryCeleryOption(t *testing.T) {
	t.Parallel()
	o := Program{App: "shop"}.options()
	for _, name := range strings.Fields(`
		-n --hostname -D --detach -S --statedb -l --loglevel -O --optimization --prefetch-multiplier --disable-prefetch -c --concurrency -P --pool
		-E --task-events --events --time-limit --soft-time-limit --max-tasks-per-child --pool-start-method --max-memory-per-child --purge --discard
		-Q --queues -X --exclude-queues -I --include --without-gossip --without-mingle --without-heartbeat --heartbeat-interval --autoscale
		-B --beat -s --schedule-filename --schedule --scheduler -f --logfile --pidfile --uid --gid --umask --executable --help
		-A --app -b --broker --result-backend --loader --config --workdir -C --no-color -q --quiet --version`) {
		known := o.set.long(strings.TrimPrefix(name, "--")) != nil
		if len(name) == 2 {
			known = o.set.short(name[1]) != nil
		}
		if known == (refused[name] != "") {
			t.Errorf("%s: known %v, refused %q", name, known, refused[name])
		}
	}
}

func TestSaying(t *testing.T) {
	t.Parallel()
	p := Program{App: "shop", Version: "1.2", Register: func(*worker.Worker) {}}
	say := func(args string, lookup func(string) (string, bool)) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := p.Run(t.Context(), System{Args: strings.Fields(args), LookupEnv: lookup, Stdout: &stdout, Stderr: &stderr}); code != exitOK || stderr.Len() > 0 {
			t.Errorf("%s: %d, %q", args, code, stderr.String())
		}
		return stdout.String()
	}
	if got := say("--version", noEnv); got != "shop 1.2\n" {
		t.Errorf("version: %q", got)
	}
	help := say("-h", noEnv)
	for _, want := range []string{"-Q, --queues LIST", "-E, --task-events, --events", "--admin ADDRESS"} {
		if !strings.Contains(help, want) {
			t.Errorf("no %s in\n%s", want, help)
		}
	}
	config := say("--print-config -c 3 --autoscale 5,2", env("DFWS_LOGLEVEL", "DEBUG"))
	for _, want := range []string{"concurrency          2       flag", "autoscale            5,2     flag", "loglevel             DEBUG   environment", "log-format           text    default"} {
		if !strings.Contains(strings.Join(strings.Fields(config), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("no %q in\n%s", want, config)
		}
	}
}

func TestStartFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte(`{"schema": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"--settings " + filepath.Join(dir, "none.json"): "none.json",
		"--settings " + broken:                          "celery.broker_url",
		"--loglevel LOUD":                               "--loglevel",
		"--log-format xml":                              "--log-format",
		"--logfile " + dir:                              "--logfile",
	} {
		var stderr bytes.Buffer
		p := Program{App: "shop", Register: func(*worker.Worker) {}}
		if code := p.Run(context.Background(), System{Args: strings.Fields(args), LookupEnv: noEnv, Stdout: &stderr, Stderr: &stderr}); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: %d, %q", args, code, stderr.String())
		}
	}
}

func TestPidFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pid")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := takePidFile(path, 123); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "123\n" {
		t.Errorf("%q, %v", text, err)
	}
	write(strconv.Itoa(os.Getppid()))
	if err := takePidFile(path, 123); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("beside a living process: %v", err)
	}
	write("4194304\n") // beyond the largest process ID of Linux
	if err := takePidFile(path, 123); err != nil {
		t.Errorf("after a dead process: %v", err)
	}
	write("nonsense")
	if err := takePidFile(path, 123); err == nil {
		t.Error("a file of another kind is overwritten")
	}
	if err := takePidFile(filepath.Join(path, "x"), 123); err == nil {
		t.Error("a path that cannot be")
	}
}
