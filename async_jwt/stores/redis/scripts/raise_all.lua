-- Raises everybody's generation in one bucket and remembers when, by the server's own clock.
-- KEYS: the bucket's generation
local now = redis.call('TIME')
redis.call('HINCRBY', KEYS[1], 'gen', 1)
redis.call('HSET', KEYS[1], 'at', now[1] .. '.' .. string.format('%06d', now[2]))
return 1
