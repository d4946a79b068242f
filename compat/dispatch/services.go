package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
)

// ServicesConfig configures Services.
type ServicesConfig struct {
	// Settings of the site; required.
	Settings *compat.Settings
	// Origin names this process in the tasks it sends; empty means dfws<pid>@<host>.
	Origin string
	// FallbackQueues is Config.FallbackQueues.
	FallbackQueues []string
	// Logger is for all parts; nil discards.
	Logger *slog.Logger
	// Observers get the counts of the parts.
	Observers Observers
}

// Observers are the observers of the parts of Services.
type Observers struct {
	Dispatch Observer
	Broker   redisbroker.Observer
	Layer    channelslayer.Observer
}

// Services are the connections and the shared state that a gateway, a worker or a program that triggers signals works with.
type Services struct {
	Settings *compat.Settings
	Broker   *redisbroker.Broker
	// Results is nil when the site keeps no results, or not in Redis.
	Results *redisbroker.Results
	Layer   channelslayer.RedisLayer
	// Calls is where the calls of signals go: Broker, or a LayerPublisher where the site's workers are Channels'.
	Calls      Publisher
	Store      *Store
	Registry   *Registry
	Dispatcher *Dispatcher
	Logger     *slog.Logger
}

// Connect opens everything that the settings name. Redis need not be up: each part connects when it is used. The error joins all faults. ctx is
// not kept.
func Connect(_ context.Context, cfg ServicesConfig) (*Services, error) {
	if cfg.Settings == nil {
		return nil, errors.New("dispatch: connect: settings: missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Origin == "" {
		cfg.Origin = defaultOrigin()
	}
	s := &Services{Settings: cfg.Settings, Logger: cfg.Logger}
	if err := s.open(&cfg); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.Registry = NewRegistry(RegistryConfig{Store: s.Store, Logger: cfg.Logger, Observer: cfg.Observers.Dispatch})
	if s.Calls = Publisher(s.Broker); cfg.Settings.WebSocket.Workers == compat.WorkersChannels {
		s.Calls = &LayerPublisher{Layer: s.Layer}
	}
	dispatcher, err := NewDispatcher(Config{
		Settings: cfg.Settings, Registry: s.Registry, Publisher: s.Calls, Layer: s.Layer,
		FallbackQueues: cfg.FallbackQueues, Origin: cfg.Origin, Logger: cfg.Logger, Observer: cfg.Observers.Dispatch,
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.Dispatcher = dispatcher
	return s, nil
}

// open opens the four connections and joins their faults.
func (s *Services) open(cfg *ServicesConfig) error {
	var brokerErr, resultsErr, layerErr, storeErr error
	transport, transportErr := brokerTransport(cfg)
	if s.Broker, brokerErr = openBroker(cfg, transport); brokerErr != nil {
		s.Broker = nil
	}
	if s.Results, resultsErr = openResults(cfg); resultsErr != nil {
		s.Results = nil
	}
	if s.Layer, layerErr = openLayer(cfg); layerErr != nil {
		s.Layer = nil
	}
	s.Store, storeErr = OpenStore(StoreConfig{
		URL: cfg.Settings.DFWS.RedisURL, Transport: transport, KeyPrefix: cfg.Settings.DFWS.KeyPrefix,
		Logger: cfg.Logger, Observer: cfg.Observers.Dispatch,
	})
	if storeErr != nil {
		s.Store = nil
	}
	return errors.Join(transportErr, brokerErr, resultsErr, layerErr, storeErr)
}

// Run keeps the shared state fresh until ctx ends. It returns nil then.
func (s *Services) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Registry.Run(ctx) })
	return group.Wait()
}

// Close ends all connections.
func (s *Services) Close() error {
	var errs []error
	if s.Results != nil {
		errs = append(errs, s.Results.Close())
	}
	if s.Broker != nil {
		errs = append(errs, s.Broker.Close())
	}
	if s.Layer != nil {
		errs = append(errs, s.Layer.Close())
	}
	if s.Store != nil {
		errs = append(errs, s.Store.Close())
	}
	return errors.Join(errs...)
}

// defaultOrigin is like Celery's anon_nodename(): who sent a task.
func defaultOrigin() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return fmt.Sprintf("dfws%d@%s", os.Getpid(), host)
}

// openResults opens the result backend in Redis; nil when the site has none, or another one, which is for the program to open.
func openResults(cfg *ServicesConfig) (*redisbroker.Results, error) {
	c := &cfg.Settings.Celery
	url := c.ResultBackend.Reveal()
	switch scheme, _, _ := strings.Cut(url, ":"); {
	case url == "":
		cfg.Logger.Info("results are not stored: the site has no result_backend")
		return nil, nil
	case !isRedisScheme(scheme):
		return nil, nil
	}
	return openRedisResults(cfg)
}

// isRedisScheme reports whether a result backend's URL is for celery.backends.redis.
func isRedisScheme(scheme string) bool {
	switch scheme {
	case "redis", "rediss", "redis+socket", "socket", "unix", "sentinel", "redis+sentinel":
		return true
	default:
		return false
	}
}
