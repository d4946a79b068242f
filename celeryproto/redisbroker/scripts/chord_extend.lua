-- chord_extend: prolong the claim of a chord before its body is sent (celery 5.7, backends/redis.py, CHORD_CLAIM_EXTEND_LUA).
--
-- KEYS[1] .c  claim   KEYS[2] .s  size   ARGV[1] token   ARGV[2] seconds
--
-- Returns 1 when the claim is ours, also when it had run out and nobody else has claimed the chord; else 0.
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  return redis.call('EXPIRE', KEYS[1], tonumber(ARGV[2]))
end
if not holder and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', tonumber(ARGV[2]))
  return 1
end
return 0
