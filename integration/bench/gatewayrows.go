package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// What the gateway is to reach, on a machine of 2 cores.
const (
	aimWindows     = 5_000 // open at a broadcast
	aimMany        = 15_000
	aimConnects    = 35   // times daphne's
	aimBytes       = 10   // KiB for each idle window
	aimP99         = 150  // ms
	aimFrameCPU    = 80   // times daphne's
	aimBare        = 2.5  // bare loops
	aimIntake      = 35   // times daphne's
	aimCalls       = 25   // times daphne with Celery
	aimWindowsIdle = 3    // percent of a core
	aimDelivered   = 100  // percent
	aimRedis       = 1.05 // times the commands and bytes with a fifteenth of the windows
)

// reportGateway prints the growth with the windows, and then the rows with their aims.
func reportGateway(w io.Writer, all map[string][]*measured, bare, restarted []float64) error {
	if err := reportGrowth(w, all); err != nil {
		return err
	}
	rows, err := gatewayRows(all, median(bare).median)
	if err != nil {
		return err
	}
	rows = append(rows, atLeast("delivered across a rolling restart of two gateways", "%", median(restarted).low, aimDelivered))
	sortRows(rows)
	return reportTable(w, rows)
}

// reportGrowth prints what each contender did at each step, the median of the rounds.
func reportGrowth(w io.Writer, all map[string][]*measured) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "server\twindows\tconnects/s\tKiB each\tidle, % of a core\tbroadcast p50, ms\tp99, ms\tµs each frame\tRedis commands\tbytes\tload generator, % of a core\t")
	for _, name := range []string{nameDaphne, nameUvicorn, nameGateway} {
		rounds := all[name]
		for i, s := range rounds[0].steps {
			v := func(value func(step) float64) string {
				return number(medianOf(rounds, func(m *measured) float64 { return value(m.steps[i]) }))
			}
			_, _ = fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", name, s.windows,
				v(func(s step) float64 { return s.connectsPerSecond }), v(func(s step) float64 { return s.bytesPerWindow / kibibyte }),
				v(func(s step) float64 { return s.idleCPU }), v(func(s step) float64 { return s.p50 }), v(func(s step) float64 { return s.p99 }),
				v(func(s step) float64 { return s.cpuPerFrame }), v(func(s step) float64 { return s.redisCommands }),
				v(func(s step) float64 { return s.redisBytes }), v(func(s step) float64 { return percentage * s.generatorShare }))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(w, "\nWhere the load generator uses near a core it is what limits the server.\n\n")
	return err
}

func medianOf(rounds []*measured, value func(*measured) float64) float64 {
	var values []float64
	for _, m := range rounds {
		values = append(values, value(m))
	}
	return median(values).median
}

// gatewayRows compares the gateway with the others. Its values are medians of the rounds.
func gatewayRows(all map[string][]*measured, bare float64) ([]row, error) {
	ours, daphne, uvicorn := all[nameGateway], all[nameDaphne], all[nameUvicorn]
	var missing error
	stepOf := func(rounds []*measured, windows int, value func(step) float64) float64 {
		return medianOf(rounds, func(m *measured) float64 {
			s, err := m.at(windows)
			if err != nil {
				missing = err
			}
			return value(s)
		})
	}
	few := all[nameUvicorn][0].steps[0].windows
	connects := func(s step) float64 { return s.connectsPerSecond }
	bytes := func(s step) float64 { return s.bytesPerWindow / kibibyte }
	p99 := func(s step) float64 { return s.p99 }
	frame := func(s step) float64 { return s.cpuPerFrame }
	commands := func(s step) float64 { return s.redisCommands }
	output := func(s step) float64 { return s.redisBytes }
	idle := func(s step) float64 { return s.idleCPU }
	signals := func(m *measured) float64 { return m.signalsPerSecond }
	perSignal := func(m *measured) float64 { return m.cpuPerSignal }
	callP50, callP99 := func(m *measured) float64 { return m.callP50 }, func(m *measured) float64 { return m.callP99 }

	to := func(n int) string { return fmt.Sprintf(", %d windows", n) }
	manyBytes := atMost("memory per idle window"+to(aimMany), "KiB", stepOf(ours, aimMany, bytes), aimBytes)
	manyBytes.theirs = fmt.Sprintf("%s, %d %s", nameDaphne, aimWindows, number(stepOf(daphne, aimWindows, bytes)))
	fastest := atMost("broadcast p99"+to(aimWindows), "ms", stepOf(ours, aimWindows, p99), aimP99)
	theirs := stepOf(daphne, aimWindows, p99)
	fastest.theirs, fastest.ratio = fmt.Sprintf("%s %s", nameDaphne, number(theirs)), theirs/fastest.ours
	bareRow := atMost("server CPU per frame, over a bare loop of writes", "×", stepOf(ours, aimWindows, frame)/bare, aimBare)
	bareRow.theirs = fmt.Sprintf("bare loop %s µs", number(bare))
	rows := []row{
		times("connects with a ticket"+to(aimWindows), "/s", stepOf(ours, aimWindows, connects), nameDaphne, stepOf(daphne, aimWindows, connects), aimConnects, false),
		times("connects with a ticket"+to(few), "/s", stepOf(ours, few, connects), nameUvicorn, stepOf(uvicorn, few, connects), 0, false),
		manyBytes,
		times("memory per idle window"+to(few), "KiB", stepOf(ours, few, bytes), nameUvicorn, stepOf(uvicorn, few, bytes), 0, true),
		fastest,
		times("broadcast p99"+to(few), "ms", stepOf(ours, few, p99), nameUvicorn, stepOf(uvicorn, few, p99), 0, true),
		times("server CPU per frame"+to(aimWindows), "µs", stepOf(ours, aimWindows, frame), nameDaphne, stepOf(daphne, aimWindows, frame), aimFrameCPU, true),
		times("server CPU per frame"+to(few), "µs", stepOf(ours, few, frame), nameUvicorn, stepOf(uvicorn, few, frame), 0, true),
		bareRow,
		atMost(fmt.Sprintf("Redis commands of a broadcast, %d windows over %d", aimMany, few), "×",
			stepOf(ours, aimMany, commands)/stepOf(ours, few, commands), aimRedis),
		atMost(fmt.Sprintf("bytes from Redis for a broadcast, %d windows over %d", aimMany, few), "×",
			stepOf(ours, aimMany, output)/stepOf(ours, few, output), aimRedis),
		times("signals into the queue", "/s", medianOf(ours, signals), nameDaphne, medianOf(daphne, signals), aimIntake, false),
		times("signals into the queue", "/s", medianOf(ours, signals), nameUvicorn, medianOf(uvicorn, signals), 0, false),
		times("server CPU per signal", "µs", medianOf(ours, perSignal), nameDaphne, medianOf(daphne, perSignal), 0, true),
		times("browser → Go worker → browser, 8 at once, p50", "ms", medianOf(ours, callP50), nameDaphne+" and Celery", medianOf(daphne, callP50), aimCalls, true),
		times("browser → Go worker → browser, 8 at once, p99", "ms", medianOf(ours, callP99), nameDaphne+" and Celery", medianOf(daphne, callP99), 0, true),
		atMost("idle CPU"+to(aimMany), "% of a core", stepOf(ours, aimMany, idle), aimWindowsIdle),
	}
	cut := atLeast("delivered, each window cut every 10 s for 3 s", "%", medianOf(ours, func(m *measured) float64 { return m.cutShare }), aimDelivered)
	cut.theirs = fmt.Sprintf("%s %s, %s %s", nameDaphne, number(medianOf(daphne, func(m *measured) float64 { return m.cutShare })),
		nameUvicorn, number(medianOf(uvicorn, func(m *measured) float64 { return m.cutShare })))
	return append(rows, cut), missing
}
