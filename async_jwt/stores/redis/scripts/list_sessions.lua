-- A page of a user's sessions, the last used first. Read-only.
-- KEYS: the user's bucket, the user, the user's sessions
-- ARGV: when the last session of the previous page was used, and its id; '+inf' and '' for the first page;
--       the page size; the prefix of the bucket's keys
-- Returns the values of the bucket and the user, then each session's id, when it was used, and its value; ''
-- for none
local first = 0
if ARGV[2] ~= '' then
  -- Sessions used at the same moment are ordered by id, the greater ones first.
  for _, sid in ipairs(redis.call('ZRANGE', KEYS[3], ARGV[1], ARGV[1], 'BYSCORE')) do
    if sid >= ARGV[2] then first = first + 1 end
  end
end
local found = redis.call('ZRANGE', KEYS[3], ARGV[1], '-inf', 'BYSCORE', 'REV',
  'LIMIT', first, ARGV[3], 'WITHSCORES')
local stands = redis.call('MGET', KEYS[1], KEYS[2])
local reply = { stands[1] or '', stands[2] or '' }
for place = 1, #found, 2 do
  table.insert(reply, found[place])
  table.insert(reply, found[place + 1])
  table.insert(reply, redis.call('MGET', ARGV[4] .. 'session:' .. found[place])[1] or '')
end
return reply
