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

-- Counts a revocation in a bucket.
local function count(bucket)
  local _, micros = now()
  bucket.count, bucket.mark = bucket.count + 1, string.format('%.0f', micros)
end

