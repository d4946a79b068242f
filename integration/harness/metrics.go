package harness

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Metric reads one series of the gateway's /metrics, such as `dfws_gateway_frames_received_total{outcome="binary"}`. A series that
// is not there yet is 0.
func (g *Gateway) Metric(ctx context.Context, series string) (float64, error) {
	resp, err := NewClient(g.Admin).Get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	if resp.Status != http.StatusOK {
		return 0, fmt.Errorf("harness: metrics: %d %s", resp.Status, resp.Body)
	}
	for line := range strings.SplitSeq(resp.Body, "\n") {
		if value, found := strings.CutPrefix(line, series+" "); found {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, nil
}

// WaitMetric waits until a series is at least want.
func (g *Gateway) WaitMetric(ctx context.Context, series string, want float64) error {
	return WaitFor(ctx, fmt.Sprintf("%s is %g", series, want), func(ctx context.Context) error {
		got, err := g.Metric(ctx, series)
		if err == nil && got < want {
			err = fmt.Errorf("it is %g", got)
		}
		return err
	})
}
