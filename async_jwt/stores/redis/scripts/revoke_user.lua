-- Raises a user's generation.
-- KEYS: the user's bucket, the user
-- ARGV: what the user's key held when the token to keep was looked at, or '*'; whose id is kept, or ''
-- Returns the bucket's value; '' without doing anything where the bucket is gone, 0 where the user's changed
local value = redis.call('MGET', KEYS[1])[1]
if not value then return '' end
local user = redis.call('GET', KEYS[2]) or ''
if ARGV[1] ~= '*' and ARGV[1] ~= user then return 0 end
local at, stamp = now()
local gen = math.max(tonumber(string.match(user, '^%d+') or 0) + 1, stamp)
redis.call('SET', KEYS[2], string.format('%.0f %s %s', gen, at, ARGV[2]))
local bucket = read(value)
bucket.count = bucket.count + 1
return write(KEYS[1], bucket)
