-- Follows counts.lua. Raises a user's generation and remembers when, by the server's own clock.
-- KEYS and ARGV: as counts.lua has them, of a token whose session outlives it; then
-- ARGV[7]: the id of that session or token, or ''. A token that is dead already keeps nothing alive.
local keep = ARGV[7]
if keep ~= '' and counts() == 0 then keep = '' end
local now = redis.call('TIME')
redis.call('HINCRBY', KEYS[2], 'gen', 1)
redis.call('HSET', KEYS[2], 'at', now[1] .. '.' .. string.format('%06d', now[2]), 'keep', keep)
return 1
