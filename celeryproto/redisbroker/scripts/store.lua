-- store: store task results and tell those who wait for them. A stored SUCCESS is final.
--
-- KEYS[1..] celery-task-meta-<id> of each result, which is also the channel
-- ARGV, two values for each: seconds to live, 0 for no limit; the meta
--
-- Returns for each result 1 when it was stored, 0 when a SUCCESS was already there (nothing is published then, as in Celery),
-- or the text of Redis' error.
-- A stored value that this script cannot read (another serializer, compressed) is replaced.
local function is_final(old)
  if string.find(old, '^{"status": "SUCCESS"[,}]') then -- as Celery writes it, whatever the size
    return true
  end
  local ok, meta = pcall(cjson.decode, old)
  return ok and type(meta) == 'table' and meta['status'] == 'SUCCESS'
end

local function set(key, meta, ttl, ...)
  if ttl == '0' then
    return redis.pcall('SET', key, meta, ...)
  end
  return redis.pcall('SET', key, meta, 'EX', ttl, ...)
end

local function store(key, meta, ttl)
  local stored = set(key, meta, ttl, 'NX')
  if stored == false then -- there is one
    local old = redis.pcall('GET', key)
    if type(old) == 'table' then
      return old.err
    end
    if old and is_final(old) then
      return 0
    end
    stored = set(key, meta, ttl)
  end
  if stored.err then
    return stored.err
  end
  redis.call('PUBLISH', key, meta)
  return 1
end

local reply = {}
for i, key in ipairs(KEYS) do
  reply[i] = store(key, ARGV[2 * i], ARGV[2 * i - 1])
end
return reply
