// Package canvas builds Celery's compositions of tasks, and says what has to be
// sent for them. (to be written)
package canvas
