-- chord_add: one more part is expected (celery 5.7, backends/redis.py, add_to_chord, which is the INCRBY).
--
-- KEYS[1] .t  correction of the size   KEYS[2] .d  what was counted   ARGV[1] id of the added task   ARGV[2] seconds to live, 0 for no limit
--
-- Returns the correction. A call whose reply was lost may be made again: each task is added once.
if redis.call('SADD', KEYS[2], 'added:' .. ARGV[1]) == 1 then
  redis.call('INCRBY', KEYS[1], 1)
end
local expires = tonumber(ARGV[2])
if expires > 0 then
  redis.call('EXPIRE', KEYS[1], expires)
  redis.call('EXPIRE', KEYS[2], expires)
end
return redis.call('GET', KEYS[1])
