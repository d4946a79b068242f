-- Takes the messages that a gateway has written for a page, and, if they are the last, its name from those that have some.
--
-- KEYS[1]  list of messages      KEYS[2]  set of the gateways that have some
-- ARGV[1]  the gateway           ARGV[2]  most messages      ARGV[3]  most bytes      ARGV[4]  1 if they are the last
-- Returns the number of messages that were there, and those that are within the limits, oldest first.
local found, size = redis.call('LLEN', KEYS[1]), 0
local messages = {}
for i = 1, math.min(found, tonumber(ARGV[2])) do
  local message = redis.call('LPOP', KEYS[1])
  size = size + #message
  if size > tonumber(ARGV[3]) then
    break
  end
  messages[i] = message
end
redis.call('DEL', KEYS[1])
if ARGV[4] == '1' then
  redis.call('SREM', KEYS[2], ARGV[1])
end
return {found, messages}
