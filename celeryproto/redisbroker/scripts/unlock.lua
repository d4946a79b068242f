-- unlock: release kombu's restore lock, if it is still ours.
--
-- KEYS[1] unacked_mutex   ARGV[1] our token
-- Returns 1 when it was released, 0 when it had expired. The same as redis-py's Lock.release.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
