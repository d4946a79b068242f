package compat

// Celery holds settings of the site's Celery application, under their names in lower case. Where a field says no default, it is Celery's
// own: zero, false, none. The defaults are those of Celery 5.7 (app/defaults.py); DefaultCelery has them.
type Celery struct {
	// BrokerURL is broker_url; required. A failover list, and a list of sentinels, is several URLs with ";" between them. broker_user and
	// the like are in the URL already, and broker_use_ssl is in those of servers.
	BrokerURL Secret `json:"broker_url"`
	// BrokerUseSSL is broker_use_ssl, a JSON object, for servers behind Sentinels; empty means none.
	BrokerUseSSL SecretJSON `json:"broker_use_ssl"`
	// BrokerTransportOptions is broker_transport_options, a JSON object; empty means none.
	BrokerTransportOptions SecretJSON `json:"broker_transport_options"`
	// BrokerConnectionTimeout is broker_connection_timeout: how long connecting may take; default 4 s; nil is no limit.
	BrokerConnectionTimeout *Seconds `json:"broker_connection_timeout"`
	// BrokerConnectionRetry is broker_connection_retry: whether a lost broker is waited for; default true.
	BrokerConnectionRetry bool `json:"broker_connection_retry"`
	// BrokerConnectionRetryOnStartup is broker_connection_retry_on_startup; nil means as BrokerConnectionRetry.
	BrokerConnectionRetryOnStartup *bool `json:"broker_connection_retry_on_startup"`
	// BrokerConnectionMaxRetries is broker_connection_max_retries; default 100; nil is without end.
	BrokerConnectionMaxRetries *int `json:"broker_connection_max_retries"`
	// BrokerChannelErrorRetry is broker_channel_error_retry: whether an error of a channel is waited out as one of the connection is.
	BrokerChannelErrorRetry bool `json:"broker_channel_error_retry"`
	// BrokerFailoverStrategy is broker_failover_strategy: "round-robin" (also when empty) or "shuffle".
	BrokerFailoverStrategy Choice `json:"broker_failover_strategy"`
	// BrokerPoolLimit is broker_pool_limit: connections for publishing; default 10; nil or 0 is a new one each time.
	BrokerPoolLimit *int `json:"broker_pool_limit"`

	// ResultBackend is result_backend: a URL of Redis, completed with the redis_… settings that can stand in one, or another word; empty
	// when the site keeps no results. ResultStore says what it means.
	ResultBackend Secret `json:"result_backend"`
	// ResultDatabase is the key in Settings.Databases of the database that keeps the results; empty unless they are in one.
	ResultDatabase string `json:"result_database"`
	// ResultBackendTransportOptions is result_backend_transport_options, a JSON object; empty means none.
	ResultBackendTransportOptions SecretJSON `json:"result_backend_transport_options"`
	// ResultExpires is result_expires; default one day; nil means results never expire.
	ResultExpires *Seconds `json:"result_expires"`
	// ResultFailureExpires is result_failure_expires, the life of failures; nil means as ResultExpires, 0 means they never expire.
	ResultFailureExpires *Seconds `json:"result_failure_expires"`
	// ResultChordExpires is result_chord_expires, the life of a chord's keys; nil means as ResultExpires, 0 means they never expire.
	ResultChordExpires *Seconds `json:"result_chord_expires"`
	// ResultChordJoinTimeout is result_chord_join_timeout: how long a chord's results may be waited for; default 3 s; nil is no limit.
	ResultChordJoinTimeout *Seconds `json:"result_chord_join_timeout"`
	// ResultChordRetryInterval is result_chord_retry_interval: time between two looks of celery.chord_unlock; default 1 s.
	ResultChordRetryInterval Seconds `json:"result_chord_retry_interval"`
	// ResultExtended is result_extended: whether a result also tells the task's name, arguments, worker, retries and queue.
	ResultExtended bool `json:"result_extended"`
	// ResultSerializer is result_serializer, a name of kombu's; default "json".
	ResultSerializer string `json:"result_serializer"`
	// ResultAcceptContent is result_accept_content; nil means as AcceptContent.
	ResultAcceptContent []string `json:"result_accept_content"`
	// ResultCompression is result_compression, a name of kombu's; empty is none.
	ResultCompression string `json:"result_compression"`
	// ResultBackendAlwaysRetry is result_backend_always_retry: whether errors of the backend are tried again.
	ResultBackendAlwaysRetry bool `json:"result_backend_always_retry"`
	// ResultBackendMaxRetries is result_backend_max_retries; nil, the default, is without end.
	ResultBackendMaxRetries *int `json:"result_backend_max_retries"`
	// ResultBackendBaseSleepBetweenRetriesMS is result_backend_base_sleep_between_retries_ms; default 10.
	ResultBackendBaseSleepBetweenRetriesMS int `json:"result_backend_base_sleep_between_retries_ms"`
	// ResultBackendMaxSleepBetweenRetriesMS is result_backend_max_sleep_between_retries_ms; default 10,000.
	ResultBackendMaxSleepBetweenRetriesMS int `json:"result_backend_max_sleep_between_retries_ms"`

	// RedisBackendUseSSL is redis_backend_use_ssl, a JSON object, for result backends behind Sentinels; empty means none. It is in the URLs of
	// servers already.
	RedisBackendUseSSL SecretJSON `json:"redis_backend_use_ssl"`
	// RedisSocketTimeout is redis_socket_timeout of the result backend; default 120 s; nil is no limit.
	RedisSocketTimeout *Seconds `json:"redis_socket_timeout"`
	// RedisSocketConnectTimeout is redis_socket_connect_timeout of the result backend; nil means as RedisSocketTimeout.
	RedisSocketConnectTimeout *Seconds `json:"redis_socket_connect_timeout"`
	// RedisSocketKeepalive is redis_socket_keepalive.
	RedisSocketKeepalive bool `json:"redis_socket_keepalive"`
	// RedisRetryOnTimeout is redis_retry_on_timeout.
	RedisRetryOnTimeout bool `json:"redis_retry_on_timeout"`
	// RedisMaxConnections is redis_max_connections of the result backend; nil is no limit.
	RedisMaxConnections *int `json:"redis_max_connections"`
	// RedisClientName is redis_client_name, what CLIENT LIST shows of the result backend's connections.
	RedisClientName string `json:"redis_client_name"`
	// RedisBackendHealthCheckInterval is redis_backend_health_check_interval; nil is never.
	RedisBackendHealthCheckInterval *Seconds `json:"redis_backend_health_check_interval"`
	// RedisBackendCredentialProvider is redis_backend_credential_provider, which is Python code: refused when there is one.
	RedisBackendCredentialProvider Choice `json:"redis_backend_credential_provider"`

	// TaskDefaultQueue is task_default_queue; default "celery".
	TaskDefaultQueue string `json:"task_default_queue"`
	// TaskDefaultExchange is task_default_exchange; empty means as TaskDefaultQueue.
	TaskDefaultExchange string `json:"task_default_exchange"`
	// TaskDefaultExchangeType is task_default_exchange_type; default "direct".
	TaskDefaultExchangeType string `json:"task_default_exchange_type"`
	// TaskDefaultRoutingKey is task_default_routing_key; empty means as TaskDefaultQueue.
	TaskDefaultRoutingKey string `json:"task_default_routing_key"`
	// TaskDefaultPriority is task_default_priority: the priority of registered tasks that have none of their own; nil is none.
	TaskDefaultPriority *int `json:"task_default_priority"`
	// TaskDefaultDeliveryMode is task_default_delivery_mode: 1 is transient, 2, the default, persistent.
	TaskDefaultDeliveryMode int `json:"task_default_delivery_mode"`
	// TaskQueues is task_queues; nil means one queue, TaskDefaultQueue.
	TaskQueues []Queue `json:"task_queues"`
	// TaskCreateMissingQueues is task_create_missing_queues: whether a queue that TaskQueues lacks may be used; default true.
	TaskCreateMissingQueues bool `json:"task_create_missing_queues"`
	// TaskCreateMissingQueueExchangeType is task_create_missing_queue_exchange_type; empty means "direct".
	TaskCreateMissingQueueExchangeType string `json:"task_create_missing_queue_exchange_type"`
	// TaskQueueMaxPriority is task_queue_max_priority; in TaskQueues it is an argument of each queue already.
	TaskQueueMaxPriority *int `json:"task_queue_max_priority"`
	// TaskRoutes is task_routes; NewRoutes reads it.
	TaskRoutes []Router `json:"task_routes"`
	// TaskAnnotations is task_annotations; Annotation reads it.
	TaskAnnotations []Annotations `json:"task_annotations"`
	// TaskInheritParentPriority is task_inherit_parent_priority: whether what a task sends has the task's own priority.
	TaskInheritParentPriority bool `json:"task_inherit_parent_priority"`
	// TaskProtocol is task_protocol, the version of messages that are sent: 1 or 2, the default.
	TaskProtocol int `json:"task_protocol"`
	// TaskSerializer is task_serializer, a name of kombu's; default "json". The signals' task is always JSON.
	TaskSerializer string `json:"task_serializer"`
	// TaskCompression is task_compression, a name of kombu's; empty is none.
	TaskCompression string `json:"task_compression"`
	// AcceptContent is accept_content; default ["json"].
	AcceptContent []string `json:"accept_content"`
	// TaskAcksLate is task_acks_late: whether a message is acknowledged after its task ran.
	TaskAcksLate bool `json:"task_acks_late"`
	// TaskAcksOnFailureOrTimeout is task_acks_on_failure_or_timeout; default true. AcksOnFailure and AcksOnTimeout say what is in effect.
	TaskAcksOnFailureOrTimeout bool `json:"task_acks_on_failure_or_timeout"`
	// TaskAcksOnFailure is task_acks_on_failure of Celery 5.7; nil means as TaskAcksOnFailureOrTimeout.
	TaskAcksOnFailure *bool `json:"task_acks_on_failure"`
	// TaskAcksOnTimeout is task_acks_on_timeout of Celery 5.7; nil means as TaskAcksOnFailureOrTimeout.
	TaskAcksOnTimeout *bool `json:"task_acks_on_timeout"`
	// TaskRejectOnWorkerLost is task_reject_on_worker_lost: whether a task whose process died goes back to its queue.
	TaskRejectOnWorkerLost bool `json:"task_reject_on_worker_lost"`
	// TaskRetryOnWorkerLost is task_retry_on_worker_lost of Celery 5.7: whether such a task is sent again as a retry.
	TaskRetryOnWorkerLost bool `json:"task_retry_on_worker_lost"`
	// TaskDefaultRateLimit is task_default_rate_limit, such as "100/m"; empty is none. ParseRate reads it.
	TaskDefaultRateLimit string `json:"task_default_rate_limit"`
	// TaskTimeLimit is task_time_limit; nil is none.
	TaskTimeLimit *Seconds `json:"task_time_limit"`
	// TaskSoftTimeLimit is task_soft_time_limit; nil is none.
	TaskSoftTimeLimit *Seconds `json:"task_soft_time_limit"`
	// TaskTrackStarted is task_track_started: whether the state STARTED is stored.
	TaskTrackStarted bool `json:"task_track_started"`
	// TaskIgnoreResult is task_ignore_result.
	TaskIgnoreResult bool `json:"task_ignore_result"`
	// TaskStoreErrorsEvenIfIgnored is task_store_errors_even_if_ignored.
	TaskStoreErrorsEvenIfIgnored bool `json:"task_store_errors_even_if_ignored"`
	// TaskSendSentEvent is task_send_sent_event: whether clients send the event task-sent.
	TaskSendSentEvent bool `json:"task_send_sent_event"`
	// TaskPublishRetry is task_publish_retry: whether publishing is tried again; default true.
	TaskPublishRetry bool `json:"task_publish_retry"`
	// TaskPublishRetryPolicy is task_publish_retry_policy.
	TaskPublishRetryPolicy RetryPolicy `json:"task_publish_retry_policy"`
	// TaskReprMaxLevels is task_repr_maxlevels: how deep argsrepr and kwargsrepr show arguments; default 3.
	TaskReprMaxLevels int `json:"task_repr_maxlevels"`
	// TaskAllowErrorCBOnChordHeader is task_allow_error_cb_on_chord_header: whether link_error of a chord also goes to its header's tasks.
	TaskAllowErrorCBOnChordHeader bool `json:"task_allow_error_cb_on_chord_header"`
	// TaskAlwaysEager is task_always_eager: Python runs each task where it is called. Refused, since only Python could.
	TaskAlwaysEager bool `json:"task_always_eager"`
	// Timezone is timezone; default "UTC".
	Timezone string `json:"timezone"`
	// EnableUTC is enable_utc; default true.
	EnableUTC bool `json:"enable_utc"`
	// Security are the names of the settings for signed messages that the site has; refused.
	Security []string `json:"security"`

	// WorkerConcurrency is worker_concurrency; 0 means one for each CPU, ConcurrencyAuto what the container's quota of CPU allows.
	WorkerConcurrency Concurrency `json:"worker_concurrency"`
	// WorkerPrefetchMultiplier is worker_prefetch_multiplier: messages taken for each slot; default 4; 0 is no limit.
	WorkerPrefetchMultiplier int `json:"worker_prefetch_multiplier"`
	// WorkerETATaskLimit is worker_eta_task_limit: tasks that may wait for their ETA; nil is no limit.
	WorkerETATaskLimit *int `json:"worker_eta_task_limit"`
	// WorkerEnablePrefetchCountReduction is worker_enable_prefetch_count_reduction: whether a worker takes less after a lost connection
	// while tasks of before still run; default true.
	WorkerEnablePrefetchCountReduction bool `json:"worker_enable_prefetch_count_reduction"`
	// WorkerDisablePrefetch is worker_disable_prefetch: whether a message is taken only when a slot is free.
	WorkerDisablePrefetch bool `json:"worker_disable_prefetch"`
	// WorkerDirect is worker_direct: whether each worker has a queue of its own.
	WorkerDirect bool `json:"worker_direct"`
	// WorkerSendTaskEvents is worker_send_task_events, the option -E.
	WorkerSendTaskEvents bool `json:"worker_send_task_events"`
	// WorkerEnableRemoteControl is worker_enable_remote_control; default true.
	WorkerEnableRemoteControl bool `json:"worker_enable_remote_control"`
	// WorkerDisableRateLimits is worker_disable_rate_limits.
	WorkerDisableRateLimits bool `json:"worker_disable_rate_limits"`
	// WorkerCancelLongRunningTasksOnConnectionLoss is worker_cancel_long_running_tasks_on_connection_loss.
	WorkerCancelLongRunningTasksOnConnectionLoss bool `json:"worker_cancel_long_running_tasks_on_connection_loss"`
	// WorkerSoftShutdownTimeout is worker_soft_shutdown_timeout: what running tasks get before a cold shutdown.
	WorkerSoftShutdownTimeout Seconds `json:"worker_soft_shutdown_timeout"`
	// WorkerEnableSoftShutdownOnIdle is worker_enable_soft_shutdown_on_idle: whether an idle worker waits as well, for tasks with an ETA.
	WorkerEnableSoftShutdownOnIdle bool `json:"worker_enable_soft_shutdown_on_idle"`
	// WorkerDeduplicateSuccessfulTasks is worker_deduplicate_successful_tasks: whether a message that is delivered again is not run when
	// its task has succeeded already.
	WorkerDeduplicateSuccessfulTasks bool `json:"worker_deduplicate_successful_tasks"`
	// WorkerPoolRestarts is worker_pool_restarts: whether the command pool_restart is obeyed.
	WorkerPoolRestarts bool `json:"worker_pool_restarts"`

	// ControlExchange is control_exchange; default "celery". ".pidbox" is added to it.
	ControlExchange string `json:"control_exchange"`
	// ControlQueueTTL is control_queue_ttl, the life of a command; default 300 s; nil is no limit.
	ControlQueueTTL *Seconds `json:"control_queue_ttl"`
	// ControlQueueExpires is control_queue_expires, the life of an unused queue of commands; default 10 s; nil is no limit.
	ControlQueueExpires *Seconds `json:"control_queue_expires"`
	// ControlQueueExclusive is control_queue_exclusive; default true.
	ControlQueueExclusive bool `json:"control_queue_exclusive"`
	// ControlQueueDurable is control_queue_durable.
	ControlQueueDurable bool `json:"control_queue_durable"`
	// EventExchange is event_exchange; default "celeryev".
	EventExchange string `json:"event_exchange"`
	// EventQueueTTL is event_queue_ttl, the life of an event; default 5 s; nil is no limit.
	EventQueueTTL *Seconds `json:"event_queue_ttl"`
	// EventQueueExpires is event_queue_expires, the life of an unused queue of events; default 60 s; nil is no limit.
	EventQueueExpires *Seconds `json:"event_queue_expires"`
	// EventQueuePrefix is event_queue_prefix; default "celeryev".
	EventQueuePrefix string `json:"event_queue_prefix"`
	// EventQueueExclusive is event_queue_exclusive; default true.
	EventQueueExclusive bool `json:"event_queue_exclusive"`
	// EventQueueDurable is event_queue_durable.
	EventQueueDurable bool `json:"event_queue_durable"`
	// EventSerializer is event_serializer, a name of kombu's; default "json".
	EventSerializer string `json:"event_serializer"`
}

// DefaultCelery returns the settings of a Celery application that has none of its own (celery 5.7, app/defaults.py), for programs without
// an exported file. BrokerURL stays empty.
func DefaultCelery() Celery {
	return Celery{
		BrokerConnectionTimeout: new(Seconds(4)), BrokerConnectionRetry: true, BrokerConnectionMaxRetries: new(100), BrokerPoolLimit: new(10),
		ResultExpires: new(Seconds(24 * 60 * 60)), ResultChordJoinTimeout: new(Seconds(3)), ResultChordRetryInterval: 1, ResultSerializer: "json",
		ResultBackendBaseSleepBetweenRetriesMS: 10, ResultBackendMaxSleepBetweenRetriesMS: 10_000, RedisSocketTimeout: new(Seconds(120)),
		TaskDefaultQueue: "celery", TaskDefaultExchangeType: exchangeDirect, TaskDefaultDeliveryMode: persistent, TaskCreateMissingQueues: true,
		TaskProtocol: 2, TaskSerializer: "json", AcceptContent: []string{"json"}, TaskAcksOnFailureOrTimeout: true,
		TaskPublishRetry:       true,
		TaskPublishRetryPolicy: RetryPolicy{MaxRetries: new(3), IntervalStart: 0, IntervalStep: 0.2, IntervalMax: 1},
		TaskReprMaxLevels:      3, Timezone: "UTC", EnableUTC: true,
		WorkerPrefetchMultiplier: 4, WorkerEnablePrefetchCountReduction: true, WorkerEnableRemoteControl: true,
		ControlExchange: "celery", ControlQueueTTL: new(Seconds(300)), ControlQueueExpires: new(Seconds(10)), ControlQueueExclusive: true,
		EventExchange: "celeryev", EventQueueTTL: new(Seconds(5)), EventQueueExpires: new(Seconds(60)), EventQueuePrefix: "celeryev",
		EventQueueExclusive: true, EventSerializer: "json",
	}
}
