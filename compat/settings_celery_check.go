package compat

import (
	"maps"
	"slices"
	"strings"
)

// check notes what no Celery would run with, and what the Go side refuses.
func (c *Celery) check(f *faults) {
	c.checkBroker(f)
	c.checkResults(f)
	c.checkTasks(f)
	c.checkWorker(f)
	c.checkRefused(f)
}

func (c *Celery) checkBroker(f *faults) {
	if c.BrokerURL == "" {
		f.addf("celery.broker_url", "missing")
	}
	c.BrokerTransportOptions = object(f, "celery.broker_transport_options", c.BrokerTransportOptions)
	c.BrokerUseSSL = object(f, "celery.broker_use_ssl", c.BrokerUseSSL)
	notNegative(f, "celery.broker_connection_timeout", c.BrokerConnectionTimeout)
	notNegative(f, "celery.broker_connection_max_retries", c.BrokerConnectionMaxRetries)
	notNegative(f, "celery.broker_pool_limit", c.BrokerPoolLimit)
	switch s := c.BrokerFailoverStrategy; {
	case s.Unsupported != "":
		f.addf("celery.broker_failover_strategy", "%s is not supported: use round-robin or shuffle", s.Unsupported)
	case s.Name != "" && s.Name != "round-robin" && s.Name != "shuffle":
		f.addf("celery.broker_failover_strategy", "%q is neither round-robin nor shuffle", s.Name)
	}
}

func (c *Celery) checkResults(f *faults) {
	c.ResultBackendTransportOptions = object(f, "celery.result_backend_transport_options", c.ResultBackendTransportOptions)
	c.RedisBackendUseSSL = object(f, "celery.redis_backend_use_ssl", c.RedisBackendUseSSL)
	notNegative(f, "celery.result_expires", c.ResultExpires)
	notNegative(f, "celery.result_failure_expires", c.ResultFailureExpires)
	notNegative(f, "celery.result_chord_expires", c.ResultChordExpires)
	notNegative(f, "celery.result_chord_join_timeout", c.ResultChordJoinTimeout)
	notNegative(f, "celery.result_chord_retry_interval", &c.ResultChordRetryInterval)
	notNegative(f, "celery.result_backend_max_retries", c.ResultBackendMaxRetries)
	notNegative(f, "celery.result_backend_base_sleep_between_retries_ms", &c.ResultBackendBaseSleepBetweenRetriesMS)
	notNegative(f, "celery.result_backend_max_sleep_between_retries_ms", &c.ResultBackendMaxSleepBetweenRetriesMS)
	notNegative(f, "celery.redis_socket_timeout", c.RedisSocketTimeout)
	notNegative(f, "celery.redis_socket_connect_timeout", c.RedisSocketConnectTimeout)
	notNegative(f, "celery.redis_max_connections", c.RedisMaxConnections)
	notNegative(f, "celery.redis_backend_health_check_interval", c.RedisBackendHealthCheckInterval)
	required(f, "celery.result_serializer", c.ResultSerializer)
	if c.ResultBackend == backendDjangoDatabase && c.ResultDatabase == "" {
		f.addf("celery.result_database", "missing: result_backend is %s", backendDjangoDatabase)
	}
}

func (c *Celery) checkTasks(f *faults) {
	required(f, "celery.task_default_queue", c.TaskDefaultQueue)
	required(f, "celery.task_default_exchange_type", c.TaskDefaultExchangeType)
	required(f, "celery.task_serializer", c.TaskSerializer)
	if c.TaskDefaultDeliveryMode != 1 && c.TaskDefaultDeliveryMode != persistent {
		f.addf("celery.task_default_delivery_mode", "%d is neither 1 nor 2", c.TaskDefaultDeliveryMode)
	}
	if c.TaskProtocol != 1 && c.TaskProtocol != 2 {
		f.addf("celery.task_protocol", "%d is neither 1 nor 2", c.TaskProtocol)
	}
	if !slices.ContainsFunc(c.AcceptContent, func(s string) bool { return s == "json" || s == "application/json" }) {
		f.addf("celery.accept_content", "lacks json: the Python workers refuse the signals' tasks")
	}
	if _, err := ParseRate(c.TaskDefaultRateLimit); err != nil {
		f.addf("celery.task_default_rate_limit", "%q is no rate such as 100/m", c.TaskDefaultRateLimit)
	}
	notNegative(f, "celery.task_time_limit", c.TaskTimeLimit)
	notNegative(f, "celery.task_soft_time_limit", c.TaskSoftTimeLimit)
	policy := &c.TaskPublishRetryPolicy
	notNegative(f, "celery.task_publish_retry_policy.max_retries", policy.MaxRetries)
	notNegative(f, "celery.task_publish_retry_policy.interval_start", &policy.IntervalStart)
	notNegative(f, "celery.task_publish_retry_policy.interval_step", &policy.IntervalStep)
	notNegative(f, "celery.task_publish_retry_policy.interval_max", &policy.IntervalMax)
	required(f, "celery.timezone", c.Timezone)
}

func (c *Celery) checkWorker(f *faults) {
	notNegative(f, "celery.worker_prefetch_multiplier", &c.WorkerPrefetchMultiplier)
	notNegative(f, "celery.worker_eta_task_limit", c.WorkerETATaskLimit)
	notNegative(f, "celery.worker_soft_shutdown_timeout", &c.WorkerSoftShutdownTimeout)
	required(f, "celery.control_exchange", c.ControlExchange)
	notNegative(f, "celery.control_queue_ttl", c.ControlQueueTTL)
	notNegative(f, "celery.control_queue_expires", c.ControlQueueExpires)
	required(f, "celery.event_exchange", c.EventExchange)
	required(f, "celery.event_queue_prefix", c.EventQueuePrefix)
	required(f, "celery.event_serializer", c.EventSerializer)
	notNegative(f, "celery.event_queue_ttl", c.EventQueueTTL)
	notNegative(f, "celery.event_queue_expires", c.EventQueueExpires)
}

// checkRefused notes what would be silently wrong: Python alone can do what these settings ask for.
func (c *Celery) checkRefused(f *faults) {
	if c.TaskAlwaysEager {
		f.addf("celery.task_always_eager", "is on: Python runs each task where it is called, and nobody waits for the tasks that Go sends: "+
			"switch it off")
	}
	if len(c.Security) > 0 {
		f.addf("celery."+c.Security[0], "is set: signed messages are not supported (%s)", strings.Join(c.Security, ", "))
	}
	if provider := c.RedisBackendCredentialProvider; provider.Unsupported != "" || provider.Name != "" {
		f.addf("celery.redis_backend_credential_provider", "%s%s is Python code: use a user and a password", provider.Unsupported, provider.Name)
	}
}

// checkDatabases notes what a program could not connect to.
func (s *Settings) checkDatabases(f *faults) {
	for _, alias := range slices.Sorted(maps.Keys(s.Databases)) {
		database := s.Databases[alias]
		database.check(f, "databases."+alias)
		s.Databases[alias] = database
	}
	if alias := s.Celery.ResultDatabase; alias != "" {
		if _, ok := s.Databases[alias]; !ok {
			f.addf("celery.result_database", "%q is not among the databases", alias)
		}
	}
}

// notNegative notes a number below zero; nil is none.
func notNegative[T ~int | ~float64](f *faults, setting string, n *T) {
	if n != nil && !(*n >= 0) {
		f.addf(setting, "is negative")
	}
}
