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
-- Returns a flat list, five values for each message in the order taken: index of its queue key from 0, delivery tag,
-- score, 1 when it is in held instead of unacked, the raw message.
-- Errors: as the commands give them, with nothing taken.
local unacked, index, held, held_index, record = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local n, take = tonumber(ARGV[1]), ARGV[2]
local queues = #ARGV - 5
local out, log = {}, {}

-- A key of the wrong type must fail here, before anything is popped.
redis.call('HLEN', unacked)
redis.call('ZCARD', index)
redis.call('HLEN', held)
redis.call('ZCARD', held_index)
-- So must a full Redis: it lets a message be popped, but not be recorded. This writes nothing.
redis.call('SETRANGE', record, 0, '')

local function add(key, tag, score, is_held, raw)
  local i = #out
  out[i + 1], out[i + 2], out[i + 3], out[i + 4], out[i + 5] = key, tag, score, is_held, raw
end

local last = redis.call('GET', record)
if last then
  last = cmsgpack.unpack(last)
  if last[1] == take then
    for i = 2, #last, 5 do
      local key, tag, score, is_held, from = last[i], last[i + 1], last[i + 2], last[i + 3], last[i + 4]
      local entry = redis.call('HGET', is_held == 1 and held or unacked, tag)
      local current = redis.call('ZSCORE', is_held == 1 and held_index or index, tag)
      if entry and current and tonumber(current) == tonumber(score) then
        add(key, tag, score, is_held, string.sub(entry, from[1], from[2]))
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
-- finds out at once.
local function python_tail(raw)
  if string.sub(raw, 1, 10) ~= '{"body": "' then
    return nil
  end
  local at = string.find(raw, '"delivery_info": {"exchange": "', math.max(#raw - 400, 1), true)
  if not at then
    return nil
  end
  local exchange, routing_key, tag = string.match(raw, -- from there on only: a search tries each place
    '^"delivery_info": {"exchange": ("[^"\\]*"), "routing_key": ("[^"\\]*")[^{}]*}, "priority": %d+, '
    .. '"body_encoding": "[%w%-]+", "delivery_tag": "([%w%-]+)"}}$', at)
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

-- keep notes raw, popped from queue key k, as taken; record writes it down.
local taken = {}
local function keep(k, raw)
  local nth = #taken
  local at = usec + nth -- distinct scores keep the order
  local item = {
    key = k - 1, raw = raw, name = ARGV[6 + (k - 1) % queues], held = 0, tag = ARGV[5] .. nth,
    score = string.format('%d.%06d', sec + math.floor(at / 1000000), at % 1000000),
  }
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
  if is_object then
    item.entry = '[' .. raw .. ', ' .. (exchange or '""') .. ', ' .. (routing_key or item.name) .. ']'
    item.own, item.range = own, { 2, 1 + #raw }
  else
    item.held, item.entry, item.range = 1, item.name .. '\n' .. raw, { 2 + #item.name, -1 }
  end
  taken[nth + 1] = item
end

-- use_own_tags gives messages their own delivery tags, unless they are in use: that one belongs to a copy of this message that
-- somebody else holds, or that comes earlier in this batch, whose record must not be replaced.
local function use_own_tags()
  local own, of = {}, {}
  for _, item in ipairs(taken) do
    if item.own and not of[item.own] then
      of[item.own] = item
      own[#own + 1] = item.own
    end
  end
  if #own == 0 then
    return
  end
  for i, entry in ipairs(redis.call('HMGET', unacked, unpack(own))) do
    if not entry then
      of[own[i]].tag = own[i]
    end
  end
end

-- write_down records what was taken, by one command for each key.
local function write_down()
  use_own_tags()
  local fields, members = { {}, {} }, { {}, {} }
  for _, item in ipairs(taken) do
    local f, m = fields[1 + item.held], members[1 + item.held]
    f[#f + 1], f[#f + 2] = item.tag, item.entry
    m[#m + 1], m[#m + 2] = item.score, item.tag
    log[#log + 1] = { item.key, item.tag, item.score, item.held, item.range }
    add(item.key, item.tag, item.score, item.held, item.raw)
  end
  if #fields[1] > 0 then
    redis.call('HSET', unacked, unpack(fields[1]))
    redis.call('ZADD', index, unpack(members[1]))
  end
  if #fields[2] > 0 then
    redis.call('HSET', held, unpack(fields[2]))
    redis.call('ZADD', held_index, unpack(members[2]))
  end
end

local failed = nil
local empty = {}
local function pop(k, count)
  if empty[k] then
    return {}
  end
  local reply = redis.pcall('RPOP', KEYS[5 + k], count)
  if type(reply) == 'table' and reply.err then
    failed = reply
    reply = false
  end
  if not reply or #reply < count then
    empty[k] = true
  end
  return reply or {}
end

local keys = #KEYS - 5
if ARGV[4] == '0' or queues == 1 then
  for k = 1, keys do
    local left = n - #taken
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
  while #taken < n do
    local k, raw = next_message()
    if not k then
      break
    end
    keep(k, raw)
  end
end

if #taken == 0 then
  return failed or out
end
write_down()
local packed = { take }
for _, item in ipairs(log) do
  for i = 1, 5 do
    packed[#packed + 1] = item[i]
  end
end
redis.call('SET', record, cmsgpack.pack(packed), 'EX', ARGV[3])
return out
