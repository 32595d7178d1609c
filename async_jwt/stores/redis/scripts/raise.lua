-- Raises one generation and remembers when, by the server's own clock.
-- KEYS: a generation
-- ARGV: the sid or jti that outlives it, or ''
local now = redis.call('TIME')
redis.call('HINCRBY', KEYS[1], 'gen', 1)
redis.call('HSET', KEYS[1], 'at', now[1] .. '.' .. string.format('%06d', now[2]), 'keep', ARGV[1])
return 1
