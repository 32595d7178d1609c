-- Revokes a token or a session, never for less long than it is already.
-- KEYS: its bucket, its own key. ARGV: until when, in milliseconds since the epoch; '' for ever
-- Returns the bucket's value; '' without doing anything where the bucket is gone
local values = redis.call('MGET', KEYS[1], KEYS[2])
if not values[1] then return '' end
local left = values[2] and redis.call('PTTL', KEYS[2]) or 0
local _, micros = now()
if ARGV[1] == '' then
  redis.call('SET', KEYS[2], '1')
elseif left ~= -1 and tonumber(ARGV[1]) - micros / 1000 > left then
  redis.call('SET', KEYS[2], '1', 'PXAT', ARGV[1])
end
local bucket = read(values[1])
bucket.count = bucket.count + 1
return write(KEYS[1], bucket)
