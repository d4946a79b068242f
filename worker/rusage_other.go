//go:build !unix

package worker

import "github.com/dfws/dfws/celeryproto"

// rusage is what Celery says where the system does not tell.
func rusage() celeryproto.Raw { return rawText("N/A") }
