-- take: move up to n messages from their queues to the unacked set in one step.
--
-- KEYS[1] unacked hash        KEYS[2] unacked_index sorted set
-- KEYS[3] held hash           KEYS[4] held_index sorted set     (own: elements that kombu could not restore)
-- KEYS[5] take record (own)   KEYS[6..] queue keys: for each priority step ascending, each queue of the cycle
-- ARGV[1] n; 0 only repeats an earlier reply
-- ARGV[2] number of this take. The same number as in the record: that reply is given again, as far as still unacked
-- ARGV[3] seconds to keep the record
-- ARGV[4] 1: round robin (after a message its queue moves to the end of the cycle), 0: fixed order
-- ARGV[5] prefix of generated delivery tags, unique for each take
-- ARGV[6..] the names of the queues as JSON strings, in the order of the cycle
--
-- Returns a flat list, four values for each message in the order taken: index of its queue key from 0, or from -1 downwards when
-- it is in held instead of unacked; delivery tag; score; the raw message.
-- Errors: as the commands give them, with nothing taken.
local unacked, index, held, held_index, record = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local n, take = tonumber(ARGV[1]), ARGV[2]
local queues = #ARGV - 5
local out = {}

-- A key of the wrong type must fail here, before anything is popped.
redis.call('HLEN', unacked)
redis.call('ZCARD', index)
redis.call('HLEN', held)
redis.call('ZCARD', held_index)
-- So must a full Redis: it lets a message be popped, but not be recorded. This writes nothing.
redis.call('SETRANGE', record, 0, '')

-- The record, packed: take, time (seconds, microseconds), then three values for each message: key as it is returned, tag, length.
-- The score of the nth is the time and n microseconds.
local function score_of(sec, usec, nth)
  local at = usec + nth -- distinct scores keep the order
  return string.format('%d.%06d', sec + math.floor(at / 1000000), at % 1000000)
end

local last = redis.call('GET', record)
if last then
  last = cmsgpack.unpack(last)
  if last[1] == take then
    for i = 4, #last, 3 do
      local key, tag, length = last[i], last[i + 1], last[i + 2]
      local score = score_of(last[2], last[3], (i - 4) / 3)
      local entry = redis.call('HGET', key < 0 and held or unacked, tag)
      local current = redis.call('ZSCORE', key < 0 and held_index or index, tag)
      if entry and current and tonumber(current) == tonumber(score) then
        local raw = key < 0 and string.sub(entry, 1 + #entry - length) or string.sub(entry, 2, 1 + length)
        local at = #out
        out[at + 1], out[at + 2], out[at + 3], out[at + 4] = key, tag, score, raw
      end
    end
    return out
  end
end
if n == 0 then
  return out
end

local function json_string(s)
  return (string.gsub(cjson.encode(s), '\\/', '/')) -- Python does not escape the slash
end

local time = redis.call('TIME')
local sec, usec = tonumber(time[1]), tonumber(time[2])

-- python_tail finds delivery tag, exchange and routing key (as JSON) at the end of a message where Python and we write them;
-- nil for any other form. Parsing the whole message takes five times as long. Should the rest of it not be JSON, our caller
-- finds out at once. Messages of one queue mostly end alike but for the tag: that end is compared with the last one's.
local known, known_exchange, known_routing_key = nil, nil, nil
local function python_tail(raw)
  if string.sub(raw, 1, 10) ~= '{"body": "' then
    return nil
  end
  if known and string.sub(raw, -39 - #known, -40) == known and string.find(raw, '^[%w%-]+"}}$', -39) then
    return string.sub(raw, -39, -4), known_exchange, known_routing_key
  end
  local at = string.find(raw, '"delivery_info": {"exchange": "', math.max(#raw - 400, 1), true)
  if not at then
    return nil
  end
  local exchange, routing_key, tag = string.match(raw, -- from there on only: a search tries each place
    '^"delivery_info": {"exchange": ("[^"\\]*"), "routing_key": ("[^"\\]*")[^{}]*}, "priority": %d+, '
    .. '"body_encoding": "[%w%-]+", "delivery_tag": "([%w%-]+)"}}$', at)
  if tag and #tag == 36 then -- a UUID, as everybody writes
    known, known_exchange, known_routing_key = string.sub(raw, at, -40), exchange, routing_key
  end
  return tag, exchange, routing_key
end

-- parse does the same for any message: whether it is a JSON object, and what it has of the three.
local function parse(raw)
  local ok, msg = pcall(cjson.decode, raw)
  if not ok or type(msg) ~= 'table' or not string.find(raw, '^%s*{') then
    return false
  end
  local tag, exchange, routing_key
  local props = msg['properties']
  if type(props) == 'table' then
    if type(props['delivery_tag']) == 'string' and props['delivery_tag'] ~= '' then
      tag = props['delivery_tag']
    end
    local info = props['delivery_info']
    if type(info) == 'table' and type(info['exchange']) == 'string' and type(info['routing_key']) == 'string' then
      exchange, routing_key = json_string(info['exchange']), json_string(info['routing_key'])
    end
  end
  return true, tag, exchange, routing_key
end

-- What was taken, the nth message at n of each: key as it is returned, raw message, entry, own tag or false.
local count, key_of, raw_of, entry_of, own_of = 0, {}, {}, {}, {}

-- keep notes raw, popped from queue key k, as taken; write_down records it.
local function keep(k, raw)
  local name = ARGV[6 + (k - 1) % queues]
  local own, exchange, routing_key = python_tail(raw)
  local is_object = own ~= nil
  if not is_object then
    is_object, own, exchange, routing_key = parse(raw)
  end
  -- An exchange with the routing key's name is the direct one that Celery binds a queue of this name to. gocelery writes "celery"
  -- for both, whatever the queue, and binds nothing: such a message is restored to where it was.
  if exchange == routing_key then
    exchange, routing_key = nil, nil
  end
  count = count + 1
  raw_of[count], own_of[count] = raw, own or false
  if is_object then
    key_of[count], entry_of[count] = k - 1, '[' .. raw .. ', ' .. (exchange or '""') .. ', ' .. (routing_key or name) .. ']'
  else
    key_of[count], entry_of[count] = -k, name .. '\n' .. raw
  end
end

-- use_own_tags gives messages their own delivery tags, unless they are in use: that one belongs to a copy of this message that
-- somebody else holds, or that comes earlier in this batch, whose record must not be replaced.
local function use_own_tags()
  local tags, own, of = {}, {}, {}
  for i = 1, count do
    local tag = own_of[i]
    if tag and not of[tag] then
      of[tag] = i
      own[#own + 1] = tag
    end
  end
  if #own > 0 then
    for i, entry in ipairs(redis.call('HMGET', unacked, unpack(own))) do
      if not entry then
        tags[of[own[i]]] = own[i]
      end
    end
  end
  return tags
end

-- write_down records what was taken, by one command for each key.
local function write_down()
  local tags = use_own_tags()
  local fields, members, held_fields, held_members = {}, {}, {}, {}
  local log, at, n = { take, sec, usec }, 0, 0
  for i = 1, count do
    local key, tag, score = key_of[i], tags[i] or ARGV[5] .. (i - 1), score_of(sec, usec, i - 1)
    if key >= 0 then
      fields[n + 1], fields[n + 2] = tag, entry_of[i]
      members[n + 1], members[n + 2] = score, tag
      n = n + 2
    else
      local m = #held_fields
      held_fields[m + 1], held_fields[m + 2] = tag, entry_of[i]
      held_members[m + 1], held_members[m + 2] = score, tag
    end
    log[3 * i + 1], log[3 * i + 2], log[3 * i + 3] = key, tag, #raw_of[i]
    out[at + 1], out[at + 2], out[at + 3], out[at + 4] = key, tag, score, raw_of[i]
    at = at + 4
  end
  if #fields > 0 then
    redis.call('HSET', unacked, unpack(fields))
    redis.call('ZADD', index, unpack(members))
  end
  if #held_fields > 0 then
    redis.call('HSET', held, unpack(held_fields))
    redis.call('ZADD', held_index, unpack(held_members))
  end
  redis.call('SET', record, cmsgpack.pack(log), 'EX', ARGV[3])
end

local failed = nil
local empty = {}
local function pop(k, most)
  if empty[k] then
    return {}
  end
  local reply = redis.pcall('RPOP', KEYS[5 + k], most)
  if type(reply) == 'table' and reply.err then
    failed = reply
    reply = false
  end
  if not reply or #reply < most then
    empty[k] = true
  end
  return reply or {}
end

local keys = #KEYS - 5
if ARGV[4] == '0' or queues == 1 then
  for k = 1, keys do
    local left = n - count
    if left == 0 then
      break
    end
    for _, raw in ipairs(pop(k, left)) do
      keep(k, raw)
    end
  end
else
  local cycle = {}
  for i = 1, queues do
    cycle[i] = i
  end
  local function next_message()
    for first = 0, keys - 1, queues do
      for i, q in ipairs(cycle) do
        local raw = pop(first + q, 1)[1]
        if raw then
          table.remove(cycle, i)
          cycle[queues] = q
          return first + q, raw
        end
      end
    end
  end
  while count < n do
    local k, raw = next_message()
    if not k then
      break
    end
    keep(k, raw)
  end
end

if count == 0 then
  return failed or out
end
write_down()
return out
