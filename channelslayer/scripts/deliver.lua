-- deliver: puts one message on each of several channel keys of one server, as the script of channels_redis' group_send does, after it has
-- removed what is expired there.
--   KEYS     the channels' keys
--   ARGV[1]  now, Unix seconds as a decimal text (the score)
--   ARGV[2]  scores up to this one are expired
--   ARGV[3]  expiry in seconds
--   ARGV[4], ARGV[5], …  for each key its capacity and its message
-- returns {keys over capacity, keys of another type}
local over, rejected = 0, 0
for i, key in ipairs(KEYS) do
	-- pcall: a key of another type must not cost the other processes their message.
	local size = redis.pcall('ZREMRANGEBYSCORE', key, 0, ARGV[2])
	if type(size) == 'number' then size = redis.pcall('ZCARD', key) end
	if type(size) ~= 'number' then
		rejected = rejected + 1
	elseif size >= tonumber(ARGV[2 + 2 * i]) then
		over = over + 1
	else
		redis.call('ZADD', key, ARGV[1], ARGV[3 + 2 * i])
		redis.call('EXPIRE', key, ARGV[3])
	end
end
return {over, rejected}
