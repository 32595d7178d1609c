-- Drops sessions that count for nothing any more from their user's list.
-- KEYS: the user's bucket, the user's sessions. ARGV: what the bucket's keys begin with; each session's id
--       and what stood for it, '' for nothing
-- Returns 1
for place = 2, #ARGV, 2 do
  local key = ARGV[1] .. 'session:' .. ARGV[place]
  if (redis.call('MGET', key)[1] or '') == ARGV[place + 1] then
    redis.call('UNLINK', key, ARGV[1] .. 'next:' .. ARGV[place])
    redis.call('ZREM', KEYS[2], ARGV[place])
  end
end
return 1
