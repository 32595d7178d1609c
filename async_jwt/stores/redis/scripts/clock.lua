-- The server's time, in whole microseconds. Read-only.
-- KEYS: a bucket
-- Returns the bucket's value and the time
local _, micros = now()
return { redis.call('MGET', KEYS[1])[1] or '', string.format('%.0f', micros) }
