-- settle: end or refresh deliveries that are still whose they were.
--
-- KEYS[1] unacked hash   KEYS[2] unacked_index sorted set
-- KEYS[3] held hash      KEYS[4] held_index sorted set   (own)
-- KEYS[5..] the results of the plain completions; then lists that messages are pushed to, and the other results
-- ARGV[1], ARGV[2] database of the results and of this call; the same when there is nothing to store
-- ARGV[3] number of plain completions   ARGV[4] their seconds to live, 0 for no limit   ARGV[5] number of plain acks
-- then three values for each plain completion, "complete" below: delivery tag, score, result;
-- two values for each plain ack: delivery tag, score;
-- nine values for each other operation, done in this order:
--   1 operation: "ack"; "left", "right" (also push value to the left or right of the lists); "refresh" (set the score to
--     value); "park" (move from unacked to held, with value as its entry and the same score); "complete" (store value as the
--     result in the key and publish it there, unless a SUCCESS is stored; then ack)
--   2 1 when the delivery is in held instead of unacked
--   3 delivery tag
--   4, 5 the scores that prove ownership: the delivery is ours when its score is one of them
--   6, 7 index of the first key in KEYS, number of keys
--   8 value
--   9 seconds to live of a result, 0 for no limit
-- A completion is plain when its delivery is not in held and has one score, and all of them live equally long.
--
-- Returns for each operation 1 = done, 0 = not ours any more, nothing changed ("complete" has stored the result all the same);
-- 2 more when a result was not stored because a SUCCESS was there; or the text of Redis' error, nothing changed.
local WIDTH, HEADER = 9, 5
local hashes, indexes = { KEYS[1], KEYS[3] }, { KEYS[2], KEYS[4] }
local results_db, own_db, ttl = ARGV[1], ARGV[2], ARGV[4]
local completions, acks = tonumber(ARGV[3]), tonumber(ARGV[5])
local others = HEADER + 3 * completions + 2 * acks + 1 -- where they begin in ARGV
local lua_pcall, pcall = pcall, redis.pcall

-- is_final: see store.lua.
local function is_final(old)
  if string.find(old, '^{"status": "SUCCESS"[,}]') then
    return true
  end
  local ok, meta = lua_pcall(cjson.decode, old)
  return ok and type(meta) == 'table' and meta['status'] == 'SUCCESS'
end

local function set(key, meta, ttl, ...)
  if ttl == '0' then
    return pcall('SET', key, meta, ...)
  end
  return pcall('SET', key, meta, 'EX', ttl, ...)
end

-- store returns whether a final result was kept, or the text of an error.
local function store(key, meta, ttl)
  local stored = set(key, meta, ttl, 'NX')
  if stored == false then -- there is one
    local old = pcall('GET', key)
    if type(old) == 'table' then
      return nil, old.err
    end
    if old and is_final(old) then
      return true
    end
    stored = set(key, meta, ttl)
  end
  if stored.err then
    return nil, stored.err
  end
  pcall('PUBLISH', key, meta)
  return false
end

-- push returns the text of an error when not even the first list took the value.
local function push(command, first, count, value)
  for k = first, first + count - 1 do
    local pushed = pcall(command, KEYS[k], value)
    if type(pushed) == 'table' and pushed.err and k == first then
      return pushed.err
    end
  end
end

local reply = {}

-- select_db returns the text of an error.
local function select_db(db)
  if results_db ~= own_db then
    local selected = pcall('SELECT', db)
    return selected.err
  end
end

-- Plain completions and acks: all results first, then what is ours leaves by one command for each key.
local plain = completions + acks
if plain > 0 then
  local tags, given, at = {}, {}, HEADER + 1
  for i = 1, plain do
    tags[i], given[i] = ARGV[at], ARGV[at + 1]
    at = at + (i <= completions and 3 or 2)
  end
  local scores = redis.call('ZMSCORE', KEYS[2], unpack(tags))
  local failure = completions > 0 and select_db(results_db) or nil
  for i = 1, completions do
    local kept, err = nil, failure
    if not failure then
      kept, err = store(KEYS[4 + i], ARGV[HEADER + 3 * i], ttl)
    end
    reply[i] = err or (kept and 2 or 0)
  end
  if completions > 0 and not failure then
    select_db(own_db)
  end
  local ended = {}
  for i = 1, plain do
    local result, score = reply[i] or 0, scores[i]
    if type(result) == 'number' and score and tonumber(score) == tonumber(given[i]) then
      result = result + 1
      ended[#ended + 1] = tags[i]
    end
    reply[i] = result
  end
  if #ended > 0 then
    redis.call('ZREM', KEYS[2], unpack(ended))
    redis.call('HDEL', KEYS[1], unpack(ended))
  end
end
if others > #ARGV then
  return reply
end

-- The scores of all deliveries, by one command for each index.
local tags, scores = { {}, {} }, { {}, {} }
for i = others, #ARGV, WIDTH do
  local t = tags[1 + tonumber(ARGV[i + 1])]
  t[#t + 1] = ARGV[i + 2]
end
for h = 1, 2 do
  if #tags[h] > 0 then
    for i, score in ipairs(redis.call('ZMSCORE', indexes[h], unpack(tags[h]))) do
      scores[h][tags[h][i]] = tonumber(score or nil)
    end
  end
end

local ended = { {}, {} }
for i = others, #ARGV, WIDTH do
  local op, h, tag, value = ARGV[i], 1 + tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 7]
  local first, count = tonumber(ARGV[i + 5]), tonumber(ARGV[i + 6])
  local score = scores[h][tag]
  local ours = score and (score == tonumber(ARGV[i + 3]) or score == tonumber(ARGV[i + 4]))
  local result, failure = ours and 1 or 0, nil
  if op == 'complete' then
    local kept
    failure = select_db(results_db)
    if not failure then
      kept, failure = store(KEYS[first], value, ARGV[i + 8])
      select_db(own_db)
    end
    if kept then
      result = result + 2
    end
  elseif ours and op == 'refresh' then
    local set = pcall('ZADD', indexes[h], 'XX', value, tag)
    failure = type(set) == 'table' and set.err or nil
    scores[h][tag] = tonumber(value)
    ours = false -- it goes on
  elseif ours and op == 'left' then
    failure = push('LPUSH', first, count, value)
  elseif ours and op == 'right' then
    failure = push('RPUSH', first, count, value)
  elseif ours and op == 'park' then
    local set = pcall('HSET', KEYS[3], tag, value)
    failure = type(set) == 'table' and set.err or nil
    if not failure then
      set = pcall('ZADD', KEYS[4], ARGV[i + 3], tag)
      failure = type(set) == 'table' and set.err or nil
    end
  end
  if ours and not failure then
    ended[h][#ended[h] + 1] = tag
    scores[h][tag] = nil
  end
  reply[#reply + 1] = failure or result
end
for h = 1, 2 do
  if #ended[h] > 0 then
    redis.call('ZREM', indexes[h], unpack(ended[h]))
    redis.call('HDEL', hashes[h], unpack(ended[h]))
  end
end
return reply
