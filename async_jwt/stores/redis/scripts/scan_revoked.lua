-- One batch of all revocations on this server. Read-only.
-- ARGV: the SCAN cursor, '0' to begin; the SCAN pattern; the SCAN count; the keys' prefix before their bucket
-- Returns the next cursor, '0' at the end, and JSON: for each revoked token ('j', bucket and id; 'c' if it was
-- used) and session ('s') its TTL in milliseconds, -1 forever, and for each user ('u' and the id) the value
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local entries, from = {}, #ARGV[4] + 1
for _, key in ipairs(found[2]) do
  local bucket, kind, id = string.match(key, '^{(%x%x)}:(%a+):(.*)$', from)
  if kind == 'jti' or kind == 'sid' then
    local is_used = kind == 'jti' and string.sub(redis.call('MGET', key)[1] or '', 1, 5) == 'used '
    table.insert(entries, (is_used and 'c' or string.sub(kind, 1, 1)) .. bucket .. id)
    table.insert(entries, redis.call('PTTL', key))
  elseif kind == 'user' then
    table.insert(entries, 'u' .. id)
    table.insert(entries, redis.call('MGET', key)[1] or '')
  end
end
return { found[1], cjson.encode(entries) }
