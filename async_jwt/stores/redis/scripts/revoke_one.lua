-- Revokes a token.
-- KEYS: its bucket, its own key. ARGV: for how long, in milliseconds; '' for ever
-- Returns the bucket's value and 1; '' without doing anything where the bucket is gone
local bucket = read(redis.call('MGET', KEYS[1])[1])
if not bucket then return '' end
remember(KEYS[2], '1', ARGV[1])
count(bucket)
return { write(KEYS[1], bucket), 1 }
