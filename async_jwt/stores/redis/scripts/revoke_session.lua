-- Revokes a session.
-- KEYS: its bucket, what says that it was revoked, the bucket's feed
-- ARGV: for how long at least, in milliseconds; '' for ever; what the bucket's keys begin with; its id
-- Returns the bucket's value and 1; '' without doing anything where the bucket is gone
local bucket = read(redis.call('MGET', KEYS[1])[1])
if not bucket then return '' end
return { count(bucket, KEYS[1], KEYS[3], 's', ARGV[3], revoke_session(ARGV[2], ARGV[3], ARGV[1]), ''), 1 }
