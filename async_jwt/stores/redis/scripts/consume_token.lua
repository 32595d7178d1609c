-- Uses a token, if nothing changed since it was checked.
-- KEYS: its bucket, its user, its own key, its session's revocation (its own key again for none), the
--       bucket's feed
-- ARGV: as read: 1 the bucket's epoch, 2 its generation, 3 the user; 4 the TTL in milliseconds; 5 the token's
--       id; 6 the mark of this call; 7 the digest of the type whose other tokens to end, '' for none; 8 the
--       user's id; 9 how many ended purposes to keep one by one
-- Returns the bucket's value, how many revocations it added, and '1' if this call used the token, '0' if it
-- had been revoked. Changes nothing and returns '' if the bucket is gone, 0 if something else changed
local values = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
local bucket = read(values[1])
if not bucket then return '' end
-- The mark is this call's own if the command was sent again because its reply was lost.
if values[3] then return { values[1], 0, values[3] == ARGV[6] and '1' or '0' } end
if bucket.epoch ~= ARGV[1] or string.format('%.0f', bucket.gen) ~= ARGV[2] or (values[2] or '') ~= ARGV[3]
  or values[4] then
  return 0
end

local user = read_user(values[2] or '')
if ARGV[7] ~= '' then raise_user(user) end -- first: it may fail
put(KEYS[3], ARGV[6], ARGV[4])
local value = count(bucket, KEYS[1], KEYS[5], 'j', ARGV[5], ARGV[4], 'used')
if ARGV[7] == '' then return { value, 1, '1' } end
end_purpose(user, ARGV[7], tonumber(ARGV[9]))
return { count(bucket, KEYS[1], KEYS[5], 'u', ARGV[8], '', write_user(KEYS[2], user)), 2, '1' }
