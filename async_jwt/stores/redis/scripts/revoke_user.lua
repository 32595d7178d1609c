-- Raises a user's generation.
-- KEYS: the user's bucket, the user, the user's sessions, those that do not count, the bucket's feed
-- ARGV: the user's value when the token to keep was checked, or '*' for any; the lowest generation and the
--       time from which kept tokens stay valid, or 0 and 0; the id of the kept session or token, or ''; the
--       user
-- Returns the bucket's value and 1; changes nothing and returns '' if the bucket is gone, 0 if the user's
-- value changed
local bucket = read(redis.call('MGET', KEYS[1])[1])
if not bucket then return '' end
local text = redis.call('GET', KEYS[2]) or ''
if ARGV[1] ~= '*' and ARGV[1] ~= text then return 0 end
local user = read_user(text)
raise_user(user)
user.gen, user.gen_at = user.latest, user.at
user.kept_from, user.kept_since, user.keep = ARGV[2], ARGV[3], ARGV[4]
-- What ended some of the user's tokens matters for those that are kept.
if user.keep == '' then user.access, user.purposes = 0, {} end
local value = write_user(KEYS[2], user)

-- The sessions are dead and expire by themselves, however many there are; only their lists are deleted now.
for place = 3, 4 do
  local key = KEYS[place]
  clear_for_list(key)
  local used, left = redis.call('ZSCORE', key, ARGV[4]), redis.call('PTTL', key)
  redis.call('UNLINK', key)
  if used then
    redis.call('ZADD', key, used, ARGV[4])
    if left > 0 then redis.call('PEXPIRE', key, left) end
  end
end
return { count(bucket, KEYS[1], KEYS[5], 'u', ARGV[5], '', value), 1 }
