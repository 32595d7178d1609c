-- Removes dead sessions from their user's lists, unless they changed.
-- KEYS: the user's bucket, the user's sessions, those that do not count. ARGV: the prefix of the bucket's keys; each session's id and
--       the value that was read for it, '' for none
-- Returns 1
for place = 2, #ARGV, 2 do
  local key = ARGV[1] .. 'session:' .. ARGV[place]
  if (redis.call('MGET', key)[1] or '') == ARGV[place + 1] then
    redis.call('UNLINK', key, ARGV[1] .. 'next:' .. ARGV[place])
    redis.call('ZREM', KEYS[2], ARGV[place])
    redis.call('ZREM', KEYS[3], ARGV[place])
  end
end
return 1
