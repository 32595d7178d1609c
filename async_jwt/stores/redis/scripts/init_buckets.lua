-- Initializes missing buckets. If only some are missing, that is a loss: changes nothing, unless told to fill
-- gaps.
-- KEYS: all buckets, then their feeds. ARGV: the first epoch; '1' to fill gaps
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
    write(KEYS[place], { epoch = epoch, gen = 0, at = '-1', count = 0, revision = '0', previous = '' })
  end
end
return missing
