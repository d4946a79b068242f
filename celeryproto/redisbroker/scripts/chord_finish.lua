-- chord_finish: remove a chord whose body was sent (celery 5.7, backends/redis.py, CHORD_CLEANUP_LUA).
--
-- KEYS[1] .c  claim   KEYS[2..] .j .t .s .d   ARGV[1] token   ARGV[2] seconds that "done" stays, for late duplicates
--
-- Returns 1 when it was removed, 2 when it was already (the reply of an earlier call was lost), 0 when the claim is not ours.
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
  redis.call('SET', KEYS[1], 'done', 'EX', tonumber(ARGV[2]))
  return 1
end
if holder == 'done' then
  return 2
end
return 0
