-- Replaces a session, if nothing changed since it was read.
-- KEYS: its bucket, its user, the refresh token being replaced, its revocation, the session, what is kept of
--       its refresh token, the user's sessions, those that do not count, the bucket's feed
-- ARGV: as read: 1 the bucket's epoch, 2 its generation, 3 the user, 4 the session;
--       5 and 6 the new session: its digests and its JSON; 7 its TTL in milliseconds, '' forever;
--       8 what to keep of its refresh token, '' for nothing; 9 the TTL of that, in milliseconds, '' forever;
--       10 '' if the refresh token is the one that was read: all that is kept of it then stays as it is;
--       11 when it was used; 12 its id; 13 how many sessions a user may have, '' for any number;
--       14 the prefix of the bucket's keys; 15 '' if the session does not count toward the limit
-- Returns the bucket's value, how many sessions were beyond the limit, and their ids. Changes nothing and
-- returns '' if the bucket is gone, 0 if something changed since it was read
local values = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
local bucket = read(values[1])
if not bucket then return '' end
if bucket.epoch ~= ARGV[1] or string.format('%.0f', bucket.gen) ~= ARGV[2] or (values[2] or '') ~= ARGV[3]
  or values[3] or values[4] or (values[5] or '') ~= ARGV[4] then
  return 0
end

local sid, base, counts = ARGV[12], ARGV[14], ARGV[15] ~= ''
local all = counts and KEYS[7] or KEYS[8]
redis.pcall('ZREM', counts and KEYS[8] or KEYS[7], sid)
local _, stepped_at = now()
stepped_at = string.format('%.0f', stepped_at)
if ARGV[10] == '' then
  stepped_at = string.match(values[5] or '', '^%S+ %S+ (%d+) ') or stepped_at
else
  redis.call('UNLINK', KEYS[6])
  if ARGV[8] ~= '' then put(KEYS[6], ARGV[8], ARGV[9]) end
end
put(KEYS[5], ARGV[5] .. ' ' .. stepped_at .. ' ' .. ARGV[6], ARGV[7])

clear_for_list(all)
-- The list lives as long as its longest-lived session.
local left = redis.call('PTTL', all)
redis.call('ZADD', all, ARGV[11], sid)
if ARGV[7] == '' then
  redis.call('PERSIST', all)
elseif left ~= -1 and tonumber(ARGV[7]) > left then
  redis.call('PEXPIRE', all, ARGV[7])
end

-- Expired sessions are still listed. Each call checks a few of them, so they stay few.
local function drop_ended(sids)
  for _, other in ipairs(sids) do
    if redis.call('EXISTS', base .. 'session:' .. other) == 0 then redis.call('ZREM', all, other) end
  end
end
drop_ended(redis.call('ZRANDMEMBER', all, 3))

-- Bounded, so that other commands do not have to wait.
local reply = { values[1], 0 }
local limit = tonumber(ARGV[13])
if limit and counts and redis.call('ZCARD', all) > limit then
  drop_ended(redis.call('ZRANGE', all, 0, 999))
  local beyond = math.max(math.min(redis.call('ZCARD', all) - limit, 100), 0)
  for _, other in ipairs(redis.call('ZRANGE', all, 0, beyond)) do
    if other ~= sid and reply[2] < beyond then
      reply[1] = count(bucket, KEYS[1], KEYS[9], 's', other, revoke_session(base, other, 1), '')
      reply[2] = reply[2] + 1
      table.insert(reply, other)
    end
  end
end
return reply
