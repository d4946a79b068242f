package redisbroker

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// Each script's contract is in its header.
var (
	//go:embed scripts/take.lua
	takeSource string
	//go:embed scripts/settle.lua
	settleSource string
	//go:embed scripts/publish.lua
	publishSource string
	//go:embed scripts/unlock.lua
	unlockSource string
	//go:embed scripts/store.lua
	storeSource string
	//go:embed scripts/bind.lua
	bindSource string
	//go:embed scripts/sweep.lua
	sweepSource string

	takeScript    = redis.NewScript(takeSource)
	settleScript  = redis.NewScript(settleSource)
	publishScript = redis.NewScript(publishSource)
	unlockScript  = redis.NewScript(unlockSource)
	storeScript   = redis.NewScript(storeSource)
	bindScript    = redis.NewScript(bindSource)
	sweepScript   = redis.NewScript(sweepSource)
)
