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
local MOST = 1000 -- values of one command: unpack has a limit
local reply = {}
local written = false
local first = 2
while first <= #KEYS do
  local last = first -- of the messages that follow each other into one list
  while last < #KEYS and KEYS[last + 1] == KEYS[first] and last - first + 1 < MOST do
    last = last + 1
  end
  local pushed = redis.pcall('LPUSH', KEYS[first], unpack(ARGV, first + 1, last + 1))
  local failure = ''
  if type(pushed) == 'table' and pushed.err then
    if not written and string.sub(pushed.err, 1, 9) ~= 'WRONGTYPE' then
      return pushed
    end
    failure = pushed.err
  else
    written = true
  end
  for i = first, last do
    reply[i - 1] = failure
  end
  first = last + 1
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return reply
