-- store: store a task result and tell those who wait for it. A stored SUCCESS is final.
--
-- KEYS[1] celery-task-meta-<id>, which is also the channel
-- ARGV[1] the meta   ARGV[2] seconds to live, 0 for no limit
--
-- Returns 1 when it was stored, 0 when a SUCCESS was already there; nothing is published then, as in Celery.
-- A stored value that this script cannot read (another serializer, compressed) is replaced.
local old = redis.call('GET', KEYS[1])
if old then
  if string.find(old, '^{"status": "SUCCESS"[,}]') then -- as Celery writes it, whatever the size
    return 0
  end
  local ok, meta = pcall(cjson.decode, old)
  if ok and type(meta) == 'table' and meta['status'] == 'SUCCESS' then
    return 0
  end
end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
