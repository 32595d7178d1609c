-- Raises the generation of a user's access tokens.
-- KEYS: the user's bucket, the user, the bucket's feed. ARGV: the user
-- Returns the bucket's value and 1; changes nothing and returns '' if the bucket is gone
local bucket = read(redis.call('MGET', KEYS[1])[1])
if not bucket then return '' end
local user = read_user(redis.call('GET', KEYS[2]) or '')
raise_user(user)
user.access, user.access_at = user.latest, user.at
return { count(bucket, KEYS[1], KEYS[3], 'u', ARGV[1], '', write_user(KEYS[2], user)), 1 }
