-- The head of the others: how a bucket's value is read and written.
local function read(value)
  local epoch, gen, at, count, former = string.match(value, '^(%S+) (%d+) (%S+) (%d+) (%S*)$')
  return { epoch = epoch, gen = tonumber(gen), at = at, count = tonumber(count), former = former }
end

local function write(key, bucket)
  local value = string.format('%s %.0f %s %.0f %s', bucket.epoch, bucket.gen, bucket.at, bucket.count, bucket.former)
  redis.call('SET', key, value)
  return value
end

-- The server's time as seconds with their fraction, and in whole microseconds.
local function now()
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', time[2]), time[1] * 1000000 + time[2]
end

