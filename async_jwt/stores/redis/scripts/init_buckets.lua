-- Gives buckets that are missing their first value. Changes nothing where some are missing and some are
-- not, unless told to: that is a loss.
-- KEYS: all buckets, then their feeds. ARGV: an epoch to begin with; '1' to fill gaps
local values = redis.call('MGET', unpack(KEYS))
local epoch, missing, all = ARGV[1], 0, #KEYS / 2
for place = 1, all do
  local bucket = read(values[place])
  if bucket then
    epoch = bucket.epoch
  else
    missing = missing + 1
  end
end
if missing < all and ARGV[2] ~= '1' then return missing end
for place = 1, all do
  if not read(values[place]) then
    redis.call('UNLINK', KEYS[all + place])
    write(KEYS[place], { epoch = epoch, gen = 0, at = '-1', count = 0, mark = '0', former = '' })
  end
end
return missing
