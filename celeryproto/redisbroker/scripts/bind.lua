-- bind: add an expiring queue to a binding set, and put off the day on which the set may be swept.
--
-- KEYS[1] binding set of the exchange   KEYS[2] _kombu.binding_deadlines
-- ARGV[1] member   ARGV[2] exchange   ARGV[3] milliseconds that the set stays at least
--
-- Returns nothing. The deadline never becomes earlier. The same as kombu 5.7's REFRESH_BINDING.
redis.call('SADD', KEYS[1], ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[2], 'GT', now + tonumber(ARGV[3]), ARGV[2])
