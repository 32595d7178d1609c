-- Prepended to every script: reads and writes a bucket's value.

-- Generations are below 2^53: Lua's numbers cannot count on from there.
local GENERATIONS = 9007199254740992

-- Parses a bucket; nil, as if it were gone, for a value that another program wrote.
local function read(value)
  local epoch, gen, at, count, revision, previous =
    string.match(value or '', '^(%S+) (%d+) (%-?[%d.]+) (%d+) (%d+) (%S*)$')
  if not epoch or tonumber(gen) >= GENERATIONS then return nil end
  return {
    epoch = epoch, gen = tonumber(gen), at = at, count = tonumber(count),
    revision = revision, previous = previous,
  }
end

local function write(key, bucket)
  local value = string.format('%s %.0f %s %.0f %s %s',
    bucket.epoch, bucket.gen, bucket.at, bucket.count, bucket.revision, bucket.previous)
  redis.call('SET', key, value)
  return value
end

-- The server's time: as text in seconds with a fraction, and in whole microseconds.
local function now()
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', time[2]), time[1] * 1000000 + time[2]
end

-- Counts a revocation in a bucket and, if a mirror has opened the feed, publishes it: its kind and id, its
-- TTL in milliseconds, the user's value or that a token was used, and the revision of the state that it follows. If publishing is not
-- permitted, it is counted all the same: mirrors see that an entry is missing. Returns the bucket's value.
local function count(bucket, key, feed, kind, id, ttl, user)
  local follows, _, micros = bucket.revision, now()
  bucket.count, bucket.revision = bucket.count + 1, string.format('%.0f', micros)
  local value = write(key, bucket)
  if redis.call('EXISTS', feed) == 0 then return value end
  local entry = cjson.encode({ string.sub(key, -7, -6), kind, id, tostring(ttl), user, follows, value })
  local added = redis.pcall('XADD', feed, 'MAXLEN', '~', 256,
    string.format('%.0f-0', bucket.count), 'e', entry)
  if type(added) == 'table' and added.err then
    -- A stale feed, or another program's key. Mirrors see that an entry is missing.
    if not (string.find(added.err, 'smaller') or string.find(added.err, 'WRONGTYPE')) then error(added.err) end
    redis.call('UNLINK', feed)
  end
  redis.call('PUBLISH', string.sub(key, 1, -9) .. 'feed', entry)
  return value
end

local function no_user()
  return {
    latest = 0, gen = 0, gen_at = '-1', kept_from = '0', kept_since = '0', keep = '', access = 0,
    access_at = '-1', purposes = {},
  }
end

-- Parses the generations of a user's purposes. Returns them and the highest; nil unless all of it is understood.
local function read_purposes(text)
  local purposes, highest, length = {}, 0, 0
  for entry, name, gen, at in string.gmatch(text, '( ([%x*]+):(%d+):(%-?[%d.]+))') do
    if not tonumber(at) then return nil end
    purposes[name] = { gen = tonumber(gen), at = at }
    highest, length = math.max(highest, tonumber(gen)), length + #entry
  end
  if length == #text then return purposes, highest end
end

-- Parses a user's value that is not empty; nil if another program wrote it.
local function parse_user(text)
  local user, latest, mark = no_user(), nil, nil
  latest, mark, user.gen_at, user.kept_from, user.kept_since, user.keep =
    string.match(text, '^(%d+) (%+?)(%-?[%d.]+) (%d+) (%-?[%d.]+) (.*)$')
  if not latest or not tonumber(user.gen_at) or not tonumber(user.kept_since) then return nil end
  user.latest, user.gen = tonumber(latest), tonumber(latest)
  if mark == '' then return user end
  local gen, access, purposes, highest
  user.keep, gen, user.gen_at, access, user.access_at, purposes =
    string.match(user.keep, '^(.*)\n(%d+) (%-?[%d.]+) (%d+) (%-?[%d.]+)([ %x:.*%-]*)$')
  if not gen or not tonumber(user.gen_at) or not tonumber(user.access_at) then return nil end
  user.gen, user.access = tonumber(gen), tonumber(access)
  user.purposes, highest = read_purposes(purposes)
  if user.purposes and math.max(user.gen, user.access, highest) == user.latest then return user end
end

-- Parses a user's value, '' for none. `latest` is the highest generation, which stamps take; `gen` that of all
-- of the user's tokens, `access` that of access tokens, `purposes` those of purposes, by digest. For a value
-- that another program wrote, everything of the user counts as revoked from the next generation on.
local function read_user(text)
  local user = text == '' and no_user() or parse_user(text)
  if not user then
    user = no_user()
    user.corrupt, user.latest = true, tonumber(string.match(text, '^%d+') or 0)
  end
  return user
end

-- Raises a user's highest generation: no stamp has it yet.
local function raise_user(user)
  local at, stamp = now()
  user.latest, user.at = math.max(user.latest + 1, stamp), at
  if user.latest >= GENERATIONS then error('GENERATION out of range') end
  if user.corrupt then user.gen, user.gen_at = user.latest, at end
end

-- Ends a purpose's tokens below the generation that was just raised. Of more purposes than `most`, the oldest
-- generation holds for all of them.
local function end_purpose(user, name, most)
  local purposes, held, oldest = user.purposes, 0, nil
  purposes[name] = { gen = user.latest, at = user.at }
  for other, cutoff in pairs(purposes) do
    if other ~= '*' then
      held = held + 1
      if not oldest or cutoff.gen < purposes[oldest].gen then oldest = other end
    end
  end
  if held > most then purposes['*'], purposes[oldest] = purposes[oldest], nil end
end

-- Stores a user whose generation was raised. Returns the value.
local function write_user(key, user)
  local purposes, mark, more = '', '', ''
  for name, cutoff in pairs(user.purposes) do
    purposes = purposes .. ' ' .. name .. ':' .. string.format('%.0f', cutoff.gen) .. ':' .. cutoff.at
  end
  if user.gen ~= user.latest or user.access ~= 0 or purposes ~= '' then
    mark = '+'
    more = '\n' .. string.format('%.0f', user.gen) .. ' ' .. user.gen_at .. ' '
      .. string.format('%.0f', user.access) .. ' ' .. user.access_at .. purposes
  end
  local value = string.format('%.0f', user.latest) .. ' ' .. mark .. user.at .. ' ' .. user.kept_from .. ' '
    .. user.kept_since .. ' ' .. user.keep .. more
  redis.call('SET', key, value)
  return value
end

-- Sets a key with a TTL in milliseconds; '' forever.
local function put(key, value, ttl)
  if ttl == '' then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PX', ttl)
  end
end

-- Deletes a value that is not a list of sessions: another program wrote it.
local function clear_for_list(key)
  if redis.call('TYPE', key).ok ~= 'zset' then redis.call('UNLINK', key) end
end

-- Records a revocation; never shortens the TTL of an earlier one. Returns the TTL.
local function remember(key, value, ttl)
  local before = redis.call('MGET', key)[1]
  local left = before and redis.call('PTTL', key) or -2
  if left == -1 then return '' end
  if ttl ~= '' and tonumber(ttl) <= left then return left end
  put(key, before or value, ttl)
  return ttl
end

-- Revokes a session: deletes it, and records the revocation for the given milliseconds, or for the session's
-- own TTL if that is longer. The keys built here share the slot of those declared. Returns the TTL.
local function revoke_session(base, sid, ttl)
  local key = base .. 'session:' .. sid
  local session = redis.call('MGET', key)[1]
  local owner, digests = string.match(session or '', '^(%S+) (%S+) ')
  if owner then
    local left = redis.call('PTTL', key)
    if left == -1 then ttl = '' end
    if ttl ~= '' then ttl = math.max(left, tonumber(ttl)) end
    redis.call('UNLINK', key, base .. 'next:' .. sid)
    redis.pcall('ZREM', base .. 'sessions:' .. owner, sid)
    redis.pcall('ZREM', base .. 'uncounted:' .. owner, sid)
  end
  return remember(base .. 'sid:' .. sid, digests or '1', ttl)
end

