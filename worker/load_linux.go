package worker

import (
	"math"
	"syscall"
)

// loadAverage is the load of the last one, five and fifteen minutes, rounded up as Celery does (celery 5.7, utils/sysinfo.py); nil when
// the system does not tell.
func loadAverage() *[3]float64 {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return nil
	}
	const fixedPoint, hundredths = 1 << 16, 100 // sysinfo(2)
	var load [3]float64
	for i, n := range info.Loads {
		load[i] = math.Ceil(float64(n)/fixedPoint*hundredths) / hundredths
	}
	return &load
}
