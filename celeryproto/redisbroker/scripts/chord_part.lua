-- chord_part: count one returned part of a chord's header; whoever brings the last one claims the chord.
-- As celery 5.7 does it (backends/redis.py, CHORD_PART_RETURN_LUA), on the same keys, so that Go and Python mix.
--
-- KEYS[1] .j  parts    KEYS[2] .t  correction of the size   KEYS[3] .s  size   KEYS[4] .d  parts counted, "<task id>:<score>"
-- KEYS[5]     header   KEYS[6] .c  claim, or "done"
-- ARGV[1] task id      ARGV[2] the part       ARGV[3] "1": .j is a sorted set by score, else a list
-- ARGV[4] score        ARGV[5] seconds to live of .j .t .s .d, 0 for no limit   ARGV[6] the same of the header
-- ARGV[7] seconds that a claim holds          ARGV[8] token of the claim
--
-- Returns {parts, correction or false, size or false, claimed}, claimed being 1 or 0; {-1, 0, 0, 0} when the chord is done. The part
-- is kept for a while even so: a frozen chord that is applied again has the same keys, and its first parts may return before the call
-- that ends "done" (set_chord_size comes before the last message, not before the first). Celery loses such a chord.
-- A call whose reply was lost may be made again with the same token: it has claimed the chord then.
local parts, correction, size, counted, header, claim = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local ordered, score, token = ARGV[3] == '1', ARGV[4], ARGV[8]
local expires, header_expires = tonumber(ARGV[5]), tonumber(ARGV[6])

local holder = redis.call('GET', claim)
local member = ARGV[1] .. ':' .. score
if redis.call('SISMEMBER', counted, member) == 0 then
  if ordered then
    redis.call('ZADD', parts, score, ARGV[2])
  else
    redis.call('RPUSH', parts, ARGV[2])
  end
  redis.call('SADD', counted, member)
end
if holder == 'done' then -- a late duplicate must not begin anew
  local remembered = math.max(redis.call('TTL', claim), 1)
  redis.call('EXPIRE', parts, remembered)
  redis.call('EXPIRE', counted, remembered)
  return {-1, 0, 0, 0}
end
local count
if ordered then
  count = redis.call('ZCOUNT', parts, '-inf', '+inf')
else
  count = redis.call('LLEN', parts)
end
if expires > 0 then
  for _, key in ipairs({parts, correction, size, counted}) do
    redis.call('EXPIRE', key, expires)
  end
  if header_expires > 0 then
    redis.call('EXPIRE', header, header_expires)
  end
end

local diff, total = redis.call('GET', correction), redis.call('GET', size)
local claimed = 0
if total and count == tonumber(total) + tonumber(diff or 0) then
  if holder == token or redis.call('SET', claim, token, 'NX', 'EX', tonumber(ARGV[7])) then
    claimed = 1
  end
end
return {count, diff, total, claimed}
