-- sweep: delete binding sets that nobody has renewed in time. The same as kombu 5.7's SWEEP_BINDINGS.
--
-- KEYS[1] _kombu.binding_deadlines
-- ARGV[1], ARGV[2] prefixes of the binding sets and of the sets of permanent bindings   ARGV[3] the most to handle
--
-- Returns the number of exchanges whose deadline had passed. A set of an exchange with a permanent binding stays.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local overdue = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))
for _, exchange in ipairs(overdue) do
  if redis.call('EXISTS', ARGV[2] .. exchange) == 0 then
    redis.call('DEL', ARGV[1] .. exchange)
  end
  redis.call('ZREM', KEYS[1], exchange)
end
return #overdue
