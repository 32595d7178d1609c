-- Revokes a token or a session, never for less long than it is already.
-- KEYS: its bucket, its own key. ARGV: for how long, in milliseconds; '' for ever
-- Returns the bucket's value; '' without doing anything where the bucket is gone
local values = redis.call('MGET', KEYS[1], KEYS[2])
local bucket = read(values[1])
if not bucket then return '' end
local left = values[2] and redis.call('PTTL', KEYS[2]) or 0
if ARGV[1] == '' then
  redis.call('SET', KEYS[2], '1')
elseif left ~= -1 and tonumber(ARGV[1]) > left then
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[1])
end
count(bucket)
return write(KEYS[1], bucket)
