package gateway

import (
	"context"
	"errors"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
)

// errNoRegistry is what Ready says while no signal could be routed.
var errNoRegistry = errors.New("gateway: the registry of signals is not loaded yet")

// realPorts connects the gateway with the packages that speak to Redis.
func realPorts(cfg *Config) (ports, error) {
	s := cfg.Services
	layerReceiver, err := s.Layer.NewGroupReceiver(channelslayer.ReceiverConfig{Name: "gateway", KeyPrefix: cfg.Settings.DFWS.KeyPrefix})
	if err != nil {
		return ports{}, named("receiver", err)
	}
	parked, err := s.Store.Parked(newGatewayName())
	if err != nil {
		return ports{}, named("parked windows", err)
	}
	p := ports{
		tickets: s.Store, receiver: layerPort{layerReceiver}, planner: s.Dispatcher, publisher: realPublisher(cfg), health: servicesHealth{s}, parked: parked,
	}
	if cfg.noCallback() == nil {
		if p.answers, err = newCallback(cfg); err != nil {
			return ports{}, err
		}
	}
	return p, nil
}

// realPublisher puts signals where the site's workers look for them.
func realPublisher(cfg *Config) publisher {
	if cfg.Settings.WebSocket.Workers == compat.WorkersChannels {
		return newLayerQueue(cfg, cfg.Services.Calls)
	}
	return cfg.Services.Broker.NewPublisher(redisbroker.PublisherConfig{
		MaxQueued:      cfg.PublishMessages,
		MaxQueuedBytes: 2 * int64(cfg.PublishBytes), // waitForRoom keeps to the bound; the publisher counts its own overhead, too
		Deadline:       cfg.PublishDeadline,
		DrainTimeout:   cfg.PublishDrainTimeout,
	})
}

// layerPort is the layer's receiver in the gateway's words.
type layerPort struct{ channelslayer.GroupReceiver }

func (p layerPort) run(ctx context.Context, deliver func([]string, message)) error {
	return p.Run(ctx, func(groups []string, m *channelslayer.Received) { deliver(groups, m) })
}

// servicesHealth asks the services how they are.
type servicesHealth struct{ services *dispatch.Services }

func (h servicesHealth) registry() error {
	if !h.services.Registry.Ready() {
		return errNoRegistry
	}
	return nil
}

func (h servicesHealth) layer(ctx context.Context) error {
	return h.services.Layer.Ping(ctx)
}
