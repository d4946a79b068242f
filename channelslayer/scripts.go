package channelslayer

import (
	_ "embed" // the scripts

	"github.com/redis/go-redis/v9"
)

// Each script's contract is at its top. They are sent by hash and in full when Redis does not know them (after a restart).
// channels_redis sends its own in full each time, so an account that may EVAL but not EVALSHA is the one thing that would differ.
var (
	//go:embed scripts/send.lua
	sendSource string
	sendScript = redis.NewScript(sendSource)

	//go:embed scripts/group_send.lua
	groupSendSource string
	groupSendScript = redis.NewScript(groupSendSource)

	//go:embed scripts/deliver.lua
	deliverSource string
	deliverScript = redis.NewScript(deliverSource)

	//go:embed scripts/flush.lua
	flushSource string
	flushScript = redis.NewScript(flushSource)
)
