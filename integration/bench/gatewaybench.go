package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/bench/loadproto"
	"github.com/dfws/dfws/integration/harness"
)

// gatewayBench is the site that all servers serve.
type gatewayBench struct {
	lab       *harness.Lab
	site      *harness.Site
	settings  string
	generator string // the load generator's binary
	cookies   []string
	broker    *redis.Client
	layer     *channelslayer.Core
}

func runGateway(ctx context.Context, rounds int) (err error) {
	lab, err := harness.New(harness.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	b := &gatewayBench{lab: lab}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	start := time.Now()
	all := map[string][]*measured{}
	var bare, restarted []float64
	for i := range rounds {
		progress("round %d of %d", i+1, rounds)
		for _, c := range b.contenders() {
			m, err := b.run(ctx, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			all[c.name] = append(all[c.name], m)
		}
		cpu, err := b.bareLoop(ctx)
		if err != nil {
			return fmt.Errorf("bare loop: %w", err)
		}
		bare = append(bare, cpu)
		share, err := b.restartShare(ctx)
		if err != nil {
			return fmt.Errorf("rolling restart: %w", err)
		}
		restarted = append(restarted, share)
	}
	fmt.Printf("%d cores shared by Redis, the server measured and the load generator; rounds: %d; %.0f s\n\n", runtime.NumCPU(), rounds, time.Since(start).Seconds())
	return reportGateway(os.Stdout, all, bare, restarted)
}

func (b *gatewayBench) prepare(ctx context.Context) (err error) {
	if b.site, err = b.lab.NewSite(ctx, harness.SiteOptions{LogLevel: "ERROR"}); err != nil {
		return err
	}
	if b.generator, err = b.lab.Binary(ctx, "integration/bench/loadgen"); err != nil {
		return err
	}
	if b.settings, err = b.site.ExportSettings(ctx); err != nil {
		return err
	}
	count := 0
	for _, c := range b.contenders() {
		count = max(count, slices.Max(c.steps))
	}
	text, err := b.site.Manage(ctx, "bench_windows", strconv.Itoa(count))
	if err != nil {
		return err
	}
	if b.cookies = strings.Split(strings.TrimSpace(text), "\n"); len(b.cookies) != count {
		return fmt.Errorf("bench_windows made %d of %d windows", len(b.cookies), count)
	}
	b.broker = b.site.Database(harness.BrokerDB)
	b.layer, err = channelslayer.Open(channelslayer.Config{
		Hosts: []channelslayer.Host{{URL: fmt.Sprintf("redis://%s/%d", b.site.Redis.Addr, harness.LayerDB)}}})
	return err
}

func (b *gatewayBench) close() error { return errors.Join(b.layer.Close(), b.broker.Close()) }

func websocketURL(host string) string { return "ws://" + host + "/ws/" }

// broadcastFrame is what a broadcast looks like on its way to a window.
func broadcastFrame() string {
	opts := fmt.Sprintf(`{"sent_ns": %d, "text": "a broadcast of the usual size, some hundred bytes with the envelope"}`, time.Now().UnixNano())
	return string(compat.AppendServerFrame(nil, "bench.broadcast", celeryproto.Raw(opts), "00000000-0000-4000-8000-000000000000"))
}

// broadcast sends one frame to the group of all windows, as a Python process would.
func (b *gatewayBench) broadcast(ctx context.Context) error {
	return b.layer.GroupSend(ctx, compat.GroupName(compat.BroadcastTopic), channelslayer.Message{"type": "ws_message", "message": broadcastFrame()})
}

var outputOf = regexp.MustCompile(`(?m)^total_net_output_bytes:(\d+)`)

// redisWork is how many commands Redis has served, those inside scripts included, and how many bytes it has sent.
func (b *gatewayBench) redisWork(ctx context.Context) (commands, bytes float64, err error) {
	info, err := b.broker.Info(ctx, "commandstats", "stats").Result()
	if err != nil {
		return 0, 0, err
	}
	match := outputOf.FindStringSubmatch(info)
	if match == nil {
		return 0, 0, errors.New("INFO of Redis has no total_net_output_bytes")
	}
	if bytes, err = strconv.ParseFloat(match[1], 64); err != nil {
		return 0, 0, err
	}
	commands, err = commandsOf(info)
	return commands, bytes, err
}

// intakeQueue is that of the signal bench.intake, which nobody consumes (integration/project/bench/signals.py).
const intakeQueue = "bench"

// bareLoop is the processor time of a bare loop of writes for each frame, in microseconds, to as many windows as aimWindows.
func (b *gatewayBench) bareLoop(ctx context.Context) (microseconds float64, err error) {
	binary, err := b.lab.Binary(ctx, "integration/bench/bareloop")
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, binary)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.Close(), cmd.Wait()) }()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return 0, err
	}
	gen, err := startGenerator(b.generator)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, gen.stop()) }()
	l := &windowLap{bench: b, url: websocketURL(strings.TrimSpace(addr)), gen: gen}
	if _, err := l.connect(aimWindows); err != nil {
		return 0, err
	}
	pause(ctx, time.Second)
	before, err := loadproto.CPUSeconds(cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	const broadcasts = 30
	for range broadcasts {
		if _, err := io.WriteString(in, broadcastFrame()+"\n"); err != nil {
			return 0, err
		}
		reply, err := gen.ask(loadproto.Command{Do: "await", Total: aimWindows, TimeoutSeconds: 60})
		if err != nil {
			return 0, err
		}
		if reply.Received != aimWindows {
			return 0, fmt.Errorf("%d of %d frames arrived", reply.Received, aimWindows)
		}
	}
	after, err := loadproto.CPUSeconds(cmd.Process.Pid)
	microseconds = (after - before) * 1e6 / (broadcasts * aimWindows)
	progress("  bare loop: %.1f µs for each frame", microseconds)
	return microseconds, err
}
