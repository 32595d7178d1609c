-- The server's time, in whole microseconds. Changes nothing.
-- KEYS: a bucket
-- Returns what stands at the bucket, and the time
local _, micros = now()
return { redis.call('MGET', KEYS[1])[1] or '', string.format('%.0f', micros) }
