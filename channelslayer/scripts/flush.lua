-- flush: deletes every key of the layer, as channels_redis does it (core.py, flush).
--   ARGV[1]  pattern: the layer's prefix, escaped, and "*"
-- returns the number of keys deleted
local keys = redis.call('KEYS', ARGV[1])
for i = 1, #keys, 5000 do
	redis.call('DEL', unpack(keys, i, math.min(i + 4999, #keys)))
end
return #keys
