-- group_send: delivers one message to every process that has members in a group: steps 1 to 4 of channels_redis in one.
--   KEYS[1]  the group's key
--   ARGV[1]  now, Unix seconds as a decimal text (the score)
--   ARGV[2]  memberships with scores up to this one are expired
--   ARGV[3]  messages with scores up to this one are expired
--   ARGV[4]  expiry of messages in seconds
--   ARGV[5]  the layer's prefix
--   ARGV[6]  the message up to the list of channel names, which follows per key
--   ARGV[7]  capacity of names that match no pattern
--   ARGV[8], ARGV[9], …  pairs of Lua pattern and capacity; the first that matches a key's first name counts
-- returns {members, keys, keys over capacity, rejected names and keys}
-- The channel keys are computed from the members, so they cannot be declared in KEYS: one server, no cluster, as for channels_redis.

-- A name that is no UTF-8 would make the whole message unreadable for the others on its key.
local function is_text(name)
	if not string.find(name, '[\128-\255]') then return true end
	name = string.gsub(name, '[\194-\223][\128-\191]', ' ')
	name = string.gsub(name, '\224[\160-\191][\128-\191]', ' ')
	name = string.gsub(name, '\237[\128-\159][\128-\191]', ' ')
	name = string.gsub(name, '[\225-\236\238\239][\128-\191][\128-\191]', ' ')
	name = string.gsub(name, '\240[\144-\191][\128-\191][\128-\191]', ' ')
	name = string.gsub(name, '\244[\128-\143][\128-\191][\128-\191]', ' ')
	name = string.gsub(name, '[\241-\243][\128-\191][\128-\191][\128-\191]', ' ')
	return not string.find(name, '[\128-\255]')
end

local function capacity_of(name)
	for i = 8, #ARGV, 2 do
		if string.find(name, ARGV[i]) then return tonumber(ARGV[i + 1]) end
	end
	return tonumber(ARGV[7])
end

-- The smallest form, as msgpack.packb writes it.
local function pack_text(s)
	local n = #s
	if n < 32 then return string.char(0xa0 + n) .. s end
	if n < 256 then return string.char(0xd9, n) .. s end
	return string.char(0xda, math.floor(n / 256), n % 256) .. s
end

local function pack_array_head(n)
	if n < 16 then return string.char(0x90 + n) end
	if n < 65536 then return string.char(0xdc, math.floor(n / 256), n % 256) end
	return string.char(0xdd, math.floor(n / 16777216), math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
end

redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, ARGV[2])
local members = redis.call('ZRANGE', KEYS[1], 0, -1)

local keys, names, rejected = {}, {}, 0
for _, name in ipairs(members) do
	if #name > 65535 or not is_text(name) then
		rejected = rejected + 1
	else
		local bang = string.find(name, '!', 1, true)
		local key = ARGV[5] .. (bang and string.sub(name, 1, bang) or name)
		if names[key] then
			table.insert(names[key], name)
		else
			names[key] = {name}
			table.insert(keys, key)
		end
	end
end

local over = 0
for _, key in ipairs(keys) do
	local list = names[key]
	-- pcall: a key of another type must not cost the other processes their message.
	local size = redis.pcall('ZREMRANGEBYSCORE', key, 0, ARGV[3])
	if type(size) == 'number' then size = redis.pcall('ZCARD', key) end
	if type(size) ~= 'number' then
		rejected = rejected + 1
	elseif size >= capacity_of(list[1]) then
		over = over + 1
	else
		local packed = {ARGV[6], pack_array_head(#list)}
		for _, name in ipairs(list) do
			table.insert(packed, pack_text(name))
		end
		redis.call('ZADD', key, ARGV[1], table.concat(packed))
		redis.call('EXPIRE', key, ARGV[4])
	end
end
return {#members, #keys, over, rejected}
