-- Raises a user's generation.
-- KEYS: the user's bucket, the user
-- ARGV: what the user's key held when the token to keep was looked at, or '*'; the generation and time from
--       which tokens of what is kept go on, or 0 and 0; whose id is kept, or ''
-- Returns the bucket's value; '' without doing anything where the bucket is gone, 0 where the user's changed
local bucket = read(redis.call('MGET', KEYS[1])[1])
if not bucket then return '' end
local user = redis.call('GET', KEYS[2]) or ''
if ARGV[1] ~= '*' and ARGV[1] ~= user then return 0 end
local at, stamp = now()
local gen = math.max(tonumber(string.match(user, '^%d+') or 0) + 1, stamp)
redis.call('SET', KEYS[2],
  string.format('%.0f', gen) .. ' ' .. at .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
count(bucket)
return write(KEYS[1], bucket)
