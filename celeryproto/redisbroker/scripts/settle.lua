-- settle: end or refresh deliveries that are still whose they were.
--
-- KEYS[1] unacked hash   KEYS[2] unacked_index sorted set
-- KEYS[3] held hash      KEYS[4] held_index sorted set   (own)
-- KEYS[5..] lists that messages are pushed to
-- ARGV, eight values for each operation, done in this order:
--   1 operation: "ack"; "left", "right" (also push value to the left or right of the lists); "refresh" (set the score to
--     value); "park" (move from unacked to held, with value as its entry and the same score)
--   2 1 when the delivery is in held instead of unacked
--   3 delivery tag
--   4, 5 the scores that prove ownership: the delivery is ours when its score is one of them
--   6, 7 index of the first list from 1, number of lists
--   8 value
--
-- Returns for each operation 1 = done, 0 = not ours any more, nothing changed; or the text of Redis' error, nothing changed.
local reply = {}
for i = 1, #ARGV, 8 do
  local op, tag, value = ARGV[i], ARGV[i + 2], ARGV[i + 7]
  local hash, index = KEYS[1], KEYS[2]
  if ARGV[i + 1] == '1' then
    hash, index = KEYS[3], KEYS[4]
  end
  local result = 0
  local score = tonumber(redis.call('ZSCORE', index, tag) or nil)
  if score and (score == tonumber(ARGV[i + 3]) or score == tonumber(ARGV[i + 4])) then
    result = 1
    if op == 'refresh' then
      redis.call('ZADD', index, 'XX', value, tag)
    else
      if op == 'left' or op == 'right' then
        local first = 4 + tonumber(ARGV[i + 5])
        for k = first, first + tonumber(ARGV[i + 6]) - 1 do
          local pushed = redis.pcall(op == 'left' and 'LPUSH' or 'RPUSH', KEYS[k], value)
          if type(pushed) == 'table' and pushed.err and k == first then
            result = pushed.err
            break
          end
        end
      elseif op == 'park' then
        redis.call('HSET', KEYS[3], tag, value)
        redis.call('ZADD', KEYS[4], ARGV[i + 3], tag)
      end
      if result == 1 then
        redis.call('ZREM', index, tag)
        redis.call('HDEL', hash, tag)
      end
    end
  end
  reply[#reply + 1] = result
end
return reply
