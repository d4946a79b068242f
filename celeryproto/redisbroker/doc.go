// Package redisbroker is kombu's Redis transport and Celery's Redis result backend.
package redisbroker
