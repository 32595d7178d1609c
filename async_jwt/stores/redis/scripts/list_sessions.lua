-- A page of a user's sessions, the last used first. Read-only.
-- KEYS: the user's bucket, the user, the user's sessions, those that do not count
-- ARGV: when the last session of the previous page was used, and its id; '+inf' and '' for the first page;
--       the page size; the prefix of the bucket's keys
-- Returns the values of the bucket and the user, then each session's id, when it was used, and its value; ''
-- for none

-- Compares bytes, as sorted sets do; Lua's own comparison goes by the server's locale.
local function is_less(one, other)
  for place = 1, math.min(#one, #other) do
    local mine, its = string.byte(one, place), string.byte(other, place)
    if mine ~= its then return mine < its end
  end
  return #one < #other
end

-- Adds the sessions of one list that may be on the page. Of those used at the same moment, the greater ids
-- come first.
local found, seen = {}, {}
local function add(key)
  local first = 0
  if ARGV[2] ~= '' then
    for _, sid in ipairs(redis.call('ZRANGE', key, ARGV[1], ARGV[1], 'BYSCORE')) do
      if not is_less(sid, ARGV[2]) then first = first + 1 end
    end
  end
  local listed = redis.call('ZRANGE', key, ARGV[1], '-inf', 'BYSCORE', 'REV', 'LIMIT', first, ARGV[3],
    'WITHSCORES')
  for place = 1, #listed, 2 do
    local sid, used = listed[place], listed[place + 1]
    -- A process with former code may have moved it to the other list.
    if not seen[sid] then table.insert(found, { sid = sid, used = used, at = tonumber(used) }) end
    seen[sid] = true
  end
  return #listed > 0
end

add(KEYS[3])
if add(KEYS[4]) then
  table.sort(found, function(one, other)
    if one.at ~= other.at then return one.at > other.at end
    return is_less(other.sid, one.sid)
  end)
end
local stands = redis.call('MGET', KEYS[1], KEYS[2])
local reply = { stands[1] or '', stands[2] or '' }
for place = 1, math.min(#found, tonumber(ARGV[3])) do
  local session = found[place]
  table.insert(reply, session.sid)
  table.insert(reply, session.used)
  table.insert(reply, redis.call('MGET', ARGV[4] .. 'session:' .. session.sid)[1] or '')
end
return reply
