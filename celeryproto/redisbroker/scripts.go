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
	//go:embed scripts/extend.lua
	extendSource string
	//go:embed scripts/store.lua
	storeSource string
	//go:embed scripts/bind.lua
	bindSource string
	//go:embed scripts/sweep.lua
	sweepSource string
	//go:embed scripts/chord_part.lua
	chordPartSource string
	//go:embed scripts/chord_extend.lua
	chordExtendSource string
	//go:embed scripts/chord_finish.lua
	chordFinishSource string
	//go:embed scripts/chord_add.lua
	chordAddSource string

	takeScript    = redis.NewScript(takeSource)
	settleScript  = redis.NewScript(settleSource)
	publishScript = redis.NewScript(publishSource)
	unlockScript  = redis.NewScript(unlockSource)
	extendScript  = redis.NewScript(extendSource)
	storeScript   = redis.NewScript(storeSource)
	bindScript    = redis.NewScript(bindSource)
	sweepScript   = redis.NewScript(sweepSource)

	chordPartScript   = redis.NewScript(chordPartSource)
	chordExtendScript = redis.NewScript(chordExtendSource)
	chordFinishScript = redis.NewScript(chordFinishSource)
	chordAddScript    = redis.NewScript(chordAddSource)
)
