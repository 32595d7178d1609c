-- A part of all that is revoked on this server. Changes nothing.
-- ARGV: where to go on, '0' to begin; what keys look like, as SCAN has it; how many to look at; what comes
--       before their bucket
-- Returns where to go on, '0' at the end, and as JSON for each revoked token ('j', bucket and id) and
-- session ('s') how many milliseconds it is remembered, -1 for ever, and for each user ('u') what stands there
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local entries, from = {}, #ARGV[4] + 1
for _, key in ipairs(found[2]) do
  local bucket, kind, id = string.match(key, '^{(%x%x)}:(%a+):(.*)$', from)
  if kind == 'jti' or kind == 'sid' then
    table.insert(entries, string.sub(kind, 1, 1) .. bucket .. id)
    table.insert(entries, redis.call('PTTL', key))
  elseif kind == 'user' then
    table.insert(entries, 'u' .. id)
    table.insert(entries, redis.call('MGET', key)[1] or '')
  end
end
return { found[1], cjson.encode(entries) }
