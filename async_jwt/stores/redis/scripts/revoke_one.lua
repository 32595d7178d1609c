-- Revokes a token.
-- KEYS: its bucket, its own key, the bucket's feed. ARGV: the TTL in milliseconds, '' forever; its id
-- Returns the bucket's value and 1; changes nothing and returns '' if the bucket is gone
local bucket = read(redis.call('MGET', KEYS[1])[1])
if not bucket then return '' end
return { count(bucket, KEYS[1], KEYS[3], 'j', ARGV[2], remember(KEYS[2], '1', ARGV[1]), ''), 1 }
