// Package gocelery lets a program that was written for github.com/gocelery/gocelery run on package worker: the same names and
// methods, so that the import and one constructor change, and the registered functions stay as they are.
//
//	import "github.com/gocelery/gocelery"
//	cli, err := gocelery.NewCeleryClient(gocelery.NewRedisBroker(pool), &gocelery.RedisCeleryBackend{Pool: pool}, 5)
//
//	import "github.com/dfws/dfws/compat/gocelery"
//	cli, err := gocelery.NewCeleryClient(gocelery.NewRedisCeleryBroker(url), gocelery.NewRedisCeleryBackend(url), 5)
//
// The example shows a whole program before and after. It gets what gocelery has not: messages of protocol 2, acknowledgements,
// ETA, retries, callbacks, chains and chords, failures with their traceback, and everything else that package worker does.
//
// # How to get it
//
// go get github.com/dfws/dfws. It is no module of its own: nothing here imports gocelery but the tests, which run a real one as
// the other side. A program that changed over builds without gocelery, redigo and streadway/amqp. A gocelery.CeleryTask is a
// CeleryTask of this package, and the reverse.
//
// # What is what
//
//	gocelery 2020-11-11                      here
//	NewRedisCeleryBroker(url), …Backend(url) the same
//	NewRedisBroker(pool), NewRedisBackend    by URL: see below
//	RedisCeleryBroker.QueueName              the same
//	NewAMQPCelery…                           not there: the broker is Redis
//	NewCeleryClient, CeleryClient            the same; New(Config) has what can be chosen
//	NewCeleryWorker, CeleryWorker.StopWait   NewCeleryClient, CeleryClient.WaitForStopWorker
//	Register                                 the same; panics on mistakes, and on a new name after StartWorker
//	StartWorker, StartWorkerWithContext      the same; Run returns the error that these log
//	StopWorker, WaitForStopWorker            the same; harmless without a worker, which may be started again
//	Delay, DelayKwargs                       the same
//	AsyncResult.Get, AsyncGet, Ready         the same; Wait takes a context
//	AsyncResult{TaskID: id}                  CeleryClient.AsyncResult(id)
//	CeleryTask                               the same
//	the pool's Close                         CeleryClient.Close, for programs that go on
//
// A redigo pool is a function that dials. Neither the address nor the password nor TLS can be read from it, and our connections
// are those of kombu's transport: blocking takes, scripts, subscriptions. So the constructors take what the pool's Dial was given:
// the URL. What a URL cannot say, such as the options of Sentinel, is in Config.Settings.
//
// # Arguments and results
//
// They are what encoding/json makes of them, as in gocelery, and not kombu's typed JSON: a time.Time is sent as a text, a []byte as
// base64, 2.0 as 2, and a datetime from Python arrives as a map with __type__ and __value__. Tasks of worker.HandleTask and
// HandleFunc, which Config.Handlers adds, have the types.
//
//	                                    gocelery                       here
//	int parameter, 2.9                  2                              2
//	int parameter, 2**53 + 1            rounded by float64             exact; TypeError when out of range
//	float32, float64, string, bool,
//	  any, []any, map[string]any        float64 and so on              the same
//	int64, uint, []string, structs,
//	  pointers, named types             the process ends in a panic    converted as encoding/json does
//	null for one that cannot be nil     the process ends in a panic    TypeError
//	NaN, Infinity                       the message is dropped         float64
//	variadic parameter                  one argument                   any number
//	another number of arguments         the message is dropped         TypeError
//	keyword arguments of a function     ignored                        ignored, with a warning
//	positional ones of a CeleryTask     ignored                        ignored, with a warning
//	result that is a struct, pointer
//	  or interface                      null                           as encoding/json writes it
//	no result                           a result that nobody can read  null
//	results after the first             ignored                        ignored, except an error
//	an error among the results          ignored                        the task's failure
//	error of a CeleryTask               nothing is stored              the task's failure
//	a panic                             the process ends               a failure with the stack
//
// An error with the name of a Python class is a *worker.Exception; worker.Retry and its like work as well.
//
// # Running and waiting
//
//	                                    gocelery                       here
//	tasks a second, for each of n       10: one every 100 ms           no limit
//	a message is lost                   whenever the process dies      never: it is run again, after a crash at least once
//	                                    in between                     (worker.Config.AckEarly: at most once)
//	a task without handler              dropped                        back to its queue, in the end to the dead letters
//	eta                                 ignored                        obeyed
//	expires                             dropped, nothing is stored     REVOKED
//	one CeleryTask, n workers           calls overwrite its fields     one call after the other; func() CeleryTask: side by side
//	StopWorker                          waits for running tasks        the same; Config.Worker.SoftStopTimeout bounds it
//	Get of a task that failed           waits for the whole timeout    *worker.Exception at once
//	Get, latency                        50 ms                          pushed; from gocelery's workers, which publish nothing:
//	                                                                   50 ms, or a tenth of the time waited, at most 1 s
//	Ready without a result              an error                       false
//	Ready of a task that has begun      true                           false
//	results                             kept for a day                 the same
//
// A gocelery worker reads protocol 1 only and drops the rest: as long as one consumes the queue, set Config.Protocol to 1. Our
// worker and Celery's take both, so workers may change over before clients or after them. Give no queue that a gocelery worker
// consumes to tasks that it does not have: it drops them. What our worker does not have, it leaves to the others.
//
// # Goroutines
//
//	goroutine        owner             how many                       stops when
//	worker           StartWorker, Run  1, and those of worker.Worker  StopWorker, the end of its context; they wait for it
//	pushed results   Wait, Get         1 for each call, and those of redisbroker.Results, which Close ends   the call returns
//
// Source: gocelery v0.0.0-20201111034804-825d89059344 (gocelery.go, worker.go, convert.go, message.go, redis_broker.go,
// redis_backend.go). TestSameAsGocelery runs it beside this package.
package gocelery
