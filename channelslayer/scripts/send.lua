-- send: puts one message on one channel key, in one step what channels_redis does in four.
--   KEYS[1]  the channel's key
--   ARGV[1]  now, Unix seconds as a decimal text (the score)
--   ARGV[2]  scores up to this one are expired
--   ARGV[3]  expiry in seconds
--   ARGV[4]  capacity
--   ARGV[5]  the message
-- returns 1, or 0 when the key was full and nothing was written
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[2])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then
	return 0
end
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[5])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
