-- The head of the others: how a bucket's value is read and written.

-- What cannot be read is gone: somebody else wrote there.
local function read(value)
  local epoch, gen, at, count, mark, former =
    string.match(value or '', '^(%S+) (%d+) (%-?[%d.]+) (%d+) (%d+) (%S*)$')
  if not epoch then return nil end
  return { epoch = epoch, gen = tonumber(gen), at = at, count = tonumber(count), mark = mark, former = former }
end

local function write(key, bucket)
  local value = string.format('%s %.0f %s %.0f %s %s',
    bucket.epoch, bucket.gen, bucket.at, bucket.count, bucket.mark, bucket.former)
  redis.call('SET', key, value)
  return value
end

-- The server's time as seconds with their fraction, and in whole microseconds.
local function now()
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', time[2]), time[1] * 1000000 + time[2]
end

-- Counts a revocation in a bucket, and tells those who mirror it, if there are any: what kind it is, its id,
-- for how many milliseconds it is remembered, what stands at the user, and upon which state it follows. Who
-- may not tell has counted all the same: the mirrors see that they lack something. Returns the bucket's value.
local function count(bucket, key, feed, kind, id, lives, user)
  local follows, _, micros = bucket.mark, now()
  bucket.count, bucket.mark = bucket.count + 1, string.format('%.0f', micros)
  local value = write(key, bucket)
  if redis.call('EXISTS', feed) == 0 then return value end
  local entry = cjson.encode({ string.sub(key, -7, -6), kind, id, tostring(lives), user, follows, value })
  local added = redis.pcall('XADD', feed, 'MAXLEN', '~', 256,
    string.format('%.0f-0', bucket.count), 'e', entry)
  if type(added) == 'table' and added.err then
    -- Of another time, or somebody else's: whoever reads it sees that something is missing.
    if not (string.find(added.err, 'smaller') or string.find(added.err, 'WRONGTYPE')) then error(added.err) end
    redis.call('UNLINK', feed)
  end
  redis.call('PUBLISH', string.sub(key, 1, -9) .. 'feed', entry)
  return value
end

-- Sets a key that lives for so many milliseconds; '' for ever.
local function put(key, value, lives)
  if lives == '' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', lives)
  end
end

-- Takes away what is no list of sessions: somebody else wrote there.
local function clear_for_list(key)
  if redis.call('TYPE', key).ok ~= 'zset' then redis.call('UNLINK', key) end
end

-- Remembers that something was revoked, never for less long than it is already. Returns for how long.
local function remember(key, value, lives)
  local before = redis.call('MGET', key)[1]
  local left = before and redis.call('PTTL', key) or -2
  if left == -1 then return '' end
  if lives ~= '' and tonumber(lives) <= left then return left end
  put(key, before or value, lives)
  return lives
end

-- Revokes a session: what stands for it goes, and what says so stays for so many milliseconds, or for as
-- long as the session itself would have. The keys that are named here share the slot of those declared.
-- Returns for how long.
local function revoke_session(base, sid, lives)
  local key = base .. 'session:' .. sid
  local session = redis.call('MGET', key)[1]
  local owner, mark = string.match(session or '', '^(%S+) (%S+) ')
  if owner then
    local left = redis.call('PTTL', key)
    if left == -1 then lives = '' end
    if lives ~= '' then lives = math.max(left, tonumber(lives)) end
    redis.call('UNLINK', key, base .. 'next:' .. sid)
    redis.pcall('ZREM', base .. 'sessions:' .. owner, sid)
  end
  return remember(base .. 'sid:' .. sid, mark or '1', lives)
end

