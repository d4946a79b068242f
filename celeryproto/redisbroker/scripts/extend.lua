-- extend: prolong kombu's restore lock, if it is still ours.
--
-- KEYS[1] unacked_mutex   ARGV[1] our token   ARGV[2] milliseconds from now
-- Returns 1 when it was prolonged, 0 when it is not ours any more.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
