-- publish: push a batch of messages, once.
--
-- KEYS[1] record of the publisher (own)   KEYS[2..] the list of each message
-- ARGV[1] number of this batch, ascending   ARGV[2] seconds to keep the record   ARGV[3..] the messages
--
-- Returns a list with the text of Redis' error for each message that could not be pushed, "" for the others. A batch that
-- was done before (its reply was lost and it is sent again), or that was given up before a later one, is not pushed; the
-- reply is the empty list.
-- Errors: when Redis takes no writes at all, with nothing pushed.
local done = tonumber(redis.call('GET', KEYS[1]) or nil)
if done and done >= tonumber(ARGV[1]) then
  return {}
end
local reply = {}
local written = false
for i = 2, #KEYS do
  local pushed = redis.pcall('LPUSH', KEYS[i], ARGV[i + 1])
  if type(pushed) == 'table' and pushed.err then
    if not written and string.sub(pushed.err, 1, 9) ~= 'WRONGTYPE' then
      return pushed
    end
    reply[i - 1] = pushed.err
  else
    written = true
    reply[i - 1] = ''
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return reply
