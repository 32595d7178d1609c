-- The stamp for a new token: epoch.everybody.user. The first stamp of a bucket names its epoch.
-- KEYS: the bucket's generation, the user's generation
-- ARGV: an epoch to take if the bucket has none
redis.call('HSETNX', KEYS[1], 'epoch', ARGV[1])
local all = redis.call('HMGET', KEYS[1], 'epoch', 'gen')
local user = redis.call('HGET', KEYS[2], 'gen')
return all[1] .. '.' .. (all[2] or '0') .. '.' .. (user or '0')
