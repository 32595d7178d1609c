-- Revokes a session.
-- KEYS: its bucket, its revocation, the bucket's feed
-- ARGV: the minimum TTL in milliseconds, '' forever; the prefix of the bucket's keys; its id
-- Returns the bucket's value and 1; changes nothing and returns '' if the bucket is gone
local bucket = read(redis.call('MGET', KEYS[1])[1])
if not bucket then return '' end
return { count(bucket, KEYS[1], KEYS[3], 's', ARGV[3], revoke_session(ARGV[2], ARGV[3], ARGV[1]), ''), 1 }
